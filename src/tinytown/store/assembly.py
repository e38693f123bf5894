"""Puts a script together from its body and just those shared pieces that it needs.

The shared texts are dozens of small functions; making all of them on every call would cost more
than most scripts do. What a script needs is found by name: the pieces its body names, the pieces
those name, and so on, in the order in which they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

_PIECE: Final = re.compile(
    r"^(?:local function (\w+)|local (\w+)|function (\w+)\.\w+)", re.MULTILINE
)
_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_NOISE: Final = re.compile(r"--[^\n]*|'[^'\n]*'")


def assemble(
    body: str,
    *,
    shared: Iterable[str],
    keys: Mapping[str, str],
    moves: Mapping[str, str],
    bounds: Mapping[str, str],
) -> str:
    """Write the whole script.

    `keys` are the lines that build keys, by name, `moves` the rows of the tables by noun, `bounds`
    the limits by name, all as Lua. What the body counts is written when it is done, once.
    """
    pieces = [piece for text in shared for piece in _pieces(text)]
    needed = _closure(body, pieces)
    text = "".join(piece for index, (_, piece) in enumerate(pieces) if index in needed)
    used = text + body
    key_names = re.findall(r"\bK\.(\w+)", used)
    nouns = re.findall(r"\ballowed\('(\w+)'", used)
    limits = re.findall(r"\bLIMIT\.(\w+)", used)
    rows = ", ".join(f"{noun} = {row}" for noun, row in moves.items() if noun in nouns)
    limit = ", ".join(f"{name} = {value}" for name, value in bounds.items() if name in limits)
    return "\n".join(
        (
            "local P = string.sub(KEYS[1], 1, -7)",
            "local K = {}",
            *(line for name, line in keys.items() if name in key_names),
            f"local MOVES = {{ {rows} }}",
            f"local LIMIT = {{ {limit} }}",
            text,
            "local function act()",
            body,
            "end",
            "local reply = act()",
            *(["write_books()"] if "local function write_books" in text else []),
            "return reply",
        )
    )


def _pieces(text: str) -> list[tuple[str, str]]:
    """Cut a shared text at the lines that begin a function or a variable; name each piece."""
    starts = list(_PIECE.finditer(text))
    ends = [*(start.start() for start in starts[1:]), len(text)]
    found = []
    for start, end in zip(starts, ends, strict=True):
        name = next(group for group in start.groups() if group)
        found.append((name, text[start.start() : end]))
    return found


def _closure(body: str, pieces: list[tuple[str, str]]) -> set[int]:
    """Find the pieces that a body needs, directly or through others."""
    of_name: dict[str, list[int]] = {}
    for index, (name, _) in enumerate(pieces):
        of_name.setdefault(name, []).append(index)
    needed: set[int] = set()
    todo = [body]
    while todo:
        words = set(_WORD.findall(_NOISE.sub(" ", todo.pop())))
        if words & {"count", "gauge"}:
            words.add("write_books")
        for index in (index for word in words for index in of_name.get(word, ())):
            if index not in needed:
                needed.add(index)
                todo.append(pieces[index][1])
    return needed
