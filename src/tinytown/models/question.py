"""Question and Answer: a blocking ask to a person, and the first reply."""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from tinytown.models.moves import Moves, one

Kind = Literal["choice", "text", "approval"]
Risk = Literal["low", "medium", "high"]
TEXT_BYTES: Final = 8_192
"""The longest question or answer: more does not fit a phone."""


class QuestionState(StrEnum):
    """Where a question stands."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"


class QuestionMove(StrEnum):
    """What can happen to a question."""

    ANSWER = "answer"
    EXPIRE = "expire"
    WITHDRAW = "withdraw"


class OutcomeKind(StrEnum):
    """What the agent hears. Silence is never consent: only `answered` came from a person."""

    ANSWERED = "answered"
    DEFAULTED = "defaulted"
    NO_ANSWER = "no_answer"
    WITHDRAWN = "withdrawn"


ENDED: Final = one(QuestionState.ANSWERED, QuestionState.EXPIRED, QuestionState.WITHDRAWN)

_S = QuestionState
MOVES: Final[Moves[QuestionMove, QuestionState]] = {
    QuestionMove.ANSWER: (one(_S.OPEN), one(_S.ANSWERED)),
    QuestionMove.EXPIRE: (one(_S.OPEN), one(_S.EXPIRED)),
    QuestionMove.WITHDRAW: (one(_S.OPEN), one(_S.WITHDRAWN)),
}

Option = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A question as an agent's worker puts it."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_BYTES)]
    kind: Kind = "text"
    options: Annotated[tuple[Option, ...], msgspec.Meta(max_length=20)] = ()
    free_text: bool = False
    """Whether an answer outside the options is welcome."""
    default: Annotated[str, msgspec.Meta(max_length=TEXT_BYTES)] | None = None
    context: Annotated[str, msgspec.Meta(max_length=TEXT_BYTES)] = ""
    risk: Risk = "low"
    deadline_seconds: Annotated[float, msgspec.Meta(gt=0, le=2_592_000)] | None = None
    """None: the question stays open as long as its mission does."""
    binding: str = ""
    """An approval's tool and the SHA-256 of its arguments; part of the digest."""

    def digest(self) -> str:
        """Name what is asked: a later attempt that asks the same is the same question."""
        parts = msgspec.json.encode(
            [self.kind, self.text, self.options, self.free_text, self.binding]
        )
        return hashlib.sha256(parts).hexdigest()[:32]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question as everyone sees it."""

    id: str
    mission_id: str
    task_id: str
    kind: Kind
    text: str
    options: tuple[str, ...] = ()
    free_text: bool = False
    default: str | None = None
    context: str = ""
    risk: Risk = "low"
    asked_at: str = ""
    expires_at: str | None = None
    state: QuestionState = QuestionState.OPEN
    answer: str | None = None
    answered_at: str | None = None
    answered_by: str | None = None
    answered_via: str | None = None
    outcome: OutcomeKind | None = None
    mission_title: str = ""


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `POST /v1/questions/{id}/answer` carries."""

    answer: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_BYTES)]
