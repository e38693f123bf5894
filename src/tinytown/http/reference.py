"""What this door says about itself: the OpenAPI document, and the text behind each problem type."""

from __future__ import annotations

from importlib import resources

import msgspec
from litestar import Response, get

from tinytown.errors import NotFound
from tinytown.http.parts import Id
from tinytown.http.problems import kind, refusals, texts


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
