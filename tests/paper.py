"""A launcher made of paper: it starts nothing, and remembers every start."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from tinytown.launch import Ended, Launcher, StartFailed
from tinytown.launch.reconciler import Reconciler
from tinytown.models.scaling import Demand, Signal, Start, signal
from tinytown.town import Town

MakeTown = Callable[..., Town]
_NOTHING = signal(Demand(), least=0, most=5, now_ms=0)
NO_SIGNAL = Signal(
    **{name: getattr(_NOTHING, name) for name in _NOTHING.__struct_fields__},
    version=1,
    town="main",
    generated_at="2026-11-22T21:00:00.123Z",
    seq=0,
    pools={},
)
"""For launchers that do not look at it."""


class PaperLauncher:
    """Says yes to every start, unless told otherwise; a test says what became of each."""

    name = "paper"
    outlived = True

    def __init__(self) -> None:
        self.started: list[str] = []
        self.starts: list[Start] = []
        self.signals: list[Signal] = []
        self.refuses: StartFailed | None = None
        self.closed = False
        self._tell, self._hear = anyio.create_memory_object_stream[Ended](math.inf)

    async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:
        self.signals.append(signal)
        for start in starts:
            self.started.append(f"refused {start.pool}" if self.refuses else start.pool)
            self.starts.append(start)
        return {start.id: self.refuses for start in starts} if self.refuses else {}

    async def ended(self) -> Ended:
        return await self._hear.receive()

    def end(self, number: int, *, clean: bool, seconds: float = 0.1) -> None:
        """Let the worker of a start (counted from 1) be gone."""
        start = self.starts[number - 1]
        self._tell.send_nowait(
            Ended(start=start, clean=clean, lived_seconds=seconds, reason="exit 1")
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Launcher]:
        try:
            yield self
        finally:
            self.closed = True
            self._tell.close()
            self._hear.close()


@asynccontextmanager
async def reconciling(
    town: Town, opening: AbstractAsyncContextManager[Launcher]
) -> AsyncIterator[None]:
    """Let a reconciler work beside the test, with the hub it listens to."""
    async with anyio.create_task_group() as group:
        group.start_soon(town.hub.run)
        group.start_soon(Reconciler(town, opening).run)
        yield
        group.cancel_scope.cancel()
