"""Event to title, body, priority and buttons (pure): what a person reads on the lock screen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from tinytown.links import AnswerLinks
from tinytown.models.event import Event
from tinytown.models.mission import Mission
from tinytown.models.question import Question
from tinytown_notifiers.sinks import MAX_BUTTONS, Button, Message, Priority
from tinytown_notifiers.text import clip, line, plain

TITLE_BYTES: Final = 160
BODY_BYTES: Final = 3_000
"""ntfy turns more than 4096 bytes into an attachment; the rest is room for links."""
_CONTEXT_BYTES: Final = 1_200
_OPTION_BYTES: Final = 200
_LABEL_BYTES: Final = 40
"""What fits a button on a phone held upright."""
LINK_SECONDS: Final = 30 * 86_400
"""How long the links of a question without a deadline live: its mission hardly lasts longer."""

# What each event is worth, and the emoji that ntfy puts before the title.
_LOOKS: Final[dict[str, tuple[str, Priority, str]]] = {
    "question.asked": ("", Priority.HIGH, "question"),
    "question.reminded": ("Still waiting: ", Priority.HIGH, "question"),
    "question.answered": ("Answered: ", Priority.LOW, "speech_balloon"),
    "question.expired": ("No answer in time: ", Priority.DEFAULT, "hourglass"),
    "question.withdrawn": ("No longer asked: ", Priority.LOW, "wastebasket"),
    "mission.completed": ("Done: ", Priority.DEFAULT, "white_check_mark"),
    "mission.failed": ("Failed: ", Priority.HIGH, "x"),
    "mission.canceled": ("Canceled: ", Priority.LOW, "no_entry"),
    "mission.blocked": ("Waiting for you: ", Priority.DEFAULT, "raised_hand"),
    "task.dead": ("Given up: ", Priority.HIGH, "skull"),
    "task.failed": ("Task failed: ", Priority.DEFAULT, "x"),
    "worker.lost": ("Worker lost", Priority.DEFAULT, "warning"),
    "endpoint.failing": ("Endpoint failing", Priority.DEFAULT, "warning"),
    "endpoint.recovered": ("Endpoint works again", Priority.LOW, "white_check_mark"),
    "endpoint.disabled": ("Endpoint switched off", Priority.HIGH, "warning"),
    "delivery.dead": ("Delivery given up", Priority.DEFAULT, "warning"),
    "source.rejected": ("Inbound hook refused", Priority.DEFAULT, "warning"),
}
_NOBODY: Final = ("No worker can be started", Priority.HIGH, "warning")
_ASKING: Final = frozenset({"question.asked", "question.reminded"})
# What a person can do about news of endpoints, for whoever has the command line at hand.
_WHAT_TO_DO: Final = {
    "endpoint.failing": (
        "What it should hear is kept and tried again, less and less often.\n"
        "tt endpoint test {endpoint}"
    ),
    "endpoint.recovered": (
        "What waited for it goes out. What was given up meanwhile is sent again by:\n"
        "tt endpoint recover {endpoint} --since 5d"
    ),
    "endpoint.disabled": (
        "Nothing is sent to it any more. When it can hear again:\n"
        "tt endpoint resume {endpoint}\n"
        "tt endpoint recover {endpoint} --since 5d"
    ),
    "delivery.dead": "It is kept for a week. To send it again:\ntt replay {delivery}",
}
# Facts of an event's data that a person may like to read, in this order.
_FACTS: Final = ("summary", "reason", "error", "answer", "text", "name", "worker")


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a message is for."""

    endpoint_id: str
    url: str
    """The endpoint's address in clear. Secret."""

    def __repr__(self) -> str:
        """Name the endpoint, never its address."""
        return f"Recipient({self.endpoint_id!r})"


