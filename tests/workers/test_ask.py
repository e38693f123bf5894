"""`tt ask` inside a session: the answer on standard output, everything else told apart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fakes.person import Person
from tinytown.models.task import Message
from tinytown_workers.desk import AskReply, Desk
from tinytown_workers.desk_client import seconds_of


async def tt(
    *arguments: str, desk: Desk | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run `tt` as the shim does."""
    session = {} if desk is None else {"TINYTOWN_DESK": str(desk.card)}
    with anyio.fail_after(10):
        return await anyio.run_process(
            [sys.executable, "-I", "-m", "tinytown_workers.ask", *arguments],
            env=session | (env or {}),
            check=False,
        )


async def asked(
    desk: Desk, person: Person, reply: AskReply, *arguments: str
) -> tuple[int, str, str]:
    """Ask, let the person reply, and return exit code, output and errors."""
    done: list[subprocess.CompletedProcess[bytes]] = []
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            done.append(await tt("ask", *arguments, desk=desk))

        group.start_soon(ask)
        person.reply(reply, to=(await person.asked()).text)
    return done[0].returncode, done[0].stdout.decode(), done[0].stderr.decode()


async def test_an_answer_is_printed_alone(desk: Desk, person: Person) -> None:
    reply = AskReply(outcome="answered", answer="grün, ja", by="maria", via="push")
    assert await asked(desk, person, reply, "Which colour?") == (0, "grün, ja\n", "")
    assert person.via == ["tt"]


async def test_everything_said_on_the_command_line_reaches_the_person(
    desk: Desk, person: Person
) -> None:
    arguments = [
        "Deploy?",
        "--option",
        "yes",
        "--option",
        "no",
        "--default",
        "no",
        "--deadline",
        "2h",
        "--risk",
        "high",
    ]
    await asked(
        desk,
        person,
        AskReply(outcome="answered", answer="yes"),
        *arguments,
        "--context",
        "tests pass",
    )
    ask = person.questions[0]
    assert (ask.text, ask.kind, ask.options, ask.default) == (
        "Deploy?",
        "choice",
        ("yes", "no"),
        "no",
    )
    assert (ask.deadline_seconds, ask.risk, ask.context) == (7200, "high", "tests pass")
    assert ask.free_text is False


@pytest.mark.parametrize(
    ("reply", "code", "out", "err"),
    [
        (AskReply(outcome="defaulted", answer="no"), 0, "no\n", "DEFAULTED: nobody answered"),
        (AskReply(outcome="no_answer"), 1, "", "NO ANSWER: nobody answered in time. Silence"),
        (AskReply(outcome="withdrawn"), 1, "", "WITHDRAWN"),
        (AskReply(outcome="parked", question_id="qst_1"), 75, "PARKED qst_1: end your turn", ""),
    ],
    ids=lambda value: value.outcome if isinstance(value, AskReply) else None,
)
async def test_every_other_outcome_has_its_code_and_its_words(
    desk: Desk, person: Person, reply: AskReply, code: int, out: str, err: str
) -> None:
    exit_code, said, complained = await asked(desk, person, reply, "Go?")
    assert exit_code == code
    assert said.startswith(out)
    assert bool(said) == bool(out)
    assert complained.startswith(err)
    assert bool(complained) == bool(err)


async def test_outside_a_session_it_says_so_in_one_line() -> None:
    done = await tt("ask", "Go?")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"only inside an agent's session" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ask"], "required: text"),
        (["ask", "x", "--deadline", "soon"], "--deadline"),
        (["ask", "x", "--risk", "total"], "--risk"),
        (["ask", "x", "--option", "a", "--option", "a"], "differ"),
        (["ask", "x", "--option", "a", "--default", "b"], "one of the options"),
        (["ask", "  "], "empty"),
        (["ask", "x", "--context", "y" * 9_000], "context"),
        (["dance"], "invalid choice"),
        ([], "COMMAND"),
    ],
)
async def test_wrong_use_is_told_with_code_2(
    desk: Desk, person: Person, arguments: Sequence[str], reason: str
) -> None:
    done = await tt(*arguments, desk=desk)
    assert done.returncode == 2
    assert reason in done.stderr.decode()
    assert person.questions == []


async def test_a_dead_worker_is_told_with_code_5(desk: Desk, tmp_path: Any) -> None:
    done = await tt("ask", "Go?", env={"TINYTOWN_DESK": str(tmp_path / "none")})
    assert done.returncode == 5
    assert b"cannot be reached" in done.stderr
    assert b"Traceback" not in done.stderr


async def test_messages_and_progress(desk: Desk, person: Person) -> None:
    note = Message(id="m", text="use tabs", at="2026-11-22T21:00:00.000Z", by="maria")
    person.messages = [note]
    assert (await tt("messages", desk=desk)).stdout == b"MESSAGES FROM PEOPLE:\n- maria: use tabs\n"
    assert (await tt("messages", desk=desk)).stdout == b""
    person.messages = [note]
    done = await tt("progress", "half", "--percent", "50", desk=desk)
    assert done.stdout.endswith(b"- maria: use tabs\n")
    assert person.reports == [("half", 50.0)]


async def test_messages_beside_an_answer_do_not_mix_with_it(desk: Desk, person: Person) -> None:
    note = Message(id="m", text="use tabs", at="2026-11-22T21:00:00.000Z", by="maria")
    reply = AskReply(outcome="answered", answer="red", messages=(note,))
    code, out, err = await asked(desk, person, reply, "Go?")
    assert (code, out) == (0, "red\n")
    assert "use tabs" in err


async def test_help_shows_an_example(desk: Desk) -> None:
    done = await tt("ask", "--help")
    assert done.returncode == 0
    assert b'tt ask "Which database?" --option postgres' in done.stdout


async def test_a_killed_asker_leaves_the_question_open(desk: Desk, person: Person) -> None:
    env = {"TINYTOWN_DESK": str(desk.card)}
    command = [sys.executable, "-I", "-m", "tinytown_workers.ask", "ask", "Red or blue?"]
    async with await anyio.open_process(command, env=env) as process:
        await person.asked()
        process.kill()
        await person.left()
    reply = AskReply(outcome="answered", answer="red")
    assert await asked(desk, person, reply, "Red or blue?") == (0, "red\n", "")
    assert len(set(person.questions)) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86_400), ("1.5h", 5400)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@given(st.text(max_size=12))
def test_what_is_no_duration_is_refused_in_words(text: str) -> None:
    assume(not re.fullmatch(r"[0-9.]+[smhd]?", text.strip()))
    with pytest.raises(ValueError, match="is no duration"):
        seconds_of(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "2 h", "31d", "1e3", "inf", "\u0663s", "h"])
def test_these_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration"):
        seconds_of(text)


def test_the_environment_of_this_test_is_no_session() -> None:
    assert "TINYTOWN_DESK" not in os.environ
