"""The outermost layer: names every request, times it, and writes one line about it."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.enums import ScopeType
from litestar.routes import HTTPRoute
from litestar.types import Message, Receive, Scope, Send

from tinytown import ids
from tinytown.http.audit import Ended, Told
from tinytown.http.problems import MEDIA_TYPE, kind

_log = logging.getLogger("tinytown.http")

_FIT: Final = re.compile(r"[A-Za-z0-9._:/=+-]{1,128}")
_HEADER: Final = b"x-request-id"
_ALWAYS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""What every reply says that does not say otherwise: it is about now, and it is what it says."""
_QUIET: Final = frozenset(
    {
        "/health",
        "/ready",
        "/metrics",
        "/api/scaling",
        "/api/scaling/{pool}",
        "/hooks/{source_id}",
    }
)
"""What machines ask all day long; a line only when it goes wrong. (A hook that does something has
one of its own, and one that is refused has one in the audit.)"""
HTTP_TOO_LARGE: Final = 413
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
_BROKEN: Final = msgspec.json.encode(
    {"type": kind("internal-error"), "title": "Something went wrong in town", "status": 500}
)


class Doorman:
    """Wraps the application; sees also what no route answers."""

    def __init__(
        self, app: Litestar, observe: Callable[[str, str, int, float], None], *, audit: Told
    ) -> None:
        """Stand before `app`; `observe(method, route, status, seconds)` hears of every reply."""
        self._app = app
        self._observe = observe
        self._audit = audit
        self._methods = {
            route.path_format: ", ".join(sorted(route.route_handler_map)).encode()
            for route in app.routes
            if isinstance(route, HTTPRoute)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = _request_id(scope["headers"])
        # For those inside who have something to say about this request.
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        first_byte = 0.0
        location = ""

        async def tell(message: Message) -> None:
            nonlocal status, first_byte, location
            if message["type"] == "http.response.start":
                status = message["status"]
                first_byte = time.perf_counter() - begun
                headers = [*message["headers"], (_HEADER, request_id.encode())]
                said = dict(headers)
                location = said.get(b"location", b"").decode("latin-1")
                headers += [header for header in _ALWAYS if header[0] not in said]
                if status == HTTP_TOO_LARGE and scope["http_version"].startswith("1"):
                    # Its body is not read to the end: nobody may send the next request behind it.
                    headers.append((b"connection", b"close"))
                if scope["method"] == "OPTIONS" and status == 204:
                    # The framework's own reply knows only the first handler of a path.
                    allow = self._methods[_route(scope)]
                    headers = [(n, allow if n == b"allow" else value) for n, value in headers]
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except Exception:  # noqa: BLE001 - nobody stands further out
            _log.exception("http.broken", extra={"facts": {"request_id": request_id}})
            if not status:
                await _broken(tell)
        finally:
            if status:
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._observe(method, _route(scope), status, first_byte)
            self._line(scope, status, time.perf_counter() - begun, request_id)
        await self._audit(Ended(scope, status, location, request_id))

    def _line(self, scope: Any, status: int, seconds: float, request_id: str) -> None:
        route = _route(scope)
        if route in _QUIET and status < 500:
            return
        actor = scope.get("user")
        facts = {
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(seconds * 1000, 1),
            "actor": actor.id if actor is not None else None,
            "request_id": request_id,
        }
        _log.log(
            logging.ERROR if status >= 500 else logging.INFO, "request", extra={"facts": facts}
        )


def _route(scope: Any) -> str:
    """Name the route, never the path: paths carry ids and links, and there is no end of them."""
    return scope.get("path_template") or "unmatched"


def _request_id(headers: Any) -> str:
    for name, value in headers:
        if name == _HEADER:
            text = value.decode("latin-1")
            return text if _FIT.fullmatch(text) else ids.new("request")
    return ids.new("request")


async def _broken(send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 500,
            "headers": [(b"content-type", MEDIA_TYPE.encode())],
        }
    )
    await send({"type": "http.response.body", "body": _BROKEN, "more_body": False})
