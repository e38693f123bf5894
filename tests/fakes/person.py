"""A person at the other end of the desk: hears questions, answers when the test says so."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tinytown.models.question import Ask
from tinytown.models.task import Message
from tinytown_workers.desk import AskReply, Via


class Person:
    """A desk handler that a test moves by hand."""

    def __init__(self) -> None:
        self.questions: list[Ask] = []
        self.via: list[Via] = []
        self.reports: list[tuple[str, float | None]] = []
        self.messages: list[Message] = []
        self.trouble: Exception | None = None
        self.answer_on_leaving: str | None = None
        self.answer_at_once: Callable[[Ask], AskReply] | None = None
        self._heard = anyio.Semaphore(0)
        self._left = anyio.Semaphore(0)
        self._told = 0
        self._open: dict[str, list[tuple[anyio.Event, list[AskReply]]]] = {}

    async def ask(self, ask: Ask, *, via: Via) -> AskReply:
        """Hear a question and wait until the test answers it."""
        if self.trouble is not None:
            raise self.trouble
        self.questions.append(ask)
        self.via.append(via)
        if self.answer_at_once is not None:
            return self.answer_at_once(ask)
        entry = answered, replies = (anyio.Event(), list[AskReply]())
        self._open.setdefault(ask.text, []).append(entry)
        self._heard.release()
        try:
            await answered.wait()
        except BaseException:
            self._open[ask.text].remove(entry)
            self._left.release()
            if self.answer_on_leaving is not None:
                return AskReply(outcome="answered", answer=self.answer_on_leaving)
            raise
        return replies[0]

    async def progress(self, text: str, percent: float | None) -> tuple[Message, ...]:
        """Hear how far the agent is."""
        self.reports.append((text, percent))
        return await self.inbox()

    async def inbox(self) -> tuple[Message, ...]:
        """Hand over what was written."""
        if self.trouble is not None:
            raise self.trouble
        taken, self.messages = tuple(self.messages), []
        return taken

    async def asked(self) -> Ask:
        """Wait for the next question."""
        with anyio.fail_after(10):
            await self._heard.acquire()
        self._told += 1
        return self.questions[self._told - 1]

    async def left(self) -> None:
        """Wait until somebody stopped waiting."""
        with anyio.fail_after(10):
            await self._left.acquire()

    def answer(self, answer: str, *, by: str = "a person", to: str = "Red or blue?") -> None:
        """Answer an open question."""
        reply = AskReply(outcome="answered", question_id="qst_1", answer=answer, by=by, via="push")
        self.reply(reply, to=to)

    def reply(self, reply: AskReply, *, to: str) -> None:
        """End an open question in any way; of equal ones the oldest."""
        answered, replies = self._open[to].pop(0)
        replies.append(reply)
        answered.set()
