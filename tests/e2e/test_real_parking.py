"""Claude Code and Codex leave a question behind, and other workers go on with their sessions."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from e2e.model_server import ModelServer, script
from e2e.street import Street, show, until
from tinytown.vault import Vault
from tinytown_workers import checkpoint
from towns import open_town

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
both = pytest.mark.parametrize("cli", ["claude", "codex"])

HOLD = "0.5"
"""Seconds that nobody answers in; long enough for the CLI to be really waiting."""


def ask(question: str) -> dict[str, Any]:
    return {"tool": "ask_human", "with": {"question": question, "options": ["red", "blue"]}}


async def parked(town: Street, mission: str, question: str) -> dict[str, Any]:
    """Wait until nobody works on the mission because that question is open."""
    found: dict[str, Any] = {}

    async def alone() -> bool:
        seen = await town.mission(mission)
        (task,) = seen["tasks"]
        found.update(seen["question"] or {})
        return (task["state"], task["worker"]) == ("blocked", None) and found["text"] == question

    await until(alone, f"the session is parked on {question!r}")
    return found


async def gone_home(worker: subprocess.Popen[bytes]) -> int:
    """Wait for the worker's own end."""
    with anyio.fail_after(30):
        return await anyio.to_thread.run_sync(worker.wait, 30)


