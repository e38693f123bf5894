"""What can stand on a command line beside plain words: durations, moments, labels, goals."""

from __future__ import annotations

import os
import re
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from tinytown import clock
from tinytown.cli.failures import USAGE, Failure
from tinytown.models.task import TaskSpec

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|h|d|)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_STDIN: Final = "-"


class Duration(click.ParamType[float]):
    """`90`, `90s`, `15m`, `2h`, `1d`: seconds as a number."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a duration; fails for anything else."""
        if isinstance(value, int | float):
            return float(value)
        match = _DURATION.fullmatch(str(value).strip().lower())
        if match is None:
            self.fail("expected a duration such as 90s, 15m, 2h or 1d", param, ctx)
        return float(match[1]) * _SECONDS[match[2]]


class Moment(click.ParamType[str]):
    """An RFC 3339 time with its zone, or a duration from now."""

    name = "moment"
    _towards = 1

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read a moment as RFC 3339; fails for anything else."""
        text = str(value).strip()
        match = _DURATION.fullmatch(text.lower())
        if match is not None:
            later = timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
            return clock.written(clock.now() + self._towards * later)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail("expected a time such as 2026-11-22T21:00:00Z, or 2h", param, ctx)
        if moment.tzinfo is None:
            self.fail("the time needs a zone, such as 2026-11-22T21:00:00Z", param, ctx)
        return text


class Past(Moment):
    """An RFC 3339 time with its zone, or how long ago."""

    name = "time"
    _towards = -1


class Header(click.ParamType[tuple[str, str]]):
    """`Name: value`, as in HTTP."""

    name = "header"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Take a header apart; the value may be anything but a line of its own."""
        if isinstance(value, tuple):
            return value
        name, colon, content = str(value).partition(":")
        if not name.strip() or not colon:
            self.fail("expected a header such as 'X-Team: blue'", param, ctx)
        return name.strip(), content.strip()


class Label(click.ParamType[str]):
    """`name=value`."""

    name = "label"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that there is a name and a value."""
        name, equals, content = str(value).partition("=")
        if not name or not equals or not content:
            self.fail("expected name=value", param, ctx)
        return str(value)


def goal_text(words: str | None, file: Path | None) -> str:
    """Take a goal from the command line, standard input (`-`) or a file, byte for byte.

    Raises Failure (usage) for none, for two, and for what is not UTF-8.
    """
    if (words is None) == (file is None):
        raise Failure("say the goal, or where it is: GOAL, `-` for standard input, --file", USAGE)
    try:
        if file is not None:
            raw = file.read_bytes()
        elif words == _STDIN:
            raw = sys.stdin.buffer.read()
        else:
            raw = os.fsencode(words or "")
    except OSError as error:
        raise Failure(f"cannot read the goal: {error.strerror}", USAGE) from None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Failure("the goal is not valid UTF-8", USAGE) from None


def tasks_of(file: Path | None) -> tuple[TaskSpec, ...]:
    """Read a graph of tasks: a JSON list of `{name, instructions, depends_on…}`."""
    if file is None:
        return ()
    try:
        return msgspec.json.decode(file.read_bytes(), type=tuple[TaskSpec, ...])
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}", USAGE) from None
    except msgspec.MsgspecError as error:
        raise Failure(f"{file}: {error}", USAGE) from None


def repo_address(text: str | None) -> str | None:
    """Make a path on this machine (`.`, `~/code`) absolute; other addresses stay as they are."""
    if text is not None and (text in {".", "..", "~"} or text.startswith(("./", "../", "~/"))):
        return str(Path(text).expanduser().resolve())
    return text
