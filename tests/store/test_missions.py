"""Missions: cancelled, paused, resumed, retried, messaged, listed, and one day forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis import Redis

from tinytown import ids
from tinytown.errors import IllegalMove, LeaseLost, MissionNotFound, TooMany
from tinytown.models.mission import MissionState
from tinytown.store import Limits, Store
from tinytown.store.docket import Nothing
from towns import (
    LEASE_MS,
    TurnedClock,
    ask,
    hand,
    named,
    open_town,
    settle,
    start,
    states,
    told,
)

DAY = 86_400


async def heard(store: Store, books: Redis, worker: str) -> list[str]:
    """List the kinds of signals in a worker's inbox."""
    rows: Any = books.xrange(store.workers.inbox(worker))
    return [fields["kind"] for _, fields in rows]


async def test_a_canceled_mission_takes_its_tasks_along_and_its_worker_hears(
    store: Store, books: Redis
) -> None:
    mission = await start(store, {"run": [], "wait": [], "after": ["run"]})
    worker = await hand(store)
    claim = await worker.take()
    assert await store.missions.cancel(mission.id, by="ada") is MissionState.CANCELED
    mission = await store.missions.read(mission.id)
    assert set(states(mission).values()) == {"canceled"}
    assert mission.finished_at
    assert await heard(store, books, worker.id) == ["cancel"]
    with pytest.raises(LeaseLost):
        await settle(store, claim)
    assert isinstance(await worker.claim(), Nothing)
    assert (await told(store))[-2:] == ["mission.canceled", "worker.idle"]


async def test_a_canceled_mission_is_never_claimed(store: Store) -> None:
    mission = await start(store)
    await store.missions.cancel(mission.id, by="ada")
    assert isinstance(await (await hand(store)).claim(), Nothing)


async def test_a_paused_mission_starts_nothing_new_and_what_runs_may_finish(store: Store) -> None:
    mission = await start(store, {"a": [], "b": [], "c": ["a"]})
    worker = await hand(store)
    claim = await worker.take()
    assert await store.missions.pause(mission.id) is MissionState.PAUSED
    assert isinstance(await (await hand(store)).claim(), Nothing)
    assert await settle(store, claim) is MissionState.PAUSED
    assert states(await store.missions.read(mission.id)) == {
        "a": "completed",
        "b": "pending",
        "c": "pending",
    }
    demand = (await store.clockwork.demand()).pools["default"]
    assert (demand.waiting, demand.deferred) == (0, 2)
    assert await store.missions.resume(mission.id) is MissionState.RUNNING
    names = {(await worker.take()).name, (await (await hand(store)).take()).name}
    assert names == {"b", "c"}


async def test_the_last_running_task_of_a_paused_mission_completes_it(store: Store) -> None:
    mission = await start(store)
    claim = await (await hand(store)).take()
    await store.missions.pause(mission.id)
    assert await settle(store, claim) is MissionState.COMPLETED


