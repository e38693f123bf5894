"""A day in which everything happens that a script can tell of, for those who must know it all."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from tinytown import ids
from tinytown.models.delivery import Attempt
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.event import Event
from tinytown.models.scaling import Start
from tinytown.store import Limits, Store
from towns import LEASE_MS, SILENCE_MS, TurnedClock, ask, hand, named, settle, start

Verdict: TypeAlias = Literal["delivered", "retry", "dead"]


async def every_event(store: Store, clock: TurnedClock) -> list[Event]:
    """Live through the day; gives the events of the town in their order."""
    clock.turn()
    await questions(store, clock)
    await endings(store, clock)
    await losses(store, clock)
    await orders(store, clock)
    await endpoints(store, clock)
    await store.hooks.reject(ids.new("source"), version="0", reason="signature", request_id="r")
    return await store.events.after("0-0", limit=10_000)


async def tick(store: Store) -> None:
    """Let everything happen that is due."""
    while (await store.clockwork.tick()).handled:
        pass


async def questions(store: Store, clock: TurnedClock) -> None:
    """A mission asks for four things; one is answered, two run out, one is never needed."""
    mission = await start(store, {"look": [], "tidy": ["look"]}, title="Tidy the database")
    worker = await hand(store)
    assert not hasattr(await (await hand(store, "elsewhere")).claim(), "task_id")
    claim = await worker.take()
    facts = {"name": claim.name, "text": "Read 12 of 48 tables", "percent": 25.0}
    await store.docket.progress(claim.task_id, claim.attempt, facts)
    choice = ("Drop it", "Keep it")
    how = {"kind": "choice", "options": choice, "context": "12 rows, last read in 2019"}
    _, first = await ask(
        store, claim, "Drop the table old_orders?", **how, default="Keep it", deadline_seconds=7200
    )
    clock.turn(seconds=21)
    await worker.renew(claim)
    await store.questions.answer(first, "Keep it", by="ada's phone", via="link")
    _, second = await ask(
        store, claim, "And old_carts?", **how, default="Keep it", risk="high", deadline_seconds=15
    )
    await ask(store, claim, "Which region?", deadline_seconds=15)
    clock.turn(seconds=16)
    await tick(store)
    assert (await store.questions.read(second)).outcome == "defaulted"
    await ask(store, claim, "Anything else?")
    await store.docket.save_checkpoint(claim.task_id, claim.attempt, b"where I was")
    await store.docket.park(claim.task_id, claim.attempt)
    await store.missions.cancel(mission.id, by="ada's laptop")
    await worker.leave(always=True)


async def endings(store: Store, clock: TurnedClock) -> None:
    """Two tasks at once: one blocks, the other's end unblocks; then success, and failure."""
    one, other = await hand(store), await hand(store)
    graph = {"build": [], "docs": [], "release": ["build", "docs"]}
    mission = await start(store, graph, title="Release 2.1", labels={"team": "tools"})
    claims = [await one.take(), await other.take()]
    await store.missions.message(
        mission.id, message_id="m1", text="Leave the changelog to me.", by="ada's laptop"
    )
    await ask(store, claims[0], "Which version?")
    clock.turn(seconds=21)
    await settle(
        store,
        claims[0],
        summary="Builds.",
        branch="tinytown/release-2.1",
        files_changed=3,
        pushed=True,
        input_tokens=48_211,
        output_tokens=3_907,
    )
    await settle(store, claims[1], summary="The pages are current.")
    last = await one.take()
    await settle(
        store,
        last,
        summary="Released 2.1.",
        branch="tinytown/release-2.1",
        base="9fceb02d0ae598e95dc970b74767f19372d61af8",
        files_changed=4,
        pushed=True,
        head="f1d2d2f924e986ac86fdf7b36c94bcdf32beec15",
        cost_usd=0.42,
        input_tokens=61_020,
        output_tokens=5_118,
        links={"compare": "https://git.example/shop/compare/main...tinytown/release-2.1"},
    )
    await start(store, graph, title="Release 2.2")
    broken, fine = await one.take(), await other.take()
    await settle(store, broken, completed=False, summary="")
    await settle(store, fine, summary="The pages are current.")
    simple = await start(store, title="Fix the build")
    await settle(store, await one.take(), completed=False, summary="I tried.")
    await store.missions.retry(simple.id)
    await settle(store, await one.take())
    for worker in (one, other):
        await worker.leave()


