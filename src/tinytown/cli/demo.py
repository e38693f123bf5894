"""`tt demo`: a whole mission from nothing to nothing; no account, no key, no network."""

from __future__ import annotations

import logging
import os
import signal
from functools import partial
from importlib.util import find_spec
from typing import IO, Final

import anyio
import click

from tinytown import logs, settings
from tinytown.cli import demo_agent, render
from tinytown.cli.client import TownClient
from tinytown.cli.connection import Connection
from tinytown.cli.demo_acts import Missing, Play, Timeline
from tinytown.cli.demo_stage import Stage, stage
from tinytown.cli.desk import Example, run_async
from tinytown.cli.failures import FAILED, Failure
from tinytown.cli.text import plain
from tinytown.cli.up import launcher_of

_PATIENCE_SECONDS: Final = 20.0
"""How long one step may take before it counts as missing: 20 times what it takes here."""
_THINKS_SECONDS: Final = 3.0
_LOG_LINES: Final = 15


@click.command(cls=Example, example="tt demo\ntt demo --slow")
@click.option("--slow", is_flag=True, help="Let the phone's owner think for 3 seconds.")
@click.option(
    "--keep", is_flag=True, help="Leave the repository and the logs behind, and say where."
)
@click.option(
    "--patience",
    type=click.FloatRange(0.1, 600),
    default=_PATIENCE_SECONDS,
    show_default=True,
    help="Seconds that one step may take before it counts as missing.",
)
@click.option("--phone-ignores", is_flag=True, hidden=True, help="Nobody presses the answer.")
def demo(*, slow: bool, keep: bool, patience: float, phone_ignores: bool) -> None:
    """See a whole mission from nothing to nothing: no account, no key, no network.

    In a temporary home, a town comes up. A mission is posted; a worker starts; its agent works in
    a real git repository and asks a question; the push reaches a stand-in phone over real HTTP;
    the phone presses the real answer link; the agent commits; the branch is pushed; the worker
    goes home. Every line is printed when its step has happened and was checked. Exit code 0 only
    if all did; else 1, and the step that is missing.
    """
    with stage(keep=keep) as place:
        show = partial(
            _show,
            place,
            patience=patience,
            thinks=_THINKS_SECONDS if slow else 0.0,
            ignores=phone_ignores,
        )
        loop = {"use_uvloop": find_spec("uvloop") is not None}
        timeline = run_async(show, backend_options=loop)
    if keep:
        render.say(f"           kept in {place.directory}")
    elif place.directory.exists():
        raise Failure(f"the demo left {place.directory} behind")
    if living_children():
        raise Failure("the demo left a process behind")
    timeline.tell("the town is closed; no process and no directory is left")


async def _show(stage: Stage, *, patience: float, thinks: float, ignores: bool) -> Timeline:
    """Play until the end, a missing step, or a signal; raises Failure or exits."""
    timeline = Timeline()
    interrupted: list[int] = []
    with stage.log.open("w") as log, _logging_to(log):
        async with anyio.create_task_group() as group:

            async def obey() -> None:
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for number in signals:
                        interrupted.append(number)
                        group.cancel_scope.cancel()
                        return

            group.start_soon(obey)
            play = Play(stage, timeline, patience=patience, thinks=thinks, ignores=ignores)
            try:
                await _open(stage, timeline, play, log.fileno())
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told
                _explain(stage, error)
                raise click.exceptions.Exit(FAILED) from None
            group.cancel_scope.cancel()
    if interrupted:
        render.note("\ntt: interrupted; the town is closed")
        raise click.exceptions.Exit(128 + interrupted[0])
    return timeline


async def _open(stage: Stage, timeline: Timeline, play: Play, log: int) -> None:
    """Open repository, phone and town, and let it play."""
    from tinytown.townhall import running_townhall
    from tinytown_notifiers.standin import stand_in

    await stage.found_repository()
    timeline.tell(f"a git repository whose {demo_agent.CHECK} fails")
    environ = stage.environ(settings.surroundings())
    config = settings.load(environ)
    services = [partial(launcher_of, environ=environ, log=log)]
    async with stand_in() as phone, running_townhall(config, services=services) as hall:
        timeline.tell(f"the town is open at {hall.address}")
        connection = Connection(hall.address, hall.first_key)
        async with TownClient(connection) as town:
            await play.run(town, phone)


class _logging_to:  # noqa: N801 - reads as a phrase after `with`
    """Sends this process's log lines to a file for a while."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __enter__(self) -> None:
        self._before = logging.getLogger().handlers[:]
        logs.configure("json")
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                handler.setStream(self._file)

    def __exit__(self, *_: object) -> None:
        logging.getLogger().handlers[:] = self._before


def _explain(stage: Stage, error: BaseException) -> None:
    """Say which step is missing, and show the end of the log."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    what = f"missing: {error}" if isinstance(error, Missing) else str(error) or type(error).__name__
    for line in stage.last_lines(_LOG_LINES):
        render.note(f"  {line}")
    render.note(f"tt: {plain(what)}")


def living_children() -> bool:
    """Tell whether this process has a child, alive or unburied."""
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True
