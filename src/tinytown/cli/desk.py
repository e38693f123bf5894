"""What every command stands on: the settings, a client of the right town, and JSON for programs."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import anyio
import click
import msgspec

from tinytown import ids
from tinytown.cli import connection, render
from tinytown.cli.client import TownClient, decode
from tinytown.cli.failures import NOT_FOUND, USAGE, Failure, Unreachable
from tinytown.settings import Settings, SettingsError, load

P = ParamSpec("P")
T = TypeVar("T")

SHELL_SECONDS: Final = 1.0
"""How long the Tab key may wait for a town."""

json_option = click.option(
    "as_json", "--json", is_flag=True, help="Print JSON, as the town's API says it."
)


class _Shown(click.Command):
    """Help that ends with an example to copy."""

    def __init__(self, *args: Any, example: str = "", **kwargs: Any) -> None:
        """Take the example's lines as a person would type them."""
        super().__init__(*args, **kwargs)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example, one line each, never wrapped: it is there to be copied."""
        super().format_epilog(ctx, formatter)
        if self.example:
            formatter.write_paragraph()
            formatter.write("Example:\n")
            for line in self.example.strip().splitlines():
                formatter.write(f"  {line.strip()}\n")


class Example(_Shown):
    """A command with an example."""


class ExampleGroup(_Shown, click.Group):
    """A group that is also a command, with an example."""


def settings_of(context: click.Context | None = None) -> Settings:
    """Read the environment once for a run of `tt`; raises Failure (usage) naming what is wrong."""
    context = context or click.get_current_context()
    root = context.find_root()
    if isinstance(root.obj, Settings):
        return root.obj
    try:
        root.obj = settings = load()
    except SettingsError as error:
        raise Failure(str(error), USAGE) from None
    return settings


def town_command(
    body: Callable[Concatenate[TownClient, P], Awaitable[None]],
) -> Callable[P, None]:
    """Make a command of a coroutine that gets a client of the town in use."""

    @functools.wraps(body)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        chosen = connection.choose(settings_of())

        async def run() -> None:
            async with TownClient(chosen) as town:
                try:
                    await body(town, *args, **kwargs)
                except Unreachable as error:
                    raise Unreachable(_advice(error.message, chosen)) from None

        run_async(run)

    return command


def run_async(body: Callable[[], Awaitable[T]], backend_options: dict[str, Any] | None = None) -> T:
    """Run a coroutine to its end; of several failures at once, the first is the one to tell."""
    try:
        return anyio.run(body, backend_options=backend_options)
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _advice(message: str, chosen: connection.Connection) -> str:
    """Tell somebody who was never connected what to do."""
    if chosen.key is None:
        return f"{message}; start one with `tt up`, or `tt connect URL`"
    return message


def print_json(body: bytes | msgspec.Raw) -> None:
    """Write JSON as the town wrote it, indented."""
    sys.stdout.buffer.write(msgspec.json.format(bytes(body), indent=2) + b"\n")
    sys.stdout.flush()


def print_list(items: list[msgspec.Raw]) -> None:
    """Write the items of a list in the shape of the API's pages."""
    print_json(msgspec.json.encode({"items": items, "next_cursor": None}))


def print_line(body: bytes | msgspec.Raw) -> None:
    """Write JSON on one line: for streams, where every line is one value."""
    sys.stdout.buffer.write(msgspec.json.format(bytes(body), indent=-1) + b"\n")
    sys.stdout.flush()


class _Named(msgspec.Struct, frozen=True):
    id: str


_LISTS: Final[dict[str, tuple[str, dict[str, str | int | None]]]] = {
    "mission": ("/v1/missions", {}),
    "question": ("/v1/questions", {"state": "open"}),
    "endpoint": ("/v1/endpoints", {}),
    "source": ("/v1/sources", {}),
    "agent": ("/v1/workers", {}),
    "key": ("/v1/keys", {}),
    "delivery": ("/v1/deliveries", {"state": "dead"}),
}
_DELIVERY: Final = re.compile(r"dlv_\d+-\d+_[0-9a-z]{26}")
"""Named after its event and its endpoint."""
_WORDS: Final = {"agent": "worker", "question": "open question"}


class _Moved(msgspec.Struct, frozen=True):
    state: str


def move_commands(
    group: click.Group,
    noun: str,
    path: str,
    the_id: Callable[[Any], Any],
    sentences: Mapping[str, str],
) -> None:
    """Add a command for each move of a noun; the town decides whether it is possible.

    `the_id` is the click argument `<noun>_id`, `sentences` says what each move does.
    """

    def add(name: str, sentence: str) -> None:
        @group.command(name, cls=Example, example=f"tt {noun} {name} last", help=sentence)
        @the_id
        @json_option
        @town_command
        async def move(town: TownClient, /, *, as_json: bool, **given: str) -> None:
            whole = await full_id(town, noun, given[f"{noun}_id"])
            reply = await town.post(f"{path}/{whole}/{name}", repeatable=False)
            if as_json:
                print_json(reply.body)
            else:
                render.say(f"{whole} is {reply.read(_Moved).state}")

    for name, sentence in sentences.items():
        add(name, sentence)


async def full_id(town: TownClient, noun: str, text: str) -> str:
    """Make a whole id of what a person typed: a beginning or an end of one, or `last`.

    Raises Failure: not found, or (usage) more than one fits.
    """
    if ids.is_id(noun, text) or (noun == "delivery" and _DELIVERY.fullmatch(text)):
        return text
    path, query = _LISTS[noun]
    known = [decode(item, _Named).id for item in await town.pages(path, query, limit=100)]
    word = _WORDS.get(noun, noun)
    if text == "last" and known:
        return max(known)
    fitting = [each for each in known if each.startswith(text) or each.endswith(text)]
    if len(fitting) > 1:
        raise Failure(f"{text} could be {', '.join(fitting[:5])}", USAGE)
    if not fitting:
        raise Failure(f"there is no {word} {text} (of the latest {len(known)})", NOT_FOUND)
    return fitting[0]


def completes(noun: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Let the Tab key complete ids of a noun; silent when no town answers."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        async def look() -> list[str]:
            path, query = _LISTS[noun]
            chosen = connection.choose(settings_of(context))
            with anyio.move_on_after(SHELL_SECONDS):
                async with TownClient(chosen, patience_seconds=0) as town:
                    items = await town.pages(path, query, limit=50)
                    return [decode(item, _Named).id for item in items]
            return []

        try:
            return [each for each in run_async(look) if each.startswith(incomplete)]
        except Failure:
            return []

    return complete
