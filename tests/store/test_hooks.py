"""Sources and hooks in the store: taken once, bounded, routed by group, settled once."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest
from redis import Redis

from tinytown import ids
from tinytown.errors import HookNotFound, IllegalMove, SourceNotFound, Stale, TooMany
from tinytown.models.hook import HookMove, HookOutcome, HookState
from tinytown.models.source import SourceRecord
from tinytown.store import Limits, Store
from tinytown.store.hooks import Settled
from towns import TurnedClock, hand, open_town, settle, start, told


def record(**more: object) -> SourceRecord:
    return SourceRecord(
        id=ids.new("source"),
        scheme="hmac",
        created_at="",
        updated_at="",
        **more,  # type: ignore[arg-type]
    )


async def added(store: Store) -> SourceRecord:
    made = record()
    await store.sources.put(made)
    return made


async def take(
    store: Store, source_id: str, delivery: str = "", *, payload: bytes = b"{}", keep: float = 60
) -> tuple[str, bool]:
    version, _ = await store.sources.all()
    taken = await store.hooks.take(
        ids.new("hook"),
        source_id=source_id,
        version=version,
        delivery=delivery or ids.new("request"),
        keep_seconds=keep,
        kind="a.b",
        headers=b'{"x-event": "b"}',
        payload=payload,
        sent_ms=0,
    )
    assert taken is not None
    return taken


async def done(
    store: Store, entry: tuple[str, str], move: HookMove = HookMove.IGNORE, **more: Any
) -> bool:
    """Settle one hook; tells whether it had not been before."""
    outcome = more.pop("outcome", HookOutcome())
    settled = Settled(entry=entry, move=move, outcome=outcome, **more)
    return await store.hooks.settle([settled]) == 1


async def entries(store: Store) -> list[tuple[str, str]]:
    await store.hooks.ensure_group()
    async with store.blocking("test", block_seconds=1) as client:
        return await store.hooks.consume(client, "one", block_ms=10, limit=1000)


# Sources ------------------------------------------------------------------------------------------


async def test_a_source_is_changed_only_as_its_caller_saw_it(store: Store) -> None:
    made = await added(store)
    seen = await store.sources.read(made.id)
    assert seen.record == made
    named = msgspec.structs.replace(made, name="one")
    digest = await store.sources.put(named, expected=seen.digest)
    assert digest == (await store.sources.read(made.id)).digest
    with pytest.raises(Stale):
        await store.sources.put(made, expected=seen.digest)
    with pytest.raises(Stale):
        await store.sources.drop(made.id, expected=seen.digest)
    await store.sources.drop(made.id, expected=digest)
    for gone in (
        store.sources.put(made, expected=digest),
        store.sources.drop(made.id),
        store.sources.read(made.id),
        store.sources.read("version"),
    ):
        with pytest.raises(SourceNotFound):
            await gone


async def test_every_change_is_a_version_also_after_all_was_lost(
    store: Store, books: Redis, clock: TurnedClock
) -> None:
    clock.turn()
    made = await added(store)
    versions = [(await store.sources.all())[0]]
    await store.sources.put(made)
    versions.append((await store.sources.all())[0])
    await store.sources.drop(made.id)
    versions.append((await store.sources.all())[0])
    books.flushall()
    clock.turn(seconds=1)
    await added(store)
    versions.append((await store.sources.all())[0])
    assert versions == sorted(set(versions), key=int)


async def test_a_town_has_so_many_sources_and_no_more(redis_url: str) -> None:
    async with open_town(redis_url, limits=Limits(sources=2)) as store:
        first = await added(store)
        await added(store)
        with pytest.raises(TooMany):
            await added(store)
        await store.sources.put(first)


# Taking -------------------------------------------------------------------------------------------


async def test_a_delivery_is_taken_once_as_long_as_its_sender_may_repeat_it(
    store: Store, books: Redis
) -> None:
    source = await added(store)
    other = await added(store)
    first, again = await take(store, source.id, "d1")
    assert not again
    assert await take(store, source.id, "d1") == (first, True)
    assert (await take(store, other.id, "d1"))[1] is False, "ids are the sender's own"
    assert await store.hooks.waiting() == 2
    key = store.keys("source_seen", source.id, "d1")
    assert 59_000 < int(books.pttl(key)) <= 60_000


async def test_a_reply_that_was_lost_is_no_duplicate(store: Store) -> None:
    source = await added(store)
    version, _ = await store.sources.all()
    hook = ids.new("hook")
    for _ in range(2):
        taken = await store.hooks.take(
            hook, source_id=source.id, version=version, delivery="d", keep_seconds=60,
            kind="", headers=b"{}", payload=b"{}", sent_ms=0,
        )  # fmt: skip
        assert taken == (hook, False)
    assert await store.hooks.waiting() == 1


async def test_fifty_at_once_are_one(store: Store) -> None:
    source = await added(store)
    found: list[tuple[str, bool]] = []

    async def one() -> None:
        found.append(await take(store, source.id, "same"))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert sorted(again for _, again in found) == [False] + [True] * 49
    assert len({hook for hook, _ in found}) == 1
    assert await store.hooks.waiting() == 1


async def test_what_was_proved_by_an_older_version_is_not_taken(store: Store) -> None:
    source = await added(store)
    version, _ = await store.sources.all()
    await store.sources.put(source)
    taken = await store.hooks.take(
        ids.new("hook"), source_id=source.id, version=version, delivery="d", keep_seconds=60,
        kind="", headers=b"{}", payload=b"{}", sent_ms=0,
    )  # fmt: skip
    assert taken is None
    assert not await store.hooks.reject(
        source.id, version=version, reason="signature", request_id=""
    )
    assert await told(store) == []
    assert await store.hooks.waiting() == 0


@pytest.mark.parametrize("limits", [Limits(hooks=3), Limits(hooks_bytes=3 * 100)])
async def test_a_full_queue_refuses_and_remembers_nothing_of_it(
    redis_url: str, limits: Limits
) -> None:
    async with open_town(redis_url, limits=limits) as store:
        source = await added(store)
        for number in range(3):
            await take(store, source.id, f"d{number}", payload=b'"' + b"x" * 98 + b'"')
        with pytest.raises(TooMany) as caught:
            await take(store, source.id, "d3", payload=b'"x"')
        assert caught.value.extra["retry_after_seconds"] > 0
        assert (await take(store, source.id, "d0"))[1], "what is there already is still known"
        for entry in await entries(store):
            await done(store, entry)
        assert not (await take(store, source.id, "d3"))[1], "the same delivery may come again"


# Rejecting ----------------------------------------------------------------------------------------


async def test_refusals_are_written_down_up_to_a_bound_and_told_once_a_minute(
    store: Store, books: Redis
) -> None:
    source = await added(store)
    version, _ = await store.sources.all()
    for number in range(30):
        await store.hooks.reject(
            source.id, version=version, reason="signature", request_id=f"req_{number}"
        )
        await store.hooks.reject("", version=version, reason="unknown_source", request_id="r")
    assert await told(store) == ["source.rejected"]
    lines, _ = await store.audit.page(cursor=None, limit=100)
    assert len(lines) == 40
    assert {(line.object, line.reason) for line in lines} == {
        (source.id, "signature"),
        ("", "unknown_source"),
    }
    assert lines[-1].request_id == "req_0"
    books.delete(store.keys("source_rejected", source.id))
    await store.hooks.reject(source.id, version=version, reason="stale", request_id="")
    assert await told(store) == ["source.rejected"] * 2


# Routing ------------------------------------------------------------------------------------------


async def test_a_hook_is_opened_settled_once_and_listed(store: Store) -> None:
    source = await added(store)
    hook, _ = await take(store, source.id, payload=b'{"a":1}')
    [entry] = await entries(store)
    assert entry[1] == hook
    [(_, waiting)] = await store.hooks.open([entry])
    assert waiting is not None
    assert (waiting.payload, waiting.headers) == ({"a": 1}, {"x-event": "b"})
    assert waiting.source == source
    assert waiting.hook.tries == 1
    outcome = HookOutcome(action="ignore", reason="no rule fits")
    assert await done(store, entry, outcome=outcome)
    assert not await done(store, entry, HookMove.ROUTE)
    assert await store.hooks.open([entry]) == []
    [shown], more = await store.hooks.of_source(source.id, cursor=None, limit=10)
    assert (shown.state, shown.outcome, more) == (HookState.IGNORED, outcome, None)
    assert await store.hooks.waiting() == 0


async def test_a_large_payload_is_let_go_once_it_is_settled(redis_url: str) -> None:
    async with open_town(redis_url, limits=Limits(hook_bytes=10)) as store:
        source = await added(store)
        hook, _ = await take(store, source.id, payload=b'"more than ten"')
        [entry] = await entries(store)
        assert (await store.hooks.read(hook)).payload == "more than ten"
        await done(store, entry)
        kept = await store.hooks.read(hook)
        assert (kept.payload, kept.hook.payload_kept) == (None, False)
        with pytest.raises(IllegalMove, match="too large"):
            await store.hooks.replay(hook)


async def test_the_latest_are_kept_and_those_that_wait_never_go(redis_url: str) -> None:
    clock = TurnedClock()
    async with open_town(redis_url, clock=clock, limits=Limits(source_hooks=3)) as store:
        source = await added(store)
        taken = []
        for _ in range(8):
            clock.turn(seconds=1)
            taken.append((await take(store, source.id))[0])
        waits, *rest = await entries(store)
        for entry in rest:
            await done(store, entry)
        shown, _ = await store.hooks.of_source(source.id, cursor=None, limit=100)
        assert [each.id for each in shown] == [*reversed(taken[-3:]), waits[1]]
        with pytest.raises(HookNotFound):
            await store.hooks.read(taken[1])


async def test_the_list_goes_on_where_a_page_ended(store: Store, clock: TurnedClock) -> None:
    source = await added(store)
    taken = []
    for _ in range(5):
        clock.turn(seconds=1)
        taken.append((await take(store, source.id))[0])
    first, cursor = await store.hooks.of_source(source.id, cursor=None, limit=3)
    rest, end = await store.hooks.of_source(source.id, cursor=cursor, limit=3)
    assert [each.id for each in (*first, *rest)] == taken[::-1]
    assert end is None


async def test_the_dead_are_bounded_and_can_be_tried_again(redis_url: str) -> None:
    async with open_town(redis_url, limits=Limits(hooks_dead=2)) as store:
        source = await added(store)
        taken = [(await take(store, source.id))[0] for _ in range(3)]
        for entry in await entries(store):
            await store.hooks.open([entry])
            await done(store, entry, HookMove.GIVE_UP)
        dead, _ = await store.hooks.dead(cursor=None, limit=10)
        assert {each.id for each in dead} <= set(taken)
        assert len(dead) == 2
        await store.hooks.replay(taken[2])
        again = await store.hooks.read(taken[2])
        assert (again.hook.state, again.hook.tries, again.hook.outcome) == ("stored", 0, None)
        assert [entry[1] for entry in await entries(store)] == [taken[2]]
        with pytest.raises(IllegalMove):
            await store.hooks.replay(taken[2])
        with pytest.raises(HookNotFound):
            await store.hooks.replay(ids.new("hook"))


async def test_a_lost_group_is_made_again_and_nothing_waits_for_ever(
    store: Store, books: Redis
) -> None:
    source = await added(store)
    hook, _ = await take(store, source.id)
    assert len(await entries(store)) == 1
    books.xgroup_destroy(store.keys("hooks"), "routers")
    async with store.blocking("test", block_seconds=1) as client:
        assert await store.hooks.consume(client, "one", block_ms=10, limit=9) == []
        assert [h for _, h in await store.hooks.consume(client, "one", block_ms=10, limit=9)] == [
            hook
        ]
    books.xgroup_destroy(store.keys("hooks"), "routers")
    assert await store.hooks.reclaim("one", idle_ms=0, limit=9) == []


async def test_what_a_dead_router_held_is_taken_over(store: Store) -> None:
    source = await added(store)
    hook, _ = await take(store, source.id)
    [entry] = await entries(store)
    assert await entries(store) == []
    assert await store.hooks.reclaim("one", idle_ms=60_000, limit=9) == []
    assert await store.hooks.reclaim("one", idle_ms=0, limit=9) == [entry]
    assert entry[1] == hook


async def test_a_removed_source_takes_its_hooks_with_it_but_not_those_that_wait(
    store: Store,
) -> None:
    source = await added(store)
    settled, _ = await take(store, source.id)
    [entry] = await entries(store)
    await done(store, entry)
    waits, _ = await take(store, source.id)
    await store.sources.drop(source.id)
    with pytest.raises(HookNotFound):
        await store.hooks.read(settled)
    [entry] = await entries(store)
    [(_, found)] = await store.hooks.open([entry])
    assert found is not None
    assert (found.hook.id, found.source) == (waits, None)
    await done(store, entry)


async def test_a_line_is_added_to_a_missions_log_with_the_settlement_once(
    store: Store, books: Redis
) -> None:
    source = await added(store)
    mission = await start(store)
    worker = await hand(store)
    await settle(store, await worker.take())
    await take(store, source.id)
    [entry] = await entries(store)
    for _ in range(2):
        await done(
            store,
            entry,
            HookMove.ROUTE,
            mission_id=mission.id,
            line=b'{"kind":"notice","text":"green"}',
        )
    lines = await store.events.log_of(mission.id, after="0-0", limit=10)
    assert [bytes(line.entry) for line in lines] == [b'{"kind":"notice","text":"green"}']
    assert int(books.pttl(store.keys("mission_log", mission.id))) > 0
