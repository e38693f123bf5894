"""A mission over HTTP: started, steered, listed, and what it leaves behind."""

from __future__ import annotations

import anyio
import httpx

from halls import Hall
from towns import ask, hand, settle, start

GOAL = "fix #23\r\n\ttab \\ \" ' \u202eright to left\u202c \u0000\u0007 é \U0001f680 \u2028end"


async def test_a_goal_arrives_byte_for_byte_and_its_title_hides_nothing(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    reply = await http.post("/v1/missions", json={"goal": GOAL})
    mission = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v1/missions/{mission['id']}"
    assert mission["goal"] == GOAL
    assert mission["title"] == "fix #23"
    claim = await (await hand(hall.store)).take()
    assert claim.goal.encode() == GOAL.encode()
    tricky = await http.post("/v1/missions", json={"goal": "\u202e\u0007 pay \u200bme"})
    assert tricky.json()["title"] == "pay me"


async def test_the_largest_goal_fits_however_it_is_written(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    goal = "\U0001f680" * (65_536 // 4)
    for body in (
        '{"goal": "' + "".join("\\ud83d\\ude80" for _ in range(65_536 // 4)) + '"}',
        '{"goal": "' + goal + '"}',
    ):
        reply = await http.post(
            "/v1/missions", content=body.encode(), headers={"Content-Type": "application/json"}
        )
        assert reply.json()["goal"] == goal
    escaped = '{"goal": "' + "\\u0001" * 65_535 + 'x"}'
    reply = await http.post(
        "/v1/missions", content=escaped.encode(), headers={"Content-Type": "application/json"}
    )
    assert reply.status_code == 201


async def test_all_that_can_be_said_of_a_mission_comes_back(http: httpx.AsyncClient) -> None:
    asked = {
        "goal": "build it",
        "title": "A house",
        "repo": "https://git.example/house.git",
        "ref": "main",
        "agent": "codex",
        "pool": "builders",
        "priority": "high",
        "labels": {"team": "blue", "ticket": "23"},
        "not_before": "2031-01-02T03:04:05+01:00",
        "time_limit_seconds": 90,
        "tasks": [
            {"name": "plan", "instructions": "plan it"},
            {"name": "walls", "instructions": "raise them", "depends_on": ["plan"]},
        ],
    }
    mission = (await http.post("/v1/missions", json=asked)).json()
    assert mission["not_before"] == "2031-01-02T02:04:05.000Z"
    for name in ("goal", "title", "repo", "ref", "agent", "pool", "priority", "labels"):
        assert mission[name] == asked[name]
    assert [(task["name"], task["state"], task["depends_on"]) for task in mission["tasks"]] == [
        ("plan", "pending", []),
        ("walls", "pending", ["plan"]),
    ]
    assert (await http.get(f"/v1/missions/{mission['id']}")).json() == mission


async def test_a_mission_is_steered(hall: Hall, http: httpx.AsyncClient) -> None:
    mission = await start(hall.store)
    path = f"/v1/missions/{mission.id}"
    assert (await http.post(f"{path}/pause")).json()["state"] == "paused"
    assert (await http.post(f"{path}/resume")).json()["state"] == "queued"
    worker = await hand(hall.store)
    claim = await worker.take()
    heard = await http.post(f"{path}/message", json={"text": "use tabs"})
    assert heard.json()["state"] == "running"
    (message,) = await hall.store.missions.messages(mission.id)
    assert (message.text, message.by) == ("use tabs", "operator")
    await settle(hall.store, claim, completed=False)
    failed = (await http.get(path)).json()
    assert (failed["state"], failed["reason"]) == ("failed", "it broke")
    assert (await http.post(f"{path}/retry")).json()["state"] == "queued"
    assert (await http.post(f"{path}/cancel")).json()["state"] == "canceled"
    ended = (await http.get(path)).json()
    assert ended["finished_at"].endswith("Z")


async def test_the_open_question_rides_on_the_mission(hall: Hall, http: httpx.AsyncClient) -> None:
    mission = await start(hall.store)
    claim = await (await hand(hall.store)).take()
    _, question = await ask(hall.store, claim, "Which colour?", options=("red", "blue"))
    found = (await http.get(f"/v1/missions/{mission.id}")).json()
    assert found["state"] == "blocked"
    assert found["question"]["id"] == question
    assert found["question"]["options"] == ["red", "blue"]


async def test_missions_are_listed_by_state_and_label_in_pages(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    made = [
        (await start(hall.store, labels={"team": "blue" if n % 2 else "red"})).id for n in range(7)
    ]
    await hall.store.missions.cancel(made[3], by="test")
    newest_first = made[::-1]
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 3, **({"cursor": cursor} if cursor else {})}
        page = (await http.get("/v1/missions", params=query)).json()
        assert len(page["items"]) <= 3
        seen += [mission["id"] for mission in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == newest_first
    for query, expected in (
        ({"state": "canceled"}, [made[3]]),
        ({"label": "team=red"}, [made[6], made[4], made[2], made[0]]),
        ({"label": "team=blue", "state": "queued"}, [made[5], made[1]]),
        ({"label": "team=green"}, []),
        ({"state": "completed"}, []),
    ):
        page = (await http.get("/v1/missions", params=query)).json()
        assert [mission["id"] for mission in page["items"]] == expected, query
        assert page["next_cursor"] is None


async def test_what_a_mission_left_behind(hall: Hall, http: httpx.AsyncClient) -> None:
    mission = await start(hall.store)
    path = f"/v1/missions/{mission.id}/result"
    assert (await http.get(path)).json()["result"] is None
    claim = await (await hand(hall.store)).take()
    patch = "diff --git a/x b/x\n+é\n".encode()
    await settle(
        hall.store,
        claim,
        patch=patch,
        summary="did it",
        branch=f"tinytown/{mission.id}",
        files_changed=1,
        cost_usd=0.25,
        input_tokens=10,
    )
    found = (await http.get(path)).json()
    assert found["state"] == "completed"
    assert found["result"]["patch"].encode() == patch
    assert found["tasks"][0]["result"]["patch"].encode() == patch
    mission_now = (await http.get(f"/v1/missions/{mission.id}")).json()
    assert mission_now["result"]["summary"] == "did it"
    assert mission_now["result"]["branch"] == f"tinytown/{mission.id}"
    assert mission_now["result"]["patch"] is None, "a list of missions must stay small"


async def test_a_patch_that_is_no_text_still_arrives_byte_for_byte(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    mission = await start(hall.store)
    patch = b"+caf\xe9 \xff\x00\xf0\x9f\x9a\x80\n"
    await settle(hall.store, await (await hand(hall.store)).take(), patch=patch)
    path = f"/v1/missions/{mission.id}/result"
    shown = (await http.get(path)).json()["result"]["patch"]
    assert shown == "+caf\ufffd \ufffd\x00\U0001f680\n"
    raw = await http.get(path, headers={"Accept": "text/x-patch"})
    assert raw.content == patch
    assert raw.headers["content-type"].startswith("text/x-patch")


async def test_a_finished_history_is_read_in_pages(hall: Hall, http: httpx.AsyncClient) -> None:
    mission = await start(hall.store)
    claim = await (await hand(hall.store)).take()
    lines = [b'{"kind":"message","text":"%d"}' % n for n in range(5)]
    await hall.store.docket.append_log(claim.task_id, claim.attempt, first=0, lines=lines)
    await settle(hall.store, claim)
    path = f"/v1/missions/{mission.id}"
    everything = (await http.get(f"{path}/events")).json()
    types = [event["type"] for event in everything["items"]]
    assert types[0] == "mission.created"
    assert types[-1] == "mission.completed"
    assert everything["next_cursor"] is None
    for kind in ("events", "log"):
        whole = (await http.get(f"{path}/{kind}")).json()["items"]
        walked = []
        after = None
        while True:
            query = {"limit": 2, **({"after": after} if after else {})}
            page = (await http.get(f"{path}/{kind}", params=query)).json()
            walked += page["items"]
            after = page["next_cursor"]
            if after is None:
                break
        assert walked == whole
    log = (await http.get(f"{path}/log")).json()["items"]
    assert [line["entry"]["text"] for line in log] == ["0", "1", "2", "3", "4"]
    assert all(line["task_id"] == claim.task_id and line["attempt"] == 1 for line in log)


async def test_fifty_devices_answer_at_once_and_exactly_one_wins(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    await start(hall.store)
    claim = await (await hand(hall.store)).take()
    _, question = await ask(hall.store, claim)
    replies: dict[int, httpx.Response] = {}

    async def answer(number: int) -> None:
        body = {"answer": f"answer {number}"}
        replies[number] = await http.post(f"/v1/questions/{question}/answer", json=body)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(answer, number)
    (winner,) = [number for number, reply in replies.items() if reply.status_code == 200]
    for number, reply in replies.items():
        if number == winner:
            continue
        assert reply.status_code == 409
        told = reply.json()
        assert told["type"] == "/problems/already-answered"
        assert told["answer"] == f"answer {winner}"
        assert told["answered_by"] == "operator"
        assert told["answered_at"].endswith("Z")
    again = await http.post(f"/v1/questions/{question}/answer", json={"answer": f"answer {winner}"})
    assert again.status_code == 200, "the same answer again is no conflict"


async def test_questions_are_listed_while_they_wait_and_by_mission_afterwards(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    first, second = await start(hall.store), await start(hall.store)
    asked = []
    for _ in range(2):
        claim = await (await hand(hall.store)).take()
        asked.append((await ask(hall.store, claim, options=("Yes", "No")))[1])
    page = (await http.get("/v1/questions", params={"state": "open", "limit": 1})).json()
    assert [question["id"] for question in page["items"]] == asked[:1]
    page = (await http.get("/v1/questions", params={"cursor": page["next_cursor"]})).json()
    assert [question["id"] for question in page["items"]] == asked[1:]
    reply = await http.post(f"/v1/questions/{asked[0]}/answer", json={"answer": "maybe"})
    assert reply.status_code == 400
    assert reply.json()["options"] == ["Yes", "No"]
    reply = await http.post(f"/v1/questions/{asked[0]}/answer", json={"answer": " yes "})
    assert reply.json()["answer"] == "Yes", "an answer is kept in the question's own spelling"
    assert [q["id"] for q in (await http.get("/v1/questions")).json()["items"]] == asked[1:]
    for state, expected in (("answered", asked[:1]), ("open", []), (None, asked[:1])):
        query = {"mission": first.id, **({"state": state} if state else {})}
        found = (await http.get("/v1/questions", params=query)).json()["items"]
        assert [question["id"] for question in found] == expected
    assert (await http.get("/v1/questions", params={"mission": second.id})).json()["items"]