class Writer:
    """Words the events of one town."""

    def __init__(self, *, public_url: str | None, links: AnswerLinks) -> None:
        """Take the address under which phones reach the town; without one nothing is a link."""
        self.public_url = public_url
        self._links = links

    def word(
        self,
        event: Event,
        to: Recipient,
        *,
        question: Question | None = None,
        mission: Mission | None = None,
        about: str = "",
    ) -> Message:
        """Word one event, with the records it is about where there are any.

        `about` is what people call the endpoint that news of endpoints and deliveries are about.
        """
        if event.type in _ASKING and question is not None:
            return self._question(event, to, question, mission)
        prefix, priority, tag = _NOBODY if event.tells_no_starts else _look(event.type)
        name = _name_of(event, question, mission)
        title = prefix + name if event.mission_id is not None or not prefix else prefix
        if about:
            title = f"{title}: {line(about)}"
        body = _outcome(event, mission) if event.type.startswith("mission.") else _facts(event)
        if event.type in _WHAT_TO_DO:
            body = "\n\n".join(filter(None, (body, _what_to_do(event))))
        return Message(
            subject=_subject(event),
            title=clip(title.rstrip(": "), TITLE_BYTES),
            body=clip(body, BODY_BYTES) or name,
            url=to.url,
            priority=priority,
            click=mission_url(self.public_url, event.mission_id),
            tags=(tag,),
        )

    def word_test(self, to: Recipient) -> Message:
        """Word the message of `POST /v1/endpoints/{id}/test`."""
        return Message(
            subject=to.endpoint_id,
            title="tinytown can reach you",
            body="This is the test you asked for. Questions and results will arrive like this.",
            url=to.url,
            click=mission_url(self.public_url, None),
            tags=("wave",),
        )

    def _question(
        self, event: Event, to: Recipient, question: Question, mission: Mission | None
    ) -> Message:
        prefix, priority, tag = _look(event.type)
        click, buttons = self._ways_to_answer(question, to.endpoint_id)
        grave = question.risk == "high"
        return Message(
            subject=question.id,
            title=clip(prefix + _name_of(event, question, mission), TITLE_BYTES),
            body=_ask(question),
            url=to.url,
            priority=Priority.MAX if grave else priority,
            click=click,
            buttons=buttons,
            tags=(tag, "warning") if grave else (tag,),
        )

    def _ways_to_answer(
        self, question: Question, endpoint_id: str
    ) -> tuple[str | None, tuple[Button, ...]]:
        """Link to the question's page, and make a button per option where that is safe and fits."""
        page = self.answer_url(question, endpoint_id)
        if page is None:
            return None, ()
        labels = [clip(line(option), _LABEL_BYTES) for option in question.options]
        if not _fit_buttons(question, labels):
            return page, (Button(label="Answer", url=page, method=None),)
        links = [self.answer_url(question, endpoint_id, index) for index in range(len(labels))]
        buttons = [
            Button(label=label, url=url) for label, url in zip(labels, links, strict=True) if url
        ]
        if question.free_text and len(buttons) < MAX_BUTTONS:
            buttons.append(Button(label="Other answer", url=page, method=None))
        return page, tuple(buttons)

    def answer_url(
        self, question: Question, endpoint_id: str, choice: int | None = None
    ) -> str | None:
        """Make the link that answers with one option, or opens the question's page.

        None in a town that phones cannot reach. The same question gives the same link every time.
        """
        if not self.public_url:
            return None
        token = self._links.make(
            question.id,
            choice=choice,
            expires_at=link_expiry(question),
            endpoint_id=endpoint_id,
        )
        return f"{self.public_url.rstrip('/')}/a/{token}"


def mission_url(public_url: str | None, mission_id: str | None) -> str | None:
    """Name the phone page of a mission, or of the town where there is none."""
    if not public_url:
        return None
    base = f"{public_url.rstrip('/')}/"
    return base if mission_id is None else f"{base}?mission={mission_id}"


