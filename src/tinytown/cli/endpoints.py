"""`tt endpoint …`: say who is told, change it, try it, give it a new secret, let it go."""

from __future__ import annotations

from typing import Any, Final

import click

from tinytown import clock
from tinytown.cli import kinds, render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.desk import (
    Example,
    full_id,
    json_option,
    move_commands,
    print_json,
    print_list,
    town_command,
)
from tinytown.cli.failures import FAILED, USAGE, Failure
from tinytown.cli.text import ago, until
from tinytown.cli.wishes import (
    endpoint_id,
    events_option,
    filter_of,
    filter_options,
    form_of,
    form_options,
    options,
    secret_of,
    secret_option,
    signing_option,
    tell_secret,
)
from tinytown.models.delivery import Trial
from tinytown.models.endpoint import (
    Endpoint,
    EndpointPatch,
    EndpointWithSecret,
    NewEndpoint,
    NewSecret,
    ShownSecret,
    Signing,
)

_KEPT: Final = "***"


@click.group()
def endpoint() -> None:
    """Say which phones and programs hear of missions and questions.

    ENDPOINT is an id, the beginning or the end of one, or `last`.
    """


@endpoint.command(
    cls=Example,
    example="""
    tt endpoint add ntfys://a-topic-nobody-guesses --name phone
    tt endpoint add "pover://user@token" --events question.asked,mission.*
    tt endpoint add https://example.com/hook --label team=blue --header "X-Team: blue"
    tt endpoint add https://hooks.slack.com/services/… --format slack
    """,
)
@click.argument("url")
@click.option(
    "--kind", type=click.Choice(["push", "webhook"]), help="Else told by the URL: http = webhook."
)
@click.option("--webhook", is_flag=True, help="The same as --kind webhook.")
@click.option("--name", default="", help="What you call it.")
@events_option
@options(*filter_options, *form_options, signing_option, secret_option)
@click.option("--fifo", is_flag=True, help="One at a time, in the order things happened.")
@json_option
@town_command
async def add(
    town: TownClient,
    /,
    url: str,
    *,
    kind: str | None,
    name: str,
    events: tuple[str, ...],
    mission: str | None,
    labels: tuple[str, ...],
    signing: Signing | None,
    secret: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Tell a phone (an Apprise URL) or a program (an https URL, signed webhooks) from now on.

    The town shows the URL redacted ever after. The secret that verifies webhooks is shown once.
    """
    webhook = fields.pop("webhook")
    if webhook and kind == "push":
        raise Failure("--webhook and --kind push say different things", USAGE)
    is_http = url.lower().startswith(("http://", "https://"))
    said: dict[str, Any] = {
        "kind": kind or ("webhook" if webhook or is_http else "push"),
        "filter": await filter_of(town, mission, labels),
        "signing": signing,
        "secret": secret_of(secret),
        "fifo": fields.pop("fifo"),
        **form_of(fields),
    }
    said["headers"] = dict(said.get("headers", ()))
    given = {field: value for field, value in said.items() if value is not None}
    new = NewEndpoint(url=url, name=name, events=events or None, **given)
    reply = await town.post("/v1/endpoints", new)
    if as_json:
        print_json(reply.body)
        return
    made = reply.read(EndpointWithSecret)
    render.say(made.id)
    tell_secret(made)
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
        (each.id, each.state.value, each.kind, each.name, each.url, " ".join(each.events))
        for each in (decode(item, Endpoint) for item in items)
    ]
    empty = "nobody is told anything yet: tt endpoint add URL"
    render.table(("endpoint", "state", "kind", "name", "url", "events"), rows, empty=empty)


@endpoint.command(cls=Example, example="tt endpoint show last")
@endpoint_id
@json_option
@town_command
async def show(town: TownClient, endpoint_id: str, *, as_json: bool) -> None:
    """Show one endpoint and how it is doing."""
    reply = await town.get(f"/v1/endpoints/{await full_id(town, 'endpoint', endpoint_id)}")
    if as_json:
        print_json(reply.body)
    else:
        describe(reply.read(Endpoint))


def describe(found: Endpoint) -> None:
    """Write what a person wants to know of an endpoint."""
    now = clock.now()
    labels = (f"{name}={value}" for name, value in found.filter.labels.items())
    only = [f"mission {found.filter.mission_id}"] if found.filter.mission_id else []
    waits, rate = found.schedule_seconds, found.rate_per_second
    render.facts(
        (
            ("endpoint", found.id),
            ("name", found.name),
            ("kind", found.kind),
            ("url", found.url),
            ("events", ", ".join(found.events)),
            ("only", ", ".join([*only, *labels])),
            ("format", found.format and f"{found.format}, {found.payload}"),
            ("headers", ", ".join(found.headers)),
            ("in flight", str(found.max_in_flight) if found.max_in_flight else None),
            ("a second", f"{rate:g} at most" if rate else None),
            ("order", "as things happened" if found.fifo else None),
            ("waits", ", ".join(f"{wait:g} s" for wait in waits) if waits else None),
            *(("signed", _signature(each)) for each in found.secrets),
            ("state", found.state.value),
            ("because", found.disabled_reason),
            ("failures", str(found.failures) if found.failures else None),
            ("last error", found.last_error),
            ("held", until(found.held_until, now)),
            ("last delivery", ago(found.last_delivery_at, now)),
            ("added", ago(found.created_at, now)),
        )
    )


def _signature(secret: ShownSecret) -> str:
    ends = f", ends {until(secret.expires_at, clock.now())}" if secret.expires_at else ""
    return f"{secret.kind} {secret.public_key or secret.id}{ends}"


@endpoint.command(
    cls=Example,
    example="""
    tt endpoint change last --events mission.* --name board
    tt endpoint change last --header "X-Team: red" --in-flight 1
    """,
)
@endpoint_id
@click.option("--url", help="Where it is now.")
@click.option("--name", help="What you call it.")
@events_option
@options(*filter_options, *form_options)
@click.option("--if-match", metavar="ETAG", help="Only if it is still as `show` read it.")
@json_option
@town_command
async def change(
    town: TownClient,
    /,
    endpoint_id: str,
    *,
    url: str | None,
    name: str | None,
    events: tuple[str, ...],
    mission: str | None,
    labels: tuple[str, ...],
    if_match: str | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Change what you name of an endpoint; the rest stays. What is due goes the new way.

    A header replaces the one of its name; without a value it is taken away.
    """
    path = f"/v1/endpoints/{await full_id(town, 'endpoint', endpoint_id)}"
    said = {"url": url, "name": name, "events": events or None, **form_of(fields)}
    if mission is not None or labels:
        said["filter"] = await filter_of(town, mission, labels)
    if (new := said.pop("headers", None)) is not None:
        found = await town.get(path)
        if_match = if_match or found.headers.get("ETag")
        said["headers"] = merged(found.read(Endpoint).headers, new)
    given = {field: value for field, value in said.items() if value is not None}
    if not given:
        raise Failure("say what to change: tt endpoint change --help", USAGE)
    reply = await town.patch(path, EndpointPatch(**given), if_match=if_match)
    if as_json:
        print_json(reply.body)
    else:
        describe(reply.read(Endpoint))


def merged(present: dict[str, str], new: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Put headers over those that are there, whose values stay as they are."""
    changed = {name.lower() for name, _ in new}
    kept = {name: _KEPT for name in present if name.lower() not in changed}
    return kept | {name: value for name, value in new if value}


@endpoint.command(
    cls=Example,
    example="""
    tt endpoint rotate last
    tt endpoint rotate last --signing v1a --overlap 7d
    """,
)
@endpoint_id
@options(signing_option, secret_option)
@click.option(
    "--overlap", type=kinds.Duration(), default="24h", show_default=True,
    help="How long the present secrets sign beside the new one; 0 = not at all.",
)  # fmt: skip
@json_option
@town_command
async def rotate(
    town: TownClient,
    endpoint_id: str,
    *,
    signing: Signing | None,
    secret: str | None,
    overlap: float,
    as_json: bool,
) -> None:
    """Give a webhook a new secret; it is shown this one time."""
    whole = await full_id(town, "endpoint", endpoint_id)
    new = NewSecret(signing=signing, secret=secret_of(secret), overlap_seconds=overlap)
    reply = await town.post(f"/v1/endpoints/{whole}/rotate", new)
    if as_json:
        print_json(reply.body)
        return
    made = reply.read(EndpointWithSecret)
    render.say(f"{whole} has a new secret")
    tell_secret(made)


@endpoint.command(cls=Example, example="tt endpoint test last")
@endpoint_id
@json_option
@town_command
async def test(town: TownClient, endpoint_id: str, *, as_json: bool) -> None:
    """Send a test message now; exit code 1 when it did not get through."""
    whole = await full_id(town, "endpoint", endpoint_id)
    reply = await town.post(f"/v1/endpoints/{whole}/test")
    trial = reply.read(Trial)
    if as_json:
        print_json(reply.body)
    if not trial.delivered:
        code = f" ({trial.code})" if trial.code else ""
        raise Failure(f"the test message failed: {trial.reason or 'no reason'}{code}", FAILED)
    if not as_json:
        status = f", status {trial.status}" if trial.status else ""
        sent = f", webhook-id {trial.webhook_id}" if trial.webhook_id else ""
        render.say(f"delivered in {trial.duration_seconds:.3f} s{status}{sent}")


move_commands(
    endpoint,
    "endpoint",
    "/v1/endpoints",
    endpoint_id,
    {
        "pause": "Send nothing to an endpoint until it is resumed.",
        "resume": "Send to an endpoint again; `recover` tells it what it missed.",
    },
)


@endpoint.command(cls=Example, example="tt endpoint remove end_01kah…")
@endpoint_id
@click.option("--if-match", metavar="ETAG", help="Only if it is still as it was read.")
@town_command
async def remove(town: TownClient, endpoint_id: str, if_match: str | None) -> None:
    """Remove an endpoint with what is due for it."""
    whole = await full_id(town, "endpoint", endpoint_id)
    await town.delete(f"/v1/endpoints/{whole}", if_match=if_match)
    render.say(f"{whole} is removed")
