"""The agent's surroundings: everything it needs, nothing it could use against the town."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from fakes.person import Person
from tinytown_workers.desk import AskReply, Desk
from tinytown_workers.room import Room
from tinytown_workers.sandbox import Errand, Sandbox

SECRETS = {
    "REDIS_URL": "redis://:s3cr3t-redis@host",
    "TINYTOWN_API_KEY": "s3cr3t-key",
    "TINYTOWN_SECRET_KEY": "s3cr3t-sign",
    "FLY_API_TOKEN": "s3cr3t-fly",
}
GOAL = b"fix \xff it\r\n\x00 now"


@pytest.fixture
def sandbox(room: Room, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return Sandbox(room, path=os.environ["PATH"])


def errand(desk: Path | None = None) -> Errand:
    return Errand(mission_id="mis_1", task_id="tsk_1", attempt=2, goal=GOAL, desk=desk)


async def test_the_environment_is_a_list_and_nothing_else(sandbox: Sandbox, room: Room) -> None:
    env = sandbox.environment(sandbox.build(errand(Path("/d"))), {"ANTHROPIC_API_KEY": "k"})
    assert env == {
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "ANTHROPIC_API_KEY": "k",
        "PATH": f"{room.bin}:{os.environ['PATH']}",
        "HOME": str(room.home),
        "TMPDIR": str(room.tmp),
        "SHELL": "/bin/sh",
        "TINYTOWN_MISSION_ID": "mis_1",
        "TINYTOWN_TASK_ID": "tsk_1",
        "TINYTOWN_ATTEMPT": "2",
        "TINYTOWN_GOAL_FILE": str(room.goal),
        "TINYTOWN_DESK": "/d",
    }
    assert room.goal.read_bytes() == GOAL


async def test_a_child_sees_no_secret_of_ours(sandbox: Sandbox) -> None:
    env = sandbox.environment(sandbox.build(errand()))
    dump = "import os; print(dict(os.environ), open('/proc/self/environ').read())"
    done = await anyio.run_process([sys.executable, "-c", dump], env=env)
    assert b"TINYTOWN_TASK_ID" in done.stdout
    assert b"s3cr3t" not in done.stdout
    assert "s3cr3t-redis" in os.environ["REDIS_URL"]  # the worker itself does have them


@pytest.mark.parametrize(
    "name",
    [*SECRETS, "redis_url", "TINYTOWN_DESK", "LD_PRELOAD", "PYTHONPATH", "PATH", "HOME", "A=B", ""],
)
async def test_an_adapter_cannot_hand_over_what_is_ours(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(ValueError, match="may not set"):
        sandbox.environment(sandbox.build(errand()), {name: "x"})


@pytest.mark.parametrize("shell", [["sh", "-c"], ["bash", "-c"], ["bash", "-lc"]])
async def test_tt_is_on_the_path_of_every_shell(
    sandbox: Sandbox, desk: Desk, person: Person, room: Room, shell: list[str]
) -> None:
    person.answer_at_once = lambda ask: AskReply(outcome="answered", answer=f"heard {ask.text}")
    env = sandbox.environment(sandbox.build(errand(desk.card)))
    room.work.mkdir()
    (room.work / "json.py").write_text("raise SystemExit('hijacked')")
    done = await anyio.run_process([*shell, "tt ask 'a b'"], env=env, cwd=room.work)
    assert done.stdout == b"heard a b\n"


async def test_the_agents_own_git_works_without_anybodys_configuration(
    sandbox: Sandbox, room: Room
) -> None:
    env = sandbox.environment(sandbox.build(errand()))
    script = "git init -q . && echo x > x && git add x && git commit -qm x && git log --format=%an"
    room.work.mkdir()
    done = await anyio.run_process(["sh", "-c", script], env=env, cwd=room.work)
    assert done.stdout == b"tinytown agent\n"


# Root becomes another user first, for nothing stops root.
WORKER = """
import ctypes, os, sys
from tinytown_workers import hardening
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
# The identity changed, so the kernel closed this process already; open it as a fresh one is.
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
if {harden}:
    assert hardening.close_process()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(params=[True, False], ids=["hardened", "open"])
def worker(request: pytest.FixtureRequest) -> Iterator[tuple[bool, int]]:
    code = WORKER.format(harden=request.param)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=SECRETS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield request.param, process.pid
        process.kill()


def test_a_hardened_worker_shows_its_environment_to_no_process_of_its_user(
    worker: tuple[bool, int],
) -> None:
    hardened, pid = worker
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    said = subprocess.run(
        [*(as_nobody if os.geteuid() == 0 else []), "cat", f"/proc/{pid}/environ"],
        capture_output=True,
        text=True,
        check=False,
    )
    if hardened:
        assert (said.stdout, said.returncode) == ("", 1)
        assert "Permission denied" in said.stderr
    else:  # the same read finds all four: the test above could fail
        assert said.stdout.count("s3cr3t") == 4


ORPHANS = """
import json, os, subprocess, sys, time
import anyio
from tinytown_workers import hardening

async def main():
    assert hardening.become_subreaper()
    # A shell that leaves a grandchild behind, which ends later.
    made = subprocess.run(["sh", "-c", "(sleep 0.05) >/dev/null & echo $!"], stdout=subprocess.PIPE)
    orphan = int(made.stdout)
    mine = subprocess.Popen(["true"])
    os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
    os.waitid(os.P_PID, mine.pid, os.WEXITED | os.WNOWAIT)
    reaper = hardening.Reaper(patience_seconds=0.05)
    first = reaper.look()
    mine.wait()
    await anyio.sleep(0.1)
    print(json.dumps([first, reaper.look() == [orphan], reaper.look()]))

anyio.run(main)
"""


def test_orphans_are_adopted_and_buried_after_a_while() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORPHANS], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[], True, []]
