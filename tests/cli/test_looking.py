"""Looking at the town: events, workers, scaling, status, keys."""

from __future__ import annotations

import msgspec

from laptop import Laptop
from screen import screen
from tinytown.townhall import Townhall
from towns import ask, hand, settle, start


async def test_events_tell_what_happened_once_each(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store)
    worker = await hand(store)
    await settle(store, await worker.take())
    said = await tt("events", "--events", "mission.*,task.completed", "--json")
    assert [each["type"] for each in said.lines] == [
        "mission.created",
        "mission.started",
        "task.completed",
        "mission.completed",
    ]
    assert {each["mission_id"] for each in said.lines} == {mission.id}
    after = said.lines[1]["id"]
    rest = await tt("events", "--events", "mission.*", "--after", after, "--json")
    assert [each["type"] for each in rest.lines] == ["mission.completed"]
    plain = await tt("events", "--events", "mission.created")
    assert mission.id in plain.out


async def test_followed_events_come_as_they_happen(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    await start(store)
    start_at = (await store.events.last_id(),)
    async with tt.running("events", "--follow", "--after", *start_at, "--json") as following:
        mission = await start(store)
        assert following.stdout is not None
        line = (await following.stdout.receive()).splitlines()[0]
        assert msgspec.json.decode(line)["mission_id"] == mission.id


async def test_workers_are_listed_and_drained(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    assert (await tt("workers")).err == "no workers: the town is at zero\n"
    worker = await hand(store, "gpu")
    (listed,) = (await tt("workers", "--json")).json["items"]
    assert (listed["id"], listed["pools"]) == (worker.id, ["gpu"])
    assert (await tt("workers", "drain", worker.id[-5:])).out == f"{worker.id} is draining\n"
    await tt("workers", "drain", "agt_00000000000000000000000000", code=3)


async def test_scaling_says_the_signal_and_why(tt: Laptop, hall: Townhall) -> None:
    await start(hall.town.store, pool="gpu")
    signal = (await tt("scaling", "--json")).json
    assert (signal["desired"], signal["pools"]["gpu"]["start"]) == (1, 1)
    pool = (await tt("scaling", "gpu", "--json")).json
    assert pool["recommendation"] == "scale_up"
    assert (await tt("scaling")).out.startswith("scale_up: 1 waiting")
    assert "has named this pool yet" in (await tt("scaling", "nowhere")).out
    await tt("scaling", "Nowhere", code=3)


async def test_watched_scaling_says_each_change(tt: Laptop, hall: Townhall) -> None:
    async with tt.running("scaling", "--watch", "--json") as watching:
        assert watching.stdout is not None
        first = msgspec.json.decode(await watching.stdout.receive())
        assert first["desired"] == 0
        await start(hall.town.store)
        second = msgspec.json.decode((await watching.stdout.receive()).splitlines()[0])
        assert second["seq"] > first["seq"]


async def test_status_shows_the_town_on_one_page(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store)
    worker = await hand(store)
    _, question = await ask(store, await worker.take(), "Red?")
    said = await tt("status", "--json")
    assert [each["id"] for each in said.json["missions"]] == [mission.id]
    assert [each["id"] for each in said.json["questions"]] == [question]
    assert [each["id"] for each in said.json["workers"]] == [worker.id]
    assert said.json["scaling"]["blocked"] == 1
    plain = await tt("status")
    for name in (mission.id, question, worker.id, hall.address):
        assert name in plain.out


async def test_the_page_keeps_itself_current_at_a_terminal(tt: Laptop, hall: Townhall) -> None:
    async with screen(tt, "status", "--watch", rows=40) as watching:
        await watching.shows("no open missions")
        mission = await start(hall.town.store, goal="paint the shed")
        await watching.shows(mission.id)
        await watching.shows("scale_up: 1 waiting")
        assert await watching.interrupt() == 1


async def test_lists_have_colours_at_a_terminal_and_none_in_a_pipe(
    tt: Laptop, hall: Townhall
) -> None:
    mission = await start(hall.town.store, goal="paint\x1b[31m the shed " + "very " * 40)
    async with screen(tt, "mission", "list") as shown:
        await shown.shows("queued")
        assert await shown.end() == 0
        assert "\x1b[36mqueued" in shown.raw
        assert "\x1b[31m" not in shown.raw
        assert all(len(line) <= 100 for line in shown.text.splitlines())
    piped = (await tt("mission", "list")).out
    assert "\x1b" not in piped
    assert mission.title in piped


async def test_a_key_is_shown_once_and_opens_nothing_when_revoked(
    tt: Laptop, hall: Townhall
) -> None:
    made = await tt("keys", "create", "reader", "--scope", "read")
    key = made.out.strip()
    reader = tt.knowing(TINYTOWN_API_KEY=key)
    await reader("mission", "list")
    said = await reader("mission", "start", "go", code=1)
    assert "write" in said.err
    listed = (await tt("keys", "list", "--json")).json["items"]
    (found,) = [each for each in listed if each["name"] == "reader"]
    assert key not in str(listed)
    await tt("keys", "revoke", found["id"])
    said = await reader("mission", "list", code=1)
    assert "tt connect" in said.err
