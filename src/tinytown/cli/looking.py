"""`tt events`, `tt workers`, `tt scaling`: what goes on in the town."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import anyio
import click

from tinytown import clock
from tinytown.cli import render
from tinytown.cli.client import Reply, TownClient, decode
from tinytown.cli.desk import (
    Example,
    ExampleGroup,
    completes,
    full_id,
    json_option,
    print_json,
    print_line,
    print_list,
    town_command,
)
from tinytown.cli.text import ago, lasting, plain
from tinytown.cli.wishes import events_option
from tinytown.models.event import Event
from tinytown.models.scaling import Signal
from tinytown.models.worker import Worker

_WAIT_SECONDS: Final = 25
"""One long poll: below the 30 s after which proxies drop what is silent."""
_GLANCE_SECONDS: Final = 1.0

watch_option = click.option("--watch", is_flag=True, help="Stay and show every change.")


@click.command(
    cls=Example,
    example="""
    tt events --follow
    tt events --events 'question.*' --json --follow
    """,
)
@events_option
@click.option("--follow", "-f", is_flag=True, help="Stay and print events as they happen.")
@click.option("--after", metavar="ID", help="Begin after this event (evt_… or a stream id).")
@json_option
@town_command
async def events(
    town: TownClient,
    events: tuple[str, ...],
    after: str | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    """Print what happened in the town: all that is kept, or (--follow) from now on.

    With --json, one event a line. A town that restarts is waited for; no event is lost or shown
    twice.
    """
    start = after.removeprefix("evt_") if after else None if follow else "0-0"
    query = {"types": ",".join(events) or None}
    # The town's stream has no end: without --follow, a pause means that the past is told.
    patience = None if follow else _GLANCE_SECONDS
    async for data in _until_quiet(town, query, start, patience):
        if as_json:
            print_line(data)
        else:
            render.say(event_line(decode(data, Event)))


async def _until_quiet(
    town: TownClient, query: dict[str, str | None], after: str | None, patience: float | None
) -> AsyncIterator[bytes]:
    """Yield events until there is none for so many seconds (None: for ever)."""
    stream = aiter(town.follow("/v1/events", query, after=after))
    while True:
        event = None
        with anyio.move_on_after(patience):
            event = await anext(stream)
        if event is None:
            return
        yield event.data.encode()


def event_line(event: Event) -> str:
    """Write an event for a person: when, what, whose, and what it says."""
    data = event.data
    said = data.get("text") or data.get("reason") or data.get("summary") or data.get("title")
    about = event.mission_id or data.get("worker") or data.get("endpoint") or ""
    return plain(f"{event.timestamp} {event.type:20} {about} {said or ''}").rstrip()


@click.group(
    invoke_without_command=True,
    cls=ExampleGroup,
    example="tt workers\ntt workers drain agt_01kah…",
)
@json_option
@click.pass_context
def workers(context: click.Context, *, as_json: bool) -> None:
    """List the workers that live or left within the hour."""
    if context.invoked_subcommand is None:
        _list_workers(as_json=as_json)


@town_command
async def _list_workers(town: TownClient, *, as_json: bool) -> None:
    items = await town.pages("/v1/workers", {}, limit=1_000)
    if as_json:
        print_list(items)
        return
    now = clock.now()
    rows = [
        (
            each.id,
            each.state.value,
            " ".join(each.pools),
            each.agent or "",
            each.host,
            ago(each.seen_at, now),
            each.task_id or "",
        )
        for each in (decode(item, Worker) for item in items)
    ]
    head = ("worker", "state", "pools", "agent", "host", "seen", "task")
    render.table(head, rows, empty="no workers: the town is at zero")


@workers.command(cls=Example, example="tt workers drain agt_01kah…")
@click.argument("worker_id", metavar="WORKER", shell_complete=completes("agent"))
@json_option
@town_command
async def drain(town: TownClient, worker_id: str, *, as_json: bool) -> None:
    """Let a worker finish what it does and go home."""
    whole = await full_id(town, "agent", worker_id)
    reply = await town.post(f"/v1/workers/{whole}/drain", repeatable=False)
    if as_json:
        print_json(reply.body)
    else:
        render.say(f"{whole} is {reply.read(Worker).state.value}")


@click.command(cls=Example, example="tt scaling\ntt scaling --watch --json")
@click.argument("pool", required=False)
@watch_option
@json_option
@town_command
async def scaling(town: TownClient, pool: str | None, *, watch: bool, as_json: bool) -> None:
    """Say how many workers the town wants, and why."""
    path = f"/api/scaling/{pool}" if pool else "/api/scaling"
    reply = await town.get(path)
    while True:
        signal = reply.read(Signal)
        if not as_json:
            _say_signal(signal)
        elif watch:
            print_line(reply.body)
        else:
            print_json(reply.body)
        if not watch:
            return
        reply = await next_signal(town, path, signal.seq)


async def next_signal(town: TownClient, path: str, seq: int) -> Reply:
    """Wait until the signal is another one than number `seq`."""
    while True:
        reply = await town.get(path, {"wait": _WAIT_SECONDS, "seq": seq})
        if reply.read(Signal).seq != seq:
            return reply


def _say_signal(signal: Signal) -> None:
    render.say(f"{signal.recommendation}: {signal.reason}")
    rows = [
        (
            name or "(town)",
            str(part.desired),
            str(part.start),
            str(part.waiting),
            str(part.active),
            str(part.blocked),
            str(part.deferred),
            _of_workers(part.workers.__struct_fields__, part.workers),
            lasting(part.oldest_waiting_seconds) if part.oldest_waiting_seconds else "",
        )
        for name, part in (("", signal), *sorted(signal.pools.items()))
    ]
    head = ("pool", "desired", "start", "waiting", "active", "blocked", "deferred", "workers",
            "oldest")  # fmt: skip
    render.table(head, rows, empty="")


def _of_workers(states: tuple[str, ...], counts: object) -> str:
    named = ((state, getattr(counts, state)) for state in states)
    return ", ".join(f"{count} {state}" for state, count in named if count) or "none"
