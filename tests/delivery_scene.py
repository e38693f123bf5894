"""The scene of random orders: a town beside its model, endpoints that change, events to file."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from books import Books
from delivery_model import Doings, Model, Place
from random_orders import TownInOrders
from tinytown import ids
from tinytown.errors import IllegalMove
from tinytown.models.delivery import DueDelivery
from tinytown.models.endpoint import CALLBACK_EVENTS, PUSH_EVENTS, EndpointRecord, wants
from tinytown.models.event import Event
from tinytown.store import Limits
from tinytown.store.events import entries
from towns import ask, hand, start

LEASE = 45_000
LIMITS = Limits(backlog=40, losses=3, tries=3, replay_batch=3)
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "push", "events": PUSH_EVENTS},
    {"kind": "webhook", "events": ("*",)},
    {"kind": "webhook", "events": ("*",), "max_in_flight": 1, "rate_per_second": 2.0},
    {"kind": "webhook", "events": ("mission.*", "delivery.*"), "fifo": True},
)
pick = st.integers(0, 7)


class DeliveryScene(TownInOrders):
    """One town and a few endpoints: what happens there, and what is filed for whom."""

    limits = LIMITS

    def __init__(self) -> None:
        super().__init__()
        self.do(self.store.events.ensure_group())
        self.model = Model(LIMITS)
        self.leases: list[DueDelivery] = []
        """Everything ever leased: ghosts speak late."""
        self.version = ""
        self.replays: dict[str, dict[str, Any]] = {}

    @property
    def endpoints(self) -> dict[str, Doings]:
        """Those of the model."""
        return self.model.endpoints

    @property
    def deliveries(self) -> dict[str, Place]:
        """Those of the model."""
        return self.model.deliveries

    def teardown(self) -> None:
        """Close the town; by then no key may be left over, and the events must tell it all."""
        wrong = Books(self.client, now_ms=self.clock.ms).check()
        super().teardown()
        assert not wrong, "\n".join(wrong)

    # -- endpoints -----------------------------------------------------------------------------

    def put(self, record: EndpointRecord) -> None:
        """Add or change an endpoint, in the town and in the model."""
        self.do(self.store.endpoints.put(record))
        self.model.put(record)

    @initialize(kinds=st.sets(st.integers(0, len(KINDS) - 1), min_size=2))
    def begin(self, kinds: set[int]) -> None:
        """Some want to hear, and something happens: there is work from the beginning."""
        for kind in kinds:
            self.add(kind)
        for _ in range(3):
            self.ask()
        self.plan_all()

    @precondition(lambda self: len(self.endpoints) < 5)
    @rule(kind=st.integers(0, len(KINDS) - 1))
    def add(self, kind: int) -> None:
        """Somebody wants to hear."""
        made = {"id": ids.new("endpoint"), "url": "https://x.example/", "name": ""}
        made["created_at"] = "2025-11-22T21:00:00.000Z"
        self.put(msgspec.convert({**made, **KINDS[kind]}, EndpointRecord))

    def some_endpoint(self, which: int) -> str:
        """Choose an endpoint."""
        return list(self.endpoints)[which % len(self.endpoints)]

    @precondition(lambda self: self.endpoints)
    @rule(which=pick, cap=st.integers(1, 5), rate=st.sampled_from([None, 0.05, 3.0, 50.0]))
    def change(self, which: int, cap: int, rate: float | None) -> None:
        """Somebody changes the bounds of an endpoint."""
        record = self.endpoints[self.some_endpoint(which)].record
        if record.id not in self.callbacks():
            self.put(msgspec.structs.replace(record, max_in_flight=cap, rate_per_second=rate))

    def callbacks(self) -> set[str]:
        """List the endpoints that come and go with a mission."""
        rows: Any = self.client.hkeys(self.store.keys("callbacks"))
        return set(rows)

    @precondition(lambda self: self.endpoints)
    @rule(which=pick, move=st.sampled_from(["disable", "revive", "revive"]))
    def move(self, which: int, move: str) -> None:
        """A person pauses or resumes an endpoint."""
        endpoint = self.some_endpoint(which)
        doings = self.endpoints[endpoint]
        try:
            self.do(self.store.endpoints.move(endpoint, move, reason="tired"))
        except IllegalMove:
            assert doings.disabled == (move == "disable")
        else:
            assert doings.disabled == (move == "revive")
            self.model.pause(endpoint, disabled=move == "disable")

    @precondition(lambda self: len(self.endpoints) > 3)
    @rule(which=pick)
    def drop(self, which: int) -> None:
        """Somebody wants to hear no more."""
        endpoint = self.some_endpoint(which)
        if endpoint in self.callbacks():
            return
        self.do(self.store.endpoints.drop(endpoint))
        self.model.drop(endpoint)

    # -- events --------------------------------------------------------------------------------

    @rule(planned=st.booleans())
    def begin_mission(self, planned: bool) -> None:  # noqa: FBT001
        """Something happens; perhaps a notifier has it filed at once."""
        self.do(start(self.store))
        if planned:
            self.plan_all()

    @rule()
    def begin_mission_with_callback(self) -> None:
        """Something happens about which somebody wants to hear once."""
        mission_id = ids.new("mission")
        record = EndpointRecord(
            id=f"end_{mission_id[4:]}",
            kind="webhook",
            url="https://x.example/",
            name="",
            events=CALLBACK_EVENTS,
            created_at="2025-11-22T21:00:00.000Z",
        )
        self.do(start(self.store, mission_id=mission_id, callback=record))
        self.do(self.store.missions.cancel(mission_id, by="ada"))
        self.model.put(record)

    @rule()
    def ask(self) -> None:
        """An agent wants to know."""

        async def asking() -> None:
            await start(self.store)
            claim = await (await hand(self.store)).take()
            await ask(self.store, claim)

        self.do(asking())

    @rule(which=pick)
    def answer(self, which: int) -> None:
        """A person answers."""
        opened = self.client.zrange(self.store.keys("questions_open"), 0, -1)
        if opened:
            question = opened[which % len(opened)]
            self.do(self.store.questions.answer(question, "yes", by="ada", via="api"))

    def read(self) -> None:
        """A notifier reads what happened; it may be slow to plan it, or die."""
        reply = self.client.xreadgroup(
            "notifiers", "notifier", {self.store.keys("events"): ">"}, count=4
        )
        read = {id_ for _, listed in entries(reply) for id_, _ in listed}
        if read:
            found = self.do(self.store.events.after("0-0", limit=10_000))
            self.model.unplanned += [event for event in found if event.stream_id in read]

    @rule(which=pick)
    def plan(self, which: int) -> None:
        """A notifier reads, and files one of the events it knows, in whatever order."""
        self.read()
        if self.model.unplanned:
            self.file(self.model.unplanned.pop(which % len(self.model.unplanned)))

    @rule()
    def plan_all(self) -> None:
        """A notifier keeps up."""
        self.read()
        while self.model.unplanned:
            self.file(self.model.unplanned.pop(0))

    def file(self, event: Event) -> None:
        """Plan one event; twice is once."""
        while True:
            version, records = self.do(self.store.endpoints.all())
            wanted = [each.id for each in records if wants(each, event, {})]
            filed = self.do(
                self.store.deliveries.plan(event, wanted, version=self.version or version)
            )
            if filed is not None:
                break
            assert self.version != version, "a set that has not changed is not stale"
            self.version = version
        callback = f"end_{(event.mission_id or '')[4:]}"
        if callback in self.callbacks() and event.type in CALLBACK_EVENTS:
            wanted.append(callback)
        assert filed == sum(self.model.file(event, each, self.clock.ms) for each in wanted)
        again = self.do(self.store.deliveries.plan(event, wanted, version=version))
        assert again in {None, 0}
