"""Deliveries under random orders: whatever happens in whatever order, none is lost or sent twice.

What must add up at every moment is in tests/delivery_books.py, where each delivery has to be in
tests/delivery_model.py, what happens in the town in tests/delivery_scene.py. Here come the steps of
notifiers and of people who interfere, and what must hold after each.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from delivery_books import DeliveryBooks
from delivery_model import Place, delivery_id
from delivery_scene import LEASE, DeliveryScene, pick
from random_orders import live_through
from servers import RedisServer
from tinytown import ids
from tinytown.errors import IllegalMove, NotFound
from tinytown.models.delivery import Attempt, DueDelivery
from tinytown.models.endpoint import wants
from tinytown.store.deliveries import Ended


class DeliveryMachine(DeliveryScene):
    """Notifiers that come and go, and people who interfere."""

    # -- notifiers -----------------------------------------------------------------------------

    @rule(limit=st.sampled_from([1, 3, 100]))
    def claim(self, limit: int) -> None:
        """A notifier leases what is due."""
        due = self.do(self.store.deliveries.claim(lease_ms=LEASE, limit=limit))
        assert len(due.deliveries) <= limit
        self.take_back()
        self.let_go_of_answered()
        for each in due.deliveries:
            assert not self.wanted_no_more(self.deliveries[each.id])
            self.model.lease(each, self.clock.ms, LEASE)
        self.leases += due.deliveries

    def take_back(self) -> None:
        """See which of those that outlived their notifier the claim has come across."""
        for id_, place in self.deliveries.items():
            if place.state == "flight" and place.due_at <= self.clock.ms:
                flight = self.store.keys("endpoint_flight", place.endpoint)
                if self.client.zscore(flight, id_) != place.due_at:
                    self.model.lose(place)

    def let_go_of_answered(self) -> None:
        """A push about a question that is no longer open need not be sent."""
        for id_, place in self.deliveries.items():
            if self.wanted_no_more(place) and place.state == "due":
                state = self.client.hget(self.store.keys("delivery", id_), "state")
                if state == "obsolete":
                    self.model.end(place, "obsolete")

    def wanted_no_more(self, place: Place) -> bool:
        """Tell whether a delivery is a push about a question that is no longer open."""
        if self.endpoints[place.endpoint].record.kind != "push" or place.replayed:
            return False
        if place.event.type != "question.asked":
            return False
        question = self.store.keys("question", place.event.data["question_id"])
        return bool(self.client.hget(question, "state") != "open")

    @precondition(lambda self: self.leases)
    @rule(
        which=pick,
        outcome=st.sampled_from(["delivered", "delivered", "retry", "retry", "dead"]),
        delay=st.sampled_from([0, 1, 5_000, 7_200_000]),
        effect=st.sampled_from(["", "", "", "", "throttle", "disable"]),
        hold=st.sampled_from([0, 0, 3_000]),
        newest=st.booleans(),
    )
    def record(
        self,
        which: int,
        outcome: str,
        delay: int,
        effect: str,
        hold: int,
        newest: bool,  # noqa: FBT001
    ) -> None:
        """A notifier says how it went, perhaps for the second time, perhaps as a ghost."""
        leased = self.leases[-1 - which % len(self.leases)] if newest else None
        leased = leased or self.leases[which % len(self.leases)]
        if outcome == "delivered":
            effect, delay, hold = "", 0, 0
        elif effect == "disable":
            outcome = "dead"
        if effect != "throttle":
            hold = 0
        delay = delay if outcome == "retry" else 0
        self.tell(ending(leased, outcome, delay, effect, hold))

    @precondition(lambda self: self.leases)
    @rule(
        outcomes=st.lists(st.sampled_from(["delivered", "retry", "dead"]), min_size=1, max_size=4),
        delay=st.sampled_from([0, 2_000]),
        ghosts=st.booleans(),
    )
    def record_all(self, outcomes: list[str], delay: int, ghosts: bool) -> None:  # noqa: FBT001
        """All that is on its way ends in one breath, perhaps with what ended long ago."""
        ended = []
        for leased, outcome in zip(self.leases, itertools.cycle(outcomes), strict=False):
            place = self.deliveries.get(leased.id)
            mine = place and place.state == "flight" and place.attempt == leased.attempt
            if mine or ghosts:
                ended.append(ending(leased, outcome, delay if outcome == "retry" else 0, "", 0))
        self.tell(*ended)

    @precondition(lambda self: self.leases)
    @rule(which=pick, disable=st.booleans())
    def outlive(self, which: int, disable: bool) -> None:  # noqa: FBT001
        """A notifier is lost with all it has leased; perhaps a person has had enough as well."""
        place = self.deliveries.get(self.leases[-1 - which % len(self.leases)].id)
        if disable and place and not self.endpoints[place.endpoint].disabled:
            self.do(self.store.endpoints.move(place.endpoint, "disable", reason="tired"))
            self.model.pause(place.endpoint, disabled=True)
        self.clock.turn(ms=LEASE)
        self.claim(limit=100)

    @rule(outcome=st.sampled_from(["delivered", "retry"]), rounds=st.integers(2, 7))
    def keep_at_it(self, outcome: str, rounds: int) -> None:
        """A notifier takes all it gets, and for a while all of it ends alike."""
        for _ in range(rounds):
            self.claim(limit=100)
            self.record_all([outcome], 0, ghosts=False)
            self.clock.turn(ms=1)

    def tell(self, *ended: Ended) -> None:
        """Record, and follow in the model."""
        replies = self.do(self.store.deliveries.record_all(ended))
        for each, ours in zip(ended, replies, strict=True):
            place = self.deliveries.get(each.delivery)
            if place is None:
                continue  # the endpoint is gone: nobody cares
            assert ours == (each.tried.number == place.attempt), "the fence"
            if ours:
                self.model.record(place, each, self.clock.ms)

    # -- people and time -----------------------------------------------------------------------

    @precondition(lambda self: self.deliveries)
    @rule(which=pick)
    def replay_one(self, which: int) -> None:
        """A person has one sent again."""
        ended = [
            id_ for id_, place in self.deliveries.items() if place.state in {"dead", "delivered"}
        ]
        if not ended:
            return
        id_ = ended[-1 - which % len(ended)]
        self.do(self.store.deliveries.replay(id_))
        self.model.revive(self.deliveries[id_], self.clock.ms)

    @precondition(lambda self: self.deliveries)
    @rule(which=pick)
    def replay_what_is_not_over(self, which: int) -> None:
        """What is due goes now, what is on its way goes on, what is obsolete stays so."""
        id_ = list(self.deliveries)[-1 - which % len(self.deliveries)]
        place = self.deliveries[id_]
        if place.state == "obsolete":
            with pytest.raises(IllegalMove):
                self.do(self.store.deliveries.replay(id_))
        elif place.state in {"due", "flight"}:
            self.do(self.store.deliveries.replay(id_))
            if place.state == "due":
                self.model.hasten(place, self.clock.ms)

    @precondition(lambda self: self.endpoints)
    @rule(which=pick, everybody=st.booleans(), missing=st.booleans())
    def replay_many(self, which: int, everybody: bool, missing: bool) -> None:  # noqa: FBT001
        """A person has all dead letters sent again."""
        endpoint = "" if everybody else self.some_endpoint(which)
        if endpoint in self.callbacks():
            missing = False
        replay_id = ids.new("replay")
        whole = {"since_ms": 0, "until_ms": 10**13, "missing": missing and not everybody}
        for _ in range(2):
            self.do(
                self.store.deliveries.start_replay(
                    replay_id, endpoint_id=endpoint, by="ada", **whole
                )
            )
        todo = {
            id_
            for id_, place in self.deliveries.items()
            if place.state == "dead" and endpoint in {"", place.endpoint}
        }
        asked = {"endpoint": endpoint, "todo": todo, "missing": missing and not everybody}
        self.replays[replay_id] = {**asked, "done": 0}
        if everybody:
            with pytest.raises(NotFound):
                self.do(
                    self.store.deliveries.start_replay(
                        ids.new("replay"), endpoint_id="end_nobody", by="ada", **whole
                    )
                )

    @rule(limit=st.sampled_from([1, 100]))
    def tick(self, limit: int) -> None:
        """The town's clock goes on, and replays with it."""
        self.do(self.store.clockwork.tick(limit=limit))

    def follow_replay(self, replay_id: str, asked: dict[str, Any]) -> None:
        """See what a replay has made due since the last look."""
        left = set(self.client.zrange(self.store.keys("replay_todo", replay_id), 0, -1))
        for id_ in sorted(asked["todo"] - left):
            place = self.deliveries.get(id_)
            if place is not None and place.state == "dead":
                self.model.revive(place, self.clock.ms)
                asked["done"] += 1
        asked["todo"] &= left
        if asked["missing"] and asked["endpoint"] in self.endpoints:
            for event in self.do(self.store.events.after("0-0", limit=10_000)):
                id_ = delivery_id(event, asked["endpoint"])
                known = self.client.exists(self.store.keys("delivery", id_))
                if id_ not in self.deliveries and known:
                    record = self.endpoints[asked["endpoint"]].record
                    assert wants(record, event, {}), "nobody asked for this"
                    assert self.model.file(event, asked["endpoint"], self.clock.ms)
                    asked["done"] += 1
        told = self.do(self.store.deliveries.read_replay(replay_id))
        assert told.done == asked["done"]
        if told.state == "done":
            assert not left
            del self.replays[replay_id]

    @rule(
        ms=st.sampled_from([1, 20, 250, 3_000, 30_000, LEASE, 600_000, 7_200_000, 86_400_000]),
    )
    def turn(self, ms: int) -> None:
        """Time passes."""
        self.clock.turn(ms=ms)

    @rule()
    def turn_to_the_next(self) -> None:
        """Time passes until something is due, and a notifier is there to see it."""
        due = self.do(self.store.deliveries.oldest_due_ms())
        if due is not None and due > self.clock.ms:
            self.clock.turn(ms=due - self.clock.ms)
        self.claim(limit=100)

    # -- what must hold ------------------------------------------------------------------------

    @invariant()
    def the_books_add_up(self) -> None:
        """Everything is in one place, and due when it may be sent."""
        books = DeliveryBooks(self.client, now_ms=self.clock.ms)
        books.check_deliveries()
        assert not books.wrong, "\n".join(books.wrong)

    @invariant()
    def every_delivery_is_where_the_model_has_it(self) -> None:
        """Conservation: what was filed is due, on its way, delivered, dead or obsolete."""
        for replay_id, asked in list(self.replays.items()):
            self.follow_replay(replay_id, asked)
        for id_, place in self.deliveries.items():
            state = self.client.hget(self.store.keys("delivery", id_), "state")
            flight = self.store.keys("endpoint_flight", place.endpoint)
            if state == "due" and self.client.zscore(flight, id_):
                state = "flight"
            assert state == place.state, id_
        filed: Iterable[str] = self.client.scan_iter(self.store.keys("delivery", "*"), count=1000)
        unknown = {key.rpartition(":")[2] for key in filed} - set(self.deliveries)
        alive = {id_[4:] for id_ in self.endpoints}
        assert not [id_ for id_ in unknown if id_.rpartition("_")[2] in alive]

    @invariant()
    def every_endpoint_does_as_the_model_has_it(self) -> None:
        """State, failures in a row and circuit follow from how it went."""
        for id_, doings in self.endpoints.items():
            health = self.client.hgetall(self.store.keys("endpoint_health", id_))
            assert (health["state"] == "disabled") == doings.disabled
            assert int(health.get("failures") or 0) == doings.failures
            assert int(float(health.get("open_until") or 0)) == doings.open_until

    @invariant()
    def counters_never_fall(self) -> None:
        """What only grows has only grown, and every end was counted once."""
        rows: Any = self.client.hgetall(self.store.keys("counters"))
        now = {name: int(value) for name, value in rows.items()}
        fallen = {name for name, value in self.counters.items() if now.get(name, 0) < value}
        assert not fallen
        self.counters = now
        for name, kind in itertools.product(("delivered", "dead", "obsolete"), ("push", "webhook")):
            counter = f"deliveries:{kind}:{name}"
            assert now.get(counter, 0) >= self.model.ended[counter], counter


def ending(leased: DueDelivery, outcome: Any, delay: int, effect: Any, hold: int) -> Ended:
    """Write how an attempt went."""
    return Ended(
        delivery=leased.id,
        tried=Attempt(number=leased.attempt, at="now", outcome=outcome, duration_seconds=0.0125),
        outcome=outcome,
        delay_ms=delay,
        reason=outcome,
        effect=effect,
        hold_ms=hold,
    )


@pytest.mark.timeout(600)
def test_deliveries_survive_whatever_happens(shared_redis: RedisServer) -> None:
    live_through(DeliveryMachine, shared_redis, steps=50)
