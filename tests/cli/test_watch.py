"""Watching a mission: at a terminal and in a pipe, to its end, across a restart of the town."""

from __future__ import annotations

from pathlib import Path

import msgspec

from laptop import KEY, Laptop
from screen import screen
from tinytown.settings import Secret, Settings
from tinytown.store import Store, open_store
from tinytown.townhall import Townhall, running_townhall
from towns import ask, hand, settle, start


async def say(store: Store, task_id: str, attempt: int, first: int, text: str) -> None:
    """Write a line into a mission's log, as its worker does."""
    line = msgspec.json.encode({"kind": "message", "text": text})
    await store.docket.append_log(task_id, attempt, first=first, lines=[line])


async def test_a_question_is_answered_in_place(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store, goal="paint the shed")
    worker = await hand(store)
    claim = await worker.take()
    async with screen(tt, "mission", "watch", mission.id) as watching:
        await watching.shows("running")
        await say(store, claim.task_id, claim.attempt, 0, "I have two colours.")
        await watching.shows("I have two colours.")
        _, question = await ask(store, claim, "Which colour?", options=("red", "blue"))
        await watching.shows("? Which colour?")
        await watching.shows("2  blue")
        watching.press("2x\x7f\r")
        await watching.shows("answered: blue")
        assert (await store.questions.read(question)).answer == "blue"
        await settle(store, claim, summary="painted it")
        assert await watching.end() == 0
        assert f"{mission.id} completed: painted it" in watching.text


async def test_an_answer_that_does_not_fit_can_be_tried_again(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store)
    worker = await hand(store)
    claim = await worker.take()
    _, question = await ask(store, claim, "Which colour?", options=("red", "blue"))
    async with screen(tt, "mission", "watch", mission.id) as watching:
        await watching.shows("? Which colour?")
        watching.press("\rgreen\r")
        await watching.shows("the answer must be one of: red, blue")
        watching.press("red\r")
        await watching.shows("answered: red")
        assert (await store.questions.read(question)).answer == "red"
        await hall.town.store.missions.cancel(mission.id, by="ada")
        assert await watching.end() == 1
        assert f"{mission.id} canceled" in watching.text


async def test_the_answer_of_another_device_is_told(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store)
    worker = await hand(store)
    _, question = await ask(store, await worker.take(), "Which colour?")
    async with screen(tt, "mission", "watch", mission.id) as watching:
        await watching.shows("? Which colour?")
        await hall.town.questions.answer(question, "blue", by="ada", via="push")
        await watching.shows("ada (push) answered: blue")


async def test_leaving_stops_the_watching_and_not_the_mission(tt: Laptop, hall: Townhall) -> None:
    mission = await start(hall.town.store)
    async with screen(tt, "mission", "watch", mission.id) as watching:
        await watching.shows("queued")
        watching.press("\x04")
        assert await watching.end() == 1
        assert "the mission goes on" in watching.text
    assert (await hall.town.store.missions.read(mission.id)).state == "queued"


async def test_in_a_pipe_every_event_is_a_line(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    mission = await start(store)
    worker = await hand(store)
    claim = await worker.take()
    async with tt.running("mission", "watch", mission.id) as watching:
        assert watching.stdout is not None
        said = await watching.stdout.receive()
        await say(store, claim.task_id, claim.attempt, 0, "nearly there")
        await settle(store, claim, completed=False)
        said += b"".join([chunk async for chunk in watching.stdout])
        assert await watching.wait() == 1
    lines = said.decode().splitlines()
    assert "mission.created" in lines[0]
    assert lines.count("  nearly there") == 1
    assert lines[-1] == f"{mission.id} failed: it broke"


async def test_a_mission_that_is_over_is_told_at_once(tt: Laptop, hall: Townhall) -> None:
    mission = await start(hall.town.store)
    await hall.town.store.missions.cancel(mission.id, by="ada")
    said = await tt("mission", "watch", mission.id, code=1)
    assert said.out.splitlines()[-1] == f"{mission.id} canceled"
    await tt("mission", "watch", "mis_00000000000000000000000000", code=3)


async def test_starting_and_watching_is_one_command(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    async with tt.running("mission", "start", "paint", "--watch") as watching:
        assert watching.stdout is not None
        said = await watching.stdout.receive()
        worker = await hand(store)
        await settle(store, await worker.take())
        said += b"".join([chunk async for chunk in watching.stdout])
        assert await watching.wait() == 0
    assert b"completed: done" in said.splitlines()[-1]


async def test_a_watcher_outlives_the_townhall(
    away: Laptop, redis_url: str, tmp_path: Path
) -> None:
    config = Settings(redis_url=Secret(redis_url), port=0, api_key=Secret(KEY), home=tmp_path)
    async with open_store(redis_url, town="main", name="tt:test") as store:
        mission = await start(store)
        worker = await hand(store)
        claim = await worker.take()
        async with running_townhall(config) as hall:
            port = int(hall.address.rpartition(":")[2])
            tt = away.knowing(TINYTOWN_URL=hall.address, TINYTOWN_API_KEY=KEY)
            watching_at = screen(tt, "mission", "watch", mission.id)
            watching = await watching_at.__aenter__()
            await watching.shows("running")
        try:
            await watching.shows("the town does not answer")
            await say(store, claim.task_id, claim.attempt, 0, "said in the dark")
            again = msgspec.structs.replace(config, port=port)
            async with running_townhall(again):
                await watching.shows("said in the dark")
                await settle(store, claim, summary="done in the light")
                assert await watching.end() == 0
        finally:
            await watching_at.__aexit__(None, None, None)
        assert f"{mission.id} completed: done in the light" in watching.text
