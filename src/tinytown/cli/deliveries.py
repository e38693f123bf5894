"""`tt deliveries`, `tt replay`, `tt replays`: what became of each message, and another try."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec

from tinytown import clock
from tinytown.cli import kinds, render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.desk import (
    Example,
    completes,
    full_id,
    json_option,
    print_json,
    print_list,
    town_command,
)
from tinytown.cli.endpoints import endpoint
from tinytown.cli.failures import USAGE, Failure
from tinytown.cli.text import ago
from tinytown.cli.wishes import endpoint_id, limit_option
from tinytown.models.delivery import (
    Attempt,
    Delivery,
    NewReplay,
    Recovery,
    Replay,
    ReplayCount,
)
from tinytown.models.endpoint import Endpoint

_AGO: Final = "A time, or how long ago: 2026-11-22T21:00:00Z, 2h, 5d."

since_option = click.option("--since", type=kinds.Past(), metavar="TIME", help=_AGO)
until_option = click.option(
    "--until", type=kinds.Past(), metavar="TIME", help="The end of that time; else now."
)
yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask after counting.")


@endpoint.command("deliveries", cls=Example, example="tt endpoint deliveries last")
@endpoint_id
@limit_option
@json_option
@town_command
async def deliveries_of(town: TownClient, endpoint_id: str, limit: int, *, as_json: bool) -> None:
    """List what was sent to an endpoint, newest first, with every attempt."""
    whole = await full_id(town, "endpoint", endpoint_id)
    items = await town.pages(f"/v1/endpoints/{whole}/deliveries", {}, limit=limit)
    _show_deliveries(items, as_json=as_json)


@click.command(
    cls=Example,
    example="""
    tt deliveries --dead
    tt deliveries --dead --endpoint last --json
    """,
)
@click.option("--dead", is_flag=True, help="Only those that were given up.")
@click.option("--endpoint", metavar="ENDPOINT", help="Only those of this endpoint.")
@limit_option
@json_option
@town_command
async def deliveries(
    town: TownClient, limit: int, *, dead: bool, endpoint: str | None, as_json: bool
) -> None:
    """List deliveries of all endpoints, newest first."""
    whole = await full_id(town, "endpoint", endpoint) if endpoint is not None else None
    if dead:
        asked = {"state": "dead", "endpoint_id": whole}
        items = await town.pages("/v1/deliveries", asked, limit=limit)
    else:
        names = [whole] if whole else await _all_endpoints(town)
        found: list[msgspec.Raw] = []
        for name in names:
            found += await town.pages(f"/v1/endpoints/{name}/deliveries", {}, limit=limit)
        found.sort(key=lambda item: decode(item, Delivery).created_at, reverse=True)
        items = found[:limit]
    _show_deliveries(items, as_json=as_json)


async def _all_endpoints(town: TownClient) -> list[str]:
    items = await town.pages("/v1/endpoints", {}, limit=10_000)
    return [decode(item, Endpoint).id for item in items]


@click.command(
    cls=Example,
    example="""
    tt replay dlv_01kah…
    tt replay --endpoint last --since 2d
    tt replay --all --yes
    """,
)
@click.argument(
    "delivery_ids", nargs=-1, metavar="[DELIVERY]...", shell_complete=completes("delivery")
)
@click.option("--endpoint", metavar="ENDPOINT", help="The dead letters of this endpoint.")
@since_option
@until_option
@click.option("--all", "everything", is_flag=True, help="The dead letters of all endpoints.")
@yes_option
@json_option
@town_command
async def replay(
    town: TownClient,
    delivery_ids: tuple[str, ...],
    *,
    endpoint: str | None,
    since: str | None,
    until: str | None,
    everything: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Send a delivery again: some by their ids, or all that were given up in a time.

    What is one of many is counted first, and asked about.
    """
    many = bool(endpoint or since or until or everything)
    if many == bool(delivery_ids):
        raise Failure("say which: DELIVERY, or --endpoint, --since, --all", USAGE)
    if not many:
        await _replay_each(town, delivery_ids, as_json=as_json)
        return
    whole = await full_id(town, "endpoint", endpoint) if endpoint is not None else None
    wish = NewReplay(since=since, until=until, endpoint_id=whole)
    await _replay_many(town, "/v1/deliveries/replay", wish, yes=yes, as_json=as_json)


