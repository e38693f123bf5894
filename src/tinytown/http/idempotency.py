"""Idempotency-Key: the first reply to a request that creates is given again, never redone.

The id of what will be created is reserved before anything happens. A process that dies between
creating and replying leaves the key behind, and the next try creates under the same id: once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency

from tinytown import ids
from tinytown.errors import Invalid, StoreUnavailable, TownError
from tinytown.http.auth import bearer
from tinytown.models.key import Actor
from tinytown.store.access import Reply
from tinytown.town import Town
from tinytown.vault import Vault

T = TypeVar("T")

HEADER: Final = "idempotency-key"
REPLAYED: Final = "Idempotent-Replayed"
_LENGTH: Final = 255


class Replies:
    """What `once` needs to know of one request; Litestar hands it to a handler."""

    def __init__(self, request: Request[Actor, Any, Any], town: Town) -> None:
        """Read the request's key; raises Invalid for one that is none."""
        self.town = town
        self.actor = request.user
        self.place = f"{request.method} {request.url.path}"
        self.key = read_key(request.headers.get(HEADER))
        self._request = request

    def vault(self) -> Vault:
        """Seal with the caller's own key, of which the town keeps only the hash."""
        return Vault(bearer(self._request), self.town.name)


def read_key(text: str | None) -> str | None:
    """Read the header, quoted or bare; None where it was not sent."""
    if text is None:
        return None
    key = text.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not 1 <= len(key) <= _LENGTH or not (key.isascii() and key.isprintable()):
        raise Invalid(f"Idempotency-Key has 1 to {_LENGTH} visible ASCII characters")
    # Whatever a caller may think of, in Redis it is one plain word.
    return hashlib.sha256(key.encode()).hexdigest()


async def once(
    replies: Replies,
    noun: str,
    data: Any,
    create: Callable[[str], Awaitable[T]],
    *,
    status: int = 201,
    location: Callable[[T], str] | None = None,
    secret: bool = False,
) -> Response[T]:
    """Create under an id of `noun` and reply; the same key again gets the same reply.

    `secret` replies are kept sealed with the caller's own key. Raises InProgress,
    IdempotencyMismatch and whatever `create` raises.
    """
    if replies.key is None:
        made = await create(ids.new(noun))
        return _reply(made, status, location)
    access = replies.town.store.access
    begun = await access.begin(
        replies.actor.id,
        replies.key,
        body_digest=_digest(replies.place, data),
        reserved_id=ids.new(noun),
    )
    if isinstance(begun, Reply):
        return _replay(begun, replies.vault() if secret else None)
    try:
        made = await create(begun)
    except StoreUnavailable:
        # Whether it was created is unknown: the reserved id stays, the next try may go on at once.
        await access.release(replies.actor.id, replies.key)
        raise
    except TownError:
        await access.finish(replies.actor.id, replies.key, None)
        raise
    response = _reply(made, status, location)
    body = msgspec.json.encode(made)
    if secret:
        body = msgspec.json.encode(replies.vault().seal(body.decode()))
    kept = Reply(status=status, body=msgspec.Raw(body), location=response.headers.get("Location"))
    await access.finish(replies.actor.id, replies.key, kept)
    return response


def _reply(made: T, status: int, location: Callable[[T], str] | None) -> Response[T]:
    headers = {"Location": location(made)} if location else {}
    return Response(made, status_code=status, headers=headers)


def _replay(kept: Reply, vault: Vault | None) -> Response[Any]:
    body = bytes(kept.body)
    if vault is not None:
        body = vault.open(msgspec.json.decode(body, type=str)).encode()
    headers = {REPLAYED: "true"}
    if kept.location:
        headers["Location"] = kept.location
    return Response(body, status_code=kept.status, headers=headers, media_type="application/json")


def _digest(place: str, data: Any) -> str:
    """Name a request by what it means: spelling and order of its JSON do not matter."""
    body = msgspec.json.encode(data, order="deterministic")
    return hashlib.sha256(place.encode() + b"\0" + body).hexdigest()


TheReplies: TypeAlias = NamedDependency[Replies]
