"""Reads the tree as git will carry it: what a newcomer gets, and nothing a machine left behind."""

from __future__ import annotations

import ast
import gc
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("src", "notifiers", "workers")


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """List the files that are tracked or about to be, with one of these endings (or any)."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = (ROOT / name for name in listed.split("\0") if name)
    return tuple(
        path
        for path in sorted(found)
        if path.is_file() and (not suffixes or path.suffix in suffixes)
    )


def rooms(*suffixes: str) -> tuple[Path, ...]:
    """List the files of the three packages with one of these endings."""
    return tuple(path for path in files(*suffixes) if place(path).split("/")[0] in ROOMS)


def place(path: Path) -> str:
    """Name a file as a person would: from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def lines(*suffixes: str) -> Iterator[tuple[str, str]]:
    """Go through every line of these text files with its place, `path:number`."""
    for path in files(*suffixes):
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            yield f"{place(path)}:{number}", line


@cache
def parsed(path: Path) -> ast.Module:
    """Parse a Python file once for all who ask.

    Without collecting garbage meanwhile: CPython 3.11 loses count of its recursion when a finalizer
    runs inside the parser (SystemError "AST constructor recursion depth mismatch").
    """
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    finally:
        gc.enable()


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Go through the strings of a Python file that are not docstrings, with their lines."""
    tree = parsed(path)
    said = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value
