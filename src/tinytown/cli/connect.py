"""`tt connect URL`: checks a town and a key, and remembers them."""

from __future__ import annotations

import sys
from typing import Final

import click
import msgspec

from tinytown.cli import connection, render
from tinytown.cli.client import TownClient
from tinytown.cli.desk import Example, run_async, settings_of
from tinytown.cli.failures import USAGE, Failure, Refused
from tinytown.models.scaling import Signal

_FORBIDDEN: Final = 403


class _Health(msgspec.Struct, frozen=True):
    status: str
    version: str


@click.command(
    cls=Example,
    example="""
    tt connect https://town.example --key tt_…
    tt connect town.example < key.txt
    tt connect http://127.0.0.1:8080
    """,
)
@click.argument("url")
@click.option("--key", help="A key of the town (processes on this machine can see it).")
def connect(url: str, key: str | None) -> None:
    """Remember which town to talk to, and with which key.

    Without --key, a key that is known for this town is used again, else it is asked for (or read
    from standard input). Both are kept in connection.json under TINYTOWN_HOME, for you alone.
    """
    settings = settings_of()
    url = connection.base_url(url)
    known = connection.read(settings.home).keys.get(url)
    chosen = key or known or _asked()
    if not chosen.isascii() or not chosen.isprintable():
        raise Failure("a key has only visible ASCII characters", USAGE)

    async def check() -> tuple[_Health, str]:
        async with TownClient(connection.Connection(url, chosen)) as town:
            health = (await town.get("/health")).read(_Health)
            try:
                await town.get("/v1/questions", {"limit": 1})
                name = (await town.get("/api/scaling")).read(Signal).town
            except Refused as refused:
                if refused.status != _FORBIDDEN:  # a key that may only answer is a good key, too
                    raise
                name = ""
            return health, name

    health, name = run_async(check)
    connection.remember(settings.home, url, chosen)
    town_named = f"the town {name}" if name else "the town"
    render.say(f"connected to {town_named} at {url} (tinytown {health.version})")


def _asked() -> str:
    """Ask for a key without showing it, or take standard input's first line."""
    if sys.stdin.isatty():
        return str(click.prompt("Key", hide_input=True, err=True)).strip()
    line = sys.stdin.readline().strip()
    if not line:
        raise Failure("say the key: --key, or on standard input", USAGE)
    return line
