"""Delivery and Attempt: one event for one endpoint, and every try to hand it over."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from tinytown.models.event import Event
from tinytown.models.moves import Moves, one


class DeliveryState(StrEnum):
    """Where a delivery stands; `obsolete` = no longer worth sending."""

    DUE = "due"
    DELIVERED = "delivered"
    DEAD = "dead"
    OBSOLETE = "obsolete"


class DeliveryMove(StrEnum):
    """What can happen to a delivery."""

    SUCCEED = "succeed"
    RETRY = "retry"
    GIVE_UP = "give_up"
    DROP = "drop"
    REPLAY = "replay"


ENDED: Final = one(DeliveryState.DELIVERED, DeliveryState.DEAD, DeliveryState.OBSOLETE)

_S = DeliveryState
MOVES: Final[Moves[DeliveryMove, DeliveryState]] = {
    DeliveryMove.SUCCEED: (one(_S.DUE), one(_S.DELIVERED)),
    DeliveryMove.RETRY: (one(_S.DUE), one(_S.DUE)),
    DeliveryMove.GIVE_UP: (one(_S.DUE), one(_S.DEAD)),
    DeliveryMove.DROP: (one(_S.DUE), one(_S.OBSOLETE)),
    DeliveryMove.REPLAY: (one(_S.DEAD), one(_S.DUE)),
}


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try: when, how it went and how long it took; the error is redacted."""

    number: int
    at: str
    outcome: str
    duration_seconds: float
    status: int | None = None
    error: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as everyone sees it."""

    id: str
    endpoint_id: str
    event: Event
    state: DeliveryState
    attempt: int
    created_at: str
    due_at: str | None = None
    finished_at: str | None = None
    reason: str | None = None
    attempts: tuple[Attempt, ...] = ()


class DueDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery a notifier has leased: it alone may record attempt number `attempt`."""

    id: str
    endpoint_id: str
    event: Event
    attempt: int
    created_at_ms: int
    tried: int = 1
    """Attempts since it was filed or replayed, this one included: what the schedule counts."""
