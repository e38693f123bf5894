"""What agents write, made harmless for a phone: no control codes, no hidden turns, not too long."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_BREAKS: Final = re.compile(r"\r\n?|[\u0085\u2028\u2029\v\f]")
_BLANKS: Final = re.compile(r"\n{3,}")

# Bidirectional controls make text read other than it is (an override shows "rm" as "mr"),
# zero-width and tag characters hide text. The joiner U+200D stays: emojis are made with it.
_HIDDEN: Final = re.compile(
    r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
    r"\u00ad\u180e\U000e0000-\U000e007f]"
)
ELLIPSIS: Final = "…"


def plain(text: str) -> str:
    """Keep what a person can see, in the order in which it is written."""
    text = _ANSI.sub("", text)
    text = _BREAKS.sub("\n", text)
    text = _HIDDEN.sub("", text)
    kept = []
    for letter in text:
        category = unicodedata.category(letter)
        if letter in "\n\t" or category not in {"Cc", "Cs"}:
            kept.append(letter)
        elif category == "Cs":
            kept.append("\ufffd")  # half of a pair: no UTF-8 can carry it
    return _BLANKS.sub("\n\n", "".join(kept)).strip()


def line(text: str) -> str:
    """Make harmless text of one line."""
    return " ".join(plain(text).split())


def clip(text: str, limit: int) -> str:
    """Cut a text to at most `limit` bytes of UTF-8, at a letter and with an ellipsis."""
    raw = text.encode()
    if len(raw) <= limit:
        return text
    room = limit - len(ELLIPSIS.encode())
    if room < 0:
        return ""
    kept = raw[:room].decode(errors="ignore")
    # A joiner without its partner, or half of a combined letter, would show as a box.
    while kept and (kept[-1] == "\u200d" or unicodedata.category(kept[-1]).startswith("Z")):
        kept = kept[:-1]
    return kept.rstrip() + ELLIPSIS