@endpoint.command(
    cls=Example,
    example="""
    tt endpoint recover last --since 2h
    tt endpoint recover last --since 5d --dry-run
    tt endpoint recover last --since 2026-11-22T21:00:00Z --yes
    """,
)
@endpoint_id
@click.option("--since", type=kinds.Past(), metavar="TIME", required=True, help=_AGO)
@until_option
@click.option("--dead-only", is_flag=True, help="Only what was given up, not what was missed.")
@click.option("--dry-run", is_flag=True, help="Count only.")
@yes_option
@json_option
@town_command
async def recover(
    town: TownClient,
    /,
    endpoint_id: str,
    *,
    since: str,
    until: str | None,
    dead_only: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Tell an endpoint again what did not reach it since a time.

    Dead letters, and (it was paused, or did not exist yet) what was never filed for it.
    """
    whole = await full_id(town, "endpoint", endpoint_id)
    wish = Recovery(since=since, until=until, missing=not dead_only, dry_run=dry_run)
    path = f"/v1/endpoints/{whole}/recover"
    await _replay_many(town, path, wish, yes=yes, as_json=as_json)


@click.command(cls=Example, example="tt replays --json")
@limit_option
@json_option
@town_command
async def replays(town: TownClient, limit: int, *, as_json: bool) -> None:
    """List the latest replays and how far each is, newest first."""
    items = await town.pages("/v1/replays", {}, limit=limit)
    if as_json:
        print_list(items)
        return
    now = clock.now()
    rows = [
        (
            each.id,
            each.state,
            str(each.done),
            each.endpoint_id or "all",
            ago(each.created_at, now),
            each.created_by,
        )
        for each in (decode(item, Replay) for item in items)
    ]
    head = ("replay", "state", "sent again", "endpoint", "begun", "by")
    render.table(head, rows, empty="no replays")


async def _replay_each(town: TownClient, delivery_ids: Sequence[str], *, as_json: bool) -> None:
    found: list[msgspec.Raw] = []
    for delivery_id in delivery_ids:
        whole = await full_id(town, "delivery", delivery_id)
        reply = await town.post(f"/v1/deliveries/{whole}/replay", repeatable=False)
        found.append(msgspec.Raw(reply.body))
        if not as_json:
            render.say(f"{whole} is {reply.read(Delivery).state.value}")
    if as_json and len(found) == 1:
        print_json(found[0])
    elif as_json:
        print_list(found)


async def _replay_many(
    town: TownClient, path: str, wish: NewReplay | Recovery, *, yes: bool, as_json: bool
) -> None:
    """Count, ask, begin."""
    wished: Any = wish
    counted = await town.post(path, msgspec.structs.replace(wished, dry_run=True))
    count = counted.read(ReplayCount)
    found = f"{count.dead} given up"
    if count.missing:
        found += f", {count.missing} never sent"
    nothing = not count.dead and not count.missing
    if nothing or wished.dry_run:
        if as_json:
            print_json(counted.body)
        elif nothing:
            render.note("there is nothing to send again")
        else:
            render.say(found)
        return
    if not yes:
        if not sys.stdin.isatty():
            raise Failure(f"{found}: say --yes to send them again", USAGE)
        click.confirm(f"{found}. Send them again?", abort=True, err=True)
    reply = await town.post(path, wish)
    if as_json:
        print_json(reply.body)
        return
    render.say(reply.read(Replay).id)
    render.note(f"{found}: on their way; see how far: tt replays")


def _show_deliveries(items: Sequence[msgspec.Raw], *, as_json: bool) -> None:
    if as_json:
        print_list(list(items))
        return
    now = clock.now()
    rows = [
        (
            each.id,
            each.state.value,
            each.event.type,
            ago(each.created_at, now),
            str(each.attempt),
            each.reason or _last_error(each.attempts),
        )
        for each in (decode(item, Delivery) for item in items)
    ]
    head = ("delivery", "state", "event", "filed", "attempts", "text")
    render.table(head, rows, empty="no deliveries")


def _last_error(attempts: Sequence[Attempt]) -> str:
    return (attempts[-1].error or "") if attempts else ""
