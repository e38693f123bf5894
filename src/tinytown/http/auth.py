"""Who asks, and may they: bearer keys become actors; one guard that denies by default."""

from __future__ import annotations

import hmac
from typing import Any, Final

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from tinytown.errors import Forbidden, Unauthenticated
from tinytown.models.key import SCOPES, Actor, digest
from tinytown.town import Town

PUBLIC: Final = frozenset(
    {"/health", "/problems/{slug}", "/schema/openapi.json", "/a/{token}", "/hooks/{source_id}"}
)
"""The only routes without a key: they tell nothing about the town, or carry their own proof."""

PROBE: Final = "probe"
"""Scope of what health checks and autoscalers read: open unless TINYTOWN_PROBE_KEY is set."""

_PROBER: Final = Actor(id="probe", name="probe", scopes=frozenset({"read"}))


class Guard:
    """Stands before every route."""

    def __init__(self, town: Town, probe_key: str | None) -> None:
        """Know the town's keys and, if there is one, the probes' key."""
        self._town = town
        self._probe_digest = digest(probe_key) if probe_key else ""

    async def __call__(
        self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
    ) -> None:
        """Let a request through or raise Unauthenticated or Forbidden."""
        scope = handler.opt.get("scope")
        if scope is None and connection.scope["path_template"] in PUBLIC:
            return
        if isinstance(handler, HTTPRouteHandler) and handler.http_methods == {"OPTIONS"}:
            return  # the framework's own: an empty reply that names the methods
        if scope == PROBE:
            await self._probe(connection)
            return
        actor = await self._town.keys.actor(bearer(connection))
        connection.scope["user"] = actor
        if scope not in SCOPES or not actor.may(scope):
            raise Forbidden(f"this needs a key with the scope {scope}", scope=scope)

    async def _probe(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        if not self._probe_digest:
            return
        secret = bearer(connection)
        if hmac.compare_digest(digest(secret), self._probe_digest):
            connection.scope["user"] = _PROBER
            return
        actor = await self._town.keys.actor(secret)
        connection.scope["user"] = actor
        if not actor.may("read"):
            raise Forbidden("this needs the probe key or a key with the scope read", scope="read")


def bearer(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Read the key of a request; raises Unauthenticated where there is none."""
    scheme, _, secret = connection.headers.get("authorization", "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise Unauthenticated("send `Authorization: Bearer tt_…`")
    return secret


def actor_of(request: Request[Actor, Any, Any]) -> Actor:
    """Hand the actor of a request to its handler."""
    return request.user
