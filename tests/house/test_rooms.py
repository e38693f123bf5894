"""The house itself: who may know whom, how large a room may be, and where a word may be written."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from house.tree import ROOT, files, parsed, place, rooms, strings
from tinytown.store.keys import KEYS

CEILING = 400
HEAVY = {
    "litestar",
    "granian",
    "apprise",
    "httpx",
    "prometheus_client",
    "click",
    "rich",
    "nacl",
    "uvloop",
    "structlog",
    "tinytown.http",
    "tinytown_notifiers",
}


@pytest.mark.timeout(120)  # reads every file and every library's, without a cache
def test_every_room_knows_only_the_rooms_below() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    said = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout
    assert "0 broken" in said.stdout


def test_no_room_has_more_than_400_lines() -> None:
    found = {
        place(path): count
        for path in files(".py", ".lua")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > CEILING
    }
    assert not found, f"more than {CEILING} lines: split by purpose, not by length"


def test_every_module_opens_with_a_sentence() -> None:
    silent = [
        place(path)
        for path in files(".py")
        if not re.match(r"\S[^\n]*(\n[^\n]+)*[.!?:]($|\n\n)", ast.get_docstring(parsed(path)) or "")
    ]
    assert not silent, "say in a sentence what happens here"


def test_keys_are_spelled_in_one_file_only() -> None:
    families = {key.pattern.partition(":")[0] for key in KEYS if ":" in key.pattern}
    # Only the store speaks Redis, so only there could a key without its prefix be meant as one.
    bare = re.compile(rf"^({'|'.join(sorted(families))}):")
    found = [
        f"{place(path)}:{line} {text!r}"
        for path in rooms(".py")
        if place(path) != "src/tinytown/store/keys.py"
        for line, text in strings(path)
        if "tt:{" in text or (place(path).startswith("src/tinytown/store/") and bare.match(text))
    ]
    assert not found, "ask a Keyring for it"


@pytest.mark.parametrize("path", rooms(".lua"), ids=lambda path: path.stem)
def test_a_script_builds_no_key_by_hand(path: Path) -> None:
    code = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    assert not re.search(r"\bP\s*\.\.|['\"]tt:", code), "use the key builders, K"


def test_a_worker_wakes_light() -> None:
    """What import-linter proves for our own rooms, seen once more from the running interpreter."""
    code = "import sys, tinytown_workers.__main__; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(loaded)


def test_no_test_sleeps_without_a_reason() -> None:
    """Waiting for a thing is `eventually`: a sleep is either too short or too long.

    Where the time itself is the test (a fault that lasts), a comment on the line says so.
    """
    found = [
        f"{place(path)}:{node.lineno}"
        for path in files(".py")
        if path.name.startswith("test_")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"sleep", "sleep_until"}
        and "  # " not in path.read_text(encoding="utf-8").splitlines()[node.lineno - 1]
    ]
    assert not found


def test_no_test_is_skipped() -> None:
    """A skip that hides a missing install step is a defect: install the thing instead."""
    marks = {"skip", "skipif", "xfail", "importorskip"}
    found = [
        f"{place(path)}:{node.lineno} {node.attr}"
        for path in files(".py")
        if place(path).startswith("tests/")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and node.attr in marks
        and ast.unparse(node.value).startswith("pytest")
    ]
    assert not found


def test_nothing_is_left_to_be_done_later() -> None:
    loose = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3)) + r")\b")
    found = [
        f"{place(path)}:{number}"
        for path in files(".py", ".lua", ".toml", ".yml")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if loose.search(line) or "NotImplemented" + "Error" in line
    ]
    assert not found
