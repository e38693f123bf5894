"""Missions from the laptop: started byte for byte, listed, looked at, moved, spoken to."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from laptop import Laptop
from tinytown.townhall import Townhall
from towns import ask, hand, settle, start

GOAL = "Fix it.\r\n\ttabs, ünïcode ✓ and \N{RIGHT-TO-LEFT OVERRIDE}\n\n"


async def test_a_goal_from_standard_input_arrives_byte_for_byte(tt: Laptop) -> None:
    said = await tt("mission", "start", "-", stdin=GOAL.encode())
    shown = await tt("mission", "show", said.out.strip(), "--json")
    assert shown.json["goal"].encode() == GOAL.encode()


async def test_a_goal_from_a_file_or_the_command_line_arrives_too(
    tt: Laptop, tmp_path: Path
) -> None:
    file = tmp_path / "goal.md"
    file.write_bytes(GOAL.encode())
    for arguments in (("--file", str(file)), (GOAL,)):
        said = await tt("mission", "start", *arguments, "--json")
        assert said.json["goal"] == GOAL


async def test_everything_that_can_be_said_of_a_mission_reaches_the_town(
    tt: Laptop, tmp_path: Path
) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text(
        json.dumps(
            [
                {"name": "build", "instructions": "build it", "pool": "gpu"},
                {"name": "test", "instructions": "test it", "depends_on": ["build"]},
            ]
        )
    )
    said = await tt(
        *("mission", "start", "make it", "--title", "Make", "--agent", "codex", "--pool", "coder"),
        *("--repo", "https://example.org/a.git", "--ref", "main", "--priority", "high"),
        *("--label", "team=web", "--label", "x=1=2", "--tasks", str(tasks)),
        *("--not-before", "2h", "--time-limit", "90m", "--json"),
    )
    mission = said.json
    assert {name: mission[name] for name in ("title", "agent", "repo", "ref", "priority")} == {
        "title": "Make",
        "agent": "codex",
        "repo": "https://example.org/a.git",
        "ref": "main",
        "priority": "high",
    }
    assert mission["labels"] == {"team": "web", "x": "1=2"}
    assert mission["time_limit_seconds"] == 5400
    assert mission["not_before"] > mission["created_at"]
    assert [(t["name"], t["pool"], t["depends_on"]) for t in mission["tasks"]] == [
        ("build", "gpu", []),
        ("test", "coder", ["build"]),
    ]


async def test_a_path_of_this_machine_is_made_absolute(tt: Laptop) -> None:
    said = await tt("mission", "start", "look", "--repo", ".", "--json")
    assert said.json["repo"] == str(Path.cwd().resolve())


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (("mission", "start"), b"", "say the goal"),
        (("mission", "start", "a", "--file", "b"), b"", "say the goal"),
        (("mission", "start", "-"), b"\xff\xfe", "not valid UTF-8"),
        (("mission", "start", "a", "--file", "/no/such/file"), b"", "say the goal"),
        (("mission", "start", "a", "--label", "nothing"), b"", "name=value"),
        (("mission", "start", "a", "--time-limit", "soon"), b"", "duration"),
        (("mission", "start", "a", "--not-before", "2026-11-22T21:00:00"), b"", "zone"),
        (("mission", "start", "a", "--agent", "hal"), b"", "hal"),
    ],
)
async def test_wrong_use_is_said_before_anything_is_sent(
    away: Laptop, arguments: tuple[str, ...], stdin: bytes, says: str
) -> None:
    said = await away(*arguments, code=2, stdin=stdin)
    assert says in said.err


async def test_what_the_town_refuses_is_one_line_and_usage(tt: Laptop, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.json"
    tasks.write_text(
        json.dumps(
            [
                {"name": "a", "instructions": "x", "depends_on": ["b"]},
                {"name": "b", "instructions": "x", "depends_on": ["a"]},
            ]
        )
    )
    said = await tt("mission", "start", "go", "--tasks", str(tasks), code=2)
    assert said.err.startswith("tt: tasks wait for each other: ")
    assert said.err.count("\n") == 1


async def test_the_list_is_newest_first_and_can_be_filtered(tt: Laptop, hall: Townhall) -> None:
    first = await start(hall.town.store, goal="one", labels={"team": "web"})
    second = await start(hall.town.store, goal="two")
    listed = await tt("mission", "list", "--json")
    assert [each["id"] for each in listed.json["items"]] == [second.id, first.id]
    assert listed.json["next_cursor"] is None
    labelled = await tt("mission", "list", "--label", "team=web", "--json")
    assert [each["id"] for each in labelled.json["items"]] == [first.id]
    limited = await tt("mission", "list", "--limit", "1", "--json")
    assert [each["id"] for each in limited.json["items"]] == [second.id]
    plain = await tt("mission", "list")
    assert plain.out.splitlines()[0].split() == ["mission", "state", "started", "title"]
    assert first.id in plain.out


async def test_a_long_list_is_read_page_by_page(tt: Laptop, hall: Townhall) -> None:
    for number in range(103):
        await start(hall.town.store, goal=f"number {number}")
    listed = await tt("mission", "list", "--limit", "102", "--json")
    ids = [each["id"] for each in listed.json["items"]]
    assert len(ids) == len(set(ids)) == 102


async def test_a_mission_can_be_named_by_its_end_or_as_the_last(tt: Laptop, hall: Townhall) -> None:
    first = await start(hall.town.store)
    last = await start(hall.town.store)
    assert (await tt("mission", "show", "last", "--json")).json["id"] == last.id
    assert (await tt("mission", "show", first.id[-6:], "--json")).json["id"] == first.id
    said = await tt("mission", "show", "mis_", code=2)
    assert "could be" in said.err


async def test_a_mission_nobody_knows_is_not_found(tt: Laptop) -> None:
    for name in ("mis_00000000000000000000000000", "nonsense"):
        said = await tt("mission", "show", name, code=3)
        assert said.err.startswith("tt: ")


async def test_moves_say_the_state_and_illegal_ones_are_conflicts(
    tt: Laptop, hall: Townhall
) -> None:
    mission = await start(hall.town.store)
    assert (await tt("mission", "pause", mission.id)).out == f"{mission.id} is paused\n"
    assert (await tt("mission", "resume", mission.id, "--json")).json["state"] == "queued"
    assert (await tt("mission", "cancel", mission.id)).out == f"{mission.id} is canceled\n"
    said = await tt("mission", "pause", mission.id, code=4)
    assert "canceled" in said.err
    assert (await tt("mission", "retry", mission.id)).out == f"{mission.id} is queued\n"


async def test_a_message_reaches_the_agents(tt: Laptop, hall: Townhall) -> None:
    mission = await start(hall.town.store)
    await tt("mission", "message", mission.id, "Keep the old API.")
    worker = await hand(hall.town.store)
    claim = await worker.take()
    assert [message.text for message in claim.messages] == ["Keep the old API."]


async def test_show_tells_a_person_what_is_asked(tt: Laptop, hall: Townhall) -> None:
    mission = await start(hall.town.store, goal="paint the shed")
    worker = await hand(hall.town.store)
    _, question = await ask(hall.town.store, await worker.take(), "Red?", options=("yes", "no"))
    said = await tt("mission", "show", mission.id)
    assert "state:" in said.out
    assert "It asks: Red?" in said.out
    assert f"tt answer {question}" in said.out


async def test_a_patch_comes_out_byte_for_byte_and_nothing_else(tt: Laptop, hall: Townhall) -> None:
    patch = "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-ä\n+ö\t\r\n".encode()
    mission = await start(hall.town.store)
    worker = await hand(hall.town.store)
    said = await tt("mission", "result", mission.id, code=4)
    assert "has not ended" in said.err
    claim = await worker.take()
    await settle(hall.town.store, claim, patch=patch, branch="tinytown/x", files_changed=1)
    assert (await tt("mission", "result", mission.id, "--patch")).raw == patch
    shown = await tt("mission", "result", mission.id)
    assert "branch:" in shown.out
    as_json = await tt("mission", "result", mission.id, "--json")
    assert as_json.json["result"]["branch"] == "tinytown/x"


async def test_no_patch_is_a_failure_not_an_empty_file(tt: Laptop, hall: Townhall) -> None:
    mission = await start(hall.town.store)
    worker = await hand(hall.town.store)
    await settle(hall.town.store, await worker.take())
    said = await tt("mission", "result", mission.id, "--patch", code=1)
    assert (said.raw, said.err) == (b"", f"tt: {mission.id} changed no files\n")


async def test_the_log_is_readable_and_followed_to_the_end(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store)
    worker = await hand(store)
    claim = await worker.take()
    says = [
        {"kind": "message", "text": f"line {number} \x1b[31mred\N{RIGHT-TO-LEFT OVERRIDE}"}
        for number in range(130)
    ]
    lines = [msgspec.json.encode(each) for each in says]
    await store.docket.append_log(claim.task_id, claim.attempt, first=0, lines=lines)
    said = await tt("mission", "log", mission.id)
    assert said.out.splitlines() == [f"line {number} [31mred" for number in range(130)]
    async with tt.running("mission", "log", mission.id, "--follow", "--json") as following:
        assert following.stdout is not None
        first = await following.stdout.receive()
        assert first.startswith(b"{")
        last = msgspec.json.encode({"kind": "message", "text": "the end"})
        await store.docket.append_log(claim.task_id, claim.attempt, first=130, lines=[last])
        await settle(store, claim)
        said_all = first + b"".join([chunk async for chunk in following.stdout])
        assert await following.wait() == 0
    entries = [msgspec.json.decode(line)["entry"] for line in said_all.splitlines()]
    assert len(entries) == 131
    assert entries[-1]["text"] == "the end"
