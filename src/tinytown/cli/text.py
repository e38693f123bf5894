"""Makes other people's words safe to print and times easy to read (pure)."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Co", "Cn"}


def plain(text: str) -> str:
    """Put a text on one line without what could move a cursor, hide or reverse words."""
    return " ".join(legible(text).split())


def legible(text: str) -> str:
    """Drop control, format (bidi) and unassigned characters; line ends and tabs stay."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _UNSEEN)


def clip(text: str, width: int) -> str:
    """Cut a line to a width, with an ellipsis where something is missing."""
    return text if len(text) <= width else text[: max(0, width - 1)].rstrip() + "…"


def lasting(seconds: float) -> str:
    """Say a duration as a person would: `0.4 s`, `12 s`, `3 min`, `2 h 5 min`, `4 d`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE:.0f} min"
    if seconds < _DAY:
        hours, rest = divmod(seconds, _HOUR)
        minutes = rest // _MINUTE
        return f"{hours:.0f} h {minutes:.0f} min" if minutes else f"{hours:.0f} h"
    return f"{seconds // _DAY:.0f} d"


def ago(moment: str | None, now: datetime) -> str:
    """Say how long ago an RFC 3339 time was; empty for none."""
    if not moment:
        return ""
    return lasting(max(0.0, (now - datetime.fromisoformat(moment)).total_seconds())) + " ago"


def until(moment: str | None, now: datetime) -> str:
    """Say how long it is until an RFC 3339 time; empty for none."""
    if not moment:
        return ""
    left = (datetime.fromisoformat(moment) - now).total_seconds()
    return "now" if left <= 0 else f"in {lasting(left)}"
