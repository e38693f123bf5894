"""Events to deliveries: read the stream by consumer group, match, and let one script file them.

An event is acknowledged by the script that files its deliveries, so a notifier that dies in between
leaves it pending and the next look finds it; filing twice files nothing new. That also lets all
notifiers of a town share one consumer name, and nothing is left behind by those that are gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from tinytown import clock
from tinytown.models.endpoint import EndpointRecord, wants
from tinytown.models.event import Event
from tinytown.store import Store

_log = logging.getLogger(__name__)

CONSUMER: Final = "notifier"
BLOCK_SECONDS: Final = 30
"""How long one read blocks: proxies drop sockets that are silent much longer."""
ORPHAN_SECONDS: Final = 5.0
"""Planning takes milliseconds; an event that was read and not planned by then is an orphan."""
ORPHANS_EVERY_SECONDS: Final = 60.0
BATCH: Final = 100
SKEW_SECONDS: Final = 60.0
"""How far the townhall's clock, which dates endpoints, may be ahead of that which dates events."""


class Watch:
    """Plans the deliveries of one town; any number of these may run at once."""

    def __init__(
        self,
        store: Store,
        *,
        planned: Callable[[], None],
        orphan_seconds: float = ORPHAN_SECONDS,
    ) -> None:
        """Call `planned` whenever there may be something to deliver."""
        self._store = store
        self._orphan_seconds = orphan_seconds
        self._planned = planned
        self._version = ""
        self._records: Sequence[EndpointRecord] = ()
        self._read_at = time.monotonic()
        self._oldest_ms: int | None = None

    async def run(self) -> None:
        """Plan until cancelled; an outage of Redis delays deliveries but loses none."""
        patience = self._store.patience
        await patience.keep_trying("watch", self._store.events.ensure_group)
        # Look for orphans at once, and again when those that died with our predecessor are ripe.
        look_at = [0.0, time.monotonic() + self._orphan_seconds + 0.1]
        async with self._store.blocking("notifier", block_seconds=BLOCK_SECONDS) as client:
            while True:
                if time.monotonic() >= look_at[0]:
                    await self._plan_all(await patience.keep_trying("watch", self._orphans))
                    look_at = [*look_at[1:], time.monotonic() + ORPHANS_EVERY_SECONDS]
                block = min(float(BLOCK_SECONDS), max(0.05, look_at[0] - time.monotonic()))
                read = partial(
                    self._store.events.consume,
                    client,
                    CONSUMER,
                    block_ms=int(block * 1000),
                    limit=BATCH,
                )
                events = await patience.keep_trying("watch", read)
                self._read_at = time.monotonic()
                if not events:
                    # Nothing new, or the group was lost with everything else (FLUSHALL): then
                    # the number of a new set of endpoints may equal that of the old one.
                    self._version = ""
                await self._plan_all(events)

    @property
    def lag_seconds(self) -> float:
        """How far planning is behind the stream, or how long Redis has not been heard."""
        if self._oldest_ms is not None:
            return max(0.0, clock.unix_seconds() - self._oldest_ms / 1000)
        return max(0.0, self.silent_seconds - BLOCK_SECONDS)

    @property
    def silent_seconds(self) -> float:
        """Seconds since the stream was last read; a healthy watch reads at least every 30."""
        return time.monotonic() - self._read_at

    async def _orphans(self) -> list[Event]:
        return await self._store.events.reclaim(
            CONSUMER, idle_ms=int(self._orphan_seconds * 1000), limit=BATCH
        )

    async def _plan_all(self, events: Sequence[Event]) -> None:
        try:
            for event in events:
                self._oldest_ms = happened_ms(event)
                try:
                    await self._store.patience.keep_trying("plan", partial(self._plan, event))
                except Exception:  # noqa: BLE001 - a fault of ours must not stop the rest
                    # One event that cannot be planned must not keep the others from phones.
                    facts = {"event_id": event.id, "type": event.type}
                    _log.exception("notifier.event_not_planned", extra={"facts": facts})
        finally:
            self._oldest_ms = None

    async def _plan(self, event: Event) -> None:
        """File the deliveries of one event; matched again whenever the endpoints have changed."""
        while True:
            if not self._version:
                self._version, self._records = await self._store.endpoints.all()
            labels = await self._labels(event)
            wanted = [
                record.id
                for record in self._records
                if wants(record, event, labels) and not is_history(record, event)
            ]
            filed = await self._store.deliveries.plan(event, wanted, version=self._version)
            if filed is None:
                self._version = ""
                continue
            if filed or event.type == "endpoint.recovered":
                # An endpoint that was resumed may have deliveries that waited for it.
                self._planned()
            return

    async def _labels(self, event: Event) -> Mapping[str, str]:
        """Read the labels of an event's mission, where any endpoint asks for some."""
        if event.mission_id is None or not any(each.filter.labels for each in self._records):
            return {}
        return await self._store.missions.labels(event.mission_id)


def is_history(record: EndpointRecord, event: Event) -> bool:
    """Tell whether an event happened before the endpoint was there: only a replay tells those."""
    if not record.created_at:
        return False
    added_ms = datetime.fromisoformat(record.created_at).timestamp() * 1000
    return happened_ms(event) < added_ms - SKEW_SECONDS * 1000


def happened_ms(event: Event) -> int:
    """Read when an event happened from its place in the stream (the Redis server's clock)."""
    return int(event.stream_id.partition("-")[0])
