"""Endpoint: a phone or a program that wants to hear, and how it is doing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from tinytown.models.event import Event, matches
from tinytown.models.moves import Moves, one

EndpointKind = Literal["push", "webhook"]
Format = Literal["standard", "cloudevents", "slack", "discord", "raw"]
Payload = Literal["full", "thin"]
Signing = Literal["v1", "v1a"]
"""Standard Webhooks: `v1` is HMAC-SHA256 with a shared secret, `v1a` ed25519 with a key pair."""

PUSH_EVENTS: Final = (
    "question.asked",
    "mission.completed",
    "mission.failed",
    "endpoint.failing",
    "endpoint.recovered",
    "endpoint.disabled",
)
"""What a phone hears unless its owner says otherwise: it is done, it needs you, or those who should
have heard do not. Not each dead letter: there may be thousands."""
WEBHOOK_EVENTS: Final = ("*",)
"""What a program hears unless its owner says otherwise: whoever names nothing wants all."""
CALLBACK_EVENTS: Final = (
    "question.asked",
    "mission.completed",
    "mission.failed",
    "mission.canceled",
)
"""What the callback of a mission hears: it needs an answer, or it is over."""
MAX_IN_FLIGHT: Final = 4
"""Requests on their way to one webhook at once, unless its owner says otherwise."""


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
EventPatterns = Annotated[tuple[EventPattern, ...], msgspec.Meta(min_length=1, max_length=40)]
Url = Annotated[str, msgspec.Meta(min_length=3, max_length=4096)]
Name = Annotated[str, msgspec.Meta(max_length=100)]
Label = Annotated[str, msgspec.Meta(max_length=100)]
Headers = Annotated[dict[str, str], msgspec.Meta(max_length=20)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=172_800)]
Schedule = Annotated[tuple[Seconds, ...], msgspec.Meta(min_length=1, max_length=20)]
InFlight = Annotated[int, msgspec.Meta(ge=1, le=32)]
Rate = Annotated[float, msgspec.Meta(ge=0.001, le=1000)]
Secret = Annotated[str, msgspec.Meta(min_length=10, max_length=200)]


class EventFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which events of the wanted types: all conditions must hold; none = all of them."""

    mission_id: str | None = None
    """Only what happens in this mission."""
    labels: Annotated[dict[Label, Label], msgspec.Meta(max_length=10)] = msgspec.field(
        default_factory=dict
    )
    """Only what happens in missions with all of these labels."""


class NewEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to add an endpoint; everything below `filter` is for webhooks only."""

    url: Url
    kind: EndpointKind = "push"
    name: Name = ""
    events: EventPatterns | None = None
    """PUSH_EVENTS or WEBHOOK_EVENTS when left out."""
    filter: EventFilter = msgspec.field(default_factory=EventFilter)
    format: Format = "standard"
    payload: Payload = "full"
    headers: Headers = msgspec.field(default_factory=dict)
    """Sent with every request; their values are secrets and shown as `***`."""
    signing: Signing = "v1"
    secret: Secret | None = None
    """`whsec_…` or `whsk_…` of the caller's own; left out, the town makes one."""
    schedule_seconds: Schedule | None = None
    """Waits between the attempts, of which the first is made at once; the specification's when left
    out: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""
    max_in_flight: InFlight = MAX_IN_FLIGHT
    rate_per_second: Rate | None = None
    fifo: bool = False
    """One at a time, in the order things happened: an event that fails holds up those behind it."""

    def __repr__(self) -> str:
        """Name its kind and name only: the rest opens doors."""
        return f"NewEndpoint(kind={self.kind!r}, name={self.name!r})"


class EndpointPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be changed of an endpoint; what is left out stays."""

    url: Url | msgspec.UnsetType = msgspec.UNSET
    name: Name | msgspec.UnsetType = msgspec.UNSET
    events: EventPatterns | msgspec.UnsetType = msgspec.UNSET
    filter: EventFilter | msgspec.UnsetType = msgspec.UNSET
    format: Format | msgspec.UnsetType = msgspec.UNSET
    payload: Payload | msgspec.UnsetType = msgspec.UNSET
    headers: Headers | msgspec.UnsetType = msgspec.UNSET
    schedule_seconds: Schedule | msgspec.UnsetType | None = msgspec.UNSET
    max_in_flight: InFlight | msgspec.UnsetType = msgspec.UNSET
    rate_per_second: Rate | msgspec.UnsetType | None = msgspec.UNSET

    def __repr__(self) -> str:
        """Name what is changed, not to what."""
        fields = self.__struct_fields__
        changed = [name for name in fields if getattr(self, name) is not msgspec.UNSET]
        return f"EndpointPatch({', '.join(changed)})"


class NewSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to rotate the secret of a webhook."""

    signing: Signing | None = None
    """The present kind when left out; the kind of `secret` where one is given."""
    secret: Secret | None = None
    overlap_seconds: Annotated[float, msgspec.Meta(ge=0, le=2_592_000)] = 86_400
    """How long the present ones go on signing beside the new one; 0 = not at all."""

    def __repr__(self) -> str:
        """Name what is asked for, never the secret."""
        return f"NewSecret(signing={self.signing!r}, overlap_seconds={self.overlap_seconds!r})"


class SigningSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that signs; sealed when the town has a secret key."""

    id: str
    kind: Signing
    secret: str
    created_at: str
    public_key: str | None = None
    """`whpk_…` where signatures are ed25519."""
    expires_at: str | None = None
    """When it stops signing; None = when it is rotated."""

    def __repr__(self) -> str:
        """Name it by its id: without a secret key it is not sealed."""
        return f"SigningSecret({self.id!r}, kind={self.kind!r}, expires_at={self.expires_at!r})"


class ShownSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A signing secret as everyone sees it: never itself."""

    id: str
    kind: Signing
    created_at: str
    public_key: str | None = None
    expires_at: str | None = None


class EndpointRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint as the store keeps it.

    `url`, the values of `headers` and the secrets are sealed when the town has a secret key.
    """

    id: str
    kind: EndpointKind
    url: str
    name: str
    events: tuple[str, ...]
    created_at: str
    filter: EventFilter = msgspec.field(default_factory=EventFilter)
    format: Format = "standard"
    payload: Payload = "full"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    secrets: tuple[SigningSecret, ...] = ()
    """The newest first."""
    schedule_seconds: tuple[float, ...] | None = None
    max_in_flight: int = MAX_IN_FLIGHT
    rate_per_second: float | None = None
    fifo: bool = False

    def __repr__(self) -> str:
        """Name it by its id: without a secret key nothing in it is sealed."""
        return f"EndpointRecord({self.id!r}, kind={self.kind!r}, name={self.name!r})"


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as everyone sees it; its URL is shown redacted."""

    id: str
    kind: EndpointKind
    url: str
    name: str
    events: tuple[str, ...]
    state: EndpointState
    created_at: str
    filter: EventFilter = msgspec.field(default_factory=EventFilter)
    failures: int = 0
    """Failed attempts in a row."""
    last_error: str | None = None
    last_delivery_at: str | None = None
    disabled_reason: str | None = None
    """Why nothing is sent to it."""
    held_until: str | None = None
    """Nothing is sent before: its failures opened the circuit, or it asked for time."""
    format: Format | None = None
    payload: Payload | None = None
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    secrets: tuple[ShownSecret, ...] = ()
    schedule_seconds: tuple[float, ...] | None = None
    max_in_flight: int | None = None
    rate_per_second: float | None = None
    fifo: bool = False


class EndpointWithSecret(Endpoint, frozen=True, kw_only=True):
    """An endpoint just made or rotated; `secret` is shown only this once. A push has neither."""

    secret: str | msgspec.UnsetType | None = msgspec.UNSET
    """None where the caller brought it, or where only a public key is to be known."""
    public_key: str | msgspec.UnsetType | None = msgspec.UNSET
    """`whpk_…` where signatures are ed25519."""

    def __repr__(self) -> str:
        """Name it by its id, never by its secret."""
        return f"EndpointWithSecret({self.id!r})"


def wants(record: EndpointRecord, event: Event, labels: Mapping[str, str]) -> bool:
    """Tell whether an endpoint asked for this event of a mission with these labels.

    The store's `wants` (_deliveries.lua) is the same rule for replays.

    A town that cannot start workers will fail its missions by doing nothing: whoever wants to
    hear of failed missions hears of that too (decision 0021).
    """
    kinds = {event.type} | ({"mission.failed"} if event.tells_no_starts else set())
    if not any(matches(pattern, kind) for pattern in record.events for kind in kinds):
        return False
    if event.data.get("endpoint") == record.id:
        return False  # nobody hears of itself: what did not get through would breed more of it
    only = record.filter
    if only.mission_id is not None and only.mission_id != event.mission_id:
        return False
    return only.labels.items() <= labels.items()
