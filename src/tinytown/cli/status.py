"""`tt status`: the town on one page."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import click
import msgspec

from tinytown import clock
from tinytown.cli import render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.desk import Example, json_option, print_json, print_line, town_command
from tinytown.cli.looking import next_signal, watch_option
from tinytown.cli.text import ago, lasting
from tinytown.models.endpoint import Endpoint
from tinytown.models.mission import Mission
from tinytown.models.question import Question
from tinytown.models.scaling import Signal
from tinytown.models.worker import Worker, WorkerState

_SPENT: Final = re.compile(rb'^tinytown_agent_seconds_total\{kind="(\w+)"\} (\S+)$', re.MULTILINE)
_OPEN = ("blocked", "running", "queued", "paused")
_GONE = {WorkerState.STOPPED, WorkerState.LOST}


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What `tt status` shows; its JSON has the same fields."""

    url: str
    version: str
    uptime_seconds: float
    scaling: Signal
    agent_seconds: dict[str, float]
    """What the time of workers went into so far: `busy`, `idle`, `boot`, `drain`; each counts when
    a worker goes on to something else."""
    missions: list[Mission]
    questions: list[Question]
    workers: list[Worker]
    endpoints: list[Endpoint]


class Section(msgspec.Struct, frozen=True):
    """One table of the page."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    empty: str


class _Health(msgspec.Struct, frozen=True):
    version: str = ""
    uptime_seconds: float = 0.0


@click.command(cls=Example, example="tt status\ntt status --watch")
@watch_option
@json_option
@town_command
async def status(town: TownClient, *, watch: bool, as_json: bool) -> None:
    """Show open missions, questions, workers and endpoints on one page.

    With --watch --json, one line of JSON after every change.
    """
    if not watch:
        found = await overview(town)
        if as_json:
            print_json(msgspec.json.encode(found))
        else:
            await _print(found)
    elif as_json:
        await _each_change(town, _print_line)
    elif not render.at_terminal():
        await _each_change(town, _print)
    else:
        await _live(town)


async def overview(town: TownClient) -> Overview:
    """Read the page."""
    health = (await town.get("/health")).read(_Health)
    scaling = (await town.get("/api/scaling")).read(Signal)
    missions = [
        decode(item, Mission)
        for state in _OPEN
        for item in await town.pages("/v1/missions", {"state": state}, limit=20)
    ]
    questions = await town.pages("/v1/questions", {"state": "open"}, limit=20)
    workers = await town.pages("/v1/workers", {}, limit=100)
    endpoints = await town.pages("/v1/endpoints", {}, limit=20)
    seen = [decode(item, Worker) for item in workers]
    return Overview(
        url=town.connection.url,
        version=health.version,
        uptime_seconds=health.uptime_seconds,
        scaling=scaling,
        agent_seconds=spent((await town.get("/metrics")).body),
        missions=missions,
        questions=[decode(item, Question) for item in questions],
        workers=[worker for worker in seen if worker.state not in _GONE],
        endpoints=[decode(item, Endpoint) for item in endpoints],
    )


def headline(found: Overview) -> str:
    """Say in one line where the town is and how it does."""
    return (
        f"{found.scaling.town} at {found.url} · {found.version}"
        f" · up {lasting(found.uptime_seconds)}"
        f" · {found.scaling.recommendation}: {found.scaling.reason}"
    )


def spent(metrics: bytes) -> dict[str, float]:
    """Read from the town's metrics what workers' time went into, in seconds (pure)."""
    return {kind.decode(): round(float(value), 3) for kind, value in _SPENT.findall(metrics)}


def cost(found: Overview) -> str:
    """Say in one line what workers did so far, and what being ready cost beside it."""
    kinds = {"busy": "worked", "idle": "idled", "boot": "booted", "drain": "drained"}
    parts = [
        f"{word} {lasting(found.agent_seconds[kind])}"
        for kind, word in kinds.items()
        if found.agent_seconds.get(kind, 0) >= 1
    ]
    busy = found.agent_seconds.get("busy", 0)
    if not parts or not busy:
        return "workers so far: " + (", ".join(parts) or "none was needed")
    idle = (sum(found.agent_seconds.values()) - busy) / busy
    return f"workers so far: {', '.join(parts)} · {idle:.0%} on top of the work"


def sections(found: Overview) -> list[Section]:
    """Lay out the page (pure but for the time of day)."""
    now = clock.now()
    return [
        Section(
            "missions",
            ("mission", "state", "started", "title"),
            [(m.id, m.state.value, ago(m.created_at, now), m.title) for m in found.missions],
            "no open missions",
        ),
        Section(
            "questions",
            ("question", "asked", "text", "options"),
            [(q.id, ago(q.asked_at, now), q.text, " | ".join(q.options)) for q in found.questions],
            "nobody asks anything",
        ),
        Section(
            "workers",
            ("worker", "state", "pools", "task"),
            [(w.id, w.state.value, " ".join(w.pools), w.task_id or "") for w in found.workers],
            "no workers: the town is at zero",
        ),
        Section(
            "endpoints",
            ("endpoint", "state", "name", "url"),
            [(e.id, e.state.value, e.name, e.url) for e in found.endpoints],
            "nobody is told anything: tt endpoint add URL",
        ),
    ]


async def _print(found: Overview) -> None:
    render.say(headline(found))
    render.say(cost(found))
    for section in sections(found):
        render.say("")
        render.table(section.head, section.rows, empty=section.empty)


async def _print_line(found: Overview) -> None:
    print_line(msgspec.json.encode(found))


async def _each_change(town: TownClient, show: Callable[[Overview], Awaitable[None]]) -> None:
    """Show the town now and after every change of it, until interrupted."""
    while True:
        found = await overview(town)
        await show(found)
        await next_signal(town, "/api/scaling", found.scaling.seq)


async def _live(town: TownClient) -> None:
    """Keep the page on the whole screen."""
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    with Live(console=render.console(), screen=True, auto_refresh=False) as live:

        async def show(found: Overview) -> None:
            parts: list[RenderableType] = [
                Text(headline(found), style="bold"),
                Text(cost(found), style="dim"),
            ]
            for section in sections(found):
                parts.append(Text(""))
                if section.rows:
                    parts.append(render.drawn(section.head, section.rows))
                else:
                    parts.append(Text(section.empty, style="dim"))
            live.update(Group(*parts), refresh=True)

        await _each_change(town, show)
