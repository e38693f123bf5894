"""Keys: make one, list them, revoke one, and tell who is behind a secret."""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Final

from tinytown import clock, ids
from tinytown.errors import KeyNotFound, Unauthenticated
from tinytown.models.key import Actor, CreatedKey, Key, NewKey, digest, fresh_secret
from tinytown.store import Store
from tinytown.store.access import StoredKey

OPERATOR: Final = Actor(id="operator", name="operator", scopes=frozenset({"admin"}))
"""Who holds TINYTOWN_API_KEY."""


class KeyDesk:
    """What can be done with keys."""

    def __init__(self, store: Store) -> None:
        """Work on one town's keys."""
        self._store = store
        self._operator_digest = ""

    def trust(self, api_key: str) -> None:
        """Accept the operator's key of the environment; only its digest is kept."""
        self._operator_digest = digest(api_key)

    async def first_key(self) -> str | None:
        """Make the first admin key of a town that has none; None when there is one already."""
        if self._operator_digest or await self._store.access.list_keys():
            return None
        created = await self.make(NewKey(name="first", scopes=("admin",)))
        return created.key

    async def make(self, new: NewKey, *, key_id: str | None = None) -> CreatedKey:
        """Make a key; this reply alone carries it."""
        secret = fresh_secret()
        now = clock.now()
        expires = (
            None
            if new.expires_in_seconds is None
            else clock.written(now + timedelta(seconds=new.expires_in_seconds))
        )
        stored = StoredKey(
            id=key_id or ids.new("key"),
            name=new.name,
            scopes=new.scopes,
            created_at=clock.written(now),
            expires_at=expires,
            digest=digest(secret),
        )
        await self._store.access.put_key(stored)
        return CreatedKey(
            id=stored.id,
            name=stored.name,
            scopes=stored.scopes,
            created_at=stored.created_at,
            expires_at=stored.expires_at,
            key=secret,
        )

    async def all(self) -> list[Key]:
        """List all keys, oldest first; never a secret."""
        return await self._store.access.list_keys()

    async def revoke(self, key_id: str) -> None:
        """Revoke a key; it opens nothing from now on."""
        if not ids.is_id("key", key_id):
            raise KeyNotFound("there is no key with this id")
        await self._store.access.drop_key(key_id)

    async def actor(self, secret: str) -> Actor:
        """Tell who is behind a secret; raises Unauthenticated."""
        if self._operator_digest and hmac.compare_digest(digest(secret), self._operator_digest):
            return OPERATOR
        key = await self._store.access.key_of(secret)
        if key is None:
            raise Unauthenticated("this key is not known here")
        if key.expires_at and datetime.fromisoformat(key.expires_at) <= clock.now():
            raise Unauthenticated("this key has expired")
        return Actor(id=key.id, name=key.name, scopes=frozenset(key.scopes))
