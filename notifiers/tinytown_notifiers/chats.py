"""Event to a message for a chat room (pure): Slack's blocks, Discord's embeds, in their bounds.

What agents write is shown as it was written: nothing in it can format, link, mention or hide. The
only links are ours, and they are buttons or fields of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from tinytown import ids
from tinytown.models.event import Event
from tinytown.models.facts import QuestionAsked
from tinytown.models.mission import Mission, MissionState, Result
from tinytown.models.question import Question
from tinytown_notifiers.sinks import Priority
from tinytown_notifiers.text import clip, line
from tinytown_notifiers.wording import Recipient, Writer

MOST_ANSWERS: Final = 5
"""More would be a list to read, not buttons to press; the page has them all."""
_URL_LENGTH: Final = 400
"""A link in a message has some 150 characters; a longer one would crowd out the words."""

# https://docs.slack.dev/reference/block-kit/blocks and …/block-elements/button-element
_SLACK: Final = {"header": 150, "section": 3_000, "label": 75, "text": 3_000}
# https://discord.com/developers/docs/resources/message#embed-object-embed-limits
_DISCORD: Final = {"content": 2_000, "description": 4_096, "field": 256, "all": 6_000}
_COLORS: Final = {
    Priority.LOW: 0x95A5A6,
    Priority.DEFAULT: 0x3498DB,
    Priority.HIGH: 0xE67E22,
    Priority.MAX: 0xE74C3C,
}
_CALLS: Final = re.compile(r"@(?=everyone|here|channel)", re.IGNORECASE)
_MARKS: Final = re.compile(r"([\\*_~`|\[\]()<>#:@!-])")
_ASKING: Final = frozenset({"question.asked", "question.reminded"})


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One way to answer; the link is a capability."""

    label: str
    url: str

    @property
    def token(self) -> str:
        """Give back the link's token, which a program can answer with."""
        return self.url.rpartition("/")[2]

    def __repr__(self) -> str:
        """Show the label, never the link."""
        return f"Answer({self.label!r})"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a chat room is told: words, and where they lead."""

    title: str
    body: str
    happened: str
    """The type of the event in words."""
    priority: Priority
    page: str | None
    """Where the title leads: the page of the question, or of the mission."""
    answers: tuple[Answer, ...]
    footer: str
    timestamp: str
    question_id: str | None


def note(event: Event, *, writer: Writer, endpoint_id: str, thin: bool) -> Note:
    """Word an event from what it says itself; a thin note tells what happened, not the words."""
    question = question_of(event)
    message = writer.word(
        event,
        Recipient(endpoint_id=endpoint_id, url=""),
        question=question,
        mission=mission_of(event),
    )
    answers: tuple[Answer, ...] = ()
    if question is not None and event.type in _ASKING:
        answers = _answers(question, writer, endpoint_id, thin=thin)
    page = message.click if message.click and len(message.click) <= _URL_LENGTH else None
    happened = event.type.replace(".", " ").capitalize()
    return Note(
        title=happened if thin else line(message.title) or happened,
        body="" if thin else message.body,
        happened=happened,
        priority=message.priority,
        page=page,
        answers=answers,
        footer=f"{event.type} · {line(event.town)}",
        timestamp=event.timestamp,
        question_id=question.id if question else None,
    )


def question_of(event: Event) -> Question | None:
    """Make the question of the event that asks it, as it was asked; None for other events."""
    if event.type not in _ASKING or event.mission_id is None or event.task_id is None:
        return None
    try:
        asked = msgspec.convert(event.data, QuestionAsked)
        known = msgspec.to_builtins(asked)
        known["id"] = known.pop("question_id")
        known["mission_title"] = known.pop("title")
        question = msgspec.convert(
            {
                **known,
                "mission_id": event.mission_id,
                "task_id": event.task_id,
                "asked_at": event.timestamp,
            },
            Question,
        )
        for moment in filter(None, (question.asked_at, question.expires_at)):
            datetime.fromisoformat(moment)
    except (msgspec.ValidationError, ValueError):
        return None
    return question if ids.is_id("question", question.id) else None


def mission_of(event: Event) -> Mission | None:
    """Make of an event that ends a mission as much of the mission as it tells; None for others."""
    told = event.data
    if event.mission_id is None or not isinstance(told.get("result"), dict):
        return None
    try:
        return Mission(
            id=event.mission_id,
            title=str(told.get("title") or ""),
            goal="",
            state=MissionState(str(told.get("state"))),
            created_at=event.timestamp,
            result=msgspec.convert(told["result"], Result),
            reason=str(told["reason"]) if "reason" in told else None,
        )
    except (msgspec.ValidationError, ValueError):
        return None


def _answers(
    question: Question, writer: Writer, endpoint_id: str, *, thin: bool
) -> tuple[Answer, ...]:
    """List a button per option where nobody can mistake one, else one that leads to the page."""
    page = writer.answer_url(question, endpoint_id)
    if page is None or len(page) > _URL_LENGTH:
        return ()
    labels = [clip(line(option), _SLACK["label"] // 2) for option in question.options]
    plain_choice = 0 < len(labels) <= MOST_ANSWERS and all(labels)
    if thin or question.risk == "high" or not plain_choice or len(set(labels)) < len(labels):
        return (Answer(label="Answer", url=page),)
    made = [
        Answer(label=label, url=url)
        for index, label in enumerate(labels)
        if (url := writer.answer_url(question, endpoint_id, index))
    ]
    if question.free_text and len(made) < MOST_ANSWERS:
        made.append(Answer(label="Other answer", url=page))
    return tuple(made)


def slack(told: Note) -> dict[str, Any]:
    """Make a message of Slack's blocks; every text is plain, so Slack formats nothing in it."""

    def plain(text: str, limit: int) -> dict[str, Any]:
        return {"type": "plain_text", "text": fit(text, limit, _for_slack), "emoji": False}

    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": plain(told.title, _SLACK["header"])},
    ]
    if told.body:
        blocks.append({"type": "section", "text": plain(told.body, _SLACK["section"])})
    buttons: list[dict[str, Any]] = [
        {
            "type": "button",
            "action_id": f"answer:{index}",
            "text": plain(answer.label, _SLACK["label"]),
            "value": answer.token,
            "url": answer.url,
        }
        for index, answer in enumerate(told.answers)
    ]
    if not buttons and told.page:
        buttons = [
            {
                "type": "button",
                "action_id": "open",
                "text": plain("Open", _SLACK["label"]),
                "url": told.page,
            }
        ]
    if buttons:
        named = {"block_id": f"question:{told.question_id}"} if told.question_id else {}
        blocks.append({"type": "actions", **named, "elements": buttons})
    blocks.append({"type": "context", "elements": [plain(told.footer, _SLACK["header"])]})
    summary = f"{told.title}\n{told.body}" if told.body else told.title
    return {
        "text": fit(summary, _SLACK["text"], _for_slack),
        "blocks": blocks,
        "mrkdwn": False,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def discord(told: Note) -> dict[str, Any]:
    """Make a message with one embed; nobody is mentioned, whatever the words say."""
    fields = [
        {
            "name": fit(answer.label, _DISCORD["field"], _for_discord),
            "value": f"[Answer]({answer.url})",
            "inline": True,
        }
        for answer in told.answers
    ]
    taken = (
        len(told.happened) + len(told.footer) + sum(len(f"{f['name']}{f['value']}") for f in fields)
    )
    room = min(_DISCORD["description"], _DISCORD["all"] - taken)
    embed: dict[str, Any] = {
        "title": told.happened,
        "color": _COLORS.get(told.priority, _COLORS[Priority.DEFAULT]),
        "timestamp": told.timestamp,
        "footer": {"text": told.footer},
    }
    if told.body:
        embed["description"] = fit(told.body, room, _for_discord)
    if told.page:
        embed["url"] = told.page
    if fields:
        embed["fields"] = fields
    return {
        "content": fit(told.title, _DISCORD["content"], _for_discord),
        "embeds": [embed],
        "allowed_mentions": {"parse": []},
    }


def fit(text: str, limit: int, escape: Callable[[str], str]) -> str:
    """Cut a text so that it has at most `limit` bytes when escaped, and escape it.

    Bytes, because what others count as a character is never more than one of those.
    """
    low, high = 0, min(limit, len(text.encode()))
    while low < high:
        middle = (low + high + 1) // 2
        if len(escape(clip(text, middle)).encode()) <= limit:
            low = middle
        else:
            high = middle - 1
    return escape(clip(text, low))


def _for_slack(text: str) -> str:
    """Escape what Slack reads as markup: https://docs.slack.dev/messaging/formatting-message-text."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _CALLS.sub("@\u200b", escaped)


def _for_discord(text: str) -> str:
    """Escape Discord's Markdown: nothing is formatted, linked, mentioned or shown as emoji."""
    return _MARKS.sub(r"\\\1", _CALLS.sub("@\u200b", text))
