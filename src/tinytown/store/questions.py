"""The questions' shelf: ask, answer, fetch the outcome, read and list."""

from __future__ import annotations

from typing import Literal

import msgspec

from tinytown.errors import AlreadyAnswered, IllegalMove, QuestionNotFound
from tinytown.models.question import Ask, OutcomeKind, Question, QuestionState
from tinytown.store import records
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.pages import Index, page_of
from tinytown.store.replies import DONE, REFUSED, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

Asked = Literal["asked", "open", "known"]
_ASKED: dict[int, Asked] = {1: "asked", 2: "open", 3: "known"}
_REPEATED = 2


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a question ended, as its agent hears it."""

    kind: OutcomeKind
    answer: str = ""
    by: str = ""
    via: str = ""


class Questions:
    """Reads and moves questions."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's questions."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def ask(
        self, question_id: str, ask: Ask, *, task_id: str, attempt: int
    ) -> tuple[Asked, str]:
        """Ask a person for a running task; says whether it is new and which question it is."""
        reply = await self._scripts.run(
            "ask_question",
            question=question_id,
            task=task_id,
            attempt=attempt,
            digest=ask.digest(),
            deadline_ms=round((ask.deadline_seconds or 0) * 1000),
            kind=ask.kind,
            text=ask.text,
            options=msgspec.json.encode(ask.options),
            free_text=int(ask.free_text),
            has_default=int(ask.default is not None),
            default=ask.default or "",
            context=ask.context,
            risk=ask.risk,
        )
        if reply[0] not in _ASKED:
            refuse(reply, QuestionNotFound, "task", "ask for")
        return _ASKED[reply[0]], reply[1]

    async def take(self, question_id: str, *, task_id: str, attempt: int) -> Outcome | None:
        """Fetch how a question ended for its agent; None while it is open."""
        reply = await self._scripts.run(
            "take_answer", question=question_id, task=task_id, attempt=attempt
        )
        if reply[0] == REFUSED:
            return None
        if reply[0] != DONE:
            refuse(reply, QuestionNotFound, "question", "take")
        _, _, outcome, answer, by, via = reply
        return Outcome(kind=OutcomeKind(outcome), answer=answer, by=by, via=via)

    async def answer(self, question_id: str, answer: str, *, by: str, via: str) -> bool:
        """Answer a question; False when the same answer was given before.

        Raises AlreadyAnswered (who and when ride along), IllegalMove when it expired or was
        withdrawn, QuestionNotFound.
        """
        reply = await self._scripts.run(
            "answer_question", question=question_id, answer=answer, by=by, via=via
        )
        if reply[0] == REFUSED:
            state, given, who, how, at_ms = reply[1:]
            at = records.instant(at_ms)
            if state == QuestionState.ANSWERED:
                raise AlreadyAnswered(
                    f"{who} already answered this at {at} via {how}",
                    state=state,
                    answer=given,
                    answered_by=who,
                    answered_via=how,
                    answered_at=at,
                )
            raise IllegalMove(f"this question is {state}", state=state, answered_at=at)
        if reply[0] not in {DONE, _REPEATED}:
            refuse(reply, QuestionNotFound, "question", "answer")
        return bool(reply[0] == DONE)

    async def read(self, question_id: str) -> Question:
        """Read a question; raises QuestionNotFound."""
        with store_errors():
            fields = await self._client.hgetall(self._keys("question", question_id))
        if not fields:
            raise QuestionNotFound("there is no question with this id")
        return records.question(question_id, fields)

    async def page(self, *, cursor: str | None, limit: int) -> tuple[list[Question], str | None]:
        """List the open questions, oldest first: who waits longest comes first."""
        ids, more = await page_of(
            self._client,
            Index(key=self._keys("questions_open"), field="asked_at", newest_first=False),
            cursor=cursor,
            record=self._keys("question", cursor or ""),
            limit=limit,
        )
        return await self._read_many(ids), ids[-1] if more else None

    async def of_mission(self, mission_id: str) -> list[Question]:
        """List all questions of a mission, oldest first."""
        with store_errors():
            ids = await self._client.zrange(self._keys("mission_questions", mission_id), 0, -1)
        return await self._read_many(ids)

    async def _read_many(self, ids: list[str]) -> list[Question]:
        if not ids:
            return []
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for question_id in ids:
                pipe.hgetall(self._keys("question", question_id))
            rows = await pipe.execute()
        return [
            records.question(question_id, fields)
            for question_id, fields in zip(ids, rows, strict=True)
            if fields
        ]
