"""What comes in from a sender, and what it is once recognised: the values every scheme speaks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

import msgspec

MOST_BYTES: Final = 1024 * 1024  # GitHub allows itself 25 MB; its real ones stay below 30 KB
DAY_SECONDS: Final = 86_400
# Where nobody says how long a sender tries again: the longest published schedule is 76 hours.
REDELIVERY_SECONDS: Final = 4 * DAY_SECONDS
HEADER_OPTIONS: Final = ("header", "timestamp_header", "id_header", "kind_header")


class Rejected(Exception):
    """The hook is not what its source sends; `reason` is a slug for the audit, not for the sender.

    secret, too_large, missing_header, duplicate_header, too_many_signatures, signature, timestamp,
    stale, id, kind, encoding, not_json, too_deep, not_form, challenge.
    """

    def __init__(self, reason: str) -> None:
        """Keep why: for our own books, never for whoever sent it."""
        super().__init__(reason)
        self.reason = reason


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came in; header names in lower case, in order, duplicates kept."""

    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    query: str = ""
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Find a header that may be there once; raises Rejected when it comes twice."""
        found = [value for known, value in self.headers if known == name]
        if len(found) > 1:
            raise Rejected("duplicate_header")
        return found[0] if found else None

    def needed(self, name: str) -> str:
        """Find a header that must be there exactly once; raises Rejected."""
        value = self.header(name)
        if value is None:
            raise Rejected("missing_header")
        return value

    @property
    def content_type(self) -> str:
        """Tell the media type of the body in lower case, without parameters; empty if unsaid."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    def __repr__(self) -> str:
        # Headers hold tokens and bodies hold anything: neither belongs in a log line.
        return f"Hook({self.method}, {len(self.headers)} headers, {len(self.body)} bytes)"


class Recognised(msgspec.Struct, frozen=True, kw_only=True):
    """A hook that its source really sent: what it is called, what it says, how long to know it."""

    delivery_id: str
    """The same for every try of one delivery; visible ASCII, at most 256 characters."""
    kind: str
    """What happened, as the sender calls it (`issues.labeled`); empty where it does not say."""
    payload: Any
    """The decoded body: JSON as it is, a form as an object, other text as {"text": …}."""
    keep_seconds: int
    """How long its id must be remembered: as long as the sender may send it again."""
    sent_at: float | None = None
    """When it was sent, in Unix seconds, where the sender signs the time."""
    challenge: tuple[bytes, str] | None = None
    """Body and content type to answer with at once; such a hook is not stored."""


class SchemeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a source may say about its scheme; `None` is the scheme's own default."""

    header: str | None = None
    algorithm: Literal["sha256", "sha1", "sha512"] | None = None
    encoding: Literal["hex", "base64"] | None = None
    prefix: str | None = None
    template: str | None = None
    timestamp_header: str | None = None
    tolerance_seconds: int | None = None
    id_header: str | None = None
    id_field: str | None = None
    kind_header: str | None = None
    kind_field: str | None = None
    username: str | None = None

    def __post_init__(self) -> None:
        """Write the names of headers as hooks have them, in lower case."""
        for name in HEADER_OPTIONS:
            value = getattr(self, name)
            if value is not None:
                msgspec.structs.force_setattr(self, name, value.lower())


Read = Callable[[SchemeOptions, Sequence[str], Hook, float], Recognised]
Check = Callable[[SchemeOptions, Sequence[str]], None]


def nothing_more(options: SchemeOptions, secrets: Sequence[str]) -> None:
    """Check nothing beyond what every scheme is checked for."""


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """One way of proving who sent a hook."""

    read: Read
    keep_seconds: int
    """The longest that any of its deliveries is remembered."""
    takes: frozenset[str] = frozenset()
    """The options it reads; another one is refused when a source is made."""
    check: Check = nothing_more
    """Raises Invalid for options or secrets that could never work."""
    new_secret: Callable[[], str] | None = None
    """Makes a secret, where the receiver chooses it; `None` where the sender does."""
