"""A whole turn, from prompt to verdict, with programs that play the CLIs' real recordings."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest

from e2e.rig import KEYS, Rig
from tinytown.errors import Invalid
from tinytown_workers.agents import Message, Notice, SessionStarted, agent_named, run_turn
from tinytown_workers.process import Limits, Pulse

STREAMS = Path(__file__).parent / "streams"
QUICK = Limits(idle_seconds=20, grace_seconds=1, linger_seconds=0.3, drain_seconds=0.3)

Play = Callable[..., Rig]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Make a rig whose CLI is a shell script; `STREAM` in it is a recording's file."""

    def make(cli: str, script: str, lines: list[str] | None = None) -> Rig:
        shelf = tmp_path / "shelf"
        shelf.mkdir()
        stream = tmp_path / "stream"
        stream.write_text("".join(f"{line}\n" for line in lines or recorded(cli, "done")))
        played = script.replace("STREAM", shlex.quote(str(stream)))
        (shelf / cli).write_text(f"#!/bin/bash\n{played}\n")
        (shelf / cli).chmod(0o755)
        return Rig(tmp_path / "town", None, path=str(shelf))

    return make


def recorded(cli: str, scenario: str) -> list[str]:
    lines: list[str] = json.loads((STREAMS / f"{cli}-{scenario}.json").read_text())["stdout"]
    return lines


@pytest.mark.parametrize("cli", ["claude", "codex", "opencode", "gemini"])
async def test_a_recording_played_by_a_program_is_a_good_turn(cli: str, play: Play) -> None:
    rig = play(cli, "cat STREAM")
    ran = await rig.run(cli, rig.turn(cli, "go"), limits=QUICK)
    assert ran.verdict.ok, ran.verdict.reason
    assert ran.verdict.exit is not None
    assert ran.verdict.exit.code == 0


async def test_a_cli_that_is_not_installed_is_a_failed_turn(play: Play) -> None:
    rig = play("claude", "true")
    ran = await rig.run("codex", rig.turn("codex", "go"))
    assert not ran.verdict.ok
    assert ran.verdict.reason == "codex is not installed on this worker"
    assert ran.verdict.exit is None


async def test_a_cli_that_cannot_be_started_is_a_failed_turn(play: Play, tmp_path: Path) -> None:
    rig = play("claude", "true")
    (tmp_path / "shelf" / "claude").write_text("#!/no/such/interpreter\n")
    ran = await rig.run("claude", rig.turn("claude", "go"))
    assert not ran.verdict.ok
    assert "cannot start" in ran.verdict.reason


async def test_keys_are_masked_in_everything_it_says(play: Play) -> None:
    key = KEYS["ANTHROPIC_API_KEY"]
    lines = [line.replace("It is blue", f"It is {key}") for line in recorded("claude", "done")]
    rig = play("claude", f"echo {key} >&2; cat STREAM", lines)
    ran = await rig.run("claude", rig.turn("claude", "go"), limits=QUICK)
    assert ran.verdict.ok
    heard = msgspec.json.encode([*ran.events, ran.verdict.summary, ran.verdict.reason]).decode()
    assert key not in heard
    assert "It is" in heard


async def test_one_that_cannot_see_the_question_tool_is_stopped_at_once(play: Play) -> None:
    lines = [line.replace("ask_human", "ask_nobody") for line in recorded("claude", "done")]
    rig = play("claude", "head -1 STREAM; sleep 60", lines)
    ran = await rig.run("claude", rig.turn("claude", "go"), limits=QUICK)
    assert not ran.verdict.ok
    assert "does not see ask_human" in ran.verdict.reason


async def test_without_questions_it_need_not_see_the_tool(play: Play) -> None:
    lines = [line.replace("ask_human", "ask_nobody") for line in recorded("claude", "done")]
    rig = play("claude", "cat STREAM", lines)
    ran = await rig.run("claude", rig.turn("claude", "go", mcp=None), limits=QUICK)
    assert ran.verdict.ok


async def test_one_that_will_not_leave_after_its_last_word_is_shown_the_door(play: Play) -> None:
    rig = play("claude", "cat STREAM; sleep 60")
    ran = await rig.run("claude", rig.turn("claude", "go"), limits=QUICK)
    assert ran.verdict.ok
    assert ran.verdict.exit is not None
    assert ran.verdict.exit.why == "lingered"


async def test_one_that_only_reconnects_is_a_silent_one(play: Play) -> None:
    retry = '{"type":"error","message":"Reconnecting... 1/5"}'
    rig = play("codex", f"while true; do echo '{retry}'; sleep 0.05; done")
    limits = Limits(idle_seconds=0.5, grace_seconds=1)
    ran = await rig.run("codex", rig.turn("codex", "go"), limits=limits)
    assert not ran.verdict.ok
    assert "no sign of life" in ran.verdict.reason
    assert len(ran.of(Notice)) > 3


async def test_heartbeats_are_signs_of_life(play: Play) -> None:
    beat = '{"type":"tool_progress","tool_use_id":"call_1","elapsed_time_seconds":30}'
    rig = play("claude", f"for i in 1 2 3 4 5 6; do echo '{beat}'; sleep 0.2; done; cat STREAM")
    limits = Limits(idle_seconds=0.6, grace_seconds=1)
    ran = await rig.run("claude", rig.turn("claude", "go"), limits=limits)
    assert ran.verdict.ok, ran.verdict.reason


