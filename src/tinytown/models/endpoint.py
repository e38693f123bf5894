"""Endpoint: a phone (or later a URL) that wants to hear, and how it is doing."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from tinytown.models.moves import Moves, one

EndpointKind = Literal["push"]
PUSH_EVENTS: Final = ("question.asked", "mission.completed", "mission.failed")
"""What a phone hears unless its owner says otherwise: it is done, or it needs you."""


class EndpointState(StrEnum):
    """How an endpoint is doing; `disabled` is paused by a person or given up."""

    ACTIVE = "active"
    FAILING = "failing"
    DISABLED = "disabled"


class EndpointMove(StrEnum):
    """What can happen to an endpoint."""

    FAIL = "fail"
    RECOVER = "recover"
    DISABLE = "disable"
    REVIVE = "revive"


_S = EndpointState
MOVES: Final[Moves[EndpointMove, EndpointState]] = {
    EndpointMove.FAIL: (one(_S.ACTIVE), one(_S.FAILING)),
    EndpointMove.RECOVER: (one(_S.FAILING), one(_S.ACTIVE)),
    EndpointMove.DISABLE: (one(_S.ACTIVE, _S.FAILING), one(_S.DISABLED)),
    EndpointMove.REVIVE: (one(_S.DISABLED), one(_S.ACTIVE)),
}

EventPattern = Annotated[str, msgspec.Meta(max_length=64)]


class NewEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to add an endpoint."""

    url: Annotated[str, msgspec.Meta(min_length=3, max_length=4096)]
    kind: EndpointKind = "push"
    name: Annotated[str, msgspec.Meta(max_length=100)] = ""
    events: Annotated[tuple[EventPattern, ...], msgspec.Meta(min_length=1, max_length=40)] = (
        PUSH_EVENTS
    )


class EndpointPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be changed of an endpoint; what is left out stays."""

    url: Annotated[str, msgspec.Meta(min_length=3, max_length=4096)] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    name: Annotated[str, msgspec.Meta(max_length=100)] | msgspec.UnsetType = msgspec.UNSET
    events: (
        Annotated[tuple[EventPattern, ...], msgspec.Meta(min_length=1, max_length=40)]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class EndpointRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as the store keeps it; `url` is sealed when the town has a secret key."""

    id: str
    kind: EndpointKind
    url: str
    name: str
    events: tuple[str, ...]
    created_at: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as everyone sees it; its URL is shown redacted."""

    id: str
    kind: EndpointKind
    url: str
    name: str
    events: tuple[str, ...]
    state: EndpointState
    created_at: str
    failures: int = 0
    last_error: str | None = None
    last_delivery_at: str | None = None
