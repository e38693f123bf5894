"""A small model of deliveries: where each has to be, and when its endpoint may be sent one."""

from __future__ import annotations

from collections import Counter

import msgspec

from delivery_books import place_in_order
from tinytown.models.delivery import DueDelivery
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.event import Event
from tinytown.store import Limits
from tinytown.store.deliveries import Ended
from tinytown.store.endpoints import in_flight, pace


class Place(msgspec.Struct):
    """Where a delivery is."""

    endpoint: str
    event: Event
    due_at: int
    """Milliseconds; on its way, the end of its lease."""
    state: str = "due"
    """due, flight, delivered, dead or obsolete."""
    attempt: int = 0
    recorded: int = 0
    """The last attempt of which it is known how it went."""
    losses: int = 0
    replayed: bool = False


class Doings(msgspec.Struct):
    """How an endpoint is doing."""

    record: EndpointRecord
    disabled: bool = False
    failures: int = 0
    trips: int = 0
    open_until: int = 0
    asked_until: int = 0
    """It asked for silence until then, or its order does."""
    starts: list[int] = msgspec.field(default_factory=list)
    """When it was sent something, since its rate was set."""

    def clear(self) -> None:
        """Forget what went wrong."""
        self.failures = self.trips = self.open_until = 0


class Model:
    """What a town has to do with the deliveries of its endpoints."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.endpoints: dict[str, Doings] = {}
        self.deliveries: dict[str, Place] = {}
        self.unplanned: list[Event] = []
        """Read by a notifier that has yet to file them."""
        self.ended: Counter[str] = Counter()
        """How often deliveries came to an end, by the name of the town's counter."""

    def in_state(self, endpoint: str, *states: str) -> list[Place]:
        """List an endpoint's deliveries in some states."""
        return [
            place
            for place in self.deliveries.values()
            if place.endpoint == endpoint and place.state in states
        ]

    def put(self, record: EndpointRecord) -> None:
        """An endpoint is added or changed."""
        doings = self.endpoints.setdefault(record.id, Doings(record=record))
        doings.record, doings.starts = record, []

    def drop(self, endpoint: str) -> None:
        """An endpoint goes, with all that is filed for it."""
        del self.endpoints[endpoint]
        kept = {id_: each for id_, each in self.deliveries.items() if each.endpoint != endpoint}
        self.deliveries = kept

    def pause(self, endpoint: str, *, disabled: bool) -> None:
        """An endpoint is disabled or resumed, with a clean slate."""
        doings = self.endpoints[endpoint]
        doings.disabled, doings.asked_until = disabled, 0
        doings.clear()

    def file(self, event: Event, endpoint: str, now: int) -> bool:
        """An event is filed for an endpoint; False if it need not be."""
        id_ = delivery_id(event, endpoint)
        if self.endpoints[endpoint].disabled or id_ in self.deliveries:
            return False
        behind = len(self.in_state(endpoint, "due"))
        place = self.deliveries[id_] = Place(endpoint=endpoint, event=event, due_at=now)
        if behind >= self.limits.backlog:
            self.end(place, "dead")
        return True

    def end(self, place: Place, state: str) -> None:
        """A delivery ends."""
        place.state = state
        self.ended[f"deliveries:{self.endpoints[place.endpoint].record.kind}:{state}"] += 1

    def revive(self, place: Place, now: int) -> None:
        """A delivery that ended is due again."""
        place.state, place.due_at, place.losses, place.replayed = "due", now, 0, True

    def hasten(self, place: Place, now: int) -> None:
        """What is due goes now, whatever its endpoint waited for."""
        place.due_at = now
        doings = self.endpoints[place.endpoint]
        doings.open_until, doings.asked_until = min(doings.open_until, now), 0

    # -- leases --------------------------------------------------------------------------------

    def lose(self, place: Place) -> None:
        """What outlived its notifier is due again; what outlived several is poison."""
        place.losses += 1
        place.state = "due"
        if place.losses >= self.limits.losses:
            self.end(place, "dead")

    def room(self, endpoint: str) -> int:
        """Say how many more may be on their way to an endpoint."""
        doings = self.endpoints[endpoint]
        cap = 1 if doings.open_until else in_flight(doings.record)
        return cap - len(self.in_state(endpoint, "flight"))

    def lease(self, each: DueDelivery, now: int, lease_ms: int) -> None:
        """A delivery is leased: with good reason."""
        place = self.deliveries[each.id]
        doings = self.endpoints[place.endpoint]
        assert place.state == "due", f"{each.id} is leased while {place.state}"
        assert each.endpoint_id == place.endpoint
        assert (each.event.id, each.event.data) == (place.event.id, place.event.data)
        assert each.attempt == place.attempt + 1
        assert not doings.disabled, "sent to an endpoint that is disabled"
        assert self.room(place.endpoint) > 0, "more than the cap is on its way"
        assert doings.open_until <= now, "sent through an open circuit"
        assert doings.asked_until <= now, "sent before the time that was asked for"
        assert place.due_at <= now, "sent before its time"
        if doings.record.fifo:
            self._in_order(place)
        self._within_the_rate(doings, now)
        place.state, place.attempt, place.due_at = "flight", each.attempt, now + lease_ms

    def _in_order(self, place: Place) -> None:
        """It is the first of its endpoint, and no notifier has yet to file an earlier one."""
        mine = place_in_order(place.event.stream_id)
        waiting = self.in_state(place.endpoint, "due", "flight")
        first = min(place_in_order(each.event.stream_id) for each in waiting)
        assert mine == first, "out of order"
        earlier = [e for e in self.unplanned if place_in_order(e.stream_id) < mine]
        assert not earlier, "an earlier event is not filed yet"

    def _within_the_rate(self, doings: Doings, now: int) -> None:
        """In any stretch of time no more is sent than the rate and its burst allow."""
        doings.starts.append(now)
        interval, burst = pace(doings.record.rate_per_second)
        if not interval:
            return
        for first, began in enumerate(doings.starts):
            allowed = 1 + (now - began + burst) // interval
            assert len(doings.starts) - first <= allowed, "faster than its rate"

    def record(self, place: Place, ended: Ended, now: int) -> None:
        """The notifier that holds an attempt says how it went; only its first word counts."""
        if ended.tried.number == place.recorded or place.state not in {"due", "flight"}:
            return
        place.recorded = ended.tried.number
        doings = self.endpoints[place.endpoint]
        outcome, hold = ended.outcome, ended.hold_ms
        if outcome == "retry":
            place.state, place.due_at = "due", now + ended.delay_ms
            if doings.record.fifo:
                hold = max(hold, ended.delay_ms)
        else:
            self.end(place, outcome)
        if outcome == "delivered":
            doings.clear()
        elif not doings.disabled:
            self._went_wrong(doings, ended.effect, hold, now)

    def _went_wrong(self, doings: Doings, effect: str, hold: int, now: int) -> None:
        """The fifth failure in a row opens the circuit, for longer each time."""
        doings.failures += 1
        if hold:
            doings.asked_until = max(doings.asked_until, now + hold)
        if doings.record.kind == "webhook" and doings.failures >= 5 and doings.open_until <= now:
            doings.trips += 1
            doings.open_until = now + min(30_000 * 2 ** (doings.trips - 1), 600_000)
        if effect == "disable":
            self.pause(doings.record.id, disabled=True)


def delivery_id(event: Event, endpoint: str) -> str:
    """Spell the id of an event's delivery to an endpoint."""
    return f"dlv_{event.stream_id}_{endpoint[4:]}"
