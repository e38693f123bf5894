"""Starting workers when they are wanted: the seam every launcher fits.

A launcher only starts. Workers leave by themselves, through the one script that finds nothing
waiting for them, so nothing here ever has to choose whom to stop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import anyio
import msgspec

from tinytown.models.scaling import Signal, Start

__all__ = ["CannotLaunch", "Ended", "Launcher", "StartFailed", "one_by_one", "silence"]


class CannotLaunch(Exception):
    """What a launcher needs is not there; one line for whoever starts the townhall."""


class StartFailed(Exception):
    """A worker surely was not started; one line that says why.

    Where nobody can tell whether it was, a launcher raises nothing: the promise of that start then
    keeps its place until the worker comes or the deadline passes.
    """

    def __init__(self, reason: str, *, failed: bool = True, again_seconds: float = 0.0) -> None:
        """Count it towards the circuit, or (`failed=False`) just ask to come again later."""
        super().__init__(reason)
        self.failed = failed
        self.again_seconds = again_seconds


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that a launcher started is gone."""

    start: Start
    clean: bool
    """It went home (exit 0)."""
    lived_seconds: float
    reason: str = ""


class Launcher(Protocol):
    """Starts workers; opened with the town, and closed with it."""

    @property
    def name(self) -> str:
        """What it is called in settings, metrics and logs."""

    @property
    def outlived(self) -> bool:
        """Whether its workers live on when the town closes."""

    async def start(self, starts: Sequence[Start], signal: Signal) -> Mapping[str, StartFailed]:
        """Start these workers; gives the starts that failed, by their ids.

        `signal` is the one they follow from. Returns when the starts were accepted, not when the
        workers are there: that is for each worker itself to say (`worker.started`).
        """

    async def ended(self) -> Ended:
        """Wait for the next worker that is gone; for ever where nobody can tell."""


async def one_by_one(
    start: Callable[[Start], Awaitable[None]], starts: Sequence[Start]
) -> dict[str, StartFailed]:
    """Start workers in turn, each whatever became of the others."""
    failed = {}
    for each in starts:
        try:
            await start(each)
        except StartFailed as error:
            failed[each.id] = error
    return failed


async def silence() -> Ended:
    """Never say that a worker is gone: for launchers that cannot know."""
    await anyio.sleep_forever()
    raise AssertionError  # nothing comes after for ever
