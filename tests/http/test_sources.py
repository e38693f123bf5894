"""Sources over HTTP: made, changed as they were seen, rotated, tried, and written down."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from conftest import Eventually
from halls import Hall
from hooking import LABELED, SECRET, add_source, github, latest, send, signed
from tinytown import clock, ids
from tinytown.store import Store


async def test_a_source_is_made_shown_and_removed(http: httpx.AsyncClient) -> None:
    reply = await http.post("/v1/sources", json={"scheme": "github", "name": "our repositories"})
    made = reply.json()
    assert reply.status_code == 201
    assert reply.headers["location"] == f"/v1/sources/{made['id']}"
    assert made["url"].endswith(f"/hooks/{made['id']}")
    secret = made.pop("secret")
    assert len(secret) >= 32
    shown = await http.get(f"/v1/sources/{made['id']}")
    assert shown.json() == made
    assert secret not in shown.text
    assert (await http.get("/v1/sources")).json()["items"] == [made]
    assert (await http.delete(f"/v1/sources/{made['id']}")).status_code == 204
    assert (await http.get(f"/v1/sources/{made['id']}")).status_code == 404


async def test_a_secret_is_the_services_own_where_it_makes_it(http: httpx.AsyncClient) -> None:
    for scheme in ("stripe", "slack", "linear"):
        refused = await http.post("/v1/sources", json={"scheme": scheme})
        assert refused.status_code == 400
        assert "makes the secret itself" in refused.json()["detail"]
    made = await add_source(http, "slack")
    assert made["secret"] is None
    assert SECRET not in str(made)


async def test_the_same_key_and_body_make_one_source_with_one_secret(
    http: httpx.AsyncClient,
) -> None:
    headers = {"Idempotency-Key": "one"}
    first = await http.post("/v1/sources", json={"scheme": "token"}, headers=headers)
    again = await http.post("/v1/sources", json={"scheme": "token"}, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await http.get("/v1/sources")).json()["items"]) == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "scheme"),
    ({"scheme": "gitlab"}, "scheme"),
    ({"scheme": "github", "secret": "short"}, "secret"),
    ({"scheme": "github", "options": {"header": "x"}}, "takes no option `header`"),
    ({"scheme": "hmac", "options": {"colour": 1}}, "colour"),
    ({"scheme": "hmac", "options": {"template": "{timestamp}"}}, "{body}"),
    ({"scheme": "hmac", "github": {"label": "x"}}, "`github` says nothing"),
    ({"scheme": "github", "github": {"repositories": ["all of them"]}}, "github.repositories"),
    ({"scheme": "github", "rule": {}}, "action"),
    ({"scheme": "github", "rule": {"action": "explode"}}, "explode"),
    ({"scheme": "github", "rule": {"action": "ignore", "wenn": {}}}, "wenn"),
    ({"scheme": "github", "rule": [{"action": "ignore"}, {"action": "cancel"}]}, "rule[1].with"),
    (
        {
            "scheme": "github",
            "rule": {"action": "start_mission", "with": {"goal": "{{ payload.x }"}},
        },
        "rule[0].with.goal",
    ),
    (
        {"scheme": "github", "rule": {"action": "ignore", "when": {"payload.a": {"regex": "x"}}}},
        "regex",
    ),
    ({"scheme": "github", "rule": [{"action": "ignore"}] * 51}, "rule"),
]


@pytest.mark.parametrize(("body", "why"), WRONG)
async def test_what_could_never_work_is_refused_with_its_place(
    http: httpx.AsyncClient, body: dict[str, Any], why: str
) -> None:
    reply = await http.post("/v1/sources", json=body)
    assert reply.status_code == 400
    assert reply.headers["content-type"] == "application/problem+json"
    assert why in reply.text
    assert (await http.get("/v1/sources")).json()["items"] == []


async def test_a_source_is_changed_only_as_it_was_seen(http: httpx.AsyncClient) -> None:
    path = f"/v1/sources/{(await add_source(http))['id']}"
    seen = (await http.get(path)).headers["etag"]
    assert seen.startswith('"')
    named = await http.patch(path, json={"name": "one"}, headers={"If-Match": seen})
    assert (named.status_code, named.json()["name"]) == (200, "one")
    assert named.headers["etag"] != seen
    for method, at, body in (
        ("PATCH", path, {"name": "two"}),
        ("POST", f"{path}/pause", None),
        ("POST", f"{path}/rotate", {}),
        ("DELETE", path, None),
    ):
        for tag in (seen, f"W/{named.headers['etag']}", '"x", "y"'):
            stale = await http.request(method, at, json=body, headers={"If-Match": tag})
            assert stale.status_code == 412, (method, tag)
            assert stale.json()["type"] == "/problems/stale"
    assert (await http.get(path)).headers["etag"] == named.headers["etag"]
    either = f'"x", {named.headers["etag"]}'
    assert (await http.post(f"{path}/pause", headers={"If-Match": either})).status_code == 200
    assert (await http.post(f"{path}/resume", headers={"If-Match": "*"})).status_code == 200
    broken = await http.delete(path, headers={"If-Match": "abc"})
    assert broken.status_code == 400
    assert (await http.delete(path)).status_code == 204
    assert (await http.patch(path, json={}, headers={"If-Match": "*"})).status_code == 404


async def test_a_change_counts_from_the_next_hook_on(
    http: httpx.AsyncClient, eventually: Eventually
) -> None:
    source = await add_source(http, rule={"action": "ignore", "with": {"reason": "the first"}})
    await send(http, source, signed({}))

    async def settled(count: int) -> bool:
        items = (await http.get(f"/v1/sources/{source['id']}/hooks")).json()["items"]
        return len(items) == count and all(each["state"] != "stored" for each in items)

    await eventually(lambda: settled(1))
    rule = {"action": "ignore", "with": {"reason": "the second"}}
    await http.patch(f"/v1/sources/{source['id']}", json={"rule": rule})
    await send(http, source, signed({}))
    await eventually(lambda: settled(2))
    assert (await latest(http, source))["outcome"]["reason"] == "the second"
    back = await http.patch(f"/v1/sources/{source['id']}", json={"rule": None})
    assert back.json()["rule"] == []


async def test_a_rotated_secret_is_taken_beside_the_old_one_for_the_overlap(
    http: httpx.AsyncClient,
) -> None:
    source = await add_source(http)
    path = f"/v1/sources/{source['id']}/rotate"
    rotated = (await http.post(path, json={})).json()
    assert rotated["secret"] not in {None, SECRET}
    assert [each["expires_at"] is None for each in rotated["secrets"]] == [True, False]
    for secret in (SECRET, rotated["secret"]):
        assert (await send(http, source, signed({}, secret=secret))).status_code == 202
    at_once = (await http.post(path, json={"overlap_seconds": 0})).json()
    assert len(at_once["secrets"]) == 1
    for secret, status in ((SECRET, 401), (rotated["secret"], 401), (at_once["secret"], 202)):
        assert (await send(http, source, signed({}, secret=secret))).status_code == status
    brought = await http.post(path, json={"secret": "a secret of the caller's own"})
    assert brought.json()["secret"] is None


async def test_a_secret_past_its_overlap_proves_nothing(
    hall: Hall, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await add_source(http)
    new = "the-next-secret-0123456789"
    await http.post(
        f"/v1/sources/{source['id']}/rotate", json={"secret": new, "overlap_seconds": 60}
    )
    assert (await send(http, source, signed({}))).status_code == 202
    later = clock.unix_seconds() + 61
    monkeypatch.setattr(clock, "unix_seconds", lambda: later)
    assert (await send(http, source, signed({}))).status_code == 401
    assert (await send(http, source, signed({}, secret=new))).status_code == 202


async def test_a_dry_run_says_what_would_happen_and_changes_nothing(
    http: httpx.AsyncClient, store: Store
) -> None:
    source = await add_source(http, "github")
    path = f"/v1/sources/{source['id']}/dry-run"
    pasted = {"payload": LABELED, "headers": {"X-GitHub-Event": "issues"}}
    found = (await http.post(path, json=pasted)).json()
    assert (found["kind"], found["would"]) == ("issues.labeled", "start_mission")
    assert found["with"]["repo"] == "https://github.com/octo/town.git"
    assert "[untrusted " in found["with"]["goal"]
    other = {**pasted, "kind": "push"}
    assert (await http.post(path, json=other)).json()["would"] == "ignore"
    assert (await http.get("/v1/missions")).json()["items"] == []
    assert await store.hooks.waiting() == 0
    for wrong in ({}, {"payload": {}, "hook_id": ids.new("hook")}):
        assert (await http.post(path, json=wrong)).status_code == 400
    assert (await http.post(path, json={"hook_id": ids.new("hook")})).status_code == 404


async def test_a_stored_hook_can_be_tried_on_new_rules_and_sent_through_them(
    http: httpx.AsyncClient, eventually: Eventually
) -> None:
    rule = {"action": "start_mission", "with": {"goal": "{{ payload.task }}"}}
    source = await add_source(http, rule=rule)
    path = f"/v1/sources/{source['id']}"
    taken = (await send(http, source, signed({"job": "Sweep the hall"}))).json()

    async def in_state(state: str) -> bool:
        return bool((await latest(http, source))["state"] == state)

    await eventually(lambda: in_state("dead"))
    dead = (await latest(http, source))["outcome"]["reason"]
    assert dead == "rule 1 needs payload.task, which the hook does not say"
    trial = {"hook_id": taken["id"]}
    failing = (await http.post(f"{path}/dry-run", json=trial)).json()
    assert (failing["would"], failing["reason"]) == ("fail", dead)
    rule["with"] = {"goal": "{{ payload.job }}"}
    await http.patch(path, json={"rule": rule})
    assert (await http.post(f"{path}/dry-run", json=trial)).json()["would"] == "start_mission"
    replayed = await http.post(f"{path}/hooks/{taken['id']}/replay")
    assert replayed.json()["state"] == "stored"
    await eventually(lambda: in_state("routed"))
    mission = (await latest(http, source))["outcome"]["mission_id"]
    goal = (await http.get(f"/v1/missions/{mission}")).json()["goal"]
    assert "\nSweep the hall\n" in goal
    again = await http.post(f"{path}/hooks/{taken['id']}/replay")
    assert (again.status_code, again.json()["state"]) == (409, "routed")
    elsewhere = f"/v1/sources/{(await add_source(http))['id']}/hooks/{taken['id']}/replay"
    assert (await http.post(elsewhere)).status_code == 404


async def test_a_dry_run_sees_the_open_mission_of_a_thread(
    http: httpx.AsyncClient, eventually: Eventually
) -> None:
    source = await add_source(http, "github")
    await send(http, source, github("issues", LABELED))

    async def started() -> Any:
        return (await http.get("/v1/missions")).json()["items"]

    await eventually(started)
    pasted = {"payload": LABELED, "kind": "issues.labeled"}
    found = (await http.post(f"/v1/sources/{source['id']}/dry-run", json=pasted)).json()
    assert found["would"] == "message"
    assert found["mission_id"] == (await started())[0]["id"]


async def test_what_is_changed_is_written_down_with_who_and_what(
    hall: Hall, http: httpx.AsyncClient, eventually: Eventually
) -> None:
    source = await add_source(http)
    async with hall.client(await hall.key("read", "write")) as other:
        await other.post(f"/v1/sources/{source['id']}/pause", headers={"X-Request-ID": "pausing"})
        assert (await other.post("/v1/keys", json={"name": "x"})).status_code == 403
        assert (await other.get("/v1/audit")).status_code == 403
    await http.patch(f"/v1/sources/{source['id']}", json={"name": 7})
    async with hall.client(None) as stranger:
        await stranger.delete(f"/v1/sources/{source['id']}")

    async def lines() -> Any:
        found = (await http.get("/v1/audit")).json()["items"]
        return len(found) == 4 and found

    await eventually(lines)
    told = [(each["verb"], each["object"], each["result"]) for each in reversed(await lines())]
    assert told == [
        ("add_source", source["id"], "done"),
        ("pause_source", source["id"], "done"),
        ("make_key", "", "refused 403"),
        ("change_source", source["id"], "refused 400"),
    ]
    paused = next(each for each in await lines() if each["verb"] == "pause_source")
    assert paused["request_id"] == "pausing"
    assert paused["actor"].startswith("key_")
    page = (await http.get("/v1/audit?limit=3")).json()
    rest = (await http.get("/v1/audit", params={"cursor": page["next_cursor"]})).json()
    assert len(rest["items"]) == 1
    assert (await http.get("/v1/audit?cursor=x")).status_code == 400
    assert SECRET not in str(await lines())
