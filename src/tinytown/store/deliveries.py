"""The deliveries' shelf: file them, lease what is due, record attempts, replay the dead."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec

from tinytown.errors import DeliveryNotFound
from tinytown.models.delivery import Attempt, Delivery, DueDelivery
from tinytown.models.event import Event
from tinytown.store import records
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.pages import Index, page_of
from tinytown.store.replies import DONE, NOT_YOURS, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

_ROW = 6


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What a notifier leased, and when the next delivery is due (0 = nothing is filed)."""

    deliveries: list[DueDelivery]
    next_due_ms: int
    now_ms: int


class Deliveries:
    """Reads and moves deliveries."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's deliveries."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def plan(
        self, event: Event, endpoints: Sequence[str], *, version: str, event_ms: int
    ) -> int | None:
        """Acknowledge an event and file its deliveries; None when the endpoints have changed."""
        asked = event.type == "question.asked"
        reply = await self._scripts.run(
            "plan_deliveries",
            stream_id=event.stream_id,
            version=version,
            event=msgspec.json.encode(event),
            type=event.type,
            question=event.data["question_id"] if asked else "",
            event_at=event_ms,
            endpoints=endpoints,
        )
        return int(reply[1]) if reply[0] == DONE else None

    async def claim(self, *, lease_ms: int, limit: int, busy: Collection[str]) -> Due:
        """Lease what is due, one delivery per endpoint, none for the busy ones."""
        reply = await self._scripts.run(
            "claim_deliveries", lease_ms=lease_ms, limit=limit, busy_endpoints=sorted(busy)
        )
        _, next_due, now, flat = reply
        rows = [flat[index : index + _ROW] for index in range(0, len(flat), _ROW)]
        return Due(deliveries=[records.due(row) for row in rows], next_due_ms=next_due, now_ms=now)

    async def record(
        self,
        delivery_id: str,
        attempt: Attempt,
        *,
        outcome: Literal["delivered", "retry", "dead", "obsolete"],
        delay_ms: int = 0,
        reason: str = "",
        kind: str = "push",
    ) -> bool:
        """Write how an attempt went; False when another attempt owns the delivery now."""
        reply = await self._scripts.run(
            "record_attempt",
            delivery=delivery_id,
            attempt=attempt.number,
            outcome=outcome,
            delay_ms=delay_ms,
            reason=reason,
            tried=msgspec.json.encode(attempt),
            kind=kind,
            duration_ms=round(attempt.duration_seconds * 1000),
        )
        if reply[0] == NOT_YOURS:
            return False
        if reply[0] != DONE:
            refuse(reply, DeliveryNotFound, "delivery", "record")
        return True

    async def replay(self, delivery_id: str) -> Delivery:
        """Make a dead letter due again."""
        reply = await self._scripts.run("replay_delivery", delivery=delivery_id)
        if reply[0] != DONE:
            refuse(reply, DeliveryNotFound, "delivery", "replay")
        return await self.read(delivery_id)

    async def read(self, delivery_id: str) -> Delivery:
        """Read a delivery with its attempts; raises DeliveryNotFound."""
        found = await self._read_many([delivery_id])
        if not found:
            raise DeliveryNotFound("there is no delivery with this id")
        return found[0]

    async def of_endpoint(
        self, endpoint_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Delivery], str | None]:
        """List an endpoint's latest deliveries, newest first."""
        key = self._keys("endpoint_deliveries", endpoint_id)
        return await self._page(key, "created_at", cursor, limit)

    async def dead(self, *, cursor: str | None, limit: int) -> tuple[list[Delivery], str | None]:
        """List the dead letters, newest first."""
        return await self._page(self._keys("deliveries_dead"), "finished_at", cursor, limit)

    async def oldest_due_ms(self) -> int | None:
        """Say since when the oldest delivery is due; None when nothing is."""
        with store_errors():
            rows = await self._client.zrange(self._keys("deliveries_due"), 0, 0, withscores=True)
        return int(rows[0][1]) if rows else None

    async def _page(
        self, key: str, field: str, cursor: str | None, limit: int
    ) -> tuple[list[Delivery], str | None]:
        ids, more = await page_of(
            self._client,
            Index(key=key, field=field, newest_first=True),
            cursor=cursor,
            record=self._keys("delivery", cursor or ""),
            limit=limit,
        )
        return await self._read_many(ids), ids[-1] if more else None

    async def _read_many(self, ids: Sequence[str]) -> list[Delivery]:
        if not ids:
            return []
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for delivery_id in ids:
                pipe.hgetall(self._keys("delivery", delivery_id))
            rows = await pipe.execute()
        return [
            records.delivery(delivery_id, fields)
            for delivery_id, fields in zip(ids, rows, strict=True)
            if fields
        ]
