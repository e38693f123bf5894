"""The access shelf: API keys by their digest, the town's own secret, replies given before."""

from __future__ import annotations

import secrets
from typing import Final

import msgspec

from tinytown.errors import IdempotencyMismatch, InProgress, KeyNotFound
from tinytown.models.key import Key, digest
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.replies import DONE, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

REPLY_MS: Final = 86_400_000
"""How long an Idempotency-Key is remembered: 24 h (contract)."""
STALE_MS: Final = 30_000
"""After this a running request counts as dead: no request of ours takes half as long."""
_GO, _DONE, _RUNNING = 1, 2, 3


class StoredKey(Key, frozen=True, kw_only=True):
    """A key as the store keeps it, with its digest."""

    digest: str


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A reply worth repeating."""

    status: int
    body: msgspec.Raw
    location: str | None = None


class Access:
    """Reads and writes keys, secrets and replies."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's access records."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def put_key(self, key: StoredKey) -> None:
        """Make a key known."""
        await self._scripts.run(
            "put_key", key=key.id, digest=key.digest, record=msgspec.json.encode(key)
        )

    async def drop_key(self, key_id: str) -> None:
        """Revoke a key."""
        with store_errors():
            text = await self._client.hget(self._keys("keys"), key_id)
        if text is None:
            raise KeyNotFound("there is no key with this id")
        key = msgspec.json.decode(text, type=StoredKey)
        reply = await self._scripts.run("drop_key", key=key_id, digest=key.digest)
        if reply[0] != DONE:
            refuse(reply, KeyNotFound, "key", "revoke")

    async def key_of(self, secret: str) -> Key | None:
        """Find the key a secret belongs to; None for a stranger."""
        with store_errors():
            key_id = await self._client.hget(self._keys("keys_by_digest"), digest(secret))
            if key_id is None:
                return None
            text = await self._client.hget(self._keys("keys"), key_id)
        return None if text is None else msgspec.json.decode(text, type=StoredKey)

    async def list_keys(self) -> list[Key]:
        """List all keys, oldest first."""
        with store_errors():
            texts = await self._client.hvals(self._keys("keys"))
        found = [msgspec.json.decode(text, type=StoredKey) for text in texts]
        return [
            Key(
                id=key.id,
                name=key.name,
                scopes=key.scopes,
                created_at=key.created_at,
                expires_at=key.expires_at,
            )
            for key in sorted(found, key=lambda key: key.id)
        ]

    async def own_secret(self, name: str) -> bytes:
        """Give the secret this town made for itself, the same for every process."""
        with store_errors():
            await self._client.hsetnx(self._keys("secrets"), name, secrets.token_hex(32))
            text = await self._client.hget(self._keys("secrets"), name)
        return bytes.fromhex(str(text))

    async def begin(
        self, actor: str, key: str, *, body_digest: str, reserved_id: str
    ) -> str | Reply:
        """See an Idempotency-Key: the id to create under, or the reply given before.

        Raises InProgress while the first request runs, IdempotencyMismatch for another body.
        """
        reply = await self._scripts.run(
            "begin_request",
            actor=actor,
            key=key,
            body_digest=body_digest,
            reserved_id=reserved_id,
            ttl_ms=REPLY_MS,
            stale_ms=STALE_MS,
        )
        if reply[0] == _GO:
            return str(reply[1])
        if reply[0] == _DONE:
            return msgspec.json.decode(reply[1], type=Reply)
        if reply[0] == _RUNNING:
            raise InProgress("a request with this Idempotency-Key is still running")
        raise IdempotencyMismatch("this Idempotency-Key was used with another body")

    async def finish(self, actor: str, key: str, reply: Reply | None) -> None:
        """Keep the reply to an Idempotency-Key, or free the key after a refusal (None)."""
        text = b"" if reply is None else msgspec.json.encode(reply)
        await self._scripts.run("finish_request", actor=actor, key=key, reply=text)

    async def release(self, actor: str, key: str) -> None:
        """Let the next try of an Idempotency-Key go on at once, under the same reserved id."""
        await self._scripts.run("finish_request", actor=actor, key=key, reply="-")
