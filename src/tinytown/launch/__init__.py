"""Starting workers when they are wanted: the seam every launcher fits.

A launcher only starts. Workers leave by themselves, through the one script that finds nothing
waiting for them, so nothing here ever has to choose whom to stop.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["Ended", "Launcher", "StartFailed"]


class StartFailed(Exception):
    """A worker could not be started; one line that says why."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that a launcher started is gone."""

    start: str
    """What `start` named it."""
    pool: str
    clean: bool
    """It went home (exit 0)."""
    lived_seconds: float
    reason: str = ""


class Launcher(Protocol):
    """Starts workers; opened with the town, it takes leave of its workers when it closes."""

    @property
    def name(self) -> str:
        """What it is called in settings, metrics and logs."""

    async def start(self, pool: str) -> str:
        """Start one worker of a pool and name the start; raises StartFailed.

        Returns when the start was accepted, not when the worker is there: that is for the worker
        itself to say (`worker.started`).
        """

    async def ended(self) -> Ended:
        """Wait for the next worker that is gone; for ever where nobody can tell."""
