"""Paths into a hook and templates that name them: looked up and filled in, never run (pure).

A path is dotted: `payload.issue.labels.0.name`; `*` stands for every item of a list. A template is
text with `{{ path }}` or `{{ path | what to say where it leads nowhere }}` in it. There is nothing
else: no expressions, no calls, no loops, so nothing that a payload could make run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from tinytown.errors import Invalid

ROOTS: Final = ("kind", "source", "headers", "payload")
_STEP: Final = re.compile(r"[^\s.{}|]{1,100}")
_STEPS: Final = 16
_PLACES: Final = 50
_FOUND: Final = 1_000
"""Values one path may lead to: a payload of a megabyte can hold many lists."""
_PLACE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


class Missing(Exception):
    """A template needs what the hook does not say; the path is its text."""


class Place(msgspec.Struct, frozen=True):
    """A place in a template that a path fills."""

    path: str
    default: str | None = None


def check_path(text: str) -> None:
    """Raise Invalid for what cannot be a path."""
    steps = text.split(".")
    if steps[0] not in ROOTS:
        raise Invalid(f"`{text}` does not begin with {', '.join(ROOTS)}")
    if len(steps) > _STEPS or not all(_STEP.fullmatch(step) for step in steps):
        raise Invalid(f"`{text}` is no path such as payload.issue.title")
    if (steps[0] == "kind") != (len(steps) == 1):
        raise Invalid(f"`{text}` leads nowhere: kind stands alone, the others need a field")


def find(facts: Mapping[str, Any], path: str) -> list[Any]:
    """List what a path leads to: nothing, one value, or many after a `*`; null is nothing."""
    found: list[Any] = [facts]
    for step in path.split("."):
        found = [child for value in found for child in _children(value, step)][:_FOUND]
        if not found:
            return []
    return [value for value in found if value is not None]


def _children(value: Any, step: str) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if step in value:
            yield value[step]
    elif isinstance(value, list):
        if step == "*":
            yield from value
        elif step.isascii() and step.isdecimal() and len(step) < 7 and int(step) < len(value):
            yield value[int(step)]


@lru_cache(maxsize=1_000)
def parse(template: str) -> tuple[str | Place, ...]:
    """Cut a template into text and places; raises Invalid for one that is none."""
    parts: list[str | Place] = []
    for index, piece in enumerate(_PLACE.split(template)):
        if index % 2:
            parts.append(_place(piece))
        elif "{{" in piece or "}}" in piece:
            raise Invalid("a `{{` or `}}` without its other half")
        elif piece:
            parts.append(piece)
    if sum(isinstance(part, Place) for part in parts) > _PLACES:
        raise Invalid(f"a template has at most {_PLACES} places")
    return tuple(parts)


def _place(inside: str) -> Place:
    path, bar, default = inside.partition("|")
    check_path(path.strip())
    return Place(path.strip(), default.strip() if bar else None)


def paths_of(template: str) -> list[str]:
    """List the paths a template names."""
    return [part.path for part in parse(template) if isinstance(part, Place)]


def is_fixed(template: str) -> bool:
    """Tell whether a template says the same for every hook."""
    return not paths_of(template)


def fill(template: str, facts: Mapping[str, Any], show: Callable[[str, str], Any]) -> list[Any]:
    """Fill a template's places; `show(path, text)` says how a value of the hook is written.

    Raises Missing for a path that leads nowhere and has no default.
    """
    filled: list[Any] = []
    for part in parse(template):
        if isinstance(part, str):
            filled.append(part)
            continue
        found = find(facts, part.path)
        if found:
            filled.append(show(part.path, ", ".join(spelled(value) for value in found)))
        elif part.default is not None:
            filled.append(part.default)
        else:
            raise Missing(part.path)
    return filled


def spelled(value: Any) -> str:
    """Write a value as text: text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except OverflowError:  # whole numbers of any length are JSON too
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def plain(template: str, facts: Mapping[str, Any]) -> str:
    """Fill a template that becomes one field, without fences; raises Missing."""
    return "".join(fill(template, facts, lambda _, text: text)).strip()
