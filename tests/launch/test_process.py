"""Workers as child processes: real ones, on a real Redis."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from conftest import Eventually
from paper import NO_SIGNAL, MakeTown, reconciling
from tinytown.launch.environment import container_environment, worker_environment
from tinytown.launch.process import process_launcher
from tinytown.models.scaling import Start
from tinytown.models.worker import WorkerState
from tinytown.store import Store
from towns import start


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TINYTOWN_HOME": str(tmp_path / "home"),
        "TINYTOWN_AGENT": "command",
        "TINYTOWN_AGENT_COMMAND": "cat",
        "TINYTOWN_IDLE_SECONDS": "60",
    }


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_task_brings_a_worker_that_works_and_goes_home(
    town_of: MakeTown,
    store: Store,
    redis_url: str,
    environ: dict[str, str],
    eventually: Eventually,
) -> None:
    environ["TINYTOWN_IDLE_SECONDS"] = "0.2"
    opening = process_launcher(environ, redis_url=redis_url, town="main", drain_seconds=2)
    async with reconciling(town_of(), opening):
        mission = await start(store, goal="say it back")

        async def completed() -> bool:
            return (await store.missions.read(mission.id)).state == "completed"

        await eventually(completed, within_seconds=20)

        async def home() -> bool:
            return [each.state for each in await store.workers.list()] == [WorkerState.STOPPED]

        await eventually(home, within_seconds=10)


async def test_workers_are_gone_when_the_town_closes(
    store: Store, redis_url: str, environ: dict[str, str], eventually: Eventually
) -> None:
    async with process_launcher(
        environ, redis_url=redis_url, town="main", drain_seconds=5
    ) as launcher:
        await launcher.start([Start("1", "default"), Start("2", "gpu")], NO_SIGNAL)
        pids = launcher.pids

        async def here() -> bool:
            return len(await store.workers.list()) == 2

        await eventually(here, within_seconds=15)
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
    found = await store.workers.list()
    assert {(each.pools, each.state) for each in found} == {
        (("default",), WorkerState.STOPPED),
        (("gpu",), WorkerState.STOPPED),
    }


async def test_a_worker_that_will_not_go_is_killed(
    redis_url: str, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinytown.launch.process._SLACK_SECONDS", 0.3)
    async with process_launcher(
        environ, redis_url=redis_url, town="main", drain_seconds=0.1
    ) as launcher:
        await launcher.start([Start("1", "default")], NO_SIGNAL)
        (pid,) = launcher.pids
        os.kill(pid, signal.SIGSTOP)
    assert gone(pid)


async def test_a_worker_whose_settings_are_wrong_is_reported(
    redis_url: str, environ: dict[str, str], tmp_path: Path
) -> None:
    environ["TINYTOWN_IDLE_SECONDS"] = "soon"
    with (tmp_path / "log").open("w") as log:
        async with process_launcher(
            environ, redis_url=redis_url, town="main", drain_seconds=1, log=log.fileno()
        ) as launcher:
            await launcher.start([Start("1", "default")], NO_SIGNAL)
            with anyio.fail_after(15):
                ended = await launcher.ended()
    assert (ended.start, ended.clean) == (Start("1", "default"), False)
    assert ended.reason == "exit 2 (its settings)"
    assert "TINYTOWN_IDLE_SECONDS" in (tmp_path / "log").read_text()


def test_a_worker_gets_none_of_the_towns_secrets() -> None:
    environ = {
        "PATH": "/bin",
        "TINYTOWN_API_KEY": "a",
        "TINYTOWN_SECRET_KEY": "opens what was parked",
        "TINYTOWN_PROBE_KEY": "c",
        "TINYTOWN_NOTIFY": "d",
        "FLY_API_TOKEN": "e",
        "REDIS_URL": "redis://elsewhere",
        "TINYTOWN_POOL": "other",
        "ANTHROPIC_API_KEY": "kept: it is the agent's",
    }
    built = worker_environment(environ, redis_url="unix:///s", town="main", pool="gpu")
    assert built == {
        "PATH": "/bin",
        "REDIS_URL": "unix:///s",
        "TINYTOWN_TOWN": "main",
        "TINYTOWN_POOL": "gpu",
        "TINYTOWN_SECRET_KEY": "opens what was parked",
        "ANTHROPIC_API_KEY": "kept: it is the agent's",
    }


def test_a_worker_elsewhere_gets_only_what_is_named() -> None:
    environ = {
        "PATH": "/bin",
        "HOME": "/root",
        "TINYTOWN_HOME": "/var/lib/town",
        "TINYTOWN_API_KEY": "a",
        "TINYTOWN_LAUNCHER_SECRET": "b",
        "FLY_API_TOKEN": "c",
        "TINYTOWN_AGENT": "codex",
        "OPENAI_API_KEY": "kept: it is the agent's",
        "https_proxy": "http://proxy:3128",
        "MY_MIRROR": "named by the operator",
        "NOT_NAMED": "d",
        "TINYTOWN_MODEL": "",
    }
    built = container_environment(
        environ,
        redis_url="redis://r:6379",
        town="main",
        pool="gpu",
        more=("MY_MIRROR", "FLY_API_TOKEN"),
    )
    assert built == {
        "REDIS_URL": "redis://r:6379",
        "TINYTOWN_TOWN": "main",
        "TINYTOWN_POOL": "gpu",
        "TINYTOWN_AGENT": "codex",
        "OPENAI_API_KEY": "kept: it is the agent's",
        "https_proxy": "http://proxy:3128",
        "MY_MIRROR": "named by the operator",
    }