async def test_one_that_spends_too_much_is_stopped(play: Play) -> None:
    lines = [line.replace('"cost":0', '"cost":0.9') for line in recorded("opencode", "done")]
    rig = play("opencode", "cat STREAM; sleep 60", lines[:-3])
    turn = rig.turn("opencode", "go", budget_usd=1.5)
    ran = await rig.run("opencode", turn, limits=QUICK)
    assert not ran.verdict.ok
    assert ran.verdict.reason == "opencode spent its budget and was stopped"
    assert ran.verdict.usage.cost_usd == pytest.approx(1.8)


async def test_lost_lines_are_counted_aloud(play: Play) -> None:
    rig = play("codex", "seq 1 100000; cat STREAM")
    ran = await rig.run("codex", rig.turn("codex", "go"), limits=QUICK)
    assert ran.verdict.ok, ran.verdict.reason
    assert ran.of(Notice)[-1].text.endswith("lines were too many to keep")


class TestCommand:
    async def run(self, rig: Rig, line: str, goal: str = "the goal") -> tuple[str, str, bool]:
        messages = []

        async def hear(event: object) -> None:
            if isinstance(event, Message):
                messages.append(event.text)

        agent = agent_named("command", command=line)
        verdict = await run_turn(agent, rig.turn("command", goal), hear, limits=QUICK)
        return verdict.summary, verdict.reason, verdict.ok

    @pytest.fixture
    def rig(self, tmp_path: Path) -> Rig:
        return Rig(tmp_path / "town", None, path="/usr/local/bin")

    async def test_the_end_of_stdout_is_the_summary(self, rig: Rig) -> None:
        line = "bash -c 'seq 1 5000; echo All done.'"
        summary, reason, ok = await self.run(rig, line)
        assert (ok, reason) == (True, "")
        assert summary.endswith("5000\nAll done.")
        assert len(summary) <= 4000
        assert summary.splitlines()[0].isdigit()

    async def test_the_end_of_stderr_is_the_reason(self, rig: Rig) -> None:
        line = "bash -c 'echo some; echo early >&2; echo the disk is full >&2; exit 7'"
        summary, reason, ok = await self.run(rig, line)
        assert not ok
        assert reason == "early\nthe disk is full"
        assert summary == "some"

    async def test_one_that_dies_without_a_word_has_a_reason_too(self, rig: Rig) -> None:
        assert (await self.run(rig, "false"))[1] == "the command ended with code 1"
        assert (await self.run(rig, "bash -c 'kill -9 $$'"))[1] == "the command ended by SIGKILL"

    async def test_the_goal_arrives_byte_for_byte_twice(self, rig: Rig) -> None:
        goal = "--x \N{SNOWMAN}\r\n\t\0 'quoted' $HOME `id`\n\n"
        line = "bash -c 'cat > stdin; cp \"$TINYTOWN_GOAL_FILE\" file'"
        assert (await self.run(rig, line, goal))[2]
        assert (rig.room.work / "stdin").read_bytes() == goal.encode()
        assert (rig.room.work / "file").read_bytes() == goal.encode()

    async def test_it_knows_what_it_works_on_and_can_ask(self, rig: Rig) -> None:
        names = "$TINYTOWN_MISSION_ID $TINYTOWN_TASK_ID $TINYTOWN_ATTEMPT"
        line = f"bash -lc 'echo {names}; pwd; command -v tt'"
        summary, _, ok = await self.run(rig, line)
        assert ok
        room = rig.room
        assert summary == f"mis_1 tsk_1 1\n{room.work}\n{room.bin}/tt"

    async def test_it_gets_no_vendors_key_and_nothing_of_the_town(self, rig: Rig) -> None:
        summary, _, _ = await self.run(rig, "env")
        assert not any(value in summary for value in KEYS.values())
        assert "REDIS_URL" not in summary
        assert "API_KEY" not in summary

    async def test_a_program_of_the_repository_is_found_by_its_path(self, rig: Rig) -> None:
        script = rig.room.work / "agent.sh"
        script.write_text("#!/bin/sh\necho mine\n")
        script.chmod(0o755)
        assert (await self.run(rig, "./agent.sh"))[0] == "mine"

    async def test_a_missing_program_is_named(self, rig: Rig) -> None:
        _, reason, ok = await self.run(rig, "no-such-agent --flag")
        assert (ok, reason) == (False, "no-such-agent is not installed on this worker")

    @pytest.mark.parametrize("line", [None, "", "  ", "'", "''"])
    def test_a_line_that_names_no_program_is_refused(self, line: str | None) -> None:
        with pytest.raises(Invalid, match="TINYTOWN_AGENT_COMMAND"):
            agent_named("command", command=line)

    async def test_its_lines_are_heard_as_they_come(self, rig: Rig) -> None:
        heard: list[str] = []
        gate = rig.room.path / "gate"
        gate.touch()
        seen = anyio.Event()

        async def hear(event: object) -> None:
            assert isinstance(event, Message)
            heard.append(event.text)
            seen.set()

        line = f"bash -c 'echo working; while [ -e {gate} ]; do sleep 0.02; done; echo over'"
        agent = agent_named("command", command=line)
        async with anyio.create_task_group() as group:
            group.start_soon(run_turn, agent, rig.turn("command", "go"), hear)
            await seen.wait()
            assert heard == ["working"]
            gate.unlink()
        assert heard == ["working", "over"]


async def test_a_turn_can_be_stopped_from_outside(play: Play) -> None:
    rig = play("claude", "head -1 STREAM; sleep 60")
    pulse = Pulse()

    async def hear(event: object) -> None:
        if isinstance(event, SessionStarted):
            pulse.stop("stopped")

    agent, turn = agent_named("claude"), rig.turn("claude", "go")
    verdict = await run_turn(agent, turn, hear, limits=QUICK, pulse=pulse)
    assert not verdict.ok
    assert verdict.reason == "claude was stopped"
