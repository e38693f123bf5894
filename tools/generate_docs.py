"""Writes the reference pages made from the code: keys, settings, problems, states, events, API.

    python tools/generate_docs.py            # write them
    python tools/generate_docs.py --check    # exit 1 and show the difference where one is stale

A test runs the check, so a page can never tell another story than the code.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from tinytown import errors, settings
from tinytown.http import Door, describing
from tinytown.http.endpoints import Post
from tinytown.models import delivery, endpoint, hook, mission, question, task, worker
from tinytown.models.catalogue import CATALOGUE, example
from tinytown.models.event import TYPES
from tinytown.models.moves import Moves
from tinytown.store.keys import KEYS
from tinytown.town import Town

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
MADE: Final = (
    "<!-- Made by tools/generate_docs.py from {source}; edit that and run `just docs`. -->"
)


def page(title: str, source: str, *paragraphs: str) -> str:
    """Put a page together: title, where it comes from, paragraphs."""
    return "\n\n".join((f"# {title}", MADE.format(source=source), *paragraphs)) + "\n"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Write a Markdown table; a bar inside a cell would end it, so it is escaped."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def keys_page() -> str:
    """List every Redis key: what it is called, how long it lives and who writes it."""
    lives = {
        "permanent": "stays; bounded by design",
        "mission": "as long as its mission, then the retention",
        "expires": "always has a TTL",
    }
    rows = [(f"`{key.pattern}`", key.type, lives[key.life], key.writers, key.about) for key in KEYS]
    return page(
        "Keys",
        "src/tinytown/store/keys.py",
        "Every key of a town starts with `tt:{town}:`, braces included: the hash tag keeps a town "
        "in one cluster slot. Only scripts write them; each has one of three lives, and every "
        "test ends by checking that no key outlives its own.",
        table(("key", "type", "life", "written by", "what it holds"), rows),
    )


def settings_page() -> str:
    """List every setting with its names, meaning, default and reason."""
    entries = [
        "\n".join(
            (
                f"## {' or '.join(f'`{name}`' for name in setting.names)}",
                "",
                setting.description,
                "",
                f"- {expected(setting.type)}; default {default(setting)}.",
                f"- {setting.why}",
            )
        )
        for setting in settings.catalogue()
    ]
    session = ", ".join(f"`TINYTOWN_{name.upper()}`" for name in settings.Session.__struct_fields__)
    return page(
        "Settings",
        "src/tinytown/settings/fields.py",
        "All of them are environment variables, read once at the start; an empty one counts as "
        "unset and a misspelt `TINYTOWN_*` name refuses to start. `tt doctor` shows the present "
        "values, secrets masked.",
        *entries,
        "## Inside an agent's session",
        f"A worker sets these for the agent it runs, nobody sets them by hand: {session}.",
    )


def expected(kind: Any) -> str:
    """Say in words what a setting takes."""
    info = msgspec.inspect.type_info(kind)
    while isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    if isinstance(info, msgspec.inspect.UnionType):
        (info,) = (part for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
        while isinstance(info, msgspec.inspect.Metadata):
            info = info.type
    match info:
        case msgspec.inspect.LiteralType(values=values):
            return "One of " + ", ".join(f"`{value}`" for value in values)
        case msgspec.inspect.BoolType():
            return "`on` or `off`"
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"A whole number{between(low, None, high)}"
        case msgspec.inspect.FloatType(ge=low, gt=above, le=high):
            return f"A number{between(low, above, high)}"
        case msgspec.inspect.VarTupleType():
            return "A list"
        case msgspec.inspect.StrType() | msgspec.inspect.CustomType():
            return "A path" if "Path" in str(kind) else "Text"
        case _:
            message = f"no words for the type {info!r}"
            raise TypeError(message)


def between(low: float | None, above: float | None, high: float | None) -> str:
    """Write the range of a number."""
    floor = f" of {low:.15g} or more" if low is not None else ""
    floor = f" above {above:.15g}" if above is not None else floor
    ceiling = f", at most {high:.15g}" if high is not None else ""
    return floor + ceiling


def default(setting: settings.Setting) -> str:
    """Write a default as the environment would."""
    value = setting.default
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    return f"`{','.join(value)}`" if isinstance(value, tuple) else f"`{value}`"


def problems_page() -> str:
    """List every problem the HTTP door can answer with; each `type` URI lands on its heading."""
    entries = [
        f"## {error.slug()}\n\n{error.status} · {error.title}.\n\n{sentence(error)}"
        for error in errors.tree()
    ]
    return page(
        "Problems",
        "src/tinytown/errors.py",
        "Errors are `application/problem+json` (RFC 9457): `type` is `/problems/` and a name "
        "below, `title` and `status` belong to the name, `detail` is a sentence about this one "
        "case, and further fields carry its facts.",
        *entries,
    )


def sentence(described: type) -> str:
    """Take the first paragraph of a docstring."""
    text = (described.__doc__ or "").strip()
    if not text:
        message = f"{described.__name__} has no sentence that says what it is for"
        raise ValueError(message)
    return " ".join(text.split("\n\n")[0].split())


NOUNS: Final[Mapping[str, tuple[type[StrEnum], Moves[Any, Any], str]]] = {
    "Mission": (mission.MissionState, mission.MOVES, "mission.py"),
    "Task": (task.TaskState, task.MOVES, "task.py"),
    "Question": (question.QuestionState, question.MOVES, "question.py"),
    "Worker": (worker.WorkerState, worker.MOVES, "worker.py"),
    "Endpoint": (endpoint.EndpointState, endpoint.MOVES, "endpoint.py"),
    "Delivery": (delivery.DeliveryState, delivery.MOVES, "delivery.py"),
    "Hook": (hook.HookState, hook.MOVES, "source.py"),
}


def states_page() -> str:
    """Draw every state machine from its table."""
    drawings = [
        f"## {noun}\n\n{sentence(states)}\n\n```mermaid\n{diagram(states, moves)}\n```"
        for noun, (states, moves, _) in NOUNS.items()
    ]
    families: dict[str, list[str]] = {}
    for kind in TYPES:
        families.setdefault(kind.partition(".")[0], []).append(f"`{kind}`")
    return page(
        "States and events",
        "src/tinytown/models/",
        "Each noun has one table of moves, beside it in `models/`; the same table is rendered "
        "into every Lua script, so Redis refuses exactly what Python calls illegal. Every move "
        "appends its event in the same script.",
        *drawings,
        "## Events",
        "The closed set; a filter is a name, a family (`mission.*`) or `*`.",
        "\n".join(f"- {' · '.join(kinds)}" for kinds in families.values()),
    )


def diagram(states: type[StrEnum], moves: Moves[Any, Any]) -> str:
    """Write a state machine for Mermaid, an arrow for each pair of states and move."""
    return "\n  ".join(("stateDiagram-v2", *arrows(list(states), moves)))


def arrows(states: Sequence[StrEnum], moves: Moves[Any, Any]) -> Iterator[str]:
    """List the arrows in the order of the states; one that no move leaves leads to the end."""
    yield f"[*] --> {states[0]}"
    for state in states:
        leaving = [
            f"{state} --> {target}: {move}"
            for move, (sources, targets) in moves.items()
            if state in sources
            for target in sorted(targets, key=states.index)
        ]
        yield from leaving or [f"{state} --> [*]"]


CATALOGUE_MARK: Final = MADE.format(source="src/tinytown/models/catalogue.py")


def webhooks_page() -> str:
    """Keep what people wrote above the mark, and write the catalogue of events below it."""
    written, mark, _ = (DOCS / "webhooks.md").read_text(encoding="utf-8").partition(CATALOGUE_MARK)
    if not mark:
        message = f"docs/webhooks.md has lost the line {CATALOGUE_MARK}"
        raise ValueError(message)
    reserved = [f"`{kind}`" for kind, entry in CATALOGUE.items() if entry.reserved]
    told = (
        "All types there are, with the JSON Schema of their `data` and an example each. "
        f"Nothing tells {' or '.join(reserved)} in this version: the name is reserved."
    )
    entries = (entry_of(kind) for kind in CATALOGUE)
    return "\n\n".join((written.rstrip(), mark, "## The catalogue", told, *entries)) + "\n"


def entry_of(kind: str) -> str:
    """Write one type of event: when, the shape of its data, an example."""
    entry = CATALOGUE[kind]
    shown = msgspec.json.format(msgspec.json.encode(example(kind)), indent=2).decode()
    shape = msgspec.json.format(msgspec.json.encode(entry.schema), indent=2).decode()
    note = "*Reserved: nothing tells it in this version.* " if entry.reserved else ""
    return "\n\n".join(
        (
            f"### {kind}",
            note + entry.when,
            f"```json\n{shown}\n```",
            "<details><summary>JSON Schema of <code>data</code></summary>",
            f"```json\n{shape}\n```",
            "</details>",
        )
    )


def openapi_document() -> str:
    """Describe the HTTP door; nobody is asked anything, so no town is needed."""
    door = Door(cast("Town", None), out=cast("Post", None), description=describing.config())
    return describing.document(door.litestar)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "keys.md": keys_page,
    "settings.md": settings_page,
    "problems.md": problems_page,
    "states.md": states_page,
    "webhooks.md": webhooks_page,
    # A link to the file beside the door, which is what the townhall serves.
    "openapi.json": openapi_document,
}


def stale(docs: Path = DOCS) -> list[str]:
    """Show the difference of every page that does not say what the code says."""
    differences: list[str] = []
    for name, make in PAGES.items():
        path = docs / name
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        differences.extend(
            difflib.unified_diff(
                found.splitlines(), make().splitlines(), f"docs/{name}", "the code", lineterm=""
            )
        )
    return differences


def main() -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description="Write the reference pages made from the code.")
    parser.add_argument("--check", action="store_true", help="only tell which page is stale")
    if parser.parse_args().check:
        differences = stale()
        if differences:
            sys.stderr.write("\n".join((*differences, "stale: run `just docs`", "")))
        return 1 if differences else 0
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
