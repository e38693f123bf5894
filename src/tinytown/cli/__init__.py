"""COMPOSITION ROOT of the laptop: console script `tt`.

`tt agent`, `tt ask` and their like are sent on before click, rich or httpx are imported: a worker
has none of them installed.
"""

from __future__ import annotations

import runpy
import sys
from typing import Final, NamedTuple


class Program(NamedTuple):
    """A program that `tt NAME` becomes; where `keeps_name`, NAME stays its first argument."""

    module: str
    about: str
    keeps_name: bool = False


PROGRAMS: Final = {
    "agent": Program("tinytown_workers.__main__", "Run one worker (as tt-worker)."),
    "notifier": Program(
        "tinytown_notifiers.__main__",
        "Run the notifier alone, beside a townhall with TINYTOWN_NOTIFIER=off.",
    ),
    "ask": Program(
        "tinytown_workers.ask",
        "Ask a person a question and wait; prints the answer.",
        keeps_name=True,
    ),
    "messages": Program("tinytown_workers.ask", "Print what people wrote to you.", keeps_name=True),
    "progress": Program("tinytown_workers.ask", "Tell people how far you are.", keeps_name=True),
}


def main() -> None:
    """Run `tt` with the arguments of this process; does not return."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in PROGRAMS:
        sys.exit(become(arguments[0], arguments[1:]))
    from tinytown.cli.root import run

    run()


def become(name: str, arguments: list[str]) -> int:
    """Run one of the programs in this process, as `python -m` would; returns its exit code."""
    program = PROGRAMS[name]
    sys.argv = [f"tt {name}" if not program.keeps_name else "tt"]
    sys.argv += [name, *arguments] if program.keeps_name else arguments
    try:
        runpy.run_module(program.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)  # noqa: T201 - what the interpreter would do
            return 1
        return ended.code or 0
    return 0
