"""`tt up`: a whole town on one machine, in one process tree."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import click

from tinytown import __version__, logs, settings
from tinytown.cli import connection, render
from tinytown.cli.desk import Example
from tinytown.cli.failures import CONFLICT, FAILED, UNREACHABLE, USAGE, Failure
from tinytown.embedded import EmbeddedError, HomeInUse, Quarters
from tinytown.models.task import AGENTS
from tinytown.settings import Settings, SettingsError

if TYPE_CHECKING:
    from tinytown.town import Town
    from tinytown.townhall import Service, Townhall

_KEY_NAME: Final = "tt up"


@click.command(
    cls=Example,
    example="""
    tt up
    tt up --port 0 --agent codex
    TINYTOWN_HOME=./town tt up
    """,
)
@click.option("--host", help="Address to listen on; else TINYTOWN_HOST, 127.0.0.1.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    help="Port to listen on, 0 for any free one; else TINYTOWN_PORT, 8080.",
)
@click.option("--agent", type=click.Choice(AGENTS), help="Coding CLI of the workers.")
@click.option("--max-workers", type=click.IntRange(0, 10_000), help="Most workers at once.")
def up(host: str | None, port: int | None, agent: str | None, max_workers: int | None) -> None:
    """Run a whole town on this machine: Redis, townhall, and workers when they are wanted.

    Without REDIS_URL it starts a Redis of its own under TINYTOWN_HOME; its append-only file is
    found again the next time. `tt` on this machine then talks to this town. Ctrl-C closes it in
    order: workers hand their tasks back, the Redis ends last.
    """
    changes = {
        "TINYTOWN_HOST": host,
        "TINYTOWN_PORT": None if port is None else str(port),
        "TINYTOWN_AGENT": agent,
        "TINYTOWN_MAX_WORKERS": None if max_workers is None else str(max_workers),
    }
    # One terminal shows the lines of all: the workers' should look like the town's.
    environ = {"TINYTOWN_LOG": "console"} | settings.surroundings()
    environ |= {name: value for name, value in changes.items() if value is not None}
    try:
        config = settings.load(environ)
    except SettingsError as error:
        raise Failure(str(error), USAGE) from None
    if config.launcher not in {"none", "process"}:
        raise Failure("`tt up` starts its workers itself: unset TINYTOWN_LAUNCHER", USAGE)
    logs.configure(config.log or "console")
    run_town(config, environ)


def run_town(config: Settings, environ: Mapping[str, str]) -> None:
    """Run a town until it is told to stop; raises Failure where it cannot."""
    from tinytown.http.listener import CannotListen
    from tinytown.store.client import CannotConnect
    from tinytown.townhall import serve

    services: list[Callable[[Townhall], Service]] = [
        partial(launcher_of, environ=environ),
        Welcome,
    ]
    loop = {"use_uvloop": find_spec("uvloop") is not None}
    try:
        refuse_second(config)
        anyio.run(partial(serve, config, services=services), backend_options=loop)
    except HomeInUse as error:
        raise Failure(str(error), CONFLICT) from None
    except CannotConnect as error:
        raise Failure(str(error), UNREACHABLE) from None
    except CannotListen as error:
        raise Failure(f"{error}; try --port 0", FAILED) from None
    except EmbeddedError as error:
        raise Failure(str(error), FAILED) from None


def refuse_second(config: Settings) -> None:
    """Say who already runs the town of this home, before its port is found to be taken."""
    if config.redis_url is None:
        quarters = Quarters(config.home)
        quarters.prepare()
        quarters.leave(quarters.take())


def launcher_of(hall: Townhall, *, environ: Mapping[str, str], log: int | None = None) -> Service:
    """Make the service that starts this town's workers as child processes."""
    from tinytown.launch.process import process_launcher
    from tinytown.launch.reconciler import Reconciler

    opening = process_launcher(
        environ,
        redis_url=hall.redis_url,
        town=hall.town.name,
        drain_seconds=hall.settings.drain_seconds,
        log=log,
    )
    return Reconciler(hall.town, opening)


class Welcome:
    """Makes `tt` on this machine talk to the town, and says how to begin."""

    name = "welcome"

    def __init__(self, hall: Townhall) -> None:
        """Greet for a hall that serves."""
        self._hall = hall

    async def run(self) -> None:
        """Find or make a key, write the connection file, say it."""
        hall = self._hall
        home = hall.settings.home
        before = connection.read(home).url
        key = await key_for(hall.town, home, first=hall.first_key, given=hall.settings.api_key)
        connection.remember(home, hall.address, key)
        for line in greeting(hall, agent_found=agent_found(hall.settings), before=before):
            render.say(line)


async def key_for(town: Town, home: Path, *, first: str | None, given: str | None) -> str:
    """Find a key of this town for the laptop it runs on, or make one."""
    from tinytown.errors import Unauthenticated
    from tinytown.models.key import NewKey

    if first or given:
        return first or given or ""
    for known in connection.read(home).keys.values():
        try:
            if (await town.keys.actor(known)).may("admin"):
                return known
        except Unauthenticated:
            continue
    # The file was lost, or the town is older than it: whoever can read the Redis may do anything.
    return (await town.keys.make(NewKey(name=_KEY_NAME, scopes=("admin",)))).key


def agent_found(config: Settings) -> bool:
    """Tell whether the workers' coding CLI is installed here."""
    return config.agent == "command" or shutil.which(config.agent) is not None


def greeting(hall: Townhall, *, agent_found: bool, before: str | None) -> list[str]:
    """Write what a person should know of a town that just opened."""
    config = hall.settings
    lines = ["", f"  tinytown {__version__} · the town {config.town} is open at {hall.address}", ""]
    if hall.first_key:
        lines += ["  Its admin key, shown only now:", f"    {hall.first_key}", ""]
    file = config.home / connection.FILE
    lines.append(f"  `tt` on this machine talks to it ({file}). In another terminal:")
    lines.append('    tt mission start "Say hello in hello.txt" --watch')
    if not config.notify:
        lines.append("    tt endpoint add ntfys://a-topic-nobody-guesses")
    if before not in {None, hall.address}:
        lines += ["", f"  It talked to {before} before; `tt connect {before}` goes back."]
    if not agent_found:
        lines += [
            "",
            f"  There is no `{config.agent}` on PATH: install it, or choose another coding CLI",
            "  with TINYTOWN_AGENT (`tt doctor` shows which are there).",
        ]
    return [*lines, "", "  Ctrl-C closes the town.", ""]
