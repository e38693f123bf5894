"""What this door says about itself: the OpenAPI document, and the text behind each problem type."""

from __future__ import annotations

from importlib import resources
from typing import Final

import msgspec
from litestar import Litestar, Response, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme

import tinytown
from tinytown.errors import NotFound
from tinytown.http.parts import Id
from tinytown.http.problems import kind, refusals, texts

_ABOUT: Final = (
    "Start a coding mission, close the laptop, answer its questions from the phone.\n\n"
    "Times are RFC 3339 UTC, durations end in `_seconds`, errors are `application/problem+json` "
    "(RFC 9457). Lists are `{items, next_cursor}`: pass `next_cursor` on as `?cursor=`. Every POST "
    "that creates takes an `Idempotency-Key`: the same key and body get the same reply for 24 h. "
    "Every reply carries `X-Request-Id`; send one and it is used."
)


def config() -> OpenAPIConfig:
    """Describe the document; nothing of Litestar's own pages is served."""
    return OpenAPIConfig(
        title="tinytown",
        version=tinytown.__version__,
        description=_ABOUT,
        components=Components(
            security_schemes={"key": SecurityScheme(type="http", scheme="bearer")}
        ),
        render_plugins=[],
        use_handler_docstrings=True,
    )


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of problem."""

    type: str
    title: str
    status: int
    description: str


@get(
    "/problems/{slug:str}",
    operation_id="read_problem",
    summary="What does a problem type mean?",
    tags=["reference"],
    responses=refusals(404),
)
async def problem_text(slug: Id) -> Kind:
    """Explain one kind of problem: where its `type` leads."""
    found = texts().get(slug)
    if found is None:
        raise NotFound("there is no such kind of problem")
    status, title, text = found
    return Kind(type=kind(slug), title=title, status=status, description=text)


@get("/schema/openapi.json", include_in_schema=False)
async def openapi() -> Response[bytes]:
    """Serve the OpenAPI document as it was written when this version was made."""
    text = (resources.files("tinytown.http") / "openapi.json").read_bytes()
    return Response(text, media_type="application/vnd.oai.openapi+json;version=3.1")


def document(app: Litestar) -> str:
    """Write the OpenAPI document of an application that was built `described`."""
    schema = app.openapi_schema.to_schema()
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"
