"""How requests are read: bodies are JSON and nothing else, and what nobody asked for is a 400."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from tinytown.errors import Invalid, UnsupportedMediaType

# `curl -d '{…}'` and urllib call every body a form unless told otherwise; what is inside decides.
# No cookie opens anything here, so no other site's form can do harm.
_JSON: Final = frozenset({"", "application/json", "application/x-www-form-urlencoded"})


class TownRequest(Request[Any, Any, Any]):
    """A request that lets no body through which is not JSON."""

    async def body(self) -> bytes:
        """Read the body's bytes; raises Invalid when the caller hangs up before its end."""
        try:
            return await super().body()
        except InternalServerException:
            # The framework's word for it; nobody hears our answer, but the log should not cry.
            raise Invalid("the body ends too early") from None

    async def json(self) -> Any:
        """Read the body; raises UnsupportedMediaType or Invalid."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _JSON and not kind.endswith("+json"):
            raise UnsupportedMediaType("send JSON, with `Content-Type: application/json`")
        try:
            return await super().json()
        except UnicodeDecodeError:
            raise Invalid("the body is not valid UTF-8") from None
        except RecursionError:
            raise Invalid("the body is nested too deeply") from None


async def refuse_unknown(request: Request[Any, Any, Any]) -> None:
    """Refuse a misspelt query: `?sate=open` would otherwise list everything. Raises Invalid.

    Probes are left alone: scrapers and health checks add words of their own. It waits for nothing,
    but the framework would send a plain function to a thread, for every single request.
    """
    if not request.scope["path_template"].startswith("/v1/"):
        return
    known = _queries(request.route_handler)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        there = f"there are {', '.join(sorted(known))}" if known else "there are none here"
        raise Invalid(f"unknown query parameter {', '.join(unknown)}: {there}", unknown=unknown)


def _queries(handler: BaseRouteHandler) -> set[str]:
    """Name the query parameters of a route."""
    return {
        argument.kwarg_definition.name or name
        for name, argument in handler.parsed_fn_signature.parameters.items()
        if isinstance(argument.kwarg_definition, QueryParameter)
    }
