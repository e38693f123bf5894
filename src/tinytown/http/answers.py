"""/a/{token}: the answer link in a push. Looking changes nothing; pressing a button answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response, Router, get, head, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import OpenAPIMediaType, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from tinytown.errors import (
    AlreadyAnswered,
    EndpointNotFound,
    Gone,
    IllegalMove,
    Invalid,
    NotFound,
    QuestionNotFound,
    TownError,
    UnsupportedMediaType,
)
from tinytown.http.answer_page import HEADERS, ended_page, plain_page, question_page
from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import of_town, refusals
from tinytown.links import AnswerLink
from tinytown.models.question import Answer, Question, QuestionState
from tinytown.town import Town
from tinytown.town.questions import APPROVAL_OPTIONS

_FORM: Final = "application/x-www-form-urlencoded"
_FIELDS: Final = 8


@dataclass
class _AnswerOperation(Operation):
    """Documents the body, which the framework does not read for this route."""

    def __post_init__(self) -> None:
        text = Schema(type=OpenAPIType.STRING)
        fields: dict[str, Reference | Schema] = {"choice": text, "answer": text}
        answer = Reference("#/components/schemas/Answer")
        self.request_body = RequestBody(
            description="Nothing, for a link that stands for one option; else one of the two.",
            required=False,
            content={
                _FORM: OpenAPIMediaType(Schema(type=OpenAPIType.OBJECT, properties=fields)),
                "application/json": OpenAPIMediaType(answer),
            },
        )


_PAGE: Final = {
    200: ResponseSpec(Question, description="The question, as a page or as JSON"),
    **refusals(404, 410, 503),
}


@get(
    "/{token:str}",
    operation_id="open_answer_link",
    summary="Look at a question",
    responses=_PAGE,
)
async def open_link(token: Id, request: Request[Any, Any, Any], town: TheTown) -> Response[Any]:
    """Show the question of a link; changes nothing. HTML, or JSON where `Accept` asks for it."""
    as_json = wants_json(request)
    try:
        link, question = await _opened(town, token)
    except (NotFound, Gone) as error:
        return await _refused(request, town, error, as_json=as_json)
    return _json(question) if as_json else _html(_page(link, question))


@head("/{token:str}", include_in_schema=False)
async def look_at_link(token: Id, town: TheTown) -> Response[None]:
    """Say by the status alone whether a link is good; changes nothing."""
    try:
        await _opened(town, token)
    except (NotFound, Gone) as error:
        return Response(None, status_code=error.status, headers=HEADERS)
    return Response(None, headers=HEADERS)


@post(
    "/{token:str}",
    status_code=200,
    operation_id="answer_by_link",
    summary="Answer a question",
    operation_class=_AnswerOperation,
    responses={**_PAGE, **refusals(400, 404, 409, 410, 413, 415, 503)},
)
async def answer_link(token: Id, request: Request[Any, Any, Any], town: TheTown) -> Response[Any]:
    """Answer. The first answer wins; the same again is fine, another gets 409 and who was first."""
    # A body says how long it is or that it comes in chunks; what has neither is a bare tap.
    tap = request.headers.get("content-length", "0") == "0" and not _chunked(request)
    as_json = tap or wants_json(request)
    try:
        link, question = await _opened(town, token)
        # Only who holds a genuine link may send a body at all.
        answer = _answer(request, await request.body(), link, question)
        by = await _name(town, link)
        done = await town.questions.answer(question.id, answer, by=by, via="link")
    except Invalid as error:
        if as_json:
            return _bare(of_town(request, error))
        return _html(_page(link, question, news=f"{error.detail}."), status=400)
    except (NotFound, Gone, AlreadyAnswered, IllegalMove) as error:
        return await _refused(request, town, error, as_json=as_json, token=token)
    return _json(done) if as_json else _html(ended_page(done))


def _chunked(request: Request[Any, Any, Any]) -> bool:
    return "transfer-encoding" in request.headers


async def _opened(town: Town, token: str) -> tuple[AnswerLink, Question]:
    """Check a link and read its question; raises NotFound or Gone."""
    link = town.questions.open_link(token)
    try:
        question = await town.questions.read(link.question_id)
        if link.endpoint_id is not None:
            await town.endpoints.read(link.endpoint_id)
    except QuestionNotFound:
        raise NotFound("this is no link of this town") from None
    except EndpointNotFound:
        raise Gone("the phone this link was sent to is no longer known here") from None
    return link, question


async def _name(town: Town, link: AnswerLink) -> str:
    """Name who answers: whoever holds the endpoint the link was sent to."""
    if link.endpoint_id is None:
        return "link"
    endpoint = await town.endpoints.read(link.endpoint_id)
    return endpoint.name or endpoint.id


def options_of(question: Question) -> tuple[str, ...]:
    """List what a question offers; an approval always offers the two."""
    if question.kind == "approval" and not question.options:
        return APPROVAL_OPTIONS
    return question.options


def _answer(
    request: Request[Any, Any, Any], body: bytes, link: AnswerLink, question: Question
) -> str:
    """Read what was chosen; a link that stands for one option can say nothing else."""
    options = options_of(question)
    said = _said(request, body, options)
    if link.choice is None:
        if said is None:
            raise Invalid("choose one of the answers" if options else "write an answer")
        return said
    if link.choice >= len(options):
        raise Invalid("this link stands for an option the question does not have")
    chosen = options[link.choice]
    if said is not None and said != chosen:
        raise Invalid("this link stands for another answer")
    return chosen


def _said(request: Request[Any, Any, Any], body: bytes, options: tuple[str, ...]) -> str | None:
    if not body:
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            return msgspec.json.decode(body, type=Answer).answer
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(f"the body is not what it should be: {error}") from None
    if kind != _FORM:
        raise UnsupportedMediaType('send a form, or JSON such as {"answer": "…"}')
    try:
        fields = parse_qs(body.decode(), errors="strict", max_num_fields=_FIELDS)
    except ValueError:
        raise Invalid("the form cannot be read") from None
    if "choice" in fields:
        index = fields["choice"][0]
        if not (index.isascii() and index.isdecimal() and int(index[:4]) < len(options)):
            raise Invalid("there is no such option")
        return options[int(index)]
    # Browsers write line ends of text areas as CRLF.
    return fields["answer"][0].replace("\r\n", "\n") if "answer" in fields else None


def _page(link: AnswerLink, question: Question, *, news: str = "") -> str:
    if question.state is not QuestionState.OPEN:
        return ended_page(question, news=news)
    numbered = list(enumerate(options_of(question)))
    if question.kind == "approval":
        numbered = [(index, option.capitalize()) for index, option in numbered]
    if link.choice is not None:
        only = numbered[link.choice : link.choice + 1]
        return question_page(question, options=only, free_text=False, news=news)
    free_text = question.free_text or not numbered
    return question_page(question, options=numbered, free_text=free_text, news=news)


async def _refused(
    request: Request[Any, Any, Any],
    town: Town,
    error: TownError,
    *,
    as_json: bool,
    token: str = "",
) -> Response[Any]:
    """Say why not, in the form asked for; who holds a genuine link also learns what happened."""
    if as_json:
        return _bare(of_town(request, error))
    question_id = error.extra.get("question_id")
    if isinstance(error, AlreadyAnswered | IllegalMove):
        question_id = town.questions.open_link(token).question_id
    if question_id:
        try:
            question = await town.questions.read(question_id)
        except NotFound:
            pass
        else:
            if question.state is not QuestionState.OPEN:
                news = "Somebody was faster: your answer was not used."
                taken = isinstance(error, AlreadyAnswered)
                return _html(ended_page(question, news=news if taken else ""), error.status)
    return _html(
        plain_page(error.title, f"{error.detail[:1].upper()}{error.detail[1:]}."), error.status
    )


def wants_json(request: Request[Any, Any, Any]) -> bool:
    """Tell whether the caller is a program: it names JSON and no page."""
    accept = request.headers.get("accept", "")
    return "json" in accept and "text/html" not in accept


def _json(question: Question) -> Response[Question]:
    return Response(question, headers=HEADERS, media_type="application/json")


def _html(page: str, status: int = 200) -> Response[str]:
    return Response(page, status_code=status, headers=HEADERS, media_type="text/html")


def _bare(response: Response[Any]) -> Response[Any]:
    response.headers.update(HEADERS)
    return response


def routes() -> Router:
    """Gather the routes of answer links."""
    return Router(
        "/a", route_handlers=[open_link, look_at_link, answer_link], tags=["answer links"]
    )
