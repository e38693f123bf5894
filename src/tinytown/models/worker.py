"""Worker: a running worker's card."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from tinytown.models.moves import Moves, one


class WorkerState(StrEnum):
    """Where a worker stands."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


class WorkerMove(StrEnum):
    """What can happen to a worker."""

    READY = "ready"
    CLAIM = "claim"
    SETTLE = "settle"
    DRAIN = "drain"
    STOP = "stop"
    LOSE = "lose"


ENDED: Final = one(WorkerState.STOPPED, WorkerState.LOST)

_S = WorkerState
MOVES: Final[Moves[WorkerMove, WorkerState]] = {
    WorkerMove.READY: (one(_S.STARTING), one(_S.IDLE)),
    WorkerMove.CLAIM: (one(_S.STARTING, _S.IDLE), one(_S.BUSY)),
    WorkerMove.SETTLE: (one(_S.BUSY), one(_S.IDLE)),
    WorkerMove.DRAIN: (one(_S.STARTING, _S.IDLE, _S.BUSY), one(_S.DRAINING)),
    WorkerMove.STOP: (one(_S.STARTING, _S.IDLE, _S.BUSY, _S.DRAINING), one(_S.STOPPED)),
    WorkerMove.LOSE: (one(_S.STARTING, _S.IDLE, _S.BUSY, _S.DRAINING), one(_S.LOST)),
}


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as everyone sees it; `seen_at` is its last sign of life."""

    id: str
    state: WorkerState
    pools: tuple[str, ...]
    agent: str | None = None
    host: str = ""
    version: str = ""
    task_id: str | None = None
    started_at: str = ""
    seen_at: str = ""
    stopped_at: str | None = None
