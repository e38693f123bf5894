"""What a watcher sees: facts in, a picture out, and nothing an agent says can break it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tinytown.cli.scene import Scene, bar, chosen, last_words
from tinytown.cli.text import clip, lasting, legible, plain
from tinytown.cli.wire import LogLine
from tinytown.models.event import Event
from tinytown.models.mission import Mission, MissionState, Result
from tinytown.models.question import Question
from tinytown.models.task import Task, TaskState

NOW = datetime(2026, 11, 22, 21, 0, 30, tzinfo=UTC)
THEN = "2026-11-22T21:00:00.000Z"


def question(**more: Any) -> Question:
    return Question(
        id="qst_1", mission_id="mis_1", task_id="tsk_1", kind="choice", text="Red?", **more
    )


def mission(**more: Any) -> Mission:
    tasks = more.pop("tasks", (Task(id="tsk_1", name="main", state=TaskState.RUNNING),))
    return Mission(
        **{
            "id": "mis_1",
            "title": "Paint",
            "goal": "Paint it",
            "state": MissionState.RUNNING,
            "created_at": THEN,
            "tasks": tasks,
            **more,
        }
    )


def said(text: str, kind: str = "message", **more: Any) -> LogLine:
    entry = {"kind": kind, "text": text, **more}
    return LogLine(id="1-0", at=THEN, task_id="tsk_1", attempt=1, entry=entry)


def drawn(scene: Scene, width: int = 100, height: int = 30) -> str:
    console = Console(width=width, height=height, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(scene.picture(NOW, width=width, height=height))
    return captured.get()


def test_the_picture_shows_state_tasks_log_and_question() -> None:
    scene = Scene(mission(question=question(options=("yes", "no"), default="no", risk="high")))
    scene.hear(
        Event(
            id="evt_1-0",
            type="task.progressed",
            timestamp=THEN,
            town="main",
            task_id="tsk_1",
            data={"text": "halfway", "percent": 50},
        )
    )
    scene.read(said("I looked at it."))
    scene.typed = "ye"
    picture = drawn(scene)
    for part in ("Paint", "running", "30 s", "● main", "50%", "halfway", "I looked at it."):
        assert part in picture
    for part in ("? Red?", "risk high", "1  yes", "2  no  (default)", "> ye"):
        assert part in picture


def test_a_town_that_is_away_is_said() -> None:
    scene = Scene(mission())
    scene.connected = False
    assert "does not answer" in drawn(scene)


def test_the_newest_lines_stay_when_there_is_no_room() -> None:
    scene = Scene(mission(question=question()))
    for number in range(500):
        scene.read(said(f"line {number}"))
    picture = drawn(scene, height=14)
    assert "line 499" in picture
    assert "line 400" not in picture
    assert picture.count("\n") <= 14


def test_who_answered_is_told() -> None:
    scene = Scene(mission())
    facts = {"answered_by": "ada", "answered_via": "push", "answer": "yes"}
    scene.hear(
        Event(id="evt_1-0", type="question.answered", timestamp=THEN, town="main", data=facts)
    )
    assert "ada (push) answered: yes" in drawn(scene)


@given(st.text(max_size=300), st.integers(min_value=20, max_value=120))
def test_nothing_an_agent_says_moves_the_cursor_or_breaks_a_line(text: str, width: int) -> None:
    scene = Scene(mission(title=text or "x", question=question(options=(text or "x",))))
    scene.read(said(text))
    picture = drawn(scene, width=width)
    assert "\x1b" not in picture
    assert "\r" not in picture
    assert not set(picture) & set("\u202e\u2066\u200f\x07\x08")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (said("hello"), "hello"),
        (said("", "tool_started", name="Bash", summary="ls"), "→ Bash ls"),
        (said("", "tool_ended", ok=True, summary="fine"), ""),
        (said("", "tool_ended", ok=False, summary="boom"), "✗ boom"),
        (said("", "turn_ended", ok=False, reason="gave up"), "✗ gave up"),
        (said("", "usage"), ""),
        (said("", "something_new"), ""),
    ],
)
def test_the_log_is_put_into_words(entry: LogLine, words: str) -> None:
    assert entry.words == words


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("1", "yes"), (" 2 ", "no"), ("3", "3"), ("0", "0"), ("no", "no"), ("²", "²")],
)
def test_a_number_chooses_an_option(typed: str, answer: str) -> None:
    assert chosen(question(options=("yes", "no")), typed) == answer
    assert chosen(question(), "1") == "1"


def test_the_last_words_are_the_reason_or_the_summary() -> None:
    failed = mission(state=MissionState.FAILED, reason="no\nway")
    assert last_words(failed) == "mis_1 failed: no"
    done = mission(state=MissionState.COMPLETED, result=Result(summary="  \nall green\nmore"))
    assert last_words(done) == "mis_1 completed: all green"
    assert last_words(mission(state=MissionState.CANCELED)) == "mis_1 canceled"


def test_a_bar_is_as_long_as_it_is_far() -> None:
    assert bar(None) == ""
    assert bar(0).count("█") == 0
    assert bar(50).count("█") == 10
    assert bar(250).count("█") == 20


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (90, "1 min"), (3_600, "1 h"),
     (7_500, "2 h 5 min"), (200_000, "2 d")],
)  # fmt: skip
def test_durations_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert lasting(seconds) == words


def test_texts_are_made_safe_and_cut() -> None:
    assert plain("a\x1b[31m\nb\t\u202ec") == "a[31m b c"
    assert legible("a\x07\nb\u200f") == "a\nb"
    assert clip("abcdef", 4) == "abc…"
    assert clip("abc", 3) == "abc"
