"""The clockwork's shelf: the tick, the demand, promised workers, the counters, a sign of life."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from tinytown.models.scaling import Demand, Start, WorkerCounts
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.replies import DONE, NOT_YOURS
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
    stamp: str
    """Names this demand: `reserve_starts` promises nothing from one that has changed."""


class Reserved(msgspec.Struct, frozen=True, kw_only=True):
    """What a launcher may start, by the ids it proposed."""

    granted: tuple[str, ...] = ()
    overdue: tuple[str, ...] = ()
    """Pools whose promised workers did not come; each counted as a failed start."""
    wait_ms: int | None = None
    """Milliseconds until asking again may help: a pool held back, or another launcher at work."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A pool's failed starts in a row, and for how long nothing is started for it."""

    failures: int
    held_ms: int


# What became of a promised worker; one that came is counted `arrived` by its registration, one
# that did not `overdue` (`tinytown_worker_starts_total`).
StartResult = Literal["refused", "crashed", "gone"]


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
        now, seq, flat, stamp = await self._scripts.run("read_demand")
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
        return Snapshot(now_ms=now, seq=seq, pools=pools, stamp=stamp)

    async def reserve_starts(
        self, starts: Sequence[Start], *, stamp: str, launcher: str, token: str, lease_ms: int
    ) -> Reserved | None:
        """Promise workers in one step; None when the demand is not the stamp's any more.

        Safe to repeat with the same starts: a reply that got lost is given again.
        """
        reply = await self._scripts.run(
            "reserve_starts",
            token=token,
            lease_ms=lease_ms,
            stamp=stamp,
            launcher=launcher,
            starts=[part for start in starts for part in (start.pool, start.id)],
        )
        if reply[0] == NOT_YOURS:
            return Reserved(wait_ms=max(1, reply[1]))
        if reply[0] != DONE:
            return None
        _, held_ms, granted, overdue = reply
        return Reserved(granted=tuple(granted), overdue=tuple(overdue), wait_ms=held_ms or None)

    async def end_start(
        self,
        start: Start,
        *,
        launcher: str,
        result: StartResult,
        failed: bool,
        hold_ms: int = 0,
        lived_ms: int = 0,
        reason: str = "",
    ) -> Row:
        """Take a promise back; `failed` counts towards the circuit, `hold_ms` holds the pool."""
        _, failures, held_ms = await self._scripts.run(
            "end_start",
            pool=start.pool,
            launcher=launcher,
            start=start.id,
            result=result,
            failed=int(failed),
            hold_ms=hold_ms,
            lived_ms=lived_ms,
            reason=reason,
        )
        return Row(failures=failures, held_ms=held_ms)

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
