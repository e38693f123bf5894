"""Commands that are other programs: the worker, the notifier, and an agent's own words.

`main` sends them on before this file is ever loaded; these are here for the help, for the Tab key
and for whoever calls the tree of commands from Python.
"""

from __future__ import annotations

import sys
from typing import Final

import click

from tinytown.cli import PROGRAMS, become

_ANYTHING: Final = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "help_option_names": [],
}


def _program(name: str, sentence: str) -> click.Command:
    """Make the command of a program; its own parser reads the arguments, `--help` too."""

    @click.command(name, help=sentence, context_settings=_ANYTHING, add_help_option=False)
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def command(arguments: tuple[str, ...]) -> None:
        sys.exit(become(name, list(arguments)))

    return command


agent, notifier, ask, messages, progress = (
    _program(name, PROGRAMS[name].about)
    for name in ("agent", "notifier", "ask", "messages", "progress")
)
