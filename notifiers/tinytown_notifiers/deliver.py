"""Due deliveries to phones: claim, word, send, record; one at a time per endpoint, none waits.

Places are given out one by one as they get free, so that a slow endpoint holds its own place and
nobody else's. The claim is a lease: a notifier that dies between sending and recording leaves the
delivery due again when the lease ends, which is why a push may arrive twice and never not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Literal, TypeAlias, TypeVar

import anyio
import anyio.abc
import msgspec

from tinytown import clock
from tinytown.errors import NotFound, Unavailable
from tinytown.models.delivery import Attempt, DueDelivery
from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_notifiers.schedule import Schedule
from tinytown_notifiers.sinks import Delivered, Failed, Message, Outcome, Sink
from tinytown_notifiers.watch import ORPHAN_SECONDS
from tinytown_notifiers.wording import Recipient, Writer

_log = logging.getLogger(__name__)
T = TypeVar("T")
Verdict: TypeAlias = Literal["delivered", "retry", "dead", "obsolete"]

PLACES: Final = 64
"""Deliveries on their way at once; each may hold a thread, and a town has a handful of phones."""
LEASE_SECONDS: Final = 45.0
"""More than twice the longest attempt (20 s): a lease that ends means a notifier that died."""
LOOK_SECONDS: Final = 60.0
"""Replays and other notifiers' retries come without a bell; this is how long they may wait."""
GRACE_SECONDS: Final = 3.0
"""How long attempts may go on when the process is told to stop."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How a deliverer works; the defaults are the town's."""

    schedule: Schedule = Schedule()
    places: int = PLACES
    lease_seconds: float = LEASE_SECONDS
    look_seconds: float = LOOK_SECONDS
    grace_seconds: float = GRACE_SECONDS
    orphan_seconds: float = ORPHAN_SECONDS


