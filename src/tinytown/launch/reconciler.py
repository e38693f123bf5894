"""Reads the signal and starts what is missing: never two workers for one demand.

A start is reserved for `START_DEADLINE_SECONDS` or until a worker of its pool says
`worker.started`; reserved places count as workers. The reservations live in this process: one
launcher serves a town.
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio

from tinytown.launch import Launcher, StartFailed
from tinytown.launch.backoff import SOON_SECONDS, Backoff
from tinytown.models.event import Event
from tinytown.models.scaling import PoolSignal, Signal
from tinytown.town import Town
from tinytown.town.hub import FellBehind

_log = logging.getLogger(__name__)

START_DEADLINE_SECONDS: Final = 30.0
"""How long a start counts as a worker to come (contract: `start_deadline`)."""
NET_SECONDS: Final = 5.0
"""While something waits, the signal is read at least so often; a town at rest costs nothing."""

# What can change how many workers are wanted. The rest of the stream is no reason to look.
_WAKES: Final = frozenset(
    {
        "task.queued",
        "task.requeued",
        "worker.started",
        "worker.draining",
        "worker.stopped",
        "worker.lost",
        "question.answered",
        "question.expired",
        "mission.resumed",
    }
)


class Reservations:
    """Starts whose workers have not come yet, oldest first."""

    def __init__(self) -> None:
        self._places: dict[str, tuple[str, float]] = {}

    def add(self, start: str, pool: str, now: float) -> None:
        """Reserve a place for a worker that was just started."""
        self._places[start] = (pool, now + START_DEADLINE_SECONDS)

    def arrived(self, pool: str) -> None:
        """Give up the oldest place of a pool: a worker has come."""
        oldest = next((s for s, (of, _) in self._places.items() if of == pool), None)
        if oldest is not None:
            del self._places[oldest]

    def drop(self, start: str) -> None:
        """Give up the place of a start whose worker is gone, unless somebody came in its stead."""
        self._places.pop(start, None)

    def expire(self, now: float) -> list[str]:
        """Give up the places past their deadline; returns their pools."""
        late = [start for start, (_, ends) in self._places.items() if ends <= now]
        return [self._places.pop(start)[0] for start in late]

    def count(self, pool: str | None = None) -> int:
        """Count the places of a pool, or of all."""
        return sum(pool in {None, of} for of, _ in self._places.values())


class Reconciler:
    """A service of the townhall: keeps as many workers coming as the signal wants."""

    name = "launcher"

    def __init__(self, town: Town, opening: AbstractAsyncContextManager[Launcher]) -> None:
        """Start workers of a town through a launcher, opened and closed by `run`."""
        self._town = town
        self._opening = opening
        self._reserved = Reservations()
        self._backoffs: dict[str, Backoff] = {}
        self._arrived: list[str] = []
        self._bell = anyio.Event()

    async def run(self) -> None:
        """Work until cancelled; then the launcher takes leave of its workers."""
        async with self._opening as launcher, anyio.create_task_group() as group:
            group.start_soon(self._listen)
            group.start_soon(self._mourn, launcher)
            while True:
                self._bell = anyio.Event()
                # Before the signal is read: it then counts whoever has come, and a place is
                # never given up for a worker that the signal does not know yet.
                arrived, self._arrived = self._arrived, []
                for pool in arrived:
                    self._reserved.arrived(pool)
                signal = await self._town.store.patience.keep_trying(
                    self.name, self._town.scaling.signal
                )
                again_in = await self._start_missing(launcher, signal)
                with anyio.move_on_after(again_in):
                    await self._bell.wait()

    async def _start_missing(self, launcher: Launcher, signal: Signal) -> float | None:
        """Start what is missing; says in how many seconds to look again, None for "when told"."""
        for pool in self._reserved.expire(anyio.current_time()):
            _log.warning("launch.overdue", extra={"facts": {"pool": pool}})
        room = signal.max - signal.workers.present - self._reserved.count()
        waits: list[float] = []
        for pool, part in sorted(signal.pools.items(), key=_longest_waiting_first):
            missing = part.start - self._reserved.count(pool)
            for _ in range(max(0, min(missing, room))):
                if self._held(pool) or not await self._start(launcher, pool):
                    break
                room -= 1
            if part.waiting:
                waits.append(min(NET_SECONDS, self._held(pool) or NET_SECONDS))
        return min(waits, default=None)

    async def _start(self, launcher: Launcher, pool: str) -> bool:
        """Start one worker; tells whether the launcher took it."""
        try:
            start = await launcher.start(pool)
        except StartFailed as failed:
            self._failed(pool, str(failed))
            return False
        self._reserved.add(start, pool, anyio.current_time())
        facts = {"pool": pool, "start": start, "launcher": launcher.name}
        _log.info("launch.started", extra={"facts": facts})
        return True

    async def _listen(self) -> None:
        """Hear what changes the demand, and who has come."""
        while True:
            with self._town.hub.listen(lambda event: event.type in _WAKES) as listener:
                try:
                    while True:
                        self._hear(await listener.next())
                except FellBehind:
                    self._bell.set()

    def _hear(self, event: Event) -> None:
        if event.type == "worker.started":
            self._arrived.append(next(iter(event.data.get("pools") or ()), ""))
        self._bell.set()

    async def _mourn(self, launcher: Launcher) -> None:
        """Hear of workers that are gone; one that never came gives its place back at once."""
        while True:
            gone = await launcher.ended()
            self._reserved.drop(gone.start)
            if not gone.clean and gone.lived_seconds < SOON_SECONDS:
                self._failed(gone.pool, gone.reason)
            self._bell.set()

    def _failed(self, pool: str, reason: str) -> None:
        backoff = self._backoffs.setdefault(pool, Backoff())
        pause = backoff.failed(anyio.current_time())
        facts = {
            "pool": pool,
            "reason": reason,
            "in_a_row": backoff.failures,
            "pause_seconds": pause,
        }
        _log.error("launch.failed", extra={"facts": facts})

    def _held(self, pool: str) -> float:
        """Say for how many seconds a pool's starts are held back."""
        backoff = self._backoffs.get(pool)
        return backoff.wait(anyio.current_time()) if backoff else 0.0


def _longest_waiting_first(item: tuple[str, PoolSignal]) -> tuple[float, str]:
    pool, part = item
    return -(part.oldest_waiting_seconds or 0.0), pool
