"""Due deliveries: claim, carry, record; each endpoint within its bounds, none waits for another.

Places are given out as they get free, so that a slow endpoint holds its own places and nobody
else's. How many it may hold, and when it may be sent the next, the claim decides for all
notifiers of a town together. The claim is a lease: a notifier that dies between sending and
recording leaves the delivery due again when the lease ends, which is why it may arrive twice and
never not at all.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final

import anyio
import anyio.abc
import msgspec

from tinytown import clock
from tinytown.models.delivery import Attempt, DueDelivery, Trial
from tinytown.store import Store
from tinytown.store.deliveries import Ended
from tinytown_notifiers.carrying import LEFT, Carrier, Directory, Verdict
from tinytown_notifiers.recording import Recorder
from tinytown_notifiers.schedule import Schedule, Waits
from tinytown_notifiers.watch import ORPHAN_SECONDS

_log = logging.getLogger(__name__)

PLACES: Final = 64
"""Deliveries on their way at once; a push may hold a thread, a webhook a socket."""
WEBHOOK_PLACES: Final = 48
"""Of these, as many as webhooks may have: a dozen receivers that never answer keep no phone from
ringing."""
LEASE_SECONDS: Final = 45.0
"""More than twice the longest attempt (20 s): a lease that ends means a notifier that died."""
LOOK_SECONDS: Final = 60.0
"""Replays and other notifiers' retries come without a bell; this is how long they may wait."""
GRACE_SECONDS: Final = 3.0
"""How long attempts may go on when the process is told to stop."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How a deliverer works; the defaults are the town's."""

    schedule: Schedule = Schedule()
    """How patient it is with a phone."""
    waits: Waits = Waits()
    """How patient it is with a program that names no schedule of its own."""
    places: int = PLACES
    webhook_places: int = WEBHOOK_PLACES
    lease_seconds: float = LEASE_SECONDS
    look_seconds: float = LOOK_SECONDS
    grace_seconds: float = GRACE_SECONDS
    orphan_seconds: float = ORPHAN_SECONDS


class Deliverer:
    """Sends what is due; any number of these may run at once."""

    def __init__(self, store: Store, *, carriers: Mapping[str, Carrier], rules: Rules) -> None:
        """Carry each kind of delivery by its carrier."""
        self._store = store
        self._carriers = carriers
        self._rules = rules
        self._directory = Directory(store)
        self._recorder = Recorder(store)
        self._under_way: Counter[str] = Counter()
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

    async def send_to(self, endpoint_id: str) -> Trial:
        """Send the test message to one endpoint; raises EndpointNotFound."""
        record = await self._store.endpoints.read(endpoint_id)
        return await self._carriers[record.kind].test(record)

    async def _hand_out(self, attempts: anyio.abc.TaskGroup) -> float:
        """Start what is due as far as there are places; says how long there is nothing to do."""
        free = self._rules.places - self._under_way.total()
        if free <= 0:
            return self._rules.look_seconds  # whoever gets done rings

        claim = partial(
            self._store.deliveries.claim,
            lease_ms=round(self._rules.lease_seconds * 1000),
            limit=free,
            webhooks=max(0, self._rules.webhook_places - self._under_way["webhook"]),
        )
        due = await self._store.patience.keep_trying("deliver", claim)
        for delivery in due.deliveries:
            self._under_way[delivery.kind] += 1
            attempts.start_soon(self._attempt, delivery, due.version)
        if len(due.deliveries) == free or not due.next_due_ms:
            return self._rules.look_seconds
        return min(self._rules.look_seconds, max(0.0, (due.next_due_ms - due.now_ms) / 1000))

    async def _attempt(self, delivery: DueDelivery, version: int) -> None:
        """Make one attempt in shelter: told to stop, it may still end in its own words."""
        with anyio.CancelScope(shield=True) as shelter:
            self._shelters.add(shelter)
            try:
                await self._try(delivery, version)
            except Exception:  # noqa: BLE001 - a fault of ours must not stop the others
                _trace(delivery)  # the lease brings it back
            finally:
                self._shelters.discard(shelter)
                self._under_way[delivery.kind] -= 1
                self.ring()

    async def _try(self, delivery: DueDelivery, version: int) -> None:
        at = clock.written(clock.now())
        began = time.monotonic()
        try:
            verdict = await self._carry(delivery, version)
            if verdict is None:
                return  # whoever holds the delivery next may send it
        except Exception as error:  # noqa: BLE001 - counted as a failed attempt, so that it ends
            _trace(delivery)
            verdict = self._fault(delivery, error)
        seconds = round(time.monotonic() - began, 4)
        attempt = Attempt(
            number=delivery.attempt,
            at=at,
            outcome=verdict.said,
            duration_seconds=seconds,
            status=verdict.status,
            code=verdict.code,
            error=verdict.error,
        )
        ended = Ended(
            delivery=delivery.id,
            tried=attempt,
            outcome=verdict.said,
            delay_ms=round(verdict.delay_seconds * 1000),
            reason=verdict.reason,
            effect=verdict.effect,
            hold_ms=round(verdict.hold_seconds * 1000),
        )
        ours = await self._recorder.record(ended)
        facts = {
            "delivery_id": delivery.id,
            "endpoint_id": delivery.endpoint_id,
            "event_type": delivery.event.type,
            "attempt": delivery.attempt,
            "outcome": verdict.said,
            "duration_seconds": seconds,
            **({"reason": verdict.reason} if verdict.reason else {}),
            **(
                {"next_in_seconds": round(verdict.delay_seconds, 3)}
                if verdict.said == "retry"
                else {}
            ),
            **({} if ours else {"superseded": True}),
        }
        _log.info("delivery.attempt", extra={"facts": facts})

    async def _carry(self, delivery: DueDelivery, version: int) -> Verdict | None:
        began = time.monotonic()
        record = await self._directory.find(delivery.endpoint_id, version)
        if time.monotonic() - began > self._rules.lease_seconds / 2:
            return None  # Redis was away meanwhile: whoever holds the delivery next may send it
        if record is None:
            return Verdict(said="dead", reason=LEFT, error=LEFT)
        return await self._carriers[record.kind].carry(delivery, record)

    def _fault(self, delivery: DueDelivery, error: Exception) -> Verdict:
        reason = f"a fault of the notifier: {type(error).__name__}"
        wait = self._rules.schedule.wait(delivery.tried)
        if wait is None:
            given_up = f"given up after attempt {delivery.attempt}: {reason}"
            return Verdict(said="dead", reason=given_up, error=reason)
        return Verdict(said="retry", reason=reason, delay_seconds=wait, error=reason)


def _trace(delivery: DueDelivery) -> None:
    """Write down a fault of ours with its trace."""
    facts = {"delivery_id": delivery.id, "endpoint_id": delivery.endpoint_id}
    _log.exception("delivery.stumbled", extra={"facts": facts})
