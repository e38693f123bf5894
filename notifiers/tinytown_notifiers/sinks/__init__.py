"""The Sink protocol: a message goes in, what became of it comes out, and nothing is raised."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, TypeAlias

import msgspec


class Priority(StrEnum):
    """How loudly a phone should call (ntfy's five steps; other channels have fewer)."""

    MIN = "min"
    LOW = "low"
    DEFAULT = "default"
    HIGH = "high"
    MAX = "max"


MAX_BUTTONS = 3
"""As many as ntfy shows; nobody shows more."""


class Button(msgspec.Struct, frozen=True, kw_only=True):
    """What can be pressed right in the notification."""

    label: str
    url: str
    method: str | None = "POST"
    """The HTTP method a press performs in the background; None = the press opens the page."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One notification for one endpoint, already worded and made harmless."""

    subject: str
    """The id of the question, mission or event it is about: two messages about one are related."""
    title: str
    body: str
    url: str
    """The endpoint's address. Secret: whoever reads it can write to that phone."""
    priority: Priority = Priority.DEFAULT
    click: str | None = None
    """Where a tap leads."""
    buttons: tuple[Button, ...] = ()
    tags: tuple[str, ...] = ()
    """ntfy's names of emojis; channels without tags drop them."""

    def __repr__(self) -> str:
        """Name the subject only: the address and the links are secrets."""
        return f"Message(subject={self.subject!r}, priority={self.priority.value!r})"


class Delivered(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The other side accepted the message."""

    duration_seconds: float


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The other side did not take it; `reason` is safe to show."""

    permanent: bool
    """Whether trying again is pointless."""
    reason: str
    duration_seconds: float = 0.0
    retry_after_seconds: float | None = None
    """How long the other side asked us to wait."""
    status: int | None = None
    """The HTTP status, where there was one."""


Outcome: TypeAlias = Delivered | Failed


class Sink(Protocol):
    """An adapter that can send."""

    async def send(self, message: Message) -> Outcome:
        """Send one message and say what became of it; never raises for the other side's sake."""
        ...
