"""`tt keys …`: who may do what in the town."""

from __future__ import annotations

from typing import cast

import click

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
from tinytown.cli.text import ago, until
from tinytown.models.key import SCOPES, CreatedKey, Key, NewKey, Scope


@click.group()
def keys() -> None:
    """Make, list and revoke the town's keys."""


@keys.command("list", cls=Example, example="tt keys list")
@json_option
@town_command
async def list_(town: TownClient, *, as_json: bool) -> None:
    """List the keys; a key itself is shown only when it is made."""
    items = await town.pages("/v1/keys", {}, limit=10_000)
    if as_json:
        print_list(items)
        return
    now = clock.now()
    rows = [
        (
            each.id,
            each.name,
            " ".join(each.scopes),
            ago(each.created_at, now),
            until(each.expires_at, now),
        )
        for each in (decode(item, Key) for item in items)
    ]
    render.table(("key", "name", "scopes", "made", "expires"), rows, empty="no keys")


@keys.command(cls=Example, example='tt keys create "my phone" --scope read --scope answer')
@click.argument("name")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, default=("read",),
    show_default=True, help="What it may do; repeat for more.",
)  # fmt: skip
@click.option("--expires-in", type=kinds.Duration(), help="How long it is good for (30d).")
@json_option
@town_command
async def create(
    town: TownClient,
    name: str,
    scopes: tuple[str, ...],
    expires_in: float | None,
    *,
    as_json: bool,
) -> None:
    """Make a key; it is shown this one time."""
    new = NewKey(name=name, scopes=cast("tuple[Scope, ...]", scopes), expires_in_seconds=expires_in)
    reply = await town.post("/v1/keys", new)
    if as_json:
        print_json(reply.body)
        return
    made = reply.read(CreatedKey)
    render.note(f"{made.id} may {', '.join(made.scopes)}; it is not shown again:")
    render.say(made.key)


@keys.command(cls=Example, example="tt keys revoke key_01kah…")
@click.argument("key_id", metavar="KEY", shell_complete=completes("key"))
@town_command
async def revoke(town: TownClient, key_id: str) -> None:
    """Revoke a key; it opens nothing from now on."""
    whole = await full_id(town, "key", key_id)
    await town.delete(f"/v1/keys/{whole}")
    render.say(f"{whole} is revoked")
