"""Makes whatever an agent writes safe to store and show, and digs in JSON without trusting it."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from tinytown_workers.lines import Line

TEXT_CHARS: Final = 16_384  # a long answer of a model still fits
SUMMARY_CHARS: Final = 300  # what a phone shows in a few lines

# Escape sequences, control characters but tab and newline, and what turns text around.
_UNSEEN: Final = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"
    "|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?"
    "|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)

# Where the tools of the CLIs keep what a person wants to read, most telling first.
_TELLING: Final = (
    "command", "cmd", "question", "file_path", "filePath", "path", "pattern", "query", "url",
    "message", "text", "description", "prompt",
)  # fmt: skip


def clean(text: str, limit: int = TEXT_CHARS) -> str:
    """Keep what can be seen, at most `limit` characters of it."""
    # Cut first: the pattern should not walk through a megabyte. Escape sequences are short.
    text = _UNSEEN.sub("", text[: limit * 2]).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def clean_end(data: bytes, limit: int) -> str:
    """Keep the last `limit` characters of some output, from the start of a line if it can be."""
    text = _UNSEEN.sub("", data.decode(errors="replace")).strip()
    if len(text) <= limit:
        return text
    text = text[-limit:]
    return text.partition("\n")[2].strip() or text


def last_lines(data: bytes, limit: int) -> str:
    """Keep the last three lines of some output: programs name the cause last."""
    return "\n".join(clean_end(data, limit).splitlines()[-3:])


def decode(line: Line) -> dict[str, Any] | None:
    """Read one JSON object; None for anything else. Invalid UTF-8 inside it is replaced."""
    for data in (line.data, line.data.decode(errors="replace")):
        try:
            value = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        return value if isinstance(value, dict) else None
    return None


def dig(value: Any, *path: str) -> Any:
    """Follow names through nested objects; None where the way ends."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text_at(value: Any, *path: str) -> str:
    """Find a text there, or the empty one."""
    found = dig(value, *path)
    return found if isinstance(found, str) else ""


def number_at(value: Any, *path: str) -> float | None:
    """Find a number there that makes sense as an amount, or None."""
    found = dig(value, *path)
    sensible = isinstance(found, int | float) and 0 <= found < 2**53
    return float(found) if sensible else None


def count_at(value: Any, *path: str) -> int:
    """Find a number of something there, or 0."""
    return int(number_at(value, *path) or 0)


def list_at(value: Any, *path: str) -> list[Any]:
    """Find a list there, or an empty one."""
    found = dig(value, *path)
    return found if isinstance(found, list) else []


def summarise(value: Any) -> str:
    """Say in one short text what a tool was given or gave back."""
    if isinstance(value, dict):
        for name in _TELLING:
            if text := text_at(value, name):
                return clean(text, SUMMARY_CHARS)
    if isinstance(value, list):
        texts = filter(None, (text_at(part, "text") for part in value))
        if joined := "\n".join(texts):
            return clean(joined, SUMMARY_CHARS)
    if isinstance(value, str):
        return clean(value, SUMMARY_CHARS)
    return clean(msgspec.json.encode(value).decode(), SUMMARY_CHARS) if value else ""
