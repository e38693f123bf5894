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
    # What was delivered may be sent again, the receiver may have lost it since; and what is due
    # need not wait for its time.
    DeliveryMove.REPLAY: (one(_S.DEAD, _S.DELIVERED, _S.DUE), one(_S.DUE)),
}


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try: when, how it went and how long it took; the error is redacted."""

    number: int
    at: str
    outcome: str
    duration_seconds: float
    status: int | None = None
    code: str | None = None
    """The class of the failure: `dns`, `connect_refused`, `http_5xx`, …"""
    error: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as everyone sees it."""

    id: str
    endpoint_id: str
    kind: str
    """`push` or `webhook`."""
    event: Event
    """Without its data once that has expired."""
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
    kind: str
    event: Event
    attempt: int
    created_at_ms: int
    tried: int = 1
    """Attempts since it was filed or replayed, this one included: what the schedule counts."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """How a test message went."""

    delivered: bool
    duration_seconds: float
    status: int | None = None
    code: str | None = None
    reason: str | None = None
    webhook_id: str | None = None
    """The `webhook-id` it was sent under."""


class NewReplay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to have many deliveries made due again."""

    since: str | None = None
    """RFC 3339. Of one endpoint: events from then on; of all: what was given up from then on."""
    until: str | None = None
    """RFC 3339; now when left out."""
    endpoint_id: str | None = None
    """All endpoints when left out."""
    missing: bool = False
    """Also what was never filed for the endpoint (it was disabled): of the last seven days, and as
    far as events are kept."""
    dry_run: bool = False
    """Count only."""


class Recovery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to have an endpoint told again what it missed."""

    since: str
    """RFC 3339: events from then on."""
    until: str | None = None
    """RFC 3339; now when left out."""
    missing: bool = True
    """Also what was never filed for it, because it was disabled: of the last seven days."""
    dry_run: bool = False
    """Count only."""


class ReplayCount(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay would make due: dead letters, and events that were never filed."""

    dead: int
    missing: int = 0


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Many deliveries made due again: it goes on whatever process ends, and is read as it goes."""

    id: str
    state: str
    """`running` or `done`."""
    endpoint_id: str | None
    since: str | None
    until: str
    missing: bool
    dead: int
    """Dead letters that were there when it began."""
    done: int
    """Deliveries made due so far, missing ones included."""
    created_at: str
    created_by: str
    finished_at: str | None = None
