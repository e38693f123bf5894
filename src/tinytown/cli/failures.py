"""What `tt` says when something does not work: a line on stderr, an exit code with a meaning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import click

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
UNREACHABLE: Final = 5

# What is missing here is FAILED: no key, a wrong key, too many requests, our own defects.
_EXIT_OF_STATUS: Final[Mapping[int, int]] = {
    400: USAGE,
    404: NOT_FOUND,
    409: CONFLICT,
    410: CONFLICT,
    412: CONFLICT,
    413: USAGE,
    422: CONFLICT,
    503: UNREACHABLE,
}


class Failure(click.ClickException):
    """A command that did not do what it was asked; knows the exit code of its reason."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance

    def show(self, file: object = None) -> None:  # noqa: ARG002 - always standard error
        """Say it in one line, whatever the other side wrote."""
        from tinytown.cli.text import plain

        click.echo(f"tt: {plain(self.message)}", err=True)


class Unreachable(Failure):
    """No town answers: not there, not the right address, or its Redis is gone."""

    def __init__(self, message: str) -> None:
        super().__init__(message, UNREACHABLE)


class Refused(Failure):
    """The town said no, with a problem document (RFC 9457)."""

    def __init__(self, status: int, message: str, facts: Mapping[str, object]) -> None:
        super().__init__(message, _EXIT_OF_STATUS.get(status, FAILED))
        self.status = status
        self.facts = facts
