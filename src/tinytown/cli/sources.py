"""`tt source …`: which services' webhooks start, steer and answer missions, and how that went."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast, get_args

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
    move_commands,
    print_json,
    print_list,
    town_command,
)
from tinytown.cli.failures import FAILED, USAGE, Failure
from tinytown.cli.text import ago
from tinytown.models.hook import StoredHook
from tinytown.models.source import (
    DryRun,
    GithubRules,
    NewSource,
    NewSourceSecret,
    Preview,
    Rule,
    SchemeName,
    Source,
    SourceWithSecret,
)
from tinytown.schemes import SchemeOptions

SCHEMES = get_args(SchemeName)
source_id = click.argument("source_id", metavar="SOURCE", shell_complete=completes("source"))


@click.group()
def source() -> None:
    """Say which services' webhooks start, steer and answer missions.

    SOURCE is an id, the beginning or the end of one, or `last`.
    """


@source.command(
    cls=Example,
    example="""
    tt source add github --name ours --repository "octo/*"
    tt source add stripe --secret-stdin --rule rules.json < secret.txt
    tt source add hmac --option header=x-signature --option id_header=x-id --rule rules.json
    """,
)
@click.argument("scheme", type=click.Choice(SCHEMES))
@click.option("--name", default="", help="What you call it.")
@click.option(
    "--secret-stdin", is_flag=True,
    help="Read the secret from standard input: where the service makes it.",
)  # fmt: skip
@click.option(
    "--rule", "rules", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with a rule or a list of rules as JSON; GitHub and Slack need none.",
)  # fmt: skip
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE",
    help="An option of the scheme; repeat for more.")  # fmt: skip
@click.option("--repository", "repositories", multiple=True, metavar="OWNER/NAME",
    help="GitHub: the only repositories to obey, with * for any; repeat for more.")  # fmt: skip
@click.option("--label", default=None, help="GitHub: the label that starts a mission.")
@click.option("--mention", default=None, help="GitHub: the mention that starts a mission.")
@click.option("--follow-up", is_flag=True, help="GitHub: go on when checks of a branch fail.")
@json_option
@town_command
async def add(
    town: TownClient,
    scheme: str,
    *,
    name: str,
    rules: Path | None,
    options: tuple[str, ...],
    repositories: tuple[str, ...],
    label: str | None,
    mention: str | None,
    secret_stdin: bool,
    follow_up: bool,
    as_json: bool,
) -> None:
    """Take webhooks of a service from now on; prints where it sends them, and the secret once."""
    github: dict[str, Any] = {
        "repositories": repositories,
        "label": label,
        "mention": mention,
        "follow_up": follow_up,
    }
    said = {key: value for key, value in github.items() if value}
    if said and scheme != "github":
        raise Failure(f"--{next(iter(said)).replace('_', '-')} is for github", USAGE)
    new = NewSource(
        scheme=cast("SchemeName", scheme),
        name=name,
        options=_options(options),
        secret=sys.stdin.readline().rstrip("\r\n") if secret_stdin else None,
        rule=_rules(rules),
        github=GithubRules(**said) if said else None,
    )
    reply = await town.post("/v1/sources", new)
    if as_json:
        print_json(reply.body)
        return
    made = reply.read(SourceWithSecret)
    render.say(made.id)
    render.note(f"send its hooks to: {made.url}")
    _say_secret(made)


def _options(pairs: tuple[str, ...]) -> SchemeOptions:
    said: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Failure(f"{pair} is not NAME=VALUE", USAGE)
        said[name] = value
    try:
        return msgspec.convert(said, SchemeOptions, strict=False)
    except msgspec.ValidationError as error:
        raise Failure(f"--option: {error}", USAGE) from None


def _rules(file: Path | None) -> Rule | tuple[Rule, ...] | None:
    if file is None:
        return None
    try:
        return msgspec.json.decode(file.read_bytes(), type=Rule | tuple[Rule, ...])
    except OSError as error:
        raise Failure(f"cannot read {file}: {error.strerror}", USAGE) from None
    except msgspec.MsgspecError as error:
        raise Failure(f"{file}: {error}", USAGE) from None


def _say_secret(made: SourceWithSecret) -> None:
    if made.secret:
        render.note(f"with this secret, shown only now: {made.secret}")


@source.command("list", cls=Example, example="tt source list")
@json_option
@town_command
async def list_(town: TownClient, *, as_json: bool) -> None:
    """List the sources, oldest first."""
    items = await town.pages("/v1/sources", {}, limit=10_000)
    if as_json:
        print_list(items)
        return
    rows = [
        (each.id, each.state.value, each.scheme, each.name, _does(each))
        for each in (decode(item, Source) for item in items)
    ]
    empty = "no service may send hooks yet: tt source add github"
    render.table(("source", "state", "scheme", "name", "rules"), rows, empty=empty)


def _does(found: Source) -> str:
    if found.rule:
        return ", ".join(rule.name or rule.action for rule in found.rule)
    return "what is usual" if found.scheme in {"github", "slack"} else "none: ignored"


@source.command(cls=Example, example="tt source show last")
@source_id
@json_option
@town_command
async def show(town: TownClient, source_id: str, *, as_json: bool) -> None:
    """Show one source; never its secret."""
    reply = await town.get(f"/v1/sources/{await full_id(town, 'source', source_id)}")
    if as_json:
        print_json(reply.body)
        return
    found = reply.read(Source)
    now = clock.now()
    github = found.github
    render.facts(
        (
            ("source", found.id),
            ("name", found.name),
            ("scheme", found.scheme),
            ("state", found.state.value),
            ("url", found.url),
            ("rules", _does(found)),
            ("repositories", ", ".join(github.repositories) or "any" if github else None),
            ("secrets", str(len(found.secrets))),
            ("changed", ago(found.updated_at, now)),
        )
    )


@source.command(
    cls=Example,
    example="""
    tt source test last --hook last
    tt source test last payload.json --header X-GitHub-Event=issues
    pbpaste | tt source test last - --kind charge.disputed
    """,
)
@source_id
@click.argument(
    "payload",
    required=False,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
)
@click.option("--hook", "hook_id", help="A hook it sent before, or `last`.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="With the payload.")
@click.option("--kind", help="What happened, where no header says it.")
@json_option
@town_command
async def test(
    town: TownClient,
    source_id: str,
    *,
    payload: Path | None,
    hook_id: str | None,
    headers: tuple[str, ...],
    kind: str | None,
    as_json: bool,
) -> None:
    """Say what a hook would do, without doing it; exit code 1 when its rule cannot be filled."""
    whole = await full_id(town, "source", source_id)
    if (payload is None) == (hook_id is None):
        raise Failure("say what to try: a PAYLOAD file or --hook", USAGE)
    if hook_id == "last":
        items = await town.pages(f"/v1/sources/{whole}/hooks", {}, limit=1)
        if not items:
            raise Failure("it has sent nothing yet", USAGE)
        hook_id = decode(items[0], StoredHook).id
    trial = DryRun(
        hook_id=hook_id,
        payload=_payload(payload) if payload else msgspec.UNSET,
        headers=dict(pair.partition("=")[::2] for pair in headers),
        kind=kind,
    )
    reply = await town.post(f"/v1/sources/{whole}/dry-run", trial)
    found = reply.read(Preview)
    if as_json:
        print_json(reply.body)
    if found.would == "fail":
        raise Failure(f"it would fail: {found.reason}", FAILED)
    if as_json:
        return
    about = [found.kind or "this", "would", found.would.replace("_", " ")]
    about += [f"({found.reason})"] if found.reason else []
    render.say(" ".join(about))
    for name, value in found.fields.items():
        render.say(f"\n{name}:\n{value}")


def _payload(file: Path) -> Any:
    """Read a pasted hook; `-` is standard input."""
    pasted = str(file) == "-"
    try:
        return msgspec.json.decode(sys.stdin.buffer.read() if pasted else file.read_bytes())
    except msgspec.DecodeError as error:
        raise Failure(f"{'standard input' if pasted else file}: {error}", USAGE) from None


move_commands(
    source,
    "source",
    "/v1/sources",
    source_id,
    {
        "pause": "Refuse its hooks until it is resumed.",
        "resume": "Take its hooks again.",
    },
)


@source.command(cls=Example, example="tt source rotate last --overlap 1h")
@source_id
@click.option("--secret-stdin", is_flag=True, help="Read the new secret from standard input.")
@click.option(
    "--overlap", type=kinds.Duration(), default=86_400.0,
    help="How long the present one is still good (24h).",
)  # fmt: skip
@json_option
@town_command
async def rotate(
    town: TownClient, source_id: str, overlap: float, *, secret_stdin: bool, as_json: bool
) -> None:
    """Give a source a new secret; it is shown this one time."""
    whole = await full_id(town, "source", source_id)
    secret = sys.stdin.readline().rstrip("\r\n") if secret_stdin else None
    new = NewSourceSecret(secret=secret, overlap_seconds=overlap)
    reply = await town.post(f"/v1/sources/{whole}/rotate", new)
    if as_json:
        print_json(reply.body)
        return
    render.say(f"{whole} has a new secret")
    _say_secret(reply.read(SourceWithSecret))


@source.command(cls=Example, example="tt source remove src_01kah…")
@source_id
@town_command
async def remove(town: TownClient, source_id: str) -> None:
    """Remove a source with its hooks."""
    whole = await full_id(town, "source", source_id)
    await town.delete(f"/v1/sources/{whole}")
    render.say(f"{whole} is removed")


@source.command(cls=Example, example="tt source hooks last")
@source_id
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
@json_option
@town_command
async def hooks(town: TownClient, source_id: str, limit: int, *, as_json: bool) -> None:
    """List what a source sent and what became of it, newest first."""
    whole = await full_id(town, "source", source_id)
    items = await town.pages(f"/v1/sources/{whole}/hooks", {}, limit=limit)
    if as_json:
        print_list(items)
        return
    now = clock.now()
    rows = [
        (each.id, each.state.value, each.kind, ago(each.received_at, now), *_became(each))
        for each in (decode(item, StoredHook) for item in items)
    ]
    head = ("hook", "state", "kind", "came", "did", "text")
    render.table(head, rows, empty="it has sent nothing yet")


def _became(hook: StoredHook) -> tuple[str, str]:
    outcome = hook.outcome
    if outcome is None:
        return "", ""
    did = "" if hook.state == "ignored" else outcome.action.replace("_", " ")
    return did, outcome.reason or outcome.mission_id or ""
