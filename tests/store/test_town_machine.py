"""A town under random orders: whatever happens in whatever order, the books add up after each step.

The checks are in tests/books.py: gauges, docket, timers, indexes, and the story that the events
tell must agree with the records. Here come the steps, and what must hold from one to the next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    precondition,
    rule,
)

from books import Books, reachable_states
from random_orders import TownInOrders, live_through
from servers import RedisServer
from tinytown.errors import TownError
from tinytown.models import mission, task
from tinytown.models.task import Claim
from towns import LEASE_MS, SILENCE_MS, Hand, ask, settle, start

GRAPHS: tuple[dict[str, list[str]], ...] = (
    {},
    {"a": [], "b": ["a"]},
    {"a": [], "b": [], "join": ["a", "b"]},
    {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]},
)
FOLLOWS = reachable_states()
T = TypeVar("T")
ENDED: dict[str, set[str]] = {"missions": set(mission.ENDED), "tasks": set(task.ENDED)}
pick = st.integers(0, 5)
"""Which of several, counted from the latest: old ones are mostly over."""


def recent(found: list[T], which: int) -> T:
    """Choose one of the latest few."""
    return found[-1 - which % len(found)]


class TownMachine(TownInOrders):
    """One town, a handful of workers, and people who do anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.missions: list[str] = []
        self.questions: list[str] = []
        self.hands: list[Hand] = []
        self.claims: list[tuple[Hand, Claim]] = []
        self.before: dict[str, dict[str, str]] = {}
        self.last_rule = ""

    def attempt(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Run a step that the town may refuse in its own words."""
        with suppress(TownError):
            return self.do(step())
        return None

    # -- what people do ------------------------------------------------------------------------

    @rule(
        graph=st.sampled_from(GRAPHS),
        priority=st.sampled_from(["low", "normal", "high"]),
        pool=st.sampled_from(["default", "gpu"]),
        later=st.sampled_from([0, 0, 0, 20_000]),
    )
    def start(self, graph: dict[str, list[str]], priority: str, pool: str, later: int) -> None:
        """Start a mission."""
        made = self.do(
            start(
                self.store,
                graph,
                priority=priority,
                pool=pool,
                not_before_ms=later and self.clock() + later,
                max_attempts=2,
                labels={"pool": pool},
            )
        )
        self.missions.append(made.id)

    @precondition(lambda self: self.missions)
    @rule(which=pick, move=st.sampled_from(["cancel", "pause", "resume", "resume", "retry"]))
    def move(self, which: int, move: str) -> None:
        """Cancel, pause, resume or retry a mission."""
        self.last_rule = move
        mission_id = recent(self.missions, which)
        more = {"by": "ada"} if move == "cancel" else {}
        self.attempt(lambda: getattr(self.store.missions, move)(mission_id, **more))

    @precondition(lambda self: self.missions)
    @rule(which=pick, number=st.integers(0, 2))
    def message(self, which: int, number: int) -> None:
        """Leave a message."""
        mission_id = recent(self.missions, which)
        self.attempt(
            lambda: self.store.missions.message(
                mission_id, message_id=f"m{number}", text="mind the gap", by="ada"
            )
        )

    @precondition(lambda self: self.questions)
    @rule(which=pick, text=st.sampled_from(["yes", "no"]))
    def answer(self, which: int, text: str) -> None:
        """Answer a question, perhaps one that is long over."""
        question = recent(self.questions, which)
        self.attempt(lambda: self.store.questions.answer(question, text, by="ada", via="api"))

    # -- what workers do -----------------------------------------------------------------------

    @precondition(lambda self: len(self.hands) < 6)
    @rule(pools=st.sampled_from([("default",), ("gpu",), ("default", "gpu")]))
    def arrive(self, pools: tuple[str, ...]) -> None:
        """A worker comes to town."""
        worker = Hand(self.store, *pools)
        self.do(worker.register())
        self.hands.append(worker)

    @rule(graph=st.sampled_from(GRAPHS), asks=st.booleans(), deadline=st.sampled_from([None, 15]))
    def set_to_work(self, graph: dict[str, list[str]], asks: bool, deadline: int | None) -> None:  # noqa: FBT001
        """A mission and a worker for it; perhaps it asks at once."""
        self.missions.append(self.do(start(self.store, graph, max_attempts=2)).id)
        worker = Hand(self.store)
        self.do(worker.register())
        self.hands.append(worker)
        claim = self.do(worker.claim())
        self.claims.append((worker, claim))
        if asks:
            _, question = self.do(ask(self.store, claim, deadline_seconds=deadline))
            self.questions.append(question)

    @precondition(lambda self: self.hands)
    @rule(which=pick)
    def come_back(self, which: int) -> None:
        """A worker registers again, needed or not."""
        self.do(recent(self.hands, which).register())

    @precondition(lambda self: self.hands)
    @rule(which=pick)
    def claim(self, which: int) -> None:
        """A worker asks for a task (perhaps for the second time)."""
        worker = recent(self.hands, which)
        claim = self.do(worker.claim())
        if isinstance(claim, Claim):
            self.claims.append((worker, claim))

    @precondition(lambda self: self.claims)
    @rule(which=pick)
    def renew(self, which: int) -> None:
        """A worker shows that it lives, perhaps with a lease it lost long ago."""
        worker, claim = recent(self.claims, which)
        self.attempt(lambda: worker.renew(claim))

    @precondition(lambda self: self.claims)
    @rule(which=pick, completed=st.booleans())
    def settle(self, which: int, completed: bool) -> None:  # noqa: FBT001
        """A worker settles, perhaps twice, perhaps as a ghost."""
        _, claim = recent(self.claims, which)
        self.attempt(lambda: settle(self.store, claim, completed=completed, patch=b"diff"))

    @precondition(lambda self: self.claims)
    @rule(which=pick, counts=st.booleans())
    def release(self, which: int, counts: bool) -> None:  # noqa: FBT001
        """A worker hands a task back."""
        _, claim = recent(self.claims, which)
        self.attempt(
            lambda: self.store.docket.release(
                claim.task_id, claim.attempt, reason="drains", counts=counts
            )
        )

    @precondition(lambda self: self.claims)
    @rule(
        which=pick,
        text=st.sampled_from(["Which?", "May I?"]),
        deadline=st.sampled_from([None, 15, 45]),
        default=st.sampled_from([None, "no"]),
    )
    def ask(self, which: int, text: str, deadline: int | None, default: str | None) -> None:
        """An agent asks, perhaps what was asked before."""
        _, claim = recent(self.claims, which)
        kind = "approval" if text == "May I?" else "text"
        how = {"kind": kind, "deadline_seconds": deadline, "default": default}
        asked = self.attempt(lambda: ask(self.store, claim, text, **how))
        if asked:
            self.questions.append(asked[1])

    @precondition(lambda self: self.claims)
    @rule(which=pick)
    def park(self, which: int) -> None:
        """A worker whose agent waits for a person goes home without it."""
        _, claim = recent(self.claims, which)
        docket = self.store.docket
        self.attempt(lambda: docket.save_checkpoint(claim.task_id, claim.attempt, b"where I was"))
        self.attempt(lambda: docket.park(claim.task_id, claim.attempt))

    @precondition(lambda self: self.claims and self.questions)
    @rule(which=pick)
    def take(self, which: int) -> None:
        """An agent fetches an outcome."""
        _, claim = recent(self.claims, which)
        question = recent(self.questions, which)
        self.attempt(
            lambda: self.store.questions.take(
                question, task_id=claim.task_id, attempt=claim.attempt
            )
        )

    @precondition(lambda self: self.hands)
    @rule(which=pick)
    def drain(self, which: int) -> None:
        """A worker is told to take nothing new."""
        self.attempt(lambda: self.store.workers.drain(recent(self.hands, which).id))

    @precondition(lambda self: self.hands)
    @rule(which=pick, always=st.booleans())
    def leave(self, which: int, always: bool) -> None:  # noqa: FBT001
        """A worker goes home."""
        self.attempt(lambda: recent(self.hands, which).leave(always=always))

    @precondition(lambda self: self.claims)
    @rule(which=pick, another=st.booleans())
    def outlive(self, which: int, another: bool) -> None:  # noqa: FBT001
        """A lease runs out under its worker; perhaps another one is there to take over."""
        worker, _ = recent(self.claims, which)
        self.clock.turn(ms=LEASE_MS)
        other = Hand(self.store, *worker.pools)
        if another:
            self.do(other.register())
            self.hands.append(other)
            claim = self.do(other.claim())
            if isinstance(claim, Claim):
                self.claims.append((other, claim))

    # -- what time does ------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 5_000, LEASE_MS, SILENCE_MS]), tick=st.booleans())
    def turn(self, ms: int, tick: bool) -> None:  # noqa: FBT001
        """Time passes; perhaps nobody ticks."""
        self.clock.turn(ms=ms)
        if tick:
            self.do(self.store.clockwork.tick())

    @precondition(lambda self: self.missions)
    @rule()
    def forget(self) -> None:
        """A month passes: what ended is forgotten, workers with it."""
        self.clock.turn(seconds=31 * 86_400)
        while self.do(self.store.clockwork.tick()).handled:
            pass
        self.questions.clear()

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def the_books_add_up(self) -> None:
        """Everything counted is there, and the events tell it all."""
        books = Books(self.client)
        wrong = books.check()
        assert not wrong, "\n".join(wrong)
        for noun in ("missions", "tasks", "questions", "workers"):
            now = {id_: record["state"] for id_, record in getattr(books, noun).items()}
            for id_, state in self.before.get(noun, {}).items():
                self.followed(noun, id_, state, now.get(id_))
            self.before[noun] = now
        self.last_rule = ""

    def followed(self, noun: str, id_: str, before: str, after: str | None) -> None:
        """A record went only where its table leads; ended ones stay but for a person's retry."""
        if after is None or after == before:
            return
        if noun == "workers" and after == "starting":
            assert before in {"stopped", "lost"}, f"{id_} registered anew while {before}"
        elif before in ENDED.get(noun, set()):
            assert self.last_rule == "retry", f"{id_} left {before}"
        elif self.last_rule != "retry":
            assert after in FOLLOWS[noun].get(before, set()), f"{id_}: {before} to {after}"

    @invariant()
    def counters_never_fall(self) -> None:
        """What only grows has only grown."""
        rows: Any = self.client.hgetall(self.store.keys("counters"))
        now = {name: int(value) for name, value in rows.items()}
        fallen = {name for name, value in self.counters.items() if now.get(name, 0) < value}
        assert not fallen
        self.counters = now

    @invariant()
    def the_demand_is_what_is_there(self) -> None:
        """The signal counts what the records say."""
        books = Books(self.client)
        pools = self.do(self.store.clockwork.demand()).pools
        for pool, demand in pools.items():
            states = [record["state"] for record in books.tasks.values() if record["pool"] == pool]
            leased = states.count("running") + states.count("blocked")
            queued = states.count("queued")
            assert demand.waiting + demand.active + demand.blocked == queued + leased
            assert demand.waiting >= queued
            assert 0 <= demand.leaving <= demand.active


@pytest.mark.timeout(600)
def test_a_town_keeps_its_books_whatever_happens(shared_redis: RedisServer) -> None:
    live_through(TownMachine, shared_redis, steps=40)
