"""`tt endpoint …`, `tt deliveries`, `tt replay`: who is told, and how that went."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from tinytown import clock
from tinytown.cli import render
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
from tinytown.cli.failures import FAILED, Failure
from tinytown.cli.text import ago
from tinytown.models.delivery import Attempt, Delivery
from tinytown.models.endpoint import PUSH_EVENTS, Endpoint, NewEndpoint
from tinytown.models.event import is_pattern

endpoint_id = click.argument(
    "endpoint_id", metavar="ENDPOINT", shell_complete=completes("endpoint")
)
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True
)


@click.group()
def endpoint() -> None:
    """Say which phones hear of missions and questions.

    ENDPOINT is an id, the beginning or the end of one, or `last`.
    """


def _patterns(_: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Split `a,b` and check each against the closed set of events."""
    patterns = tuple(part.strip() for text in value for part in text.split(",") if part.strip())
    for pattern in patterns:
        if not is_pattern(pattern):
            raise click.BadParameter(f"no event matches {pattern}", param=param)
    return patterns


events_option = click.option(
    "--events", multiple=True, callback=_patterns, metavar="TYPES",
    help="Event types such as question.asked or mission.*, separated by commas.",
)  # fmt: skip


@endpoint.command(
    cls=Example,
    example="""
    tt endpoint add ntfys://a-topic-nobody-guesses --name phone
    tt endpoint add "pover://user@token" --events question.asked,mission.*
    """,
)
@click.argument("url")
@click.option("--name", default="", help="What you call it.")
@events_option
@json_option
@town_command
async def add(
    town: TownClient, url: str, name: str, events: tuple[str, ...], *, as_json: bool
) -> None:
    """Tell a phone from now on: URL is an Apprise URL. The town shows it redacted ever after."""
    new = NewEndpoint(url=url, name=name, events=events or PUSH_EVENTS)
    reply = await town.post("/v1/endpoints", new)
    if as_json:
        print_json(reply.body)
    else:
        made = reply.read(Endpoint)
        render.say(made.id)
        render.note(f"it hears {', '.join(made.events)}; try it: tt endpoint test {made.id}")


@endpoint.command("list", cls=Example, example="tt endpoint list")
@json_option
@town_command
async def list_(town: TownClient, *, as_json: bool) -> None:
    """List the endpoints, oldest first."""
    items = await town.pages("/v1/endpoints", {}, limit=10_000)
    if as_json:
        print_list(items)
        return
    rows = [
        (each.id, each.state.value, each.name, each.url, " ".join(each.events))
        for each in (decode(item, Endpoint) for item in items)
    ]
    empty = "nobody is told anything yet: tt endpoint add URL"
    render.table(("endpoint", "state", "name", "url", "events"), rows, empty=empty)


@endpoint.command(cls=Example, example="tt endpoint show last")
@endpoint_id
@json_option
@town_command
async def show(town: TownClient, endpoint_id: str, *, as_json: bool) -> None:
    """Show one endpoint and how it is doing."""
    reply = await town.get(f"/v1/endpoints/{await full_id(town, 'endpoint', endpoint_id)}")
    if as_json:
        print_json(reply.body)
        return
    found = reply.read(Endpoint)
    now = clock.now()
    render.facts(
        (
            ("endpoint", found.id),
            ("name", found.name),
            ("kind", found.kind),
            ("url", found.url),
            ("events", ", ".join(found.events)),
            ("state", found.state.value),
            ("failures", str(found.failures) if found.failures else None),
            ("last error", found.last_error),
            ("last delivery", ago(found.last_delivery_at, now)),
            ("added", ago(found.created_at, now)),
        )
    )


class _Trial(msgspec.Struct, frozen=True):
    """How a test push went."""

    delivered: bool
    duration_seconds: float
    reason: str | None = None


@endpoint.command(cls=Example, example="tt endpoint test last")
@endpoint_id
@json_option
@town_command
async def test(town: TownClient, endpoint_id: str, *, as_json: bool) -> None:
    """Send a test push now; exit code 1 when it did not get through."""
    whole = await full_id(town, "endpoint", endpoint_id)
    reply = await town.post(f"/v1/endpoints/{whole}/test")
    trial = reply.read(_Trial)
    if as_json:
        print_json(reply.body)
    if not trial.delivered:
        raise Failure(f"the test push failed: {trial.reason or 'no reason'}", FAILED)
    if not as_json:
        render.say(f"delivered in {trial.duration_seconds:.2f} s")


def _move(name: str, sentence: str) -> None:
    """Make the command of one move of an endpoint."""

    @endpoint.command(name, cls=Example, example=f"tt endpoint {name} last", help=sentence)
    @endpoint_id
    @json_option
    @town_command
    async def move(town: TownClient, endpoint_id: str, *, as_json: bool) -> None:
        whole = await full_id(town, "endpoint", endpoint_id)
        reply = await town.post(f"/v1/endpoints/{whole}/{name}", repeatable=False)
        if as_json:
            print_json(reply.body)
        else:
            render.say(f"{whole} is {reply.read(Endpoint).state.value}")


_move("pause", "Send nothing to an endpoint until it is resumed.")
_move("resume", "Send to an endpoint again.")


@endpoint.command(cls=Example, example="tt endpoint remove end_01kah…")
@endpoint_id
@town_command
async def remove(town: TownClient, endpoint_id: str) -> None:
    """Remove an endpoint with what is due for it."""
    whole = await full_id(town, "endpoint", endpoint_id)
    await town.delete(f"/v1/endpoints/{whole}")
    render.say(f"{whole} is removed")


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


@click.command(cls=Example, example="tt deliveries --dead")
@click.option("--dead", is_flag=True, help="Only those that were given up.")
@limit_option
@json_option
@town_command
async def deliveries(town: TownClient, limit: int, *, dead: bool, as_json: bool) -> None:
    """List deliveries of all endpoints, newest first."""
    if dead:
        items = await town.pages("/v1/deliveries", {"state": "dead"}, limit=limit)
    else:
        found: list[msgspec.Raw] = []
        for each in await town.pages("/v1/endpoints", {}, limit=10_000):
            path = f"/v1/endpoints/{decode(each, Endpoint).id}/deliveries"
            found += await town.pages(path, {}, limit=limit)
        found.sort(key=lambda item: decode(item, Delivery).created_at, reverse=True)
        items = found[:limit]
    _show_deliveries(items, as_json=as_json)


@click.command(cls=Example, example="tt replay dlv_01kah…")
@click.argument("delivery_id", metavar="DELIVERY", shell_complete=completes("delivery"))
@json_option
@town_command
async def replay(town: TownClient, delivery_id: str, *, as_json: bool) -> None:
    """Send a dead delivery again."""
    whole = await full_id(town, "delivery", delivery_id)
    reply = await town.post(f"/v1/deliveries/{whole}/replay", repeatable=False)
    if as_json:
        print_json(reply.body)
    else:
        render.say(f"{whole} is {reply.read(Delivery).state.value}")


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