def kill(worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait()


async def questions_asked(town: Street, mission: str) -> list[str]:
    """List what people were pinged about, oldest first."""
    reply = await town.http.get("/v1/questions", params={"mission": mission})
    assert reply.status_code == 200, reply.text
    return [question["text"] for question in reply.json()["items"]]


def first_words_after(model: ModelServer, count: int) -> list[tuple[str, str]]:
    """Read the conversation that the model was shown first after `count` requests."""
    return next(seen.talk.turns for seen in model.seen[count:] if seen.talk.tools)


def position(turns: list[tuple[str, str]], kind: str, text: str) -> int:
    """Find where a conversation holds a text; fails with all of it if it does not."""
    found = [at for at, (what, words) in enumerate(turns) if what == kind and text in words]
    assert found, f"no {kind} with {text!r} in {turns}"
    return found[-1]


@both
async def test_a_parked_session_costs_no_worker_and_goes_on_in_another(
    cli: str, town: Street, repo: Path
) -> None:
    first = town.worker(cli, name="first", hold_seconds=HOLD, idle_seconds="0.2")
    goal = "Paint the fence. " + script(
        {"shell": "echo primer | tee fence.txt"},
        ask("Which colour?"),
        {"shell": "echo blue >> fence.txt"},
        {"say": "Painted after {result}"},
    )
    mission = await town.start(goal, repo=repo.as_uri(), title="Fence")
    question = await parked(town, mission, "Which colour?")
    assert await gone_home(first) == 0
    assert not list(town.work.glob("*")), "its room, with home and workspace, is gone"
    before = len(town.model.seen)
    await town.say(mission, "Mind the cat.")
    await town.answer(question, "blue")
    town.worker(cli, name="second")
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    turns = first_words_after(town.model, before)
    order = [
        position(turns, "user", "Paint the fence."),
        position(turns, "result", "primer"),
        position(turns, "result", "PARKED"),
        position(turns, "user", "You asked: Which colour?"),
    ]
    assert order == sorted(order), "the CLI's own session, and then the answer"
    assert "answered: blue" in turns[-1][1]
    assert "Mind the cat." in turns[-1][1], "and what was said while nobody was there to hear it"
    result = await town.result(mission)
    assert show(repo, f"{result['branch']}:fence.txt") == "primer\nblue\n"
    assert await questions_asked(town, mission) == ["Which colour?"]
    assert result["input_tokens"] == 500, "three requests before the answer, two after it"


@both
async def test_killed_workers_lose_nothing_that_was_parked(cli: str, town: Street) -> None:
    first = town.worker(cli, name="first", hold_seconds=HOLD)
    goal = script(
        {"shell": "echo one >> work.txt"},
        ask("Which colour?"),
        {"shell": "echo two >> work.txt"},
        ask("How many coats?"),
        {"shell": "echo three >> work.txt"},
        {"say": "Done."},
    )
    mission = await town.start(goal)
    question = await parked(town, mission, "Which colour?")
    kill(first)
    await town.answer(question, "blue")
    second = town.worker(cli, name="second")  # it holds on, and is killed in the middle of that
    question = await town.question(mission)
    assert question["text"] == "How many coats?"
    kill(second)
    before = len(town.model.seen)
    town.worker(cli, name="third")

    async def asked_again() -> bool:
        return any("answered: blue" in turns_text(seen) for seen in town.model.seen[before:])

    await until(asked_again, "the third worker goes on from what the first one parked")
    assert (await town.question(mission))["id"] == question["id"]
    await town.answer(question, "red")
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    turns = first_words_after(town.model, before)
    assert position(turns, "result", "PARKED") < position(turns, "user", "answered: blue")
    patch = (await town.result(mission))["patch"]
    added = [line for line in patch.splitlines() if line.startswith("+") and line[1:2] != "+"]
    assert added == ["+one", "+two", "+three"], "each once"
    assert await questions_asked(town, mission) == ["Which colour?", "How many coats?"]


def turns_text(seen: Any) -> str:
    return "\n".join(text for _, text in seen.talk.turns)


@both
async def test_a_stopped_worker_hands_its_session_to_another(
    cli: str, town: Street, tmp_path: Path
) -> None:
    first = town.worker(cli, name="first")
    started, gate = tmp_path / "started", tmp_path / "gate"
    goal = "Dig. " + script(
        {"shell": "echo spade | tee tools.txt"},
        {"shell": f"touch half.txt {started}; while [ ! -e {gate} ]; do sleep 0.05; done"},
        {"shell": "echo done > rest.txt"},
        {"say": "Dug."},
    )
    mission = await town.start(goal)

    async def working() -> bool:
        return started.exists()

    await until(working, "the agent is in the middle of its turn")
    first.terminate()
    assert await gone_home(first) == 0
    (task,) = (await town.mission(mission))["tasks"]
    assert (task["state"], task["worker"]) == ("queued", None)
    before = len(town.model.seen)
    gate.touch()
    town.worker(cli, name="second")
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    turns = first_words_after(town.model, before)
    order = [
        position(turns, "user", "Dig."),
        position(turns, "result", "spade"),
        position(turns, "user", "Your worker was stopped"),
    ]
    assert order == sorted(order)
    result = await town.result(mission)
    assert result["summary"] == "Dug."
    assert [result["patch"].count(f"+++ b/{name}") for name in ("tools.txt", "rest.txt")] == [1, 1]
    assert "half.txt" in result["patch"], "also what the turn had done when it was cut off"


async def test_claude_uses_a_leave_that_came_while_it_was_parked_exactly_once(
    town: Street, tmp_path: Path
) -> None:
    settings = {"permissions": "ask", "hold_seconds": HOLD}
    first = town.worker("claude", name="first", **settings)
    ran = tmp_path / "ran.txt"
    command = f'python3 -c \'open("{ran}", "a").write("ran.")\'; echo here > here.txt'
    mission = await town.start(script({"shell": command}, {"say": "It said: {result}"}))
    question = await town.question(mission)
    assert question["kind"] == "approval"
    await parked(town, mission, question["text"])
    kill(first)
    assert not ran.exists()
    await town.answer(question, "Allow")
    town.worker("claude", name="second", **settings)
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    assert ran.read_text() == "ran."
    assert "here.txt" in (await town.result(mission))["patch"]
    assert len(await questions_asked(town, mission)) == 1


FENCE = "Paint the fence. " + script(
    {"shell": "echo coat >> fence.txt"}, ask("Which colour?"), {"say": "{result}"}
)


async def started_over(town: Street, mission: str, before: int) -> None:
    """Check that a new session had the work, the goal and the answer, and ended well."""
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    turns = first_words_after(town.model, before)
    assert not [text for kind, text in turns if kind == "result"], "it remembers nothing"
    prompt = turns[position(turns, "user", "Paint the fence.")][1]
    assert "# Where this stands" in prompt
    assert "answered: blue" in prompt
    result = await town.result(mission)
    assert result["patch"].count("+coat") == 2, "the lost session's work was there"
    assert "ANSWERED by" in result["summary"], "asked again, it has the answer at once"
    assert await questions_asked(town, mission) == ["Which colour?"]


async def test_a_session_that_codex_cannot_open_starts_over_with_the_work_and_the_answers(
    town: Street,
) -> None:
    first = town.worker("codex", name="first", hold_seconds=HOLD)
    mission = await town.start(FENCE)
    question = await parked(town, mission, "Which colour?")
    kill(first)
    (task,) = (await town.mission(mission))["tasks"]
    async with open_town(town.redis_url) as store:
        packed = await store.missions.checkpoint(task["id"])
        assert packed is not None
        saved = checkpoint.unpack(packed, Vault(None, "main"))
        spoiled = msgspec.structs.replace(saved, files=dict.fromkeys(saved.files, b"rubbish"))
        packed = checkpoint.pack(spoiled, Vault(None, "main"))
        assert packed is not None
        async with store.blocking("test", block_seconds=1) as client:
            await client.set(store.keys("task_checkpoint", task["id"]), packed)
    before = len(town.model.seen)
    await town.answer(question, "blue")
    town.worker("codex", name="second")
    await started_over(town, mission, before)
    events = (await town.http.get(f"/v1/missions/{mission}/events")).text
    assert "cannot go on with its session, starting over" in events


async def test_another_agent_goes_on_with_the_work_if_not_with_the_session(town: Street) -> None:
    first = town.worker("claude", name="first", hold_seconds=HOLD)
    mission = await town.start(FENCE)
    question = await parked(town, mission, "Which colour?")
    kill(first)
    before = len(town.model.seen)
    await town.answer(question, "blue")
    town.worker("codex", name="second")
    await started_over(town, mission, before)


async def test_a_worker_stopped_while_it_holds_a_question_leaves_it_open_for_another(
    town: Street,
) -> None:
    cli = "claude"  # it forgets a call that was cut off, so the answer has to bring the question
    first = town.worker(cli, name="first")
    goal = "Paint. " + script(
        {"shell": "echo primer | tee fence.txt"},
        ask("Which colour?"),
        {"shell": "echo blue >> fence.txt"},
        {"say": "Painted."},
    )
    mission = await town.start(goal)
    question = await town.question(mission)
    first.terminate()
    assert await gone_home(first) == 0
    before = len(town.model.seen)
    second = town.worker(cli, name="second", hold_seconds=HOLD, idle_seconds="0.2")
    assert await gone_home(second) == 0, "nobody answered it either"
    assert len(town.model.seen) == before, "waiting for a person costs no tokens"
    await town.answer(question, "blue")
    town.worker(cli, name="third")
    ended = await town.ended(mission)
    assert ended["state"] == "completed", ended["reason"]
    turns = first_words_after(town.model, before)
    assert position(turns, "result", "primer") < position(turns, "user", "answered: blue")
    patch = (await town.result(mission))["patch"]
    assert (patch.count("+primer"), patch.count("+blue")) == (1, 1)
    assert await questions_asked(town, mission) == ["Which colour?"]
