"""Key: who may do what. A key is shown once; the town keeps only its SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Final, Literal

import msgspec

Scope = Literal["read", "write", "answer", "worker", "admin"]
SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "answer", "worker", "admin")


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to make a key."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    scopes: Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=5)] = ("read",)
    expires_in_seconds: Annotated[float, msgspec.Meta(gt=0, le=315_360_000)] | None = None


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as everyone sees it; the secret itself is only in the reply that made it."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: str
    expires_at: str | None = None


class CreatedKey(Key, frozen=True, kw_only=True):
    """The one reply that carries the secret."""

    key: str


class Actor(msgspec.Struct, frozen=True):
    """Who is behind a request: the key's id and name, and what it may do."""

    id: str
    name: str
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Tell whether the key carries a scope; admin implies all."""
        return scope in self.scopes or "admin" in self.scopes


def fresh_secret() -> str:
    """Make a key: 256 random bits, recognisable by `tt_` (for secret scanners)."""
    return f"tt_{secrets.token_urlsafe(32)}"


def digest(secret: str) -> str:
    """Hash a key for storage. A plain SHA-256 is right for 112 bits and more (ASVS 5.0 6.5.2)."""
    return hashlib.sha256(secret.encode()).hexdigest()
