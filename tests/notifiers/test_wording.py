"""What a person reads on the lock screen, and what the buttons do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown import ids
from tinytown.links import AnswerLinks
from tinytown.models.event import TYPES, Event
from tinytown.models.mission import Mission, MissionState, Result
from tinytown.models.question import Question
from tinytown_notifiers.sinks import MAX_BUTTONS, Message, Priority
from tinytown_notifiers.wording import BODY_BYTES, TITLE_BYTES, Recipient, Writer

LINKS = AnswerLinks(town="main", keys=["a secret long enough to sign with"])
PUBLIC = "https://town.example"
WRITER = Writer(public_url=PUBLIC, links=LINKS)
ENDPOINT = ids.new("endpoint")
MISSION = ids.new("mission")
TO = Recipient(endpoint_id=ENDPOINT, url="ntfys://push.example.com/secret-topic")


def event(kind: str, **fields: Any) -> Event:
    told = {"id": "evt_1-0", "timestamp": "2026-11-22T21:00:00.000Z", "town": "main", **fields}
    return Event(type=kind, **told)


def question(**fields: Any) -> Question:
    told = {
        "id": ids.new("question"),
        "mission_id": MISSION,
        "task_id": ids.new("task"),
        "kind": "choice",
        "text": "Delete the old table?",
        "asked_at": "2026-11-22T21:00:00.000Z",
        "mission_title": "Tidy the database",
        **fields,
    }
    return Question(**told)


def ask(**fields: Any) -> Message:
    return WRITER.word(event("question.asked", mission_id=MISSION), TO, question=question(**fields))


def token(url: str) -> str:
    assert url.startswith(f"{PUBLIC}/a/")
    return url.rpartition("/")[2]


def test_a_question_shows_its_mission_its_text_and_a_button_per_option() -> None:
    asked = question(
        options=("Yes", "No"),
        default="No",
        context="12 rows, last used in 2019",
        expires_at="2026-11-22T23:30:00.000Z",
    )
    message = WRITER.word(event("question.asked", mission_id=MISSION), TO, question=asked)

    assert message.title == "Tidy the database"
    assert message.body == (
        "Delete the old table?\n\nOptions: Yes · No\nUntil 22 Nov 23:30 UTC, then: No\n\n"
        "12 rows, last used in 2019"
    )
    assert (message.priority, message.tags) == (Priority.HIGH, ("question",))
    assert message.subject == asked.id
    assert [button.label for button in message.buttons] == ["Yes", "No"]
    for index, button in enumerate(message.buttons):
        link = LINKS.verify(token(button.url), now=0)
        assert (link.question_id, link.choice, link.endpoint_id) == (asked.id, index, ENDPOINT)
        assert link.expires_at == 1795390200, "with the question"
        assert button.method == "POST"
    assert message.click is not None
    assert LINKS.verify(token(message.click), now=0).choice is None


def test_three_options_are_three_buttons() -> None:
    message = ask(options=("a", "b", "c"))

    assert [button.method for button in message.buttons] == ["POST"] * 3


@pytest.mark.parametrize(
    "fields",
    [
        {"options": ("a", "b", "c", "d")},
        {"options": ("delete", "keep"), "risk": "high"},
        {"options": ()},
        {"options": ("x" * 60 + "1", "x" * 60 + "2")},
        {"options": ("\u202e", "b")},
    ],
    ids=["four options", "high risk", "free text", "same when shortened", "nothing to see"],
)
def test_what_cannot_be_a_safe_button_goes_through_the_page(fields: dict[str, Any]) -> None:
    message = ask(**fields)

    (button,) = message.buttons
    assert (button.label, button.method, button.url) == ("Answer", None, message.click)


def test_a_grave_question_rings_loudest() -> None:
    message = ask(options=("Yes", "No"), risk="high")

    assert (message.priority, message.tags) == (Priority.MAX, ("question", "warning"))


def test_where_another_answer_is_welcome_a_button_leads_to_the_page() -> None:
    message = ask(options=("Yes", "No"), free_text=True)

    assert [(button.label, button.method) for button in message.buttons] == [
        ("Yes", "POST"),
        ("No", "POST"),
        ("Other answer", None),
    ]


def test_silence_is_never_worded_as_consent() -> None:
    message = ask(options=("Yes", "No"), expires_at="2026-11-22T23:30:00.000Z")

    assert "then the agent goes on without an answer" in message.body


def test_without_a_public_address_nothing_is_a_link() -> None:
    writer = Writer(public_url=None, links=LINKS)
    message = writer.word(
        event("question.asked", mission_id=MISSION), TO, question=question(options=("Yes", "No"))
    )

    assert (message.click, message.buttons) == (None, ())
    assert writer.word_test(TO).click is None


@given(st.text(st.characters(), max_size=9_000), st.lists(st.text(st.characters(), max_size=200)))
def test_no_text_of_an_agent_breaks_a_message(text: str, options: list[str]) -> None:
    message = ask(text=text, options=tuple(options), context=text, default=text[:100])

    assert len(message.title.encode()) <= TITLE_BYTES
    assert len(message.body.encode()) <= BODY_BYTES
    assert 1 <= len(message.buttons) <= MAX_BUTTONS
    assert all(button.label.strip() for button in message.buttons)


def mission(state: MissionState, **fields: Any) -> Mission:
    told = {
        "id": MISSION,
        "title": "Fix the build",
        "goal": "…",
        "state": state,
        "created_at": "2026-11-22T21:00:00.000Z",
        **fields,
    }
    return Mission(**told)


def test_a_finished_mission_tells_what_it_left_behind() -> None:
    result = Result(summary="The build is green.", branch="tinytown/x", files_changed=1)
    message = WRITER.word(
        event("mission.completed", mission_id=MISSION),
        TO,
        mission=mission(MissionState.COMPLETED, result=result),
    )

    assert message.title == "Done: Fix the build"
    assert message.body == "The build is green.\n\nBranch tinytown/x · 1 file changed"
    assert (message.priority, message.tags) == (Priority.DEFAULT, ("white_check_mark",))
    assert message.click == f"{PUBLIC}/?mission={MISSION}"
    assert message.subject == MISSION
    assert message.buttons == ()


def test_a_failed_mission_tells_why() -> None:
    message = WRITER.word(
        event("mission.failed", mission_id=MISSION),
        TO,
        mission=mission(MissionState.FAILED, reason="the tests \x1b[31mfail\x1b[0m"),
    )

    assert message.title == "Failed: Fix the build"
    assert message.body == "the tests fail"
    assert message.priority == Priority.HIGH


@pytest.mark.parametrize("kind", TYPES)
def test_every_event_has_words_of_its_own(kind: str) -> None:
    for fields in ({}, {"mission_id": MISSION, "data": {"title": "Fix it", "reason": "because"}}):
        message = WRITER.word(event(kind, **fields), TO)

        assert message.title.strip()
        assert message.body.strip()
        assert not message.title.endswith(":")


def test_neither_message_nor_recipient_shows_an_address() -> None:
    shown = repr([ask(options=("a",)), TO])

    assert "secret-topic" not in shown
    assert "/a/" not in shown


def test_a_warning_about_an_endpoint_says_which_why_and_what_to_do() -> None:
    told_of = ids.new("endpoint")
    facts = {"endpoint": told_of, "reason": "no connection in time"}
    failing = WRITER.word(event("endpoint.failing", data=facts), TO, about="board at hooks.example")
    assert failing.title == "Endpoint failing: board at hooks.example"
    assert failing.body.startswith("no connection in time")
    assert f"tt endpoint test {told_of}" in failing.body
    dates = {
        "first_failure_at": "2026-11-20T08:00:00.000Z",
        "disabled_at": "2026-11-25T08:00:00.000Z",
    }
    half_way = WRITER.word(event("endpoint.failing", data={**facts, **dates}), TO, about="board")
    assert "since 20 Nov 08:00 UTC" in half_way.body
    assert "switched off on 25 Nov 08:00 UTC" in half_way.body
    well = WRITER.word(event("endpoint.recovered", data={"endpoint": told_of}), TO, about="board")
    assert (well.title, well.priority) == ("Endpoint works again: board", Priority.LOW)
    assert f"tt endpoint recover {told_of}" in well.body
    off = WRITER.word(event("endpoint.disabled", data=facts), TO, about="board")
    assert (off.title, off.priority) == ("Endpoint switched off: board", Priority.HIGH)
    assert f"tt endpoint resume {told_of}" in off.body
    dead = {**facts, "delivery": "dlv_1-0_x", "event_type": "mission.completed"}
    given_up = WRITER.word(event("delivery.dead", data=dead), TO, about="board")
    assert given_up.title == "Delivery given up: board"
    assert "tt replay dlv_1-0_x" in given_up.body
