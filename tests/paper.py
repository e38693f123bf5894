"""A launcher made of paper: it starts nothing, and remembers every start."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from tinytown.launch import Ended, Launcher, StartFailed
from tinytown.launch.reconciler import Reconciler
from tinytown.town import Town

MakeTown = Callable[..., Town]


class PaperLauncher:
    """Says yes to every start, unless told otherwise; a test says what became of each."""

    name = "paper"

    def __init__(self) -> None:
        self.started: list[str] = []
        self.refuses = ""
        self.closed = False
        self._tell, self._hear = anyio.create_memory_object_stream[Ended](math.inf)

    async def start(self, pool: str) -> str:
        if self.refuses:
            self.started.append(f"refused {pool}")
            raise StartFailed(self.refuses)
        self.started.append(pool)
        return str(len(self.started))

    async def ended(self) -> Ended:
        return await self._hear.receive()

    def end(self, start: int, pool: str = "default", *, clean: bool, seconds: float = 0.1) -> None:
        """Let the worker of a start (counted from 1) be gone."""
        self._tell.send_nowait(
            Ended(start=str(start), pool=pool, clean=clean, lived_seconds=seconds, reason="exit 1")
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
