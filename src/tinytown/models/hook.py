"""Hook: one call of a service's webhook, what it asked for and what became of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from tinytown.models.moves import Moves, one

HOOK_BYTES: Final = 1_048_576
"""The largest hook that is taken. GitHub's own limit is 25 MB, its usual payload 8 KB."""


class HookState(StrEnum):
    """Where a hook stands: `stored` waits for its rule; `dead` could not be carried out."""

    STORED = "stored"
    ROUTED = "routed"
    IGNORED = "ignored"
    DEAD = "dead"


class HookMove(StrEnum):
    """What can happen to a hook."""

    ROUTE = "route"
    IGNORE = "ignore"
    GIVE_UP = "give_up"
    REPLAY = "replay"


ENDED: Final = one(HookState.ROUTED, HookState.IGNORED, HookState.DEAD)

_S = HookState
MOVES: Final[Moves[HookMove, HookState]] = {
    HookMove.ROUTE: (one(_S.STORED), one(_S.ROUTED)),
    HookMove.IGNORE: (one(_S.STORED), one(_S.IGNORED)),
    HookMove.GIVE_UP: (one(_S.STORED), one(_S.DEAD)),
    HookMove.REPLAY: (one(_S.DEAD, _S.IGNORED), one(_S.STORED)),
}


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A hook is stored; `duplicate` when it was before."""

    id: str
    duplicate: bool


class HookOutcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a hook."""

    action: str = ""
    """The action of its rule, or what the usual rules of its scheme did (`attach`, `follow_up`)."""
    rule: str = ""
    mission_id: str | None = None
    question_id: str | None = None
    reason: str | None = None


class StoredHook(msgspec.Struct, frozen=True, kw_only=True):
    """A hook as everyone sees it; its payload can be tried again in a dry run."""

    id: str
    source_id: str
    kind: str
    state: HookState
    received_at: str
    sent_at: str | None = None
    settled_at: str | None = None
    tries: int = 0
    size: int = 0
    """Bytes of its payload as JSON."""
    payload_kept: bool = True
    """Large payloads are let go once their hook is routed."""
    outcome: HookOutcome | None = None