async def losses(store: Store, clock: TurnedClock) -> None:
    """Workers die, come late, or cannot be started at all."""
    graphs: tuple[dict[str, list[str]], ...] = (
        {"sole": [], "after": ["sole"]},
        {"sole": [], "beside": []},
    )
    for graph in graphs:
        await start(store, graph, title="Upgrade Redis", max_attempts=2)
        for _ in range(2):
            await (await hand(store)).take()
            clock.turn(ms=max(LEASE_MS, SILENCE_MS) + 1)
            await tick(store)
        if "beside" in graph:
            await settle(store, await (await hand(store)).take())
    await (await hand(store)).claim()
    clock.turn(ms=SILENCE_MS + 1)
    await tick(store)
    for number in range(len(Limits().start_pauses_ms)):
        await store.clockwork.end_start(
            Start(pool="default", id=f"start{number}"),
            launcher="fly",
            result="crashed",
            failed=True,
            reason="the machine's image was not found",
        )


async def orders(store: Store, clock: TurnedClock) -> None:
    """People pause, resume, wait; workers drain."""
    later = await start(store, title="Nightly backup", not_before_ms=clock() + 60_000)
    await store.missions.pause(later.id)
    await store.missions.resume(later.id)
    clock.turn(seconds=61)
    await tick(store)
    worker = await hand(store)
    claim = await worker.take()
    await store.missions.pause(claim.mission_id)
    await store.docket.release(
        claim.task_id, claim.attempt, reason="the worker drains", counts=False
    )
    await store.missions.resume(claim.mission_id)
    claim = await worker.take()
    await ask(store, claim, "Where to?")
    await store.missions.pause(claim.mission_id)
    await store.missions.resume(claim.mission_id)
    await store.workers.drain(worker.id)
    await store.missions.cancel(claim.mission_id, by="ada's laptop")
    early = await start(store, {"a": [], "b": ["a"]}, title="Never mind")
    assert named(early, "a") != named(early, "b")
    await store.missions.cancel(early.id, by="ada's laptop")
    await worker.leave()


async def endpoints(store: Store, clock: TurnedClock) -> None:
    """An endpoint fails for days, loses a delivery, comes back, and is paused."""
    endpoint = EndpointRecord(
        id=ids.new("endpoint"),
        kind="webhook",
        url="https://hooks.example",
        name="",
        events=("*",),
        created_at="",
    )
    await store.endpoints.put(endpoint)
    version, _ = await store.endpoints.all()
    for event in (await store.events.after("0-0", limit=100))[:2]:
        await store.deliveries.plan(event, [endpoint.id], version=version)

    async def attempt(outcome: Verdict, reason: str = "") -> None:
        clock.turn(seconds=4 * 3600)
        [due] = (await store.deliveries.claim(lease_ms=60_000, limit=1)).deliveries
        tried = Attempt(number=due.attempt, at="now", outcome=outcome, duration_seconds=0.1)
        await store.deliveries.record(due.id, tried, outcome=outcome, reason=reason)

    await attempt("dead", "given up after attempt 1: HTTP 503")
    for _ in range(22):  # long enough to be warned of the end, not for the end
        await attempt("retry", "HTTP 503")
    await attempt("delivered")
    await store.endpoints.move(endpoint.id, "disable", reason="paused by ada's laptop")
    await store.endpoints.move(endpoint.id, "revive", reason="resumed by ada's laptop")


def written(events: list[Event]) -> str:
    """Write events a line each, to look at."""
    return b"\n".join(msgspec.json.encode(event) for event in events).decode()
