"""`tt mission …`: start one, list them, look at one, move one, leave it a message."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from tinytown import clock
from tinytown.cli import kinds, render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.desk import (
    Example,
    completes,
    full_id,
    json_option,
    move_commands,
    print_json,
    print_list,
    town_command,
)
from tinytown.cli.text import ago, plain, until
from tinytown.models.mission import (
    PRIORITIES,
    Mission,
    MissionState,
    StartedCallback,
    StartedMission,
    StartMission,
)
from tinytown.models.task import AGENTS

_MARKS: Final = {"completed": "✓", "failed": "✗", "dead": "✗", "canceled": "-", "running": "●"}

mission_id = click.argument("mission_id", metavar="MISSION", shell_complete=completes("mission"))


@click.group()
def mission() -> None:
    """Start missions and see them through.

    MISSION is an id, the beginning or the end of one, or `last`.
    """


@mission.command(
    cls=Example,
    example="""
    tt mission start "Make the tests of the parser pass" --repo https://github.com/me/app
    tt mission start --file goal.md --repo . --agent codex --watch
    git log -1 --format=%B | tt mission start -
    """,
)
@click.argument("goal", required=False)
@click.option("--file", type=click.Path(dir_okay=False, path_type=Path), help="File of the goal.")
@click.option("--repo", help="Git URL or path that the workers clone.")
@click.option("--ref", help="Branch, tag or commit to begin at.")
@click.option("--title", help="A name for lists and pushes; else the goal's first line.")
@click.option(
    "--agent", type=click.Choice(AGENTS), help="Coding CLI; else the worker's own default."
)
@click.option("--pool", help="Which workers may take it; else `default`.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="normal", show_default=True)
@click.option("--label", "labels", type=kinds.Label(), multiple=True, metavar="NAME=VALUE")
@click.option(
    "--tasks",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON list of tasks: name, instructions, depends_on.",
)
@click.option("--not-before", type=kinds.Moment(), help="Start then, or after a while (2h).")
@click.option("--time-limit", type=kinds.Duration(), help="Longest one attempt may run (2h).")
@click.option(
    "--callback", metavar="URL", help="Tell this program how it goes, by signed webhooks."
)
@click.option("--callback-secret", help="whsec_… or whsk_… of your own, for those webhooks.")
@click.option(
    "--callback-events",
    metavar="TYPES",
    help="Which events, separated by commas; else a question, or its end.",
)
@click.option("--watch", is_flag=True, help="Stay and watch it.")
@json_option
@town_command
async def start(
    town: TownClient,
    /,
    goal: str | None,
    *,
    file: Path | None,
    tasks: Path | None,
    labels: tuple[str, ...],
    not_before: str | None,
    time_limit: float | None,
    callback: str | None,
    callback_events: str | None,
    watch: bool,
    as_json: bool,
    **plainly: Any,
) -> None:
    """Start a mission with a GOAL (`-` reads standard input, byte for byte)."""
    plainly["repo"] = kinds.repo_address(plainly["repo"])
    spec = StartMission(
        goal=kinds.goal_text(goal, file),
        tasks=kinds.tasks_of(tasks),
        labels=dict(label.split("=", 1) for label in labels),
        not_before=not_before,
        time_limit_seconds=time_limit,
        callback_url=callback,
        callback_events=tuple(callback_events.split(",")) if callback_events else None,
        **plainly,
    )
    reply = await town.post("/v1/missions", spec)
    started = reply.read(StartedMission)
    if as_json:
        print_json(reply.body)
    elif watch:
        render.note(started.id)
    else:
        render.say(started.id)
    if started.callback and not as_json:
        _tell_callback(started.callback)
    if watch:
        from tinytown.cli.watch import watch_mission

        await watch_mission(town, started.id)


@mission.command(
    "list", cls=Example, example="tt mission list --state blocked\ntt mission list --json"
)
@click.option("--state", type=click.Choice([state.value for state in MissionState]))
@click.option("--label", type=kinds.Label(), metavar="NAME=VALUE")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@json_option
@town_command
async def list_(
    town: TownClient, state: str | None, label: str | None, limit: int, *, as_json: bool
) -> None:
    """List missions, newest first."""
    items = await town.pages("/v1/missions", {"state": state, "label": label}, limit=limit)
    if as_json:
        print_list(items)
        return
    now = clock.now()
    rows = [
        (each.id, each.state.value, ago(each.created_at, now), each.title)
        for each in (decode(item, Mission) for item in items)
    ]
    empty = "no missions yet: tt mission start GOAL"
    render.table(("mission", "state", "started", "title"), rows, empty=empty)


@mission.command(cls=Example, example="tt mission show last")
@mission_id
@json_option
@town_command
async def show(town: TownClient, mission_id: str, *, as_json: bool) -> None:
    """Show one mission with its tasks and its open question."""
    reply = await town.get(f"/v1/missions/{await full_id(town, 'mission', mission_id)}")
    if as_json:
        print_json(reply.body)
    else:
        describe(reply.read(Mission))


move_commands(
    mission,
    "mission",
    "/v1/missions",
    mission_id,
    {
        "cancel": "End a mission with all its tasks.",
        "pause": "Start nothing new of a mission; what runs may finish.",
        "resume": "Go on with a paused mission.",
        "retry": "Run again what failed or was canceled.",
    },
)


@mission.command(cls=Example, example='tt mission message last "Please keep the old API."')
@mission_id
@click.argument("text")
@json_option
@town_command
async def message(town: TownClient, mission_id: str, text: str, *, as_json: bool) -> None:
    """Tell a mission's agents something; running ones hear it at once."""
    whole = await full_id(town, "mission", mission_id)
    reply = await town.post(f"/v1/missions/{whole}/message", {"text": text})
    if as_json:
        print_json(reply.body)
    else:
        render.say("the agents will read it")


def _tell_callback(callback: StartedCallback) -> None:
    """Show once what verifies the webhooks of a mission's callback."""
    if callback.secret:
        render.note(f"the secret of its callback, shown only now: {callback.secret}")
    elif callback.public_key:
        render.note(f"the public key of its callback: {callback.public_key}")
    render.note(f"what was sent there: tt endpoint deliveries {callback.endpoint_id}")


def describe(found: Mission) -> None:
    """Write what a person wants to know of a mission."""
    now = clock.now()
    left = found.result
    render.facts(
        (
            ("mission", found.id),
            ("title", found.title),
            ("state", found.state.value),
            ("reason", found.reason),
            ("repo", found.repo and f"{found.repo} {found.ref or ''}".strip()),
            ("agent", found.agent),
            ("labels", ", ".join(f"{name}={value}" for name, value in found.labels.items())),
            ("created", ago(found.created_at, now)),
            ("not before", until(found.not_before, now)),
            ("ended", ago(found.finished_at, now)),
            ("branch", left.branch if left else None),
            ("summary", left.summary if left else None),
        )
    )
    if found.tasks:
        render.say("")
        rows = [
            (
                _MARKS.get(task.state.value, "·"),
                task.name,
                task.state.value,
                str(task.attempt),
                ", ".join(task.depends_on),
                task.reason or task.summary or "",
            )
            for task in found.tasks
        ]
        render.table(("", "task", "state", "attempt", "after", "text"), rows, empty="")
    if found.question is not None:
        asked = found.question
        render.say("")
        render.say(f"It asks: {plain(asked.text)}")
        if asked.options:
            render.say(f"Options: {', '.join(plain(option) for option in asked.options)}")
        render.say(f"Answer:  tt answer {asked.id} …")
