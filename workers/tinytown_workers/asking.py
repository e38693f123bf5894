"""Asking: how a running agent's question reaches a person and the answer comes back.

The question is stored before anybody waits for it. The answer is announced in the worker's inbox
and fetched under the lease, so an approval is spent by exactly one attempt.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import anyio
import msgspec

from tinytown import ids
from tinytown.models.question import Ask, OutcomeKind
from tinytown.models.task import Claim, Message
from tinytown.store import Store
from tinytown.store.questions import Outcome
from tinytown_workers.desk import AskReply, Via
from tinytown_workers.process import Pulse

_log = logging.getLogger(__name__)

PROGRESS_SECONDS: Final = 1.0
"""At most one progress event a second: agents can be talkative, phones should not be."""


class Asked(msgspec.Struct, frozen=True):
    """A question whose agent ended its turn before the answer came."""

    question_id: str
    ask: Ask


class Asking:
    """Serves the desk of one session (a `DeskHandler`)."""

    def __init__(self, store: Store, claim: Claim, pulse: Pulse, *, hold_seconds: float) -> None:
        """Ask for one claim; `pulse` holds the agent's clocks while a person thinks."""
        self._store = store
        self._claim = claim
        self._pulse = pulse
        self._hold_seconds = hold_seconds
        self._bells: dict[str, anyio.Event] = {}
        self._open: dict[str, Asked] = {}
        self._messages: list[Message] = []
        self._told = {message.id for message in claim.messages}
        self._late: dict[str, tuple[str, Outcome]] = {}
        self._progress_at = float("-inf")
        self.parked = anyio.Event()
        """Set when an agent was told to end its turn because nobody has answered yet."""

    # What the inbox tells ---------------------------------------------------------------------

    def answered(self, question_id: str) -> None:
        """Hear that a question has ended."""
        if (bell := self._bells.get(question_id)) is not None:
            bell.set()

    def look_again(self) -> None:
        """Let every waiter look for itself: signals may have been lost (Redis was emptied)."""
        for bell in self._bells.values():
            bell.set()

    def begin_turn(self) -> None:
        """Forget that an earlier turn was told to end."""
        self.parked = anyio.Event()

    def heard(self, message: Message) -> None:
        """Keep a person's sentence for the agent's next call."""
        if message.id not in self._told:
            self._told.add(message.id)
            self._messages.append(message)

    # What the session asks --------------------------------------------------------------------

    def unheard(self) -> tuple[Message, ...]:
        """Take the sentences that no call of the agent has fetched."""
        messages = tuple(self._messages)
        self._messages.clear()
        return messages

    @property
    def told(self) -> tuple[str, ...]:
        """The ids of the sentences that the agent has been told."""
        waiting = {message.id for message in self._messages}
        return tuple(sorted(self._told - waiting))

    def catch_up(self, told: Sequence[str]) -> None:
        """Go on with a session that knows only these sentences of people."""
        self._told = set(told)
        for message in self._claim.messages:
            self.heard(message)

    @property
    def left_open(self) -> tuple[Asked, ...]:
        """The questions the agent asked and did not wait for."""
        return tuple(self._open.values())

    async def ask_again(self, ask: Ask) -> None:
        """Attach this attempt to a question of an earlier one that is still open."""
        question_id = await self._asked(ask)
        self._open[question_id] = Asked(question_id, ask)

    async def outcome(self, question_id: str) -> Outcome:
        """Wait for the end of a question that was left open."""
        found = await self._wait(question_id)
        asked = self._open.pop(question_id, None)
        if asked is not None and asked.ask.kind == "approval":
            # Told in words, it has done nothing yet: it is spent by the call it was asked for.
            self._late[asked.ask.digest()] = (question_id, found)
        return found

    # What the agent asks (DeskHandler) --------------------------------------------------------

    async def ask(self, ask: Ask, *, via: Via) -> AskReply:
        """Store the question and wait for its end."""
        if (late := self._late.pop(ask.digest(), None)) is not None:
            return self._reply(*late, ask)
        question_id = self._left_open(ask) or await self._asked(ask)
        self._open[question_id] = Asked(question_id, ask)
        with self._pulse.held():
            with anyio.move_on_after(self._hold_seconds):
                found = await self._wait(question_id)
                self._open.pop(question_id, None)
                if not self._open:
                    self.parked = anyio.Event()  # asked once more, it has its answer after all
                return self._reply(question_id, found, ask)
        _log.info("question.parked", extra={"facts": {"question": question_id, "via": via}})
        self.parked.set()
        return AskReply(outcome="parked", question_id=question_id, messages=self._words(ask))

    async def progress(self, text: str, percent: float | None) -> tuple[Message, ...]:
        """Tell people how far the agent is."""
        now = anyio.current_time()
        self._pulse.beat()
        if now - self._progress_at >= PROGRESS_SECONDS:
            self._progress_at = now
            facts = {"name": self._claim.name, "text": text, "percent": percent}
            await self._store.docket.progress(self._claim.task_id, self._claim.attempt, facts)
        return self.unheard()

    async def inbox(self) -> tuple[Message, ...]:
        """Hand over what people wrote."""
        return self.unheard()

    def _left_open(self, ask: Ask) -> str | None:
        """Find the same question among those left open: it may have its answer by now."""
        same = (asked for asked in self._open.values() if asked.ask.digest() == ask.digest())
        return next((asked.question_id for asked in same), None)

    async def _asked(self, ask: Ask) -> str:
        """Put the question to people and return its id."""
        _, question_id = await self._store.patience.keep_trying("ask", lambda: self._put(ask))
        return question_id

    async def _put(self, ask: Ask) -> tuple[str, str]:
        return await self._store.questions.ask(
            ids.new("question"), ask, task_id=self._claim.task_id, attempt=self._claim.attempt
        )

    async def _wait(self, question_id: str) -> Outcome:
        bell = self._bells[question_id] = anyio.Event()
        while True:
            found = await self._store.patience.keep_trying(
                "answer", lambda: self._take(question_id)
            )
            if found is not None:
                return found
            await bell.wait()
            bell = self._bells[question_id] = anyio.Event()

    async def _take(self, question_id: str) -> Outcome | None:
        # Shielded: an approval that was spent must reach the desk even if its asker leaves now.
        found: Outcome | None = None
        with anyio.CancelScope(shield=True):
            found = await self._store.questions.take(
                question_id, task_id=self._claim.task_id, attempt=self._claim.attempt
            )
        return found  # noqa: RET504 (mypy cannot see that a shield swallows nothing)

    def _words(self, ask: Ask) -> tuple[Message, ...]:
        """Take what people wrote, unless the reply is a verdict that cannot carry it."""
        return () if ask.kind == "approval" else self.unheard()

    def _reply(self, question_id: str, found: Outcome, ask: Ask) -> AskReply:
        spoken = found.kind in {OutcomeKind.ANSWERED, OutcomeKind.DEFAULTED}
        return AskReply(
            outcome=found.kind.value,
            question_id=question_id,
            answer=found.answer if spoken else None,
            by=found.by or None,
            via=found.via or None,
            messages=self._words(ask),
        )
