"""The books of a town's deliveries, checked: each in one place, and due when it may be sent."""

from __future__ import annotations

from typing import Any

from redis import Redis

from tinytown.store.keys import Keyring

Records = dict[str, dict[str, str]]
GATES = ("open_until", "hold_until", "tat", "pace_ms")
"""What may keep an endpoint from being sent anything for a while."""


class DeliveryBooks:
    """What one town keeps in Redis about deliveries, read when it is looked at."""

    def __init__(self, client: Redis, town: str = "main", *, now_ms: int = 0) -> None:
        self.client: Any = client
        self.now_ms = now_ms or int(self.client.time()[0] + 1) * 1000
        self.keys = Keyring(town)
        self.wrong: list[str] = []

    def hashes(self, name: str) -> Records:
        found = []
        pipe = self.client.pipeline(transaction=False)
        for key in self.client.scan_iter(self.keys(name, "*"), count=1000):
            family = self.keys.family(key)
            if family is not None and family.name == name:
                found.append(key.rpartition(":")[2])
                pipe.hgetall(key)
        return dict(zip(found, pipe.execute(), strict=True))

    def same(self, what: str, kept: object, counted: object) -> None:
        """Note a difference between what is kept and what is there."""
        if kept != counted:
            self.wrong.append(f"{what}: kept {kept}, there is {counted}")

    def check_deliveries(self) -> None:
        """Each delivery is in one place, and `deliveries:due` says when anything may be done."""
        registered = {*self.client.hkeys(self.keys("endpoints"))} - {"version"}
        registered |= {*self.client.hkeys(self.keys("callbacks"))}
        names = self.client.scan_iter(self.keys("endpoint_health", "*"), count=1000)
        endpoints = {key.split(":")[-2] for key in names}
        self.same("endpoints that have a health", endpoints, registered)
        for name in ("endpoint_due", "endpoint_flight", "endpoint_dead", "endpoint_deliveries"):
            keys = self.client.scan_iter(self.keys(name, "*"), count=1000)
            owners = {key.split(":")[-2] for key in keys}
            self.same(f"whose {name} is left", owners - endpoints, set())
        of: dict[str, Records] = {id_: {} for id_ in endpoints}
        deliveries = self.hashes("delivery")
        for id_, record in deliveries.items():
            of.get(record["endpoint"], {})[id_] = record
        moments = {}
        for id_ in endpoints:
            moment = self._check_endpoint(id_, of[id_])
            if moment is not None:
                moments[id_] = moment
        rows = dict(self.client.zrange(self.keys("deliveries_due"), 0, -1, withscores=True))
        self.same("endpoints for which anything may be done", set(rows), set(moments))
        for id_, at in rows.items():
            # One that may be served already keeps its place among those that wait.
            waits = moments.get(id_, at) <= at <= self.now_ms
            if not waits:
                self.same(f"when anything may be done for {id_}", at, moments.get(id_))
        dead = {id_ for id_, record in deliveries.items() if record["state"] == "dead"}
        kept = {*self.client.zrange(self.keys("deliveries_dead"), 0, -1)} & set(deliveries)
        self.same("dead letters", kept, dead)

    def _check_endpoint(self, id_: str, deliveries: Records) -> float | None:
        """Check one endpoint's places; the earliest moment at which anything may be done for it."""
        due, flight, dead = (
            dict(self.client.zrange(self.keys(name, id_), 0, -1, withscores=True))
            for name in ("endpoint_due", "endpoint_flight", "endpoint_dead")
        )
        health: dict[str, str] = self.client.hgetall(self.keys("endpoint_health", id_))
        in_order = health["fifo"] == "1"
        for name, record in deliveries.items():
            at = float(record["due_at"])
            places = {
                "due": (place_in_order(record["event"]) if in_order else at, None),
                "flight": (None, at),
            }
            where = "due" if name in due else "flight"
            expected = places[where] if record["state"] == "due" else (None, None)
            self.same(f"the places of {name}", (due.get(name), flight.get(name)), expected)
            body = self.keys("event_body", record["event"])
            if record["state"] == "due" and not self.client.exists(body):
                self.wrong.append(f"{name} is due and has no text")
        self.same(f"strangers at {id_}", {*due, *flight} - set(deliveries), set())
        given_up = {name for name, record in deliveries.items() if record["state"] == "dead"}
        self.same(f"dead letters of {id_}", set(dead) & set(deliveries), given_up)
        return earliest(health, due, flight)


def place_in_order(stream_id: str) -> float:
    """Say where an event stands among those of an endpoint that wants them in order."""
    ms, _, sequence = stream_id.partition("-")
    return float(int(ms) * 1024 + min(int(sequence), 1023))


def earliest(
    health: dict[str, str], due: dict[str, float], flight: dict[str, float]
) -> float | None:
    """Say when anything may be done for an endpoint: send, or take back what a notifier lost."""
    number = {name: float(health.get(name) or 0) for name in GATES}
    moments = [min(flight.values())] if flight else []
    room = (1 if number["open_until"] else int(health["cap"])) - len(flight)
    if due and room > 0 and health["state"] != "disabled":
        rest = 0 if number["pace_ms"] else float(health["burst_ms"])
        at = max(number["open_until"], number["hold_until"], number["tat"] - rest)
        moments.append(at if health["fifo"] == "1" else max(at, min(due.values())))
    return min(moments) if moments else None
