"""Starts the workers that the signal misses: never two for one demand.

What may be started is promised in Redis first (`town/scaling.py`), in the same step that counts
the demand. So it does not matter how many townhalls reconcile, nor who dies between the promise
and the start: a promise that nobody keeps lapses after `start_deadline`, and only then is there
another. Failed starts in a row, their pauses and the circuit are kept there too.
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from tinytown import ids
from tinytown.launch import Ended, Launcher
from tinytown.models.scaling import Start
from tinytown.store.clockwork import StartResult
from tinytown.town import Town
from tinytown.town.hub import FellBehind
from tinytown.town.scaling import Promised

_log = logging.getLogger(__name__)

NET_SECONDS: Final = 5.0
"""While something waits, the signal is read at least so often; a town at rest costs nothing."""
SOON_SECONDS: Final = 10.0
"""A worker that fails this soon never got to work: its start failed, not its task."""
FAREWELL_SECONDS: Final = 2.0
"""How long a closing town may take to give back what it promised."""

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


class Reconciler:
    """A service of the townhall: keeps as many workers coming as the signal wants."""

    name = "launcher"

    def __init__(self, town: Town, opening: AbstractAsyncContextManager[Launcher]) -> None:
        """Start workers of a town through a launcher, opened and closed by `run`."""
        self._town = town
        self._opening = opening
        self._token: Final = ids.new("start")
        self._bell = anyio.Event()
        self._open: dict[str, Start] = {}

    async def run(self) -> None:
        """Work until cancelled; then the launcher takes leave of its workers."""
        try:
            async with self._opening as launcher, anyio.create_task_group() as group:
                self._launcher = launcher
                group.start_soon(self._listen)
                group.start_soon(self._mourn)
                # A look before the hub hears could be the last before an event that nobody heard.
                await self._town.hub.ready.wait()
                while True:
                    self._bell = anyio.Event()
                    again_in = await self._round(group)
                    with anyio.move_on_after(again_in):
                        await self._bell.wait()
        finally:
            # The workers went down with the town: what was promised of them is not kept.
            with anyio.move_on_after(FAREWELL_SECONDS, shield=True):
                for start in tuple(self._open.values()):
                    await self._gone(start, "gone", failed=False)

    async def _round(self, group: TaskGroup) -> float | None:
        """Start what is missing; says in how many seconds to look again, None for "when told"."""
        promised = await self._town.store.patience.keep_trying(self.name, self._promise)
        for pool in promised.overdue:
            _log.error("launch.overdue", extra={"facts": {"pool": pool}})
        if promised.starts:
            if not self._launcher.outlived:
                self._open |= {start.id: start for start in promised.starts}
            # A slow platform must not keep the next demand waiting: what is on its way counts.
            group.start_soon(self._start, promised)
        if not promised.signal.waiting:
            return None
        return min(NET_SECONDS, promised.again_seconds or NET_SECONDS)

    async def _promise(self) -> Promised:
        return await self._town.scaling.promise(launcher=self._launcher.name, token=self._token)

    async def _start(self, promised: Promised) -> None:
        """Let the launcher keep what was promised."""
        try:
            failed = await self._launcher.start(promised.starts, promised.signal)
        except Exception:  # noqa: BLE001 (told, and no reason to end the town)
            # Nobody can tell what was started: the promises keep their places until they lapse.
            _log.exception("launch.broken", extra={"facts": {"launcher": self._launcher.name}})
            return
        for start in promised.starts:
            problem = failed.get(start.id)
            if problem is None:
                facts = {"pool": start.pool, "start": start.id, "launcher": self._launcher.name}
                _log.info("launch.started", extra={"facts": facts})
            else:
                await self._gone(
                    start,
                    "refused",
                    failed=problem.failed,
                    hold_seconds=problem.again_seconds,
                    reason=str(problem),
                )

    async def _listen(self) -> None:
        """Hear what changes the demand."""
        while True:
            with self._town.hub.listen(lambda event: event.type in _WAKES) as listener:
                try:
                    while True:
                        await listener.next()
                        self._bell.set()
                except FellBehind:
                    self._bell.set()

    async def _mourn(self) -> None:
        """Hear of workers that are gone; one that never came gives its place back at once."""
        while True:
            gone: Ended = await self._launcher.ended()
            await self._gone(
                gone.start,
                "gone" if gone.clean else "crashed",
                failed=not gone.clean and gone.lived_seconds < SOON_SECONDS,
                lived_seconds=gone.lived_seconds,
                reason=gone.reason,
            )

    async def _gone(
        self,
        start: Start,
        result: StartResult,
        *,
        failed: bool,
        hold_seconds: float = 0.0,
        lived_seconds: float = 0.0,
        reason: str = "",
    ) -> None:
        """Take a promise back, count a failure, and look again."""
        row = await self._town.store.patience.keep_trying(
            self.name,
            lambda: self._town.store.clockwork.end_start(
                start,
                launcher=self._launcher.name,
                result=result,
                failed=failed,
                hold_ms=round(hold_seconds * 1000),
                lived_ms=round(lived_seconds * 1000),
                reason=reason,
            ),
        )
        self._open.pop(start.id, None)
        if failed or result == "refused":
            facts = {
                "pool": start.pool,
                "reason": reason,
                "in_a_row": row.failures,
                "pause_seconds": row.held_ms / 1000,
            }
            level = logging.ERROR if failed else logging.WARNING
            _log.log(level, "launch.failed", extra={"facts": facts})
        self._bell.set()
