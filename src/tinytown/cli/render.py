"""Tables and words for people: coloured at a terminal, plain and never cut in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from tinytown.cli.text import clip, plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

STYLES: Final = {
    "queued": "cyan",
    "pending": "dim",
    "running": "blue",
    "blocked": "yellow",
    "open": "yellow",
    "paused": "magenta",
    "completed": "green",
    "delivered": "green",
    "active": "green",
    "answered": "green",
    "failed": "red",
    "failing": "red",
    "dead": "red",
    "lost": "red",
    "canceled": "dim",
    "disabled": "dim",
    "stopped": "dim",
    "obsolete": "dim",
    "expired": "dim",
    "withdrawn": "dim",
    "busy": "blue",
    "idle": "green",
    "starting": "cyan",
    "draining": "magenta",
}
"""One colour for each state, whatever the noun."""

_CELL: Final = 60  # the widest cell at a terminal: a row should stay a row


def at_terminal() -> bool:
    """Tell whether a person watches standard output."""
    return sys.stdout.isatty()


def console() -> Console:
    """Make the console of standard output."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """Write one line of ours (not of an agent)."""
    click.echo(text)


def note(text: str) -> None:
    """Write one line beside the output proper, for people only."""
    click.echo(text, err=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> None:
    """Write rows under a head; in a pipe, columns are aligned and whole."""
    if not rows:
        note(empty)
        return
    cells = [[plain(cell) for cell in row] for row in rows]
    if not at_terminal():
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        for row in (head, *cells):
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo(line.rstrip())
        return
    console().print(drawn(head, cells))


def drawn(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Make a table for a terminal: states in colour, long cells cut."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        shown.add_column(name, no_wrap=name not in {"text", "title"}, overflow="ellipsis")
    for row in rows:
        cells = [plain(cell) for cell in row]
        shown.add_row(*(Text(clip(cell, _CELL), style=STYLES.get(cell, "")) for cell in cells))
    return shown


def facts(pairs: Sequence[tuple[str, str | None]]) -> None:
    """Write what is known of one thing: a name and a value a line; unknown ones are left out."""
    known = [(name, value) for name, value in pairs if value]
    width = max((len(name) for name, _ in known), default=0)
    for name, value in known:
        text = plain(value)
        padded = f"{name}:".ljust(width + 2)
        if at_terminal():
            click.secho(padded, nl=False, dim=True)
            style = STYLES.get(text)
            click.secho(text, fg=None if style == "dim" else style, dim=style == "dim")
        else:
            click.echo(padded + text)
