"""When a delivery that failed is tried again (pure): full jitter, a cap, and an end."""

from __future__ import annotations

import random
from typing import Final

import msgspec

HORIZON_SECONDS: Final = 86_400.0
"""A receiver that asks for more than a day of silence will not be asked again."""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the notifier is with one delivery."""

    first_seconds: float = 2.0
    """The first wait is at most this long: a question wants to be seen soon."""
    cap_seconds: float = 900.0
    """No wait is longer (unless asked for): a phone that is back should ring within minutes."""
    attempts: int = 16
    """The last attempt comes about an hour after the first (measured in the mean)."""

    def ceiling(self, attempt: int) -> float:
        """Name the longest wait after attempt number `attempt` (1-indexed), in seconds."""
        # The exponent is bounded so that a large attempt cannot overflow a float.
        return min(self.cap_seconds, self.first_seconds * 2.0 ** min(attempt - 1, 64))

    def wait(
        self,
        attempt: int,
        *,
        retry_after_seconds: float | None = None,
        chance: random.Random | None = None,
    ) -> float | None:
        """Name the seconds until the next attempt, or None where there should be none.

        Full jitter: anything from zero to the ceiling, so that many deliveries that failed
        together do not come back together. Never earlier than the receiver asked for.
        """
        if attempt >= self.attempts:
            return None
        asked = max(0.0, retry_after_seconds or 0.0)
        if asked > HORIZON_SECONDS:
            return None
        spread = (chance or random).uniform(0.0, self.ceiling(attempt))
        if asked == 0.0:
            return spread
        # Spread upwards from what was asked, but not by more than a quarter of it.
        return asked + min(spread, asked / 4.0)


SPECIFIED_SECONDS: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Standard Webhooks, "Deliverability and reliability": ten attempts in three days, the first at
once. These are the waits between them."""


class Waits(msgspec.Struct, frozen=True, kw_only=True):
    """How patient the notifier is with a webhook: a wait for each further attempt, then the end."""

    seconds: tuple[float, ...] = SPECIFIED_SECONDS
    spread: float = 0.2
    """How far a wait may be off either way, as a share of it: what failed together comes back
    apart."""

    def wait(
        self,
        attempt: int,
        *,
        retry_after_seconds: float | None = None,
        chance: random.Random | None = None,
    ) -> float | None:
        """Name the seconds after attempt number `attempt` (1-indexed), or None at the end.

        Never earlier than the receiver asked for, as far as it asks for no more than a day.
        """
        if attempt > len(self.seconds):
            return None
        due = self.seconds[attempt - 1]
        due *= (chance or random).uniform(1 - self.spread, 1 + self.spread)
        asked = min(max(0.0, retry_after_seconds or 0.0), HORIZON_SECONDS)
        if asked <= due:
            return due
        return asked + (chance or random).uniform(0.0, asked * self.spread / 2)
