"""`tt mission log`, `tt mission result`, `tt mission watch`: how it goes, and what came of it."""

from __future__ import annotations

import sys

import click
import msgspec

from tinytown.cli import render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.desk import Example, full_id, json_option, print_json, print_line, town_command
from tinytown.cli.failures import CONFLICT, FAILED, Failure
from tinytown.cli.missions import mission, mission_id
from tinytown.cli.text import legible
from tinytown.cli.wire import LogLine, MissionResult
from tinytown.models.mission import ENDED


@mission.command(cls=Example, example="tt mission log last -f")
@mission_id
@click.option("--follow", "-f", is_flag=True, help="Stay until the mission ends.")
@json_option
@town_command
async def log(town: TownClient, mission_id: str, *, follow: bool, as_json: bool) -> None:
    """Print what a mission's agents say and do. With --json, one line of the log a line."""
    whole = await full_id(town, "mission", mission_id)
    if not follow:
        for item in await read_log(town, whole):
            _print_log(bytes(item), as_json=as_json)
        return
    async for event in town.follow(f"/v1/missions/{whole}/log", after="0-0"):
        _print_log(event.data.encode(), as_json=as_json)


async def read_log(town: TownClient, mission_id: str, *, after: str = "0-0") -> list[msgspec.Raw]:
    """Read all that is kept of a mission's log, after an id."""
    found: list[msgspec.Raw] = []
    while True:
        reply = await town.get(f"/v1/missions/{mission_id}/log", {"after": after, "limit": 100})
        page = reply.read(_LogPage)
        found += page.items
        if not page.items or page.next_cursor is None:
            return found
        after = page.next_cursor


class _LogPage(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    next_cursor: str | None = None


def _print_log(body: bytes, *, as_json: bool) -> None:
    if as_json:
        print_line(body)
        return
    words = legible(decode(body, LogLine).words)
    if words:
        render.say(words.rstrip("\n"))


@mission.command(
    cls=Example,
    example="""
    tt mission result last
    tt mission result last --patch | git apply
    """,
)
@mission_id
@click.option("--patch", is_flag=True, help="Print the patch alone, for `git apply`.")
@json_option
@town_command
async def result(town: TownClient, mission_id: str, *, patch: bool, as_json: bool) -> None:
    """Show what a mission left behind; exit code 4 while it has not ended."""
    whole = await full_id(town, "mission", mission_id)
    reply = await town.get(f"/v1/missions/{whole}/result")
    if as_json:
        print_json(reply.body)
        return
    found = reply.read(MissionResult)
    if found.state not in ENDED:
        raise Failure(f"{whole} is {found.state.value}: it has not ended", CONFLICT)
    left = found.result
    if left is None:
        raise Failure(f"{whole} left nothing behind", FAILED)
    if patch:
        if left.patch is None:
            raise Failure(f"{whole} changed no files", FAILED)
        if left.patch_truncated:
            raise Failure(f"the patch is too large to be kept whole: use branch {left.branch}")
        sys.stdout.buffer.write(left.patch.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()
        return
    tokens = f"{left.input_tokens} in, {left.output_tokens} out" if left.input_tokens else None
    render.facts(
        (
            ("mission", whole),
            ("state", found.state.value),
            ("branch", left.branch and left.branch + (" (pushed)" if left.pushed else "")),
            ("commits", f"{left.base or ''}..{left.head}" if left.head else None),
            ("files", str(left.files_changed) if left.files_changed else None),
            ("cost", f"{left.cost_usd:.4f} USD" if left.cost_usd is not None else None),
            ("tokens", tokens),
            *left.links.items(),
        )
    )
    if left.summary:
        render.say("")
        render.say(legible(left.summary))


@mission.command(cls=Example, example="tt mission watch last")
@mission_id
@town_command
async def watch(town: TownClient, mission_id: str) -> None:
    """Watch a mission to its end; answer its questions in place.

    Exit code 0 when it completed, 1 when it failed or was canceled. Ctrl-C stops watching, not
    the mission.
    """
    from tinytown.cli.watch import watch_mission

    await watch_mission(town, await full_id(town, "mission", mission_id))
