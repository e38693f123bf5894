"""Sortable prefixed ids: 48 bits of time and 80 random bits in Crockford's base 32 (as ULID)."""

from __future__ import annotations

import secrets
import time
from typing import Final

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH: Final = 26
PREFIXES: Final = {
    "mission": "mis",
    "task": "tsk",
    "question": "qst",
    "event": "evt",
    "endpoint": "end",
    "delivery": "dlv",
    "replay": "rpl",
    "secret": "sec",
    "agent": "agt",
    "key": "key",
    "request": "req",
    "start": "sta",
    "source": "src",
    "hook": "hok",
}


def new(noun: str) -> str:
    """Make an id for a noun: `mis_01k9…`; ids made later sort later (to the millisecond)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return f"{PREFIXES[noun]}_{''.join(reversed(digits))}"


def is_id(noun: str, text: str) -> bool:
    """Tell whether a text has the form of this noun's ids (anything else is an unknown id)."""
    prefix, _, suffix = text.partition("_")
    return (
        prefix == PREFIXES[noun]
        and len(suffix) == _LENGTH
        and all(letter in _ALPHABET for letter in suffix)
    )
