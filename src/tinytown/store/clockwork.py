"""The clockwork's shelf: the tick, the demand, the counters, and whether Redis answers."""

from __future__ import annotations

import msgspec

from tinytown.models.scaling import Demand, WorkerCounts
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

_ROW = 13


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """What a tick did, and when the next one is worth it."""

    handled: int
    wait_ms: int | None
    """Milliseconds until something is due; None when nothing is."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The demand of every pool at one moment."""

    now_ms: int
    seq: int
    pools: dict[str, Demand]


class Clockwork:
    """Ticks, measures demand and reads counters."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's clock."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def tick(self, *, limit: int = 100) -> Tick:
        """Handle what is due by time."""
        _, handled, next_due, now = await self._scripts.run("tick", limit=limit)
        return Tick(handled=handled, wait_ms=max(0, next_due - now) if next_due else None)

    async def demand(self) -> Snapshot:
        """Count the demand of every pool; raises StoreUnavailable, never guesses."""
        now, seq, flat = await self._scripts.run("read_demand")
        pools: dict[str, Demand] = {}
        for index in range(0, len(flat), _ROW):
            pool, *row = flat[index : index + _ROW]
            waiting, oldest, active, leaving, blocked, deferred, later, *counts = map(int, row)
            starting, idle, busy, draining, lost = counts
            pools[pool] = Demand(
                waiting=waiting,
                active=active,
                leaving=leaving,
                blocked=blocked,
                deferred=deferred,
                oldest_waiting_ms=oldest or None,
                next_due_ms=later or None,
                workers=WorkerCounts(
                    idle=idle, busy=busy, starting=starting, draining=draining, lost=lost
                ),
            )
        return Snapshot(now_ms=now, seq=seq, pools=pools)

    async def counters(self) -> dict[str, int]:
        """Read everything that only grows."""
        with store_errors():
            rows = await self._client.hgetall(self._keys("counters"))
        return {name: int(value) for name, value in rows.items()}

    async def gauges(self) -> dict[str, int]:
        """Read how many records stand in each state."""
        with store_errors():
            rows = await self._client.hgetall(self._keys("gauges"))
        return {name: int(value) for name, value in rows.items()}

    async def missions_by_state(self, states: list[str]) -> dict[str, int]:
        """Count the missions in each state."""
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for state in states:
                pipe.zcard(self._keys("missions_by_state", state))
            counts = await pipe.execute()
        return dict(zip(states, counts, strict=True))

    async def ping(self) -> None:
        """Ask Redis for a sign of life."""
        with store_errors():
            await self._client.ping()
