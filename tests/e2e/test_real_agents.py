"""Missions from the HTTP door to the real Claude Code and Codex, and back."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from e2e.model_server import ModelServer, script
from e2e.rig import KEYS
from e2e.street import KEY, Street, show, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
both = pytest.mark.parametrize("cli", ["claude", "codex"])

ASK: dict[str, Any] = {
    "tool": "ask_human",
    "with": {"question": "Which colour?", "options": ["red", "blue"]},
}


def results_seen(model: ModelServer) -> list[str]:
    return [text for seen in model.seen for kind, text in seen.talk.turns if kind == "result"]


@both
async def test_a_mission_is_done_asked_about_answered_and_collected(
    cli: str, town: Street, repo: Path
) -> None:
    town.worker(cli)
    goal = "Paint the fence. " + script(
        {"shell": "echo primer > fence.txt"},
        ASK,
        {"shell": "echo blue >> fence.txt"},
        {"say": "Painted. The answer was: {result}"},
    )
    mission = await town.start(goal, repo=repo.as_uri(), title="Fence")
    question = await town.question(mission)
    assert (question["text"], question["options"]) == ("Which colour?", ["red", "blue"])
    assert (await town.mission(mission))["state"] == "blocked"
    await town.answer(question, "blue")
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    assert any("ANSWERED" in text and "blue" in text for text in results_seen(town.model))
    result = await town.result(mission)
    assert "Painted." in result["summary"]
    assert (result["input_tokens"], result["output_tokens"]) == (400, 40)
    assert result["pushed"]
    assert show(repo, f"{result['branch']}:fence.txt") == "primer\nblue\n"
    assert "+primer" in result["patch"]
    log = (await town.http.get(f"/v1/missions/{mission}/log")).text
    assert "Painted." in log
    assert not any(secret in log for secret in (*KEYS.values(), KEY))
    assert not list(town.work.glob("tsk_*")), "the room is gone"


@both
async def test_a_failing_model_fails_the_mission_with_its_reason(cli: str, town: Street) -> None:
    town.worker(cli, base="/err/500")
    ended = await town.ended(await town.start("Anything at all"))
    assert ended["state"] == "failed"
    reason = ended["reason"]
    assert ("500" in reason) if cli == "claude" else ("high demand" in reason)


@both
async def test_a_dead_model_is_noticed_by_its_silence(cli: str, town: Street) -> None:
    town.worker(cli, base="/hang", silence_seconds="4")
    ended = await town.ended(await town.start("Anything at all"))
    assert ended["state"] == "failed"
    assert "no sign of life" in ended["reason"]


@both
async def test_a_worker_killed_in_the_middle_of_a_question_loses_nothing(
    cli: str, town: Street
) -> None:
    first = town.worker(cli, name="first")
    goal = script({"shell": "echo one >> tries.txt"}, ASK, {"say": "It is {result}"})
    mission = await town.start(goal)
    question = await town.question(mission)
    first.send_signal(signal.SIGKILL)
    first.wait()
    town.worker(cli, name="second")

    async def taken_over() -> bool:
        (task,) = (await town.mission(mission))["tasks"]
        return bool(task["attempt"] == 2) and len(results_seen(town.model)) >= 2

    await until(taken_over, "another worker has come as far")
    again = await town.question(mission)
    assert again["id"] == question["id"], "nobody is asked the same thing twice"
    await town.answer(question, "red")
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    assert "red" in ended["result"]["summary"]
    result = await town.result(mission)
    assert result["patch"].count("+one") == 1, "the second attempt began afresh"


@pytest.mark.parametrize("decision", ["Allow", "Deny"])
async def test_claude_asks_leave_and_a_person_decides(town: Street, decision: str) -> None:
    town.worker("claude", permissions="ask")
    risky = "python3 -c 'print(1)' > risky.txt"
    goal = script({"shell": risky}, {"say": "It said: {result}"})
    mission = await town.start(goal)
    question = await town.question(mission)
    assert question["kind"] == "approval"
    assert question["options"] == ["Allow", "Deny"]
    assert risky in question["text"] + question["context"]
    await town.answer(question, decision)
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    patch = (await town.result(mission))["patch"] or ""
    assert ("risky.txt" in patch) == (decision == "Allow")


@both
async def test_a_message_after_the_last_word_brings_another_turn_of_the_session(
    cli: str, town: Street, tmp_path: Path
) -> None:
    town.worker(cli)
    gate = tmp_path / "gate"
    waits = f"touch {gate}; while [ -e {gate} ]; do sleep 0.05; done; echo one > a.txt"
    mission = await town.start(script({"shell": waits}, {"say": "First."}))

    async def working() -> bool:
        return gate.exists()

    await until(working, "the agent works")
    await town.say(mission, script({"shell": "echo two > b.txt"}, {"say": "Second."}))
    gate.unlink()
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    result = await town.result(mission)
    assert result["summary"] == "Second."
    assert result["files_changed"] == 2
    assert result["input_tokens"] == 400, "two requests of each turn"


@both
async def test_a_canceled_mission_takes_its_agent_along(
    cli: str, town: Street, tmp_path: Path
) -> None:
    town.worker(cli)
    started = tmp_path / "started"
    mission = await town.start(script({"shell": f"touch {started}; exec sleep 4242"}))

    async def working() -> bool:
        return started.exists()

    await until(working, "the agent works")
    reply = await town.http.post(f"/v1/missions/{mission}/cancel")
    assert reply.status_code == 200, reply.text

    async def gone() -> bool:
        return not any(b"4242" in line for line in command_lines()) and not list(
            town.work.glob("tsk_*")
        )

    await until(gone, "the agent and its room are gone")
    assert (await town.mission(mission))["state"] == "canceled"


def command_lines() -> list[bytes]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(entry.read_bytes())
        except OSError:
            continue
    return found


async def test_a_cli_that_is_not_there_is_named(town: Street) -> None:
    town.worker("gemini")
    ended = await town.ended(await town.start("Anything at all"))
    assert ended["state"] == "failed"
    assert ended["reason"] == "gemini is not installed on this worker"
