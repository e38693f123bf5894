"""The real Claude Code and Codex, each driven by its adapter against a scripted model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from e2e.model_server import ModelServer, script
from e2e.rig import KEYS, TOWN_SECRETS, Rig
from tinytown_workers.agents import RULES, Notice, SessionStarted, ToolEnded, agent_named
from tinytown_workers.process import Limits, Pulse

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
both = pytest.mark.parametrize("cli", ["claude", "codex"])

Eventually = Callable[..., Awaitable[None]]

ASK = {"tool": "ask_human", "with": {"question": "Which colour?", "options": ["red", "blue"]}}


@pytest.fixture
def rig(tmp_path: Path, model: ModelServer, agents_path: str) -> Rig:
    return Rig(tmp_path / "town", model, path=agents_path)


@both
async def test_it_edits_asks_hears_the_answer_and_finishes(
    cli: str, rig: Rig, model: ModelServer
) -> None:
    goal = "--do this: " + script(
        {"shell": "echo one > a.txt"},
        ASK,
        {"shell": "echo $(pwd) > where.txt"},
        {"say": "It is done: {result}"},
    )
    ran = await rig.run(cli, rig.turn(cli, goal, rules=RULES))
    assert ran.verdict.ok, ran.verdict.reason
    assert rig.wrote("a.txt") == "one\n"
    assert rig.wrote("where.txt") == f"{rig.room.work}\n"
    assert rig.asked() == [{"tool": "ask_human", "given": ASK["with"]}]
    heard = [text for seen in model.seen for kind, text in seen.talk.turns if kind == "result"]
    assert any("blue" in text for text in heard), "the model was told the answer"
    said = [text for seen in model.seen for kind, text in seen.talk.turns if kind == "user"]
    assert any(text.startswith("--do this: MODEL-SCRIPT:") for text in said), "the goal is intact"
    assert (ran.verdict.usage.input_tokens, ran.verdict.usage.output_tokens) == (400, 40)
    assert not [event for event in ran.of(ToolEnded) if not event.ok]


@both
async def test_a_later_turn_goes_on_in_the_same_session(
    cli: str, rig: Rig, model: ModelServer
) -> None:
    first = await rig.run(cli, rig.turn(cli, "remember the heron"))
    session = first.verdict.session_id
    assert session is not None
    assert agent_named(cli).session_files(rig.turn(cli, ""), session)
    model.seen.clear()
    prompt = "go on " + script({"shell": "echo two > b.txt"}, {"say": "second"})
    turn = rig.turn(cli, prompt, resume=session, spent=first.verdict.usage)
    second = await rig.run(cli, turn)
    assert second.verdict.ok, second.verdict.reason
    assert second.verdict.session_id == session
    assert rig.wrote("b.txt") == "two\n"
    turns = model.seen[0].talk.turns
    assert any("remember the heron" in text for _, text in turns), "the history is there"
    assert (second.verdict.usage.input_tokens, second.verdict.usage.output_tokens) == (200, 20)


@both
async def test_the_agent_sees_no_secret_of_the_town(cli: str, rig: Rig) -> None:
    look = (
        "env > env.txt; tr '\\0' '\\n' < /proc/$PPID/environ >> env.txt; command -v tt >> env.txt"
    )
    ran = await rig.run(cli, rig.turn(cli, script({"shell": look}, {"say": "looked"})))
    assert ran.verdict.ok, ran.verdict.reason
    seen = rig.wrote("env.txt") or ""
    assert f"{rig.room.bin}/tt\n" in seen, "`tt` is found, also by a login shell"
    for name, value in TOWN_SECRETS.items():
        assert name not in seen
        assert value not in seen


@pytest.mark.parametrize(("cli", "status"), [("claude", 500), ("codex", 401)])
async def test_a_failing_model_fails_the_turn(cli: str, status: int, rig: Rig) -> None:
    ran = await rig.run(cli, rig.turn(cli, "go", base=f"/err/{status}"))
    assert not ran.verdict.ok
    assert ran.verdict.exit is not None
    assert ran.verdict.exit.why == "exited", "it gave up by itself"
    assert str(status) in ran.verdict.reason
    assert ran.of(Notice), "its retries are told"


@both
async def test_a_silent_model_is_ended_by_the_idle_clock(cli: str, rig: Rig) -> None:
    ran = await rig.run(cli, rig.turn(cli, "go", base="/hang"), limits=Limits(idle_seconds=4))
    assert not ran.verdict.ok
    assert "no sign of life" in ran.verdict.reason
    assert ran.of(SessionStarted)


@both
async def test_a_slow_person_does_not_run_into_the_idle_clock(
    cli: str, rig: Rig, eventually: Eventually
) -> None:
    pulse = Pulse()
    goal = script(ASK, {"say": "It is {result}"})
    turn = rig.turn(cli, goal, person={"PERSON_SECONDS": "6"})
    async with anyio.create_task_group() as group:

        async def desk() -> None:
            # What the session does when a question opens at the desk, and closes.
            await eventually(rig.asked, "the person is asked")
            pulse.hold()

        group.start_soon(desk)
        ran = await rig.run(cli, turn, pulse=pulse, limits=Limits(idle_seconds=5))
    assert ran.verdict.ok, ran.verdict.reason
    assert "blue" in ran.verdict.summary


@both
async def test_a_key_it_says_aloud_is_masked(cli: str, rig: Rig) -> None:
    key = KEYS["ANTHROPIC_API_KEY" if cli == "claude" else "OPENAI_API_KEY"]
    ran = await rig.run(cli, rig.turn(cli, script({"say": f"use {key} now"})))
    assert ran.verdict.ok, ran.verdict.reason
    assert ran.verdict.summary == "use ••• now"
    assert key not in repr(ran.events) + repr(ran.verdict)


@both
async def test_a_question_tool_that_cannot_start_fails_the_turn_at_once(
    cli: str, rig: Rig, model: ModelServer
) -> None:
    turn = rig.turn(cli, script({"shell": "touch worked.txt"}), person={"PERSON_BROKEN": "yes"})
    ran = await rig.run(cli, turn)
    assert not ran.verdict.ok
    assert rig.wrote("worked.txt") is None
    assert "MCP" in ran.verdict.reason


@pytest.mark.parametrize("approves", ["yes", "no"])
async def test_claude_asks_leave_for_its_shell(rig: Rig, approves: str) -> None:
    command = {"shell": "python3 -c 'print(1)' > risky.txt"}
    turn = rig.turn(
        "claude",
        script({"write": "tame.txt", "text": "tame"}, command, {"say": "Heard: {result}"}),
        permissions="ask",
        person={"PERSON_APPROVES": approves},
    )
    ran = await rig.run("claude", turn)
    assert ran.verdict.ok, ran.verdict.reason
    assert rig.wrote("tame.txt") == "tame", "edits in the workspace need no leave"
    (prompt,) = rig.asked()
    assert prompt["tool"] == "approve"
    assert prompt["given"]["tool_name"] == "Bash"
    assert prompt["given"]["input"]["command"] == command["shell"]
    assert rig.wrote("risky.txt") == ("1\n" if approves == "yes" else None)
    assert ("the person said no" in ran.verdict.summary) == (approves == "no")


async def test_codex_in_its_sandbox_works_in_the_workspace_and_nowhere_else(rig: Rig) -> None:
    outside = rig.room.path / "outside.txt"
    goal = script({"shell": "echo in > in.txt"}, {"shell": f"echo out > {outside}"}, ASK)
    ran = await rig.run("codex", rig.turn("codex", goal, permissions="ask"))
    assert ran.verdict.ok, ran.verdict.reason
    assert rig.wrote("in.txt") == "in\n"
    assert not outside.exists()
    assert rig.asked(), "questions pass"


async def test_a_budget_ends_claude(rig: Rig) -> None:
    steps = [{"shell": f"echo {n} >> n.txt"} for n in range(20)]
    ran = await rig.run("claude", rig.turn("claude", script(*steps), budget_usd=0.003))
    assert not ran.verdict.ok
    assert "budget" in ran.verdict.reason
    assert 0 < len((rig.wrote("n.txt") or "").splitlines()) < 20
