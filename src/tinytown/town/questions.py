"""Questions: read them, answer one by key or by link."""

from __future__ import annotations

from typing import Final

from tinytown import clock, ids
from tinytown.errors import Invalid, MissionNotFound, QuestionNotFound
from tinytown.links import AnswerLink, AnswerLinks
from tinytown.models.question import TEXT_BYTES, Question
from tinytown.store import Store
from tinytown.town.missions import encoded

APPROVAL_OPTIONS: Final = ("approve", "deny")
"""What an approval can be answered with."""


class QuestionDesk:
    """What can be done with questions."""

    def __init__(self, store: Store, links: AnswerLinks) -> None:
        """Work on one town's questions."""
        self._store = store
        self._links = links

    async def read(self, question_id: str) -> Question:
        """Read a question; raises QuestionNotFound."""
        if not ids.is_id("question", question_id):
            raise QuestionNotFound("there is no question with this id")
        return await self._store.questions.read(question_id)

    async def page(self, *, cursor: str | None, limit: int) -> tuple[list[Question], str | None]:
        """List the open questions, the one that waits longest first."""
        return await self._store.questions.page(cursor=cursor, limit=limit)

    async def of_mission(self, mission_id: str) -> list[Question]:
        """List all questions of a mission, oldest first; raises MissionNotFound."""
        if not ids.is_id("mission", mission_id):
            raise MissionNotFound("there is no mission with this id")
        found = await self._store.questions.of_mission(mission_id)
        if not found:
            await self._store.missions.read(mission_id)
        return found

    async def answer(self, question_id: str, answer: str, *, by: str, via: str) -> Question:
        """Answer a question; the first answer wins.

        Raises AlreadyAnswered with who and when, IllegalMove when it is over, Invalid for an
        answer the question does not offer.
        """
        question = await self.read(question_id)
        await self._store.questions.answer(question_id, fitting(question, answer), by=by, via=via)
        return await self.read(question_id)

    def open_link(self, token: str) -> AnswerLink:
        """Check an answer link's token; raises NotFound or Gone."""
        return self._links.verify(token, now=clock.unix_seconds())


def fitting(question: Question, answer: str) -> str:
    """Check that an answer is one the question offers; says it in the question's own spelling."""
    if not 1 <= len(encoded(answer, "answer").strip()) <= TEXT_BYTES:
        raise Invalid(f"an answer has 1 to {TEXT_BYTES} bytes")
    options = question.options
    if not options or question.free_text:
        return answer
    by_fold = {option.strip().casefold(): option for option in options}
    found = by_fold.get(answer.strip().casefold())
    if found is None:
        raise Invalid(f"the answer must be one of: {', '.join(options)}", options=list(options))
    return found
