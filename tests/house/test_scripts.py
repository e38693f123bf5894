"""The headers of the Lua scripts: signatures that Python, people and Redis read alike."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from house.tree import parsed, place, rooms
from tinytown.models.event import TYPES
from tinytown.store.scripts import parse_arguments, sources

SCRIPTS = {name: text for name, text in sources().items() if not name.startswith("_")}
HEADER = re.compile(
    r"-- (?P<name>\w+): (?P<sentence>[^\n]+(?:\n-- (?!\w+: )[^\n]+)*[.!])\n"
    r"(?:-- flags: (?P<flags>[a-z, -]+)\n)?"
    r"-- KEYS: (?P<keys>[^\n]+)\n"
    r"-- ARGV: (?P<arguments>[^\n]+(?:\n--   [^\n]+)*)\n"
    r"-- Returns: (?P<returns>[^\n]+(?:\n--   [^\n]+)*)\n"
    r"-- Events: (?P<events>[^\n]+(?:\n--   [^\n]+)*)\n"
    r"(?!--)"
)


def body(name: str) -> str:
    """Give back what a script does, without what it says about itself."""
    return re.sub(r"--.*", "", SCRIPTS[name])


def calls() -> Iterator[tuple[str, Path, ast.Call]]:
    """Go through every place that runs a script by a name it spells out."""
    for path in rooms(".py"):
        for node in ast.walk(parsed(path)):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "self._scripts.run"
                and isinstance(node.args[0], ast.Constant)
            ):
                yield str(node.args[0].value), path, node


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_says_what_it_does_takes_returns_and_tells(name: str) -> None:
    header = HEADER.match(SCRIPTS[name])
    assert header, "name, sentence, (flags), KEYS, ARGV, Returns, Events: in this order"
    assert header["name"] == name
    assert header["keys"] == "events"
    assert parse_arguments(SCRIPTS[name])[0] == "now"


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_tells_only_the_events_its_header_names(name: str) -> None:
    header = HEADER.match(SCRIPTS[name])
    assert header
    told = set(re.findall(r"(?:emit|make_ready)\([^\n]*?'((?:[a-z]+)\.(?:[a-z]+))'", body(name)))
    named = set(re.findall(r"[a-z]+\.[a-z]+", header["events"]))
    assert named <= set(TYPES)
    assert told <= named


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_uses_every_argument_it_takes_and_no_other(name: str) -> None:
    arguments = parse_arguments(SCRIPTS[name])
    used = {int(index) for index in re.findall(r"ARGV\[(\d+)\]", body(name))}
    assert max(used, default=1) <= len(arguments)
    plain = sum(not argument.endswith("…") for argument in arguments)
    if "unpack(ARGV" not in body(name):
        assert used >= set(range(2, plain + 1))
    if plain < len(arguments):
        assert "#ARGV" in body(name), "the last one stands for any number"


def test_every_call_gives_a_script_exactly_what_its_header_asks_for() -> None:
    wrong = []
    for name, path, call in calls():
        given = tuple(keyword.arg for keyword in call.keywords if keyword.arg != "now")
        asked = tuple(argument.removesuffix("…") for argument in parse_arguments(SCRIPTS[name])[1:])
        if None not in given and given != asked:
            wrong.append(f"{place(path)}:{call.lineno} {name}: {given} instead of {asked}")
    assert not wrong


def test_every_script_is_run_by_somebody() -> None:
    assert set(SCRIPTS) - {name for name, _, _ in calls()} == set()


def test_only_scripts_write() -> None:
    """A plain command that writes would be a change without an event, and could happen twice.

    Consumer groups keep their own books (create, read, take over) and change no record.
    """
    writes = re.compile(
        r"\.(set|setex|hset|hdel|hincrby|delete|unlink|expire|pexpire|zadd|zrem|sadd|srem|lpush|rpush"
        r"|xadd|xack|xdel|xtrim|incr|incrby|rename|flushall|flushdb|eval)\("
    )
    found = [
        f"{place(path)}:{node.lineno}"
        for path in rooms(".py")
        if place(path).startswith("src/tinytown/store/")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Await) and writes.search(ast.unparse(node))
    ]
    assert not found