class Deliverer:
    """Sends what is due; any number of these may run at once."""

    def __init__(
        self, store: Store, *, vault: Vault, writer: Writer, sink: Sink, rules: Rules
    ) -> None:
        """Send through one sink, worded by one writer."""
        self._store = store
        self._vault = vault
        self._writer = writer
        self._sink = sink
        self._rules = rules
        self._busy: set[str] = set()
        self._shelters: set[anyio.CancelScope] = set()
        self._bell = anyio.Event()

    def ring(self) -> None:
        """Say that something may be due, or that a place got free."""
        self._bell.set()

    async def run(self) -> None:
        """Deliver until cancelled; then give attempts on their way a few seconds to end."""
        async with anyio.create_task_group() as attempts:
            try:
                while True:
                    # A new bell before the claim: what rings meanwhile is heard afterwards.
                    self._bell = anyio.Event()
                    wait = await self._hand_out(attempts)
                    with anyio.move_on_after(wait):
                        await self._bell.wait()
            finally:
                until = anyio.current_time() + self._rules.grace_seconds
                for shelter in self._shelters:
                    shelter.deadline = until

    async def send_to(self, endpoint_id: str) -> Outcome:
        """Send the test message to one endpoint; raises EndpointNotFound."""
        record = await self._store.endpoints.read(endpoint_id)
        to = Recipient(endpoint_id=record.id, url=self._vault.open(record.url))
        return await self._sink.send(self._writer.word_test(to))

    async def _hand_out(self, attempts: anyio.abc.TaskGroup) -> float:
        """Start what is due as far as there are places; says how long there is nothing to do."""
        free = self._rules.places - len(self._busy)
        if free <= 0:
            return self._rules.look_seconds  # whoever gets done rings

        claim = partial(
            self._store.deliveries.claim,
            lease_ms=round(self._rules.lease_seconds * 1000),
            limit=free,
            busy=self._busy,
        )
        due = await self._store.patience.keep_trying("deliver", claim)
        for delivery in due.deliveries:
            self._busy.add(delivery.endpoint_id)
            attempts.start_soon(self._attempt, delivery)
        if len(due.deliveries) == free or not due.next_due_ms:
            return self._rules.look_seconds
        return min(self._rules.look_seconds, max(0.0, (due.next_due_ms - due.now_ms) / 1000))

    async def _attempt(self, delivery: DueDelivery) -> None:
        """Make one attempt in shelter: told to stop, it may still end in its own words."""
        with anyio.CancelScope(shield=True) as shelter:
            self._shelters.add(shelter)
            try:
                await self._try(delivery)
            except Exception:  # noqa: BLE001 - a fault of ours must not stop the others
                _trace(delivery)  # the lease brings it back
            finally:
                self._shelters.discard(shelter)
                self._busy.discard(delivery.endpoint_id)
                self.ring()

    async def _try(self, delivery: DueDelivery) -> None:
        began = time.monotonic()
        at = clock.written(clock.now())
        try:
            message = await self._word(delivery)
            if time.monotonic() - began > self._rules.lease_seconds / 2:
                return  # Redis was away meanwhile: whoever holds the delivery next may send it
            outcome = await self._sink.send(message) if isinstance(message, Message) else message
        except Exception as error:  # noqa: BLE001 - counted as a failed attempt, so that it ends
            _trace(delivery)
            fault = f"a fault of the notifier: {type(error).__name__}"
            outcome = Failed(permanent=False, reason=fault)
        seconds = round(time.monotonic() - began, 4)
        said, delay, reason = self._verdict(delivery, outcome)
        failed = outcome if isinstance(outcome, Failed) else None
        attempt = Attempt(
            number=delivery.attempt,
            at=at,
            outcome=said,
            duration_seconds=seconds,
            status=failed.status if failed else None,
            error=failed.reason if failed else None,
        )

        record = partial(
            self._store.deliveries.record,
            delivery.id,
            attempt,
            outcome=said,
            delay_ms=round(delay * 1000),
            reason=reason,
        )
        ours = await self._store.patience.keep_trying("record", record)
        facts = {
            "delivery_id": delivery.id,
            "endpoint_id": delivery.endpoint_id,
            "event_type": delivery.event.type,
            "attempt": delivery.attempt,
            "outcome": said,
            "duration_seconds": seconds,
            **({"reason": reason} if reason else {}),
            **({"next_in_seconds": round(delay, 3)} if said == "retry" else {}),
            **({} if ours else {"superseded": True}),
        }
        _log.info("delivery.attempt", extra={"facts": facts})

    async def _word(self, delivery: DueDelivery) -> Message | Failed | None:
        """Gather what the message needs; None when there is nobody left to answer."""
        event, shelves = delivery.event, self._store
        record = await self._found(partial(shelves.endpoints.read, delivery.endpoint_id))
        if record is None:
            return Failed(permanent=True, reason="the endpoint was removed")
        try:
            url = self._vault.open(record.url)
        except Unavailable as error:
            return Failed(permanent=False, reason=error.detail)
        question = mission = None
        if isinstance(question_id := event.data.get("question_id"), str):
            question = await self._found(partial(shelves.questions.read, question_id))
        if event.type == "question.asked" and (question is None or question.state != "open"):
            return None
        if event.mission_id is not None and event.type.startswith("mission."):
            mission = await self._found(partial(shelves.missions.read, event.mission_id))
        to = Recipient(endpoint_id=record.id, url=url)
        return self._writer.word(event, to, question=question, mission=mission)

    async def _found(self, read: Callable[[], Awaitable[T]]) -> T | None:
        """Read a record, however long Redis is away; None when there is none."""
        try:
            return await self._store.patience.keep_trying("deliver", read)
        except NotFound:
            return None

    def _verdict(
        self, delivery: DueDelivery, outcome: Outcome | None
    ) -> tuple[Verdict, float, str]:
        """Decide what an outcome means: the word to record, the seconds to wait, the reason."""
        if outcome is None:
            return "obsolete", 0.0, "the question is no longer open"
        if isinstance(outcome, Delivered):
            return "delivered", 0.0, ""
        if outcome.permanent:
            return "dead", 0.0, outcome.reason
        wait = self._rules.schedule.wait(
            delivery.tried, retry_after_seconds=outcome.retry_after_seconds
        )
        if wait is None:
            return "dead", 0.0, f"given up after attempt {delivery.attempt}: {outcome.reason}"
        return "retry", wait, outcome.reason


def _trace(delivery: DueDelivery) -> None:
    """Write down a fault of ours with its trace."""
    facts = {"delivery_id": delivery.id, "endpoint_id": delivery.endpoint_id}
    _log.exception("delivery.stumbled", extra={"facts": facts})
