"""The time of day on this machine, asked in one place; what is stored takes the Redis server's."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> datetime:
    """Tell the time, in UTC."""
    return datetime.now(UTC)


def unix_seconds() -> float:
    """Tell the time as seconds since 1970."""
    return time.time()


def written(moment: datetime) -> str:
    """Write a moment as RFC 3339 UTC with milliseconds (`2026-11-22T21:00:00.123Z`)."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
