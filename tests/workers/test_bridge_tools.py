"""What the bridge's tools say to the model, and that nothing but an answer looks like one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from bridge_wire import Wire, text_of
from fakes.person import Person
from tinytown.models.task import Message
from tinytown_workers.bridge_tools import TOOLS, approval
from tinytown_workers.desk import AskReply, open_desk


def test_every_tool_is_described_so_that_codex_lets_it_through() -> None:
    for tool in TOOLS.values():
        assert tool["annotations"]["readOnlyHint"] is True
        assert tool["annotations"]["destructiveHint"] is False
        assert tool["annotations"]["openWorldHint"] is False
        assert tool["inputSchema"]["type"] == "object"


async def test_a_question_carries_all_that_was_said(wire: Wire, person: Person) -> None:
    await wire.ask_human(
        question="Deploy?",
        options=["yes", "no"],
        free_text=True,
        context="tests pass",
        default="no",
        deadline_seconds="2h",
        risk="high",
    )
    asked = await person.asked()
    assert (asked.kind, asked.options, asked.free_text) == ("choice", ("yes", "no"), True)
    assert (asked.context, asked.default, asked.deadline_seconds) == ("tests pass", "no", 7200)
    assert asked.risk == "high"
    person.answer("later", to="Deploy?")
    assert text_of(await wire.receive()) == "ANSWERED by a person via push: later"


@pytest.mark.parametrize(
    ("outcome", "start"),
    [
        ("defaulted", "DEFAULTED: nobody answered"),
        ("no_answer", "NO ANSWER: nobody answered in time. Silence is not consent"),
        ("withdrawn", "WITHDRAWN"),
        ("parked", "PARKED qst_7: end your turn now"),
    ],
)
async def test_no_outcome_but_an_answer_looks_like_an_answer(
    wire: Wire, person: Person, outcome: Any, start: str
) -> None:
    await wire.ask_human(question="Go?")
    await person.asked()
    person.reply(AskReply(outcome=outcome, question_id="qst_7", answer="yes"), to="Go?")
    answer = await wire.receive()
    assert text_of(answer).startswith(start)
    assert "ANSWERED" not in text_of(answer)
    assert answer["result"]["structuredContent"]["outcome"] == outcome
    assert answer["result"]["structuredContent"]["message"] == text_of(answer)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "question must be a text"),
        ({"question": " "}, "question must be a text"),
        ({"question": "x", "options": "yes"}, "options must be a list"),
        ({"question": "x", "options": [str(n) for n in range(9)]}, "at most 8"),
        ({"question": "x", "options": ["a", "a"]}, "differ"),
        ({"question": "x", "options": ["a"], "default": "b"}, "one of the options"),
        ({"question": "x", "deadline_seconds": "soon"}, "no duration"),
        ({"question": "x", "deadline_seconds": -1}, "no duration"),
        ({"question": "x", "risk": "total"}, "risk"),
        ({"question": "x", "default": 7}, "default"),
        ({"question": "x", "context": "y" * 300_000}, "too long"),
        ({"question": "\ud800"}, "Refused"),
    ],
)
async def test_a_question_that_makes_no_sense_is_explained_to_the_model(
    wire: Wire, person: Person, arguments: dict[str, Any], reason: str
) -> None:
    await wire.ask_human(**arguments)
    answer = await wire.receive()
    assert answer["result"]["isError"] is True
    assert reason in text_of(answer)
    assert person.questions == []


async def test_a_worker_that_is_gone_is_no_consent(tmp_path: Path, person: Person) -> None:
    async with open_desk(tmp_path / "desk", person) as desk:
        command = desk.bridge_command(approvals=True)
        process = await anyio.open_process(command, env={})
        wire = Wire(process)
        await wire.ask_human(question="Go?")
        await person.asked()
    async with process:
        answer = await wire.receive()
        assert answer["result"]["isError"] is True
        assert "No person can be reached" in text_of(answer)
        await wire.send(
            "tools/call", 2, name="approve", arguments={"tool_name": "Bash", "input": {}}
        )
        assert json.loads(text_of(await wire.receive()))["behavior"] == "deny"
        process.kill()


async def test_messages_of_people_ride_on_results(wire: Wire, person: Person) -> None:
    person.messages = [Message(id="m", text="use tabs", at="2026-11-22T21:00:00.000Z", by="maria")]
    answer = await wire.ask(
        "tools/call", name="report_progress", arguments={"text": "half", "percent": 50}
    )
    assert text_of(answer) == "Noted.\n\nMESSAGES FROM PEOPLE:\n- maria: use tabs"
    assert answer["result"]["structuredContent"]["message"] == text_of(answer)
    assert person.reports == [("half", 50.0)]


BASH = {"tool_name": "Bash", "input": {"command": "rm -rf build"}, "tool_use_id": "toolu_1"}


async def test_a_permission_is_a_persons_word_for_exactly_this_call(
    wire: Wire, person: Person
) -> None:
    await wire.send("tools/call", 1, name="approve", arguments=BASH)
    asked = await person.asked()
    assert asked.kind == "approval"
    assert asked.text == "Allow Bash? rm -rf build"
    assert asked.options == ("Allow", "Deny")
    assert re.fullmatch(r"Bash:[0-9a-f]{64}", asked.binding)
    assert '"command": "rm -rf build"' in asked.context
    person.answer("Allow", to=asked.text)
    verdict = json.loads(text_of(await wire.receive()))
    assert verdict == {"behavior": "allow", "updatedInput": BASH["input"]}
    # Spent: the same call asks again.
    await wire.send("tools/call", 2, name="approve", arguments=BASH)
    assert (await person.asked()).binding == asked.binding
    person.answer("Deny", to=asked.text)
    assert json.loads(text_of(await wire.receive()))["behavior"] == "deny"


def test_an_approval_is_bound_to_the_tool_and_its_arguments() -> None:
    one = approval("Bash", {"command": "ls", "timeout": 1})["binding"]
    assert approval("Bash", {"timeout": 1, "command": "ls"})["binding"] == one
    others = {
        approval("Bash", {"command": "ls", "timeout": 2})["binding"],
        approval("Bash", {"command": "ls"})["binding"],
        approval("Write", {"command": "ls", "timeout": 1})["binding"],
    }
    assert one not in others
    assert len(others) == 3


def test_what_is_cut_from_an_approval_is_said_to_be_cut() -> None:
    question = approval("Bash", {"command": "x" * 20_000})
    assert "[cut: 20000 characters in all]" in question["text"]
    assert question["context"].endswith("characters in all]")
    assert len(question["context"]) <= 8_192


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (AskReply(outcome="answered", answer="Deny"), "A person denied this."),
        (AskReply(outcome="answered", answer="only in /tmp"), "They say: only in /tmp"),
        (AskReply(outcome="answered", answer="yes"), "They say: yes"),
        (AskReply(outcome="defaulted", answer="Allow"), "silence is not consent"),
        (AskReply(outcome="no_answer"), "Silence is not consent"),
        (AskReply(outcome="withdrawn", answer="Allow"), "WITHDRAWN"),
        (AskReply(outcome="parked", question_id="qst_1"), "PARKED qst_1"),
    ],
)
async def test_everything_but_allow_is_a_denial(
    wire: Wire, person: Person, reply: AskReply, said: str
) -> None:
    await wire.send("tools/call", 1, name="approve", arguments=BASH)
    person.reply(reply, to=(await person.asked()).text)
    verdict = json.loads(text_of(await wire.receive()))
    assert verdict["behavior"] == "deny"
    assert said in verdict["message"]
