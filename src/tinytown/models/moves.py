"""What a table of moves is: which states a move may leave and which it may reach.

A state machine here is data. The same tables are rendered into the Lua prelude
(store/scripts.py), so Redis refuses exactly what Python says is illegal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

S = TypeVar("S", bound=StrEnum)
M = TypeVar("M", bound=StrEnum)

Moves = Mapping[M, tuple[frozenset[S], frozenset[S]]]


def reachable(moves: Moves[M, S], state: S, move: M) -> frozenset[S]:
    """List the states this move may reach from here; empty where it is illegal."""
    sources, targets = moves[move]
    return targets if state in sources else frozenset()


def one(*states: S) -> frozenset[S]:
    """Write a set of states briefly."""
    return frozenset(states)