async def test_a_task_that_comes_back_in_a_paused_mission_is_put_aside(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    mission = await start(store)
    claim = await (await hand(store)).take()
    _, question = await ask(store, claim)
    await store.missions.pause(mission.id)
    clock.turn(ms=LEASE_MS)
    await store.clockwork.tick()
    assert states(await store.missions.read(mission.id)) == {"main": "pending"}
    assert await store.missions.resume(mission.id) is MissionState.RUNNING
    again = await (await hand(store)).take()
    assert again.attempt == 2
    await store.questions.answer(question, "yes", by="ada", via="api")


async def test_a_mission_paused_while_a_question_is_open_is_blocked_again_when_resumed(
    store: Store,
) -> None:
    mission = await start(store)
    claim = await (await hand(store)).take()
    _, question = await ask(store, claim)
    await store.missions.pause(mission.id)
    assert await store.missions.resume(mission.id) is MissionState.BLOCKED
    await store.missions.pause(mission.id)
    await store.questions.answer(question, "yes", by="ada", via="api")
    assert (await store.missions.read(mission.id)).state is MissionState.PAUSED
    assert await store.missions.resume(mission.id) is MissionState.RUNNING
    assert await settle(store, claim) is MissionState.COMPLETED


async def test_a_mission_for_later_waits_for_its_time(store: Store, clock: TurnedClock) -> None:
    clock.turn()
    due = clock() + 5000
    mission = await start(store, not_before_ms=due)
    worker = await hand(store)
    assert isinstance(await worker.claim(), Nothing)
    demand = (await store.clockwork.demand()).pools["default"]
    assert (demand.waiting, demand.deferred, demand.next_due_ms) == (0, 1, due)
    tick = await store.clockwork.tick()
    assert tick.wait_ms == 5000
    clock.turn(ms=5000)
    assert (await worker.take()).mission_id == mission.id
    demand = (await store.clockwork.demand()).pools["default"]
    assert (demand.deferred, demand.next_due_ms) == (0, None)


async def test_pausing_and_resuming_does_not_bring_a_mission_forward(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    mission = await start(store, not_before_ms=clock() + 5000)
    await store.missions.pause(mission.id)
    assert await store.missions.resume(mission.id) is MissionState.QUEUED
    assert states(await store.missions.read(mission.id)) == {"main": "pending"}
    await store.missions.pause(mission.id)
    clock.turn(ms=5000)
    await store.clockwork.tick()
    assert isinstance(await (await hand(store)).claim(), Nothing)
    await store.missions.resume(mission.id)
    assert (await (await hand(store)).take()).mission_id == mission.id


async def test_a_retried_mission_runs_again_what_did_not_complete(store: Store) -> None:
    mission = await start(store, {"ok": [], "bad": ["ok"], "after": ["bad", "ok"]})
    worker = await hand(store)
    await settle(store, await worker.take())
    await settle(store, await worker.take(), completed=False)
    assert (await store.missions.read(mission.id)).state is MissionState.FAILED
    assert await store.missions.retry(mission.id) is MissionState.QUEUED
    retried = await store.missions.read(mission.id)
    assert states(retried) == {"ok": "completed", "bad": "queued", "after": "pending"}
    assert (retried.reason, retried.finished_at) == (None, None)
    bad = await worker.take()
    assert (bad.name, bad.attempt) == ("bad", 2)
    await settle(store, bad)
    assert await settle(store, await worker.take()) is MissionState.COMPLETED


async def test_a_retried_mission_lives_longer_than_its_first_end(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    mission = await start(store)
    await store.missions.cancel(mission.id, by="ada")
    clock.turn(ms=Limits().retention_ms - 1)
    await store.missions.retry(mission.id)
    clock.turn(seconds=2 * DAY)
    while (await store.clockwork.tick()).handled:
        pass
    assert (await store.missions.read(mission.id)).state is MissionState.QUEUED


@pytest.mark.parametrize(
    ("ending", "legal"),
    [("completed", set()), ("failed", {"retry"}), ("canceled", {"retry"})],
)
async def test_an_ended_mission_refuses_every_move_but_retry(
    store: Store, ending: str, legal: set[str]
) -> None:
    mission = await start(store)
    claim = await (await hand(store)).take()
    if ending == "canceled":
        await store.missions.cancel(mission.id, by="ada")
    else:
        await settle(store, claim, completed=ending == "completed")
    moves: dict[str, Callable[[], Awaitable[object]]] = {
        "pause": lambda: store.missions.pause(mission.id),
        "resume": lambda: store.missions.resume(mission.id),
        "cancel": lambda: store.missions.cancel(mission.id, by="ada"),
        "message": lambda: store.missions.message(mission.id, message_id="m", text="x", by="ada"),
        "retry": lambda: store.missions.retry(mission.id),
    }
    for name, move in moves.items():
        if name not in legal:
            with pytest.raises(IllegalMove) as caught:
                await move()
            assert caught.value.extra["state"] == ending


async def test_illegal_moves_say_the_state_they_found(store: Store) -> None:
    mission = await start(store)
    for move in (store.missions.resume, store.missions.retry):
        with pytest.raises(IllegalMove, match="queued"):
            await move(mission.id)
    await store.missions.pause(mission.id)
    with pytest.raises(IllegalMove, match="paused"):
        await store.missions.pause(mission.id)


async def test_an_unknown_mission_is_not_found(store: Store) -> None:
    unknown = ids.new("mission")
    moves: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: store.missions.read(unknown),
        lambda: store.missions.pause(unknown),
        lambda: store.missions.resume(unknown),
        lambda: store.missions.retry(unknown),
        lambda: store.missions.cancel(unknown, by="ada"),
        lambda: store.missions.message(unknown, message_id="m", text="x", by="ada"),
    )
    for move in moves:
        with pytest.raises(MissionNotFound):
            await move()


async def test_another_town_on_the_same_redis_is_another_world(
    store: Store, redis_url: str
) -> None:
    mission = await start(store)
    async with open_town(redis_url, town="other") as other:
        with pytest.raises(MissionNotFound):
            await other.missions.read(mission.id)
        assert isinstance(await (await hand(other)).claim(), Nothing)
        assert await other.missions.page(state=None, label=None, cursor=None, limit=9) == ([], None)


# -- messages ---------------------------------------------------------------------------------


async def test_a_message_reaches_the_running_agent_and_those_that_start_later(
    store: Store, books: Redis
) -> None:
    mission = await start(store, {"a": [], "b": ["a"]})
    worker = await hand(store)
    claim = await worker.take()
    for _ in range(2):  # a repeated call says it once
        await store.missions.message(mission.id, message_id="m1", text="Mind Ümlauts", by="ada")
    assert await heard(store, books, worker.id) == ["message"]
    await settle(store, claim)
    [message] = (await worker.take()).messages
    assert (message.id, message.text, message.by) == ("m1", "Mind Ümlauts", "ada")
    assert await store.missions.messages(mission.id) == (message,)
    assert (await told(store)).count("task.progressed") == 1


async def test_a_mission_takes_only_so_many_messages(redis_url: str) -> None:
    async with open_town(redis_url, limits=Limits(messages=2)) as store:
        mission = await start(store)
        for number in range(2):
            await store.missions.message(mission.id, message_id=f"m{number}", text="x", by="ada")
        with pytest.raises(TooMany):
            await store.missions.message(mission.id, message_id="m2", text="x", by="ada")


# -- lists ------------------------------------------------------------------------------------


async def test_missions_are_listed_newest_first_by_state_and_label(
    store: Store, clock: TurnedClock
) -> None:
    made = []
    for number in range(7):
        clock.turn(ms=number % 2)  # some in the same millisecond
        made.append((await start(store, labels={"team": "a" if number % 3 else "b"})).id)
    found: list[str] = []
    cursor = None
    while True:
        page, cursor = await store.missions.page(state=None, label=None, cursor=cursor, limit=3)
        found += [mission.id for mission in page]
        if cursor is None:
            break
    created = {id_: (await store.missions.read(id_)).created_at for id_ in made}
    assert found == sorted(made, key=lambda id_: (created[id_], id_), reverse=True)
    await store.missions.cancel(made[1], by="ada")
    page, _ = await store.missions.page(
        state=MissionState.CANCELED, label="team=a", cursor=None, limit=9
    )
    assert [mission.id for mission in page] == [made[1]]
    page, _ = await store.missions.page(state=None, label="team=b", cursor=None, limit=9)
    assert {mission.id for mission in page} == {made[0], made[3], made[6]}
    assert await store.missions.page(state=None, label="team=c", cursor=None, limit=9) == ([], None)


async def test_a_page_goes_on_where_a_mission_left_the_list(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    made = sorted([(await start(store)).id for _ in range(6)], reverse=True)
    queued = MissionState.QUEUED
    page, cursor = await store.missions.page(state=queued, label=None, cursor=None, limit=2)
    assert [mission.id for mission in page] == made[:2]
    await store.missions.cancel(made[1], by="ada")
    page, cursor = await store.missions.page(state=queued, label=None, cursor=cursor, limit=2)
    assert [mission.id for mission in page] == made[2:4]
    await store.missions.cancel(made[3], by="ada")
    page, cursor = await store.missions.page(state=queued, label=None, cursor=cursor, limit=2)
    assert ([mission.id for mission in page], cursor) == (made[4:], None)


# -- retention --------------------------------------------------------------------------------


async def test_a_mission_is_forgotten_with_everything_it_had_after_its_retention(
    store: Store, clock: TurnedClock, books: Redis
) -> None:
    clock.turn()
    labels = {"team": "a"}
    mission = await start(store, {"a": [], "b": ["a"]}, labels=labels)
    worker = await hand(store)
    claim = await worker.take()
    _, question = await ask(store, claim)
    await store.questions.answer(question, "yes", by="ada", via="api")
    await store.docket.append_log(claim.task_id, 1, first=0, lines=[b'{"x":1}'])
    await store.missions.message(mission.id, message_id="m", text="hi", by="ada")
    await settle(store, claim, patch=b"diff", bundle=b"pack")
    await settle(store, await worker.take(), completed=False)
    await worker.leave()
    clock.turn(seconds=7 * DAY, ms=-1)
    while (await store.clockwork.tick()).handled:
        pass
    assert (await store.missions.read(mission.id)).state is MissionState.FAILED
    clock.turn(ms=1)
    while (await store.clockwork.tick()).handled:
        pass
    with pytest.raises(MissionNotFound):
        await store.missions.read(mission.id)
    gauges = {name: value for name, value in (await store.clockwork.gauges()).items() if value}
    assert not gauges
    left = {key.removeprefix(store.keys.prefix) for key in books.scan_iter()}
    streams = {f"docket:default:{priority}" for priority in ("high", "normal", "low")}
    assert left - streams == {"events", "counters", "gauges", "pools"}


async def test_a_mission_that_expired_before_anybody_ticked_leaves_the_lists_too(
    store: Store, clock: TurnedClock, books: Redis
) -> None:
    """Only a town that stood still for more than a year loses keys before its tick."""
    clock.turn()
    mission = await start(store, pool="old")
    await store.missions.cancel(mission.id, by="ada")
    for key in list(books.scan_iter(f"*{mission.id}*")):
        books.delete(key)
    task = named(mission, "main")
    books.delete(store.keys("task", task))
    clock.turn(seconds=400 * DAY)
    await store.clockwork.tick()
    assert await store.clockwork.missions_by_state(["canceled"]) == {"canceled": 0}
    # What nobody can know any more: how many tasks it had.
    books.hdel(store.keys("gauges"), "tasks:old:canceled")


async def test_a_label_is_any_text(store: Store) -> None:
    value = "x:y*[z] {main} é"
    mission = await start(store, labels={"odd": value})
    page, _ = await store.missions.page(state=None, label=f"odd={value}", cursor=None, limit=9)
    assert [each.id for each in page] == [mission.id]
    digest = hashlib.sha1(f"odd={value}".encode(), usedforsecurity=False).hexdigest()
    assert await store.scripts._client.zcard(store.keys("missions_by_label", digest)) == 1
