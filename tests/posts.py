"""Webhooks in the store, moved by hand: add one, file for it, lease, and write how it went."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tinytown import ids
from tinytown.models.delivery import Attempt, DueDelivery
from tinytown.models.endpoint import EndpointRecord, EndpointState
from tinytown.store import Store
from towns import TurnedClock, start

LEASE: Final = 45_000
"""Milliseconds."""
DAY: Final = 86_400
"""Seconds."""


def webhook(**fields: Any) -> EndpointRecord:
    """Write a webhook's record."""
    plain = {"kind": "webhook", "url": "https://x.example/", "name": "", "events": ("*",)}
    made = {"id": ids.new("endpoint"), "created_at": "2025-11-22T21:00:00.000Z"}
    return msgspec.convert({**plain, **made, **fields}, EndpointRecord)


async def add(store: Store, **fields: Any) -> str:
    """Add a webhook."""
    record = webhook(**fields)
    await store.endpoints.put(record)
    return record.id


async def file(store: Store, *endpoints: str, times: int = 1) -> list[str]:
    """Let things happen and file each for the endpoints; the stream ids."""
    version, _ = await store.endpoints.all()
    filed = []
    for _ in range(times):
        mission = await start(store)
        [event, *_] = await store.events.of_mission(mission.id, after="0-0", limit=1)
        assert await store.deliveries.plan(event, endpoints, version=version) == len(endpoints)
        filed.append(event.stream_id)
    return filed


async def lease(store: Store, *, limit: int = 100) -> list[DueDelivery]:
    """Lease what is due."""
    return (await store.deliveries.claim(lease_ms=LEASE, limit=limit)).deliveries


async def record(store: Store, delivery: DueDelivery, outcome: Any, **how: Any) -> bool:
    """Write how an attempt went."""
    attempt = Attempt(number=delivery.attempt, at="now", outcome=outcome, duration_seconds=0.1)
    return await store.deliveries.record(delivery.id, attempt, outcome=outcome, **how)


async def next_due_in(store: Store, clock: TurnedClock) -> int:
    """Say in how many milliseconds something is due; not above zero = now."""
    due_ms = await store.deliveries.oldest_due_ms()
    assert due_ms is not None
    return due_ms - clock.ms


async def state_of(store: Store, endpoint: str) -> EndpointState:
    """Tell how an endpoint is doing."""
    return (await store.endpoints.health([endpoint]))[0].state
