"""Audit: who did what to what, with which result; written down, never changed."""

from __future__ import annotations

import msgspec


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the audit log; no secret is ever in it."""

    id: str
    at: str
    actor: str
    """The key's id; `operator` for the key of the environment, empty for a stranger."""
    verb: str
    """The operation's name in the API (`rotate_source`), or `receive_hook`."""
    object: str
    """The id of what it was done to."""
    result: str
    """`done`, or the kind of the refusal (`forbidden`)."""
    reason: str | None = None
    """Why a hook was refused: what its sender is never told."""
    request_id: str | None = None
