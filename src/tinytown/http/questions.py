"""/v1/questions: what waits for a person, and the answer."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, get, post
from litestar.params import JSONBody, QueryParameter

from tinytown.errors import Invalid
from tinytown.http.lists import Cursor, Limit, QuestionPage
from tinytown.http.parts import Id, TheActor, TheTown
from tinytown.http.problems import refusals
from tinytown.models.question import Answer, Question, QuestionState


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_questions",
    summary="List questions",
    responses=refusals(400, 401, 403, 404, 503),
)
async def list_questions(
    town: TheTown,
    in_state: Annotated[
        QuestionState | None,
        QueryParameter(
            name="state", description="Without a mission only `open` questions can be listed."
        ),
    ] = None,
    mission: Annotated[
        str | None, QueryParameter(max_length=64, description="All questions of one mission.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> QuestionPage:
    """List the open questions of the town, or all of one mission, oldest first."""
    if mission is not None:
        found = await town.questions.of_mission(mission)
        items = [each for each in found if in_state is None or each.state is in_state]
        start = next((i + 1 for i, each in enumerate(items) if each.id == cursor), 0)
        page = items[start : start + limit]
        more = page[-1].id if start + limit < len(items) else None
        return QuestionPage(items=page, next_cursor=more)
    if in_state not in {None, QuestionState.OPEN}:
        raise Invalid("questions that are over are listed by mission: add ?mission=")
    items, more = await town.questions.page(cursor=cursor, limit=limit)
    return QuestionPage(items=items, next_cursor=more)


@get(
    "/{question_id:str}",
    opt={"scope": "read"},
    operation_id="read_question",
    summary="Read a question",
    responses=refusals(401, 403, 404, 503),
)
async def read_question(question_id: Id, town: TheTown) -> Question:
    """Read a question and, when it is over, how it ended."""
    return await town.questions.read(question_id)


@post(
    "/{question_id:str}/answer",
    opt={"scope": "answer"},
    status_code=200,
    operation_id="answer_question",
    summary="Answer a question",
    responses=refusals(400, 401, 403, 404, 409, 413, 415, 503),
)
async def answer_question(
    question_id: Id, data: JSONBody[Answer], town: TheTown, actor: TheActor
) -> Question:
    """Answer a question. The first answer wins; the same again is fine, another is a conflict."""
    return await town.questions.answer(question_id, data.answer, by=actor.name, via="api")


def routes() -> Router:
    """Gather the routes of questions."""
    return Router(
        "/v1/questions",
        route_handlers=[list_questions, read_question, answer_question],
        tags=["questions"],
    )