def link_expiry(question: Question) -> int:
    """Say until when a question's links live, in Unix seconds: as long as the question."""
    if question.expires_at:
        return _unix(question.expires_at)
    return _unix(question.asked_at) + LINK_SECONDS


def _look(event_type: str) -> tuple[str, Priority, str]:
    return _LOOKS.get(event_type, (_plainly(event_type), Priority.LOW, "bell"))


def _fit_buttons(question: Question, labels: Sequence[str]) -> bool:
    """Tell whether each option can be a button of its own that nobody can mistake."""
    if question.risk == "high":
        # Whoever reads the topic can press; a grave answer goes through the page.
        return False
    return 0 < len(labels) <= MAX_BUTTONS and all(labels) and len(set(labels)) == len(labels)


def _ask(question: Question) -> str:
    """Word the question itself: text, options, what happens in silence, context at the end."""
    tail = []
    if question.options:
        options = [clip(line(option), _OPTION_BYTES) for option in question.options]
        tail.append("Options: " + " · ".join(options))
    if question.expires_at:
        silence = (
            f"then: {clip(line(question.default), _OPTION_BYTES)}"
            if question.default is not None
            else "then the agent goes on without an answer"
        )
        tail.append(f"Until {_clock(question.expires_at)}, {silence}")
    closing = clip("\n".join(tail), BODY_BYTES // 3)
    context = clip(plain(question.context), _CONTEXT_BYTES)
    room = BODY_BYTES - len(closing.encode()) - len(context.encode()) - 4
    return "\n\n".join(filter(None, (clip(plain(question.text), room), closing, context)))


def _outcome(event: Event, mission: Mission | None) -> str:
    """Word how a mission ended."""
    facts = _facts(event)
    result = mission.result if mission else None
    if event.type != "mission.completed" or result is None:
        reason = mission.reason if mission else None
        return plain(reason) if reason else facts
    changed = result.files_changed
    files = f"{changed} file{'' if changed == 1 else 's'} changed" if changed else ""
    branch = f"Branch {line(result.branch)}" if result.branch else ""
    closing = " · ".join(filter(None, (branch, files)))
    summary = clip(plain(result.summary) or facts, BODY_BYTES - len(closing.encode()) - 2)
    return "\n\n".join(filter(None, (summary, closing)))


def _facts(event: Event) -> str:
    found = (event.data.get(name) for name in _FACTS)
    return "\n".join(plain(fact) for fact in found if isinstance(fact, str) and fact.strip())


def _what_to_do(event: Event) -> str:
    """Say what happens by itself, and what a person can do."""
    told_of, first = event.data.get("endpoint"), event.data.get("first_failure_at")
    if event.type == "endpoint.failing" and isinstance(first, str):
        off = event.data.get("disabled_at")
        until = f", and it is switched off on {_clock(off)}" if isinstance(off, str) else ""
        return f"Nothing got through since {_clock(first)}{until}.\ntt endpoint test {told_of}"
    return _WHAT_TO_DO[event.type].format(endpoint=told_of, delivery=event.data.get("delivery"))


def _name_of(event: Event, question: Question | None, mission: Mission | None) -> str:
    """Find the title a person gave (or would recognise)."""
    told: Any = event.data.get("title") or event.data.get("mission_title")
    for name in (
        question.mission_title if question else "",
        mission.title if mission else "",
        told if isinstance(told, str) else "",
        event.mission_id or "",
    ):
        if shown := line(name):
            return shown
    return _plainly(event.type)


def _subject(event: Event) -> str:
    question = event.data.get("question_id")
    if event.type.startswith("question.") and isinstance(question, str):
        return question
    return event.mission_id or event.id


def _plainly(event_type: str) -> str:
    """Make words of a name that has no wording of its own: `worker.started` → `Worker started`."""
    return event_type.replace(".", " ").capitalize()


def _unix(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp())


def _clock(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).strftime("%-d %b %H:%M UTC")
