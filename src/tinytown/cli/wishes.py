"""What can be said of an endpoint on a command line: whom, of what, in which form, signed how."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar, get_args

import click

from tinytown.cli import kinds, render
from tinytown.cli.client import TownClient
from tinytown.cli.desk import completes, full_id
from tinytown.models.endpoint import EndpointWithSecret, EventFilter, Format, Payload, Signing
from tinytown.models.event import is_pattern

Command = TypeVar("Command", bound=Callable[..., Any])

_STDIN: Final = "-"

endpoint_id = click.argument(
    "endpoint_id", metavar="ENDPOINT", shell_complete=completes("endpoint")
)
limit_option = click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True
)


def _patterns(_: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Split `a,b` and check each against the closed set of events."""
    patterns = tuple(part.strip() for text in value for part in text.split(",") if part.strip())
    for pattern in patterns:
        if not is_pattern(pattern):
            raise click.BadParameter(f"no event matches {pattern}", param=param)
    return patterns


def _waits(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Read `5s,1m,1h` as seconds."""
    if value is None:
        return None
    parts = [part for part in value.split(",") if part.strip()]
    return tuple(kinds.Duration().convert(part, param, ctx) for part in parts)


events_option = click.option(
    "--events", multiple=True, callback=_patterns, metavar="TYPES",
    help="Event types such as question.asked or mission.*, separated by commas.",
)  # fmt: skip
filter_options = (
    click.option("--mission", metavar="MISSION", help="Only what happens in this mission."),
    click.option(
        "--label", "labels", type=kinds.Label(), multiple=True, metavar="NAME=VALUE",
        help="Only missions with this label; all of them, where it is repeated.",
    ),
)  # fmt: skip
form_options = (
    click.option(
        "--format", "form", type=click.Choice(get_args(Format)), help="Who reads it [standard]."
    ),
    click.option(
        "--payload", type=click.Choice(get_args(Payload)),
        help="All of the event, or only what names it [full].",
    ),
    click.option(
        "--header", "headers", type=kinds.Header(), multiple=True, metavar="'NAME: VALUE'",
        help="Sent along with every request; never shown again.",
    ),
    click.option(
        "--in-flight", type=click.IntRange(1, 32), help="Most requests on their way at once [4]."
    ),
    click.option("--rate", type=click.FloatRange(0.001, 1000), help="Most a second."),
    click.option(
        "--schedule", callback=_waits, metavar="WAITS",
        help="Waits between attempts: 5s,5m,2h [those of Standard Webhooks, three days].",
    ),
)  # fmt: skip
secret_option = click.option(
    "--secret", help="whsec_… or whsk_… of your own; `-` reads it from standard input."
)
signing_option = click.option(
    "--signing",
    type=click.Choice(get_args(Signing)),
    help="v1: a shared secret; v1a: a key pair, of which you get the public half.",
)


def options(*several: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Put several options on a command, in their order."""

    def put(command: Command) -> Command:
        for option in reversed(several):
            command = option(command)
        return command

    return put


async def filter_of(
    town: TownClient, mission: str | None, labels: tuple[str, ...]
) -> EventFilter | None:
    """Make a filter of what was said; None where nothing was."""
    if mission is None and not labels:
        return None
    whole = await full_id(town, "mission", mission) if mission is not None else None
    return EventFilter(mission_id=whole, labels=dict(label.split("=", 1) for label in labels))


def form_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Name what was said about a webhook's form as the API does."""
    names = {"form": "format", "in_flight": "max_in_flight", "rate": "rate_per_second"}
    names["schedule"] = "schedule_seconds"
    return {
        names.get(name, name): value for name, value in fields.items() if value not in {None, ()}
    }


def secret_of(text: str | None) -> str | None:
    """Take a secret from the command line, or from standard input where others cannot read it."""
    return sys.stdin.readline().strip() if text == _STDIN else text


def tell_secret(made: EndpointWithSecret) -> None:
    """Show once what verifies the webhooks of an endpoint, and how."""
    if isinstance(made.secret, str):
        render.note(f"its secret, shown only now: {made.secret}")
    elif isinstance(made.public_key, str):
        render.note(f"its public key: {made.public_key}")
    if made.kind == "webhook":
        render.note(
            "verify with any library of Standard Webhooks, or in Python:\n"
            "  tinytown.standard_webhooks.verify([secret], headers, body, now=time.time())"
        )
