"""Errors become `application/problem+json` (RFC 9457) here; the only file that knows both."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.openapi.datastructures import ResponseSpec

from tinytown.errors import (
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    TooMany,
    TownError,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
    tree,
)

_log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
CHALLENGE: Final = 'Bearer realm="tinytown"'
RETRY_SECONDS: Final = 2
"""What a refusal for now says when its error does not know better."""


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One field that is not as it should be."""

    message: str
    key: str | None = None
    source: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong (RFC 9457). Some problems carry further members, named in their text."""

    type: Annotated[str, msgspec.Meta(description="Names the kind of problem; can be opened.")]
    title: str
    status: int
    detail: str | None = None
    errors: list[FieldError] | msgspec.UnsetType = msgspec.UNSET


# What the framework refuses by itself, as (slug, title, what it means).
_OF_STATUS: Final[dict[int, tuple[str, str, str]]] = {
    **{
        error.status: (error.slug(), error.title, inspect.getdoc(error) or "")
        for error in (
            Invalid,
            Unauthenticated,
            Forbidden,
            NotFound,
            TooLarge,
            UnsupportedMediaType,
            TooMany,
            Unavailable,
        )
    },
    405: (
        "method-not-allowed",
        "This path does not take that method",
        "`Allow` names what it does.",
    ),
    406: ("not-acceptable", "Not available in the form asked for", "Ask with another `Accept`."),
    500: ("internal-error", "Something went wrong in town", "The log has it under the request id."),
}


def kind(slug: str) -> str:
    """Spell the type of a problem: a path that answers with its text."""
    return f"/problems/{slug}"


def texts() -> dict[str, tuple[int, str, str]]:
    """List every kind of problem: slug -> (status, title, what it means)."""
    known = {slug: (status, title, text) for status, (slug, title, text) in _OF_STATUS.items()}
    for error in tree():
        known[error.slug()] = (error.status, error.title, inspect.getdoc(error) or "")
    return known


def problem(
    status: int,
    slug: str,
    title: str,
    detail: str | None,
    *,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response[dict[str, Any]]:
    """Write a problem; what an error adds can never replace the standard members."""
    body = {**(extra or {}), "type": kind(slug), "title": title, "status": status}
    if detail:
        body["detail"] = detail
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def of_town(_: Request[Any, Any, Any], error: TownError) -> Response[dict[str, Any]]:
    """Translate an error of the town."""
    extra = dict(error.extra)
    headers: dict[str, str] = {}
    if error.status in {429, 503}:
        extra.setdefault("retry_after_seconds", RETRY_SECONDS)
    if "retry_after_seconds" in extra:
        headers["Retry-After"] = str(max(1, math.ceil(extra["retry_after_seconds"])))
    if error.status == 401:
        headers["WWW-Authenticate"] = CHALLENGE
    return problem(
        error.status, error.slug(), error.title, error.detail, extra=extra, headers=headers
    )


def of_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """Translate a refusal of the framework."""
    status = error.status_code if error.status_code in _OF_STATUS else 400
    if error.status_code >= 500:
        status = 500
    slug, title, _meaning = _OF_STATUS[status]
    detail = None if status == 500 else error.detail
    extra = {}
    if isinstance(error.extra, list):
        extra["errors"] = [_field(entry, request) for entry in error.extra]
        detail = "; ".join(_sentence(entry) for entry in extra["errors"]) or detail
    return problem(status, slug, title, detail, extra=extra, headers=error.headers)


def of_anything(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Hide what nobody foresaw behind the request id, and log it."""
    # The route and not the path: a path may be an answer link.
    facts = {
        "route": request.scope.get("path_template"),
        "request_id": request.scope["state"].get("request_id"),
    }
    _log.error("http.broken", exc_info=error, extra={"facts": facts})
    slug, title, _ = _OF_STATUS[500]
    return problem(500, slug, title, "the log has it under the request id of this reply")


def _field(entry: Any, request: Request[Any, Any, Any]) -> dict[str, str]:
    if not isinstance(entry, Mapping):
        return {"message": str(entry)}
    field = {name: str(entry[name]) for name in ("key", "message", "source") if entry.get(name)}
    if field.get("key") == "data":
        del field["key"]  # the framework's word for the whole body
    if field.get("message") == "'data'":
        field["message"] = "a body is needed"  # the framework says no more than that name
    if "key" in field:
        field["key"] = _asked_as(field["key"], request)
    return field


def _asked_as(key: str, request: Request[Any, Any, Any]) -> str:
    """Name a parameter as callers write it: `state`, not what the handler calls it."""
    parameters = request.route_handler.parsed_fn_signature.parameters
    definition = parameters[key].kwarg_definition if key in parameters else None
    return getattr(definition, "name", None) or key


def _sentence(entry: dict[str, str]) -> str:
    message = entry.get("message", "")
    return f"{entry['key']}: {message}" if "key" in entry else message


def refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """Document the problems a route may answer with."""
    return {
        status: ResponseSpec(
            Problem,
            description=_OF_STATUS[status][1] if status in _OF_STATUS else _title(status),
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status in sorted(statuses)
    }


def _title(status: int) -> str:
    return next(error.title for error in tree() if error.status == status)
