"""How long to hold back after workers that end as soon as they are started (pure)."""

from __future__ import annotations

from typing import Final

SOON_SECONDS: Final = 10.0
"""A worker that fails this soon never got to work: its start failed, not its task."""
PAUSES_SECONDS: Final = (1.0, 2.0, 30.0)
"""Pause after the first, second, third and every further failure in a row. Two may be bad luck;
from the third on it is the machine or the settings, and a cure can wait for half a minute."""
FORGIVEN_SECONDS: Final = 60.0
"""Failures further apart than this, twice the longest pause, are not in a row."""


class Backoff:
    """Counts the failed starts of one pool in a row."""

    def __init__(self) -> None:
        self.failures = 0
        self._failed_at = float("-inf")
        self._until = float("-inf")

    def failed(self, now: float) -> float:
        """Count a failed start; returns the pause in seconds that follows."""
        if now - self._failed_at > FORGIVEN_SECONDS:
            self.failures = 0
        pause = PAUSES_SECONDS[min(self.failures, len(PAUSES_SECONDS) - 1)]
        self.failures += 1
        self._failed_at = now
        self._until = now + pause
        return pause

    def wait(self, now: float) -> float:
        """Say for how many seconds nothing should be started; 0 for "go ahead"."""
        return max(0.0, self._until - now)
