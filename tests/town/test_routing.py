"""The router: every hook once, whatever fails on the way; poison aside, and the others go on."""

from __future__ import annotations

import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis

from conftest import Eventually
from halls import Outside, make_town
from hooking import SECRET
from inboxes import START, Inbox, inbox, routing
from tinytown import clock
from tinytown.models.hook import HookState, Taken
from tinytown.models.source import DryRun, NewSource
from tinytown.schemes import Hook
from tinytown.store import Store
from tinytown.store.hooks import GROUP
from tinytown.town import Town
from tinytown.town.routing import CONSUMER, LOOK_SECONDS, TRIES
from towns import ask, hand, open_town, start


@pytest.fixture
def town(town_store: Store) -> Town:
    """Lend a town."""
    return make_town(town_store, Outside())


async def test_hooks_are_routed_in_their_order_and_at_once(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    box = await inbox(town_store, START)
    waiting = [await box.put({"job": f"job {number}"}) for number in range(5)]
    async with routing(town):
        await eventually(lambda: box.settled(waiting[-1]))
        late = await box.put({"job": "one more"})
        await eventually(lambda: box.settled(late), within_seconds=2)
    missions, _ = await town.missions.page(state=None, label=None, cursor=None, limit=10)
    assert [m.title for m in reversed(missions)] == [
        *(f"Do job {number}" for number in range(5)), "Do one more",
    ]  # fmt: skip
    assert missions[0].labels == {"source": "shop"}
    assert missions[0].id == late.replace("hok_", "mis_")


async def test_many_routers_start_nothing_twice(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    box = await inbox(town_store, START)
    waiting = [await box.put({"job": f"{number}"}) for number in range(40)]
    async with routing(town, routers=4):
        for hook in waiting:
            await eventually(lambda hook=hook: box.settled(hook))
    missions, _ = await town.missions.page(state=None, label=None, cursor=None, limit=100)
    assert sorted(m.id for m in missions) == sorted(h.replace("hok_", "mis_") for h in waiting)


Deed = Callable[..., Awaitable[Any]]


def dying_after(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, times: int) -> list[int]:
    """Let a step succeed and its caller die right after it, so many times; gives the count."""
    deed: Deed = getattr(owner, name)
    died: list[int] = []

    async def step(*arguments: Any, **more: Any) -> Any:
        result = await deed(*arguments, **more)
        if len(died) < times:
            died.append(1)
            raise RuntimeError("the townhall ends here")
        return result

    monkeypatch.setattr(owner, name, step)
    return died


@pytest.mark.parametrize("step", ["open", "perform", "settle"])
async def test_a_router_that_dies_after_any_step_leaves_nothing_undone_or_done_twice(
    town: Town,
    town_store: Store,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    box = await inbox(town_store, START)
    owner = town.acts if step == "perform" else town_store.hooks
    died = dying_after(monkeypatch, owner, step, times=TRIES - 1)
    hooks = [await box.put({"job": "a", "thread": "one"}), await box.put({"job": "b"})]
    async with routing(town):
        for hook in hooks:
            await eventually(lambda hook=hook: box.settled(hook))

        async def none_waits() -> bool:
            return await town_store.hooks.waiting() == 0

        await eventually(none_waits)
    # After the last step there is nothing left to try.
    assert len(died) == (1 if step == "settle" else TRIES - 1)
    assert [(await box.read(hook)).state for hook in hooks] == ["routed", "routed"]
    missions, _ = await town.missions.page(state=None, label=None, cursor=None, limit=10)
    assert len(missions) == 2


async def test_a_message_that_was_given_is_not_a_mission_when_its_router_comes_back(
    town: Town, town_store: Store, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread's mission ends between the message and the second try."""
    box = await inbox(town_store, START)
    async with routing(town):
        first = await box.put({"job": "a", "thread": "one"})
        await eventually(lambda: box.settled(first))
        mission = first.replace("hok_", "mis_")
        perform = town.acts.perform
        ended: list[int] = []

        async def told_and_died(*arguments: Any) -> Any:
            done = await perform(*arguments)
            if not ended:
                ended.append(1)
                await town_store.missions.cancel(mission, by="ada")
                raise RuntimeError("the townhall ends here")
            return done

        monkeypatch.setattr(town.acts, "perform", told_and_died)
        second = await box.put({"job": "b", "thread": "one"})
        await eventually(lambda: box.settled(second))
    outcome = (await box.read(second)).outcome
    assert outcome is not None
    assert (outcome.action, outcome.mission_id) == ("message", mission)
    missions, _ = await town.missions.page(state=None, label=None, cursor=None, limit=10)
    assert len(missions) == 1


async def test_poison_is_put_aside_with_its_reason_and_the_others_go_on(
    town: Town, town_store: Store, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await inbox(town_store, START)
    perform = town.acts.perform

    async def choking(decision: Any, waiting: Any, source: Any) -> Any:
        if "poison" in decision.fields["goal"]:
            raise ZeroDivisionError
        return await perform(decision, waiting, source)

    monkeypatch.setattr(town.acts, "perform", choking)
    bad = await box.put({"job": "poison"})
    good = [await box.put({"job": "bread"}) for _ in range(3)]
    async with routing(town):
        for hook in good:
            await eventually(lambda hook=hook: box.settled(hook), within_seconds=2)
        await eventually(lambda: box.settled(bad))
    found = await box.read(bad)
    assert (found.state, found.tries) == ("dead", TRIES)
    assert found.outcome is not None
    assert found.outcome.reason == "gave up after 5 tries: ZeroDivisionError"
    assert [each.id for each in (await town_store.hooks.dead(cursor=None, limit=9))[0]] == [bad]


async def test_a_hook_that_ends_its_townhall_every_time_is_poison_too(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    box = await inbox(town_store, START)
    hook = await box.put({"job": "crash"})
    await town_store.hooks.ensure_group()
    async with town_store.blocking("test", block_seconds=1) as client:
        [entry] = await town_store.hooks.consume(client, "router", block_ms=10, limit=1)
    for _ in range(TRIES):
        assert await town_store.hooks.open([entry])
    async with routing(town):
        await eventually(lambda: box.settled(hook))
    found = await box.read(hook)
    assert found.state == "dead"
    assert "ended their townhall" in str(found.outcome)


@asynccontextmanager
async def orphaned(
    town: Town,
    box: Inbox,
    redis_url: str,
    eventually: Eventually,
    *,
    look_seconds: float = LOOK_SECONDS,
) -> AsyncIterator[str]:
    """Route in a town, and lend a hook whose router dies when ours has looked for the last time."""
    store = town.store
    hook = await box.put({"job": "orphan"})
    await store.hooks.ensure_group()
    async with store.blocking("test", block_seconds=1) as client:
        [(entry, _)] = await store.hooks.consume(client, CONSUMER, block_ms=10, limit=1)
    with Redis.from_url(redis_url, protocol=2) as redis:

        def looks() -> int:
            # Claimed once more, it is not ripe yet.
            redis.xclaim(store.keys("hooks"), GROUP, CONSUMER, 0, [entry])
            return int(redis.info("commandstats").get("cmdstat_xautoclaim", {"calls": 0})["calls"])

        before = looks()
        async with routing(town, orphan_seconds=0.5, look_seconds=look_seconds):
            await eventually(lambda: looks() == before + 2)
            assert not await box.settled(hook)
            yield hook


async def test_who_still_has_hooks_to_route_soon_finds_those_of_one_that_died(
    town: Town, town_store: Store, eventually: Eventually, redis_url: str
) -> None:
    """Between two of its looks, which are a minute apart."""
    box = await inbox(town_store, START)
    async with orphaned(town, box, redis_url, eventually) as hook:
        await box.put({"job": "another"})
        await eventually(lambda: box.settled(hook))


async def test_a_town_without_new_hooks_looks_for_orphans_every_while(
    town: Town, town_store: Store, eventually: Eventually, redis_url: str
) -> None:
    box = await inbox(town_store, START)
    async with orphaned(town, box, redis_url, eventually, look_seconds=1) as hook:
        await eventually(lambda: box.settled(hook))
    assert LOOK_SECONDS == 60, "docs/hooks.md says a minute"


async def test_the_links_in_a_tap_are_sealed_and_outlive_the_townhall_that_stored_it(
    town_store: Store, eventually: Eventually, redis_url: str
) -> None:
    town = make_town(town_store, Outside(), secret_key="a secret key for this test only")
    await start(town_store)
    claim = await (await hand(town_store)).take()
    _, question = await ask(town_store, claim, options=("blue", "green"))
    now = int(clock.unix_seconds())
    tokens = [
        town.links.make(question, expires_at=now + 3600, choice=choice) for choice in range(2)
    ]
    source = await town.sources.add(NewSource(scheme="slack", secret=SECRET))
    buttons = [{"type": "button", "value": token} for token in tokens]
    said = {
        "type": "block_actions",
        "user": {"name": "ada"},
        "actions": buttons[1:],
        "message": {"blocks": [{"type": "actions", "elements": buttons}]},
    }
    body = f"payload={quote(json.dumps(said))}".encode()
    digest = hmac.new(SECRET.encode(), f"v0:{now}:".encode() + body, "sha256").hexdigest()
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-slack-request-timestamp": str(now),
        "x-slack-signature": f"v0={digest}",
    }
    hook = Hook(headers=tuple(headers.items()), body=body)
    taken = await town.intake.receive(source.id, hook, request_id="req_1")
    assert isinstance(taken, Taken)

    def kept() -> str:
        with Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
            return str(client.hgetall(town_store.keys("hook", taken.id)))

    stored = kept()
    assert "sealed:" in stored
    assert not [token for token in tokens if token in stored]
    tried = await town.sources.dry_run(source.id, DryRun(hook_id=taken.id))
    assert tried.would == "answer_question"
    async with routing(town):
        await eventually(lambda: Inbox(town_store, None).settled(taken.id))  # type: ignore[arg-type]
    found = await town.questions.read(question)
    assert (found.answer, found.answered_by) == ("green", "ada")
    assert not [token for token in tokens if token in kept()]


async def test_a_damaged_record_is_put_aside_and_its_neighbours_are_routed(
    town: Town, town_store: Store, eventually: Eventually, redis_url: str
) -> None:
    box = await inbox(town_store, START)
    hooks = [await box.put({"job": f"{number}"}) for number in range(3)]
    with Redis.from_url(redis_url, protocol=2) as client:
        client.hset(town_store.keys("hook", hooks[1]), "headers", "{")
    async with routing(town):
        await eventually(lambda: box.settled(hooks[2]), within_seconds=2)
    dead, _ = await town_store.hooks.dead(cursor=None, limit=9)
    assert [(each.id, str(each.outcome)) for each in dead] == [
        (hooks[1], "HookOutcome(reason='its record is damaged')")
    ] or "its record is damaged" in str(dead[0].outcome)


async def test_a_flushed_redis_is_a_fresh_start(
    town: Town, town_store: Store, eventually: Eventually, redis_url: str
) -> None:
    box = await inbox(town_store, START)
    async with routing(town):
        first = await box.put({"job": "a"})
        await eventually(lambda: box.settled(first))
        with Redis.from_url(redis_url, protocol=2) as client:
            client.flushall()
            client.script_flush()
        box = await inbox(town_store, START)
        again = await box.put({"job": "b"})
        await eventually(lambda: box.settled(again), within_seconds=5)


async def test_an_outage_delays_hooks_and_loses_none(
    redis_server: Any, eventually: Eventually
) -> None:
    server = redis_server(tcp=True, persist=True)
    async with open_town(server.url) as store:
        town = make_town(store, Outside())
        box = await inbox(store, START)
        hooks = [await box.put({"job": f"{number}"}) for number in range(200)]
        async with routing(town):

            async def waiting(most: int) -> bool:
                return await store.hooks.waiting() <= most

            await eventually(lambda: waiting(195))
            server.stop()
            server.start()
            await eventually(lambda: waiting(0), within_seconds=20)
        states = {(await box.read(hook)).state for hook in hooks[-40:]}
        assert states == {HookState.ROUTED}
        missions, _ = await town.missions.page(state=None, label=None, cursor=None, limit=1000)
        assert len(missions) == 200


async def test_a_removed_sources_hooks_start_nothing(
    town: Town, town_store: Store, eventually: Eventually
) -> None:
    box = await inbox(town_store, START)
    hook = await box.put({"job": "a"})
    await town_store.sources.drop(box.source.id)
    async with routing(town):
        await eventually(lambda: box.settled(hook))
    assert (await box.read(hook)).outcome.reason == "its source was removed"  # type: ignore[union-attr]
