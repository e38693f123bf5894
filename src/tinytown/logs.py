"""Log lines: JSON for machines, short text for terminals; one line per unit of work.

The standard library's logging is enough for that and costs the worker nothing (decision 0006).
Facts ride in `extra={"facts": {...}}`; secrets are masked before a line is written.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from tinytown.redact import redact


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (RFC 3339 UTC), level, logger, event and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line of JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": redact(record.getMessage()),
        }
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        for name, value in facts.items():
            line[name] = redact(value) if isinstance(value, str) else value
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return msgspec.json.encode(line, enc_hook=str).decode()


class ConsoleFormatter(logging.Formatter):
    """A short line for a person: clock time, level when it matters, event, facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as a line for a terminal."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        facts: Mapping[str, Any] = getattr(record, "facts", {})
        tail = "".join(f" {name}={value}" for name, value in facts.items())
        line = redact(f"{clock} {level}{record.getMessage()}{tail}")
        if record.exc_info:
            line = f"{line}\n{redact(self.formatException(record.exc_info))}"
        return line


def configure(style: str, level: int = logging.INFO) -> None:
    """Send this process's log lines to stderr as `json` or `console` text."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Apprise's DEBUG lines print tokens and urllib3's print full URLs (anchors: push).
    logging.getLogger("apprise").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
