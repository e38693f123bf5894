"""Workers in containers: what the engine is asked for, and what becomes of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import anyio
import pytest

from conftest import Eventually
from fakes.engine import Engine
from paper import NO_SIGNAL, MakeTown, reconciling
from tinytown.launch import CannotLaunch
from tinytown.launch.docker import Shape, check_socket, docker_launcher
from tinytown.launch.environment import container_environment
from tinytown.models.scaling import Start
from tinytown.store import Store
from towns import start

SHAPE = Shape(image="tinytown-worker", town="main", network="town", memory_mb=256)
DEFAULT = [Start("s1", "default")]


@pytest.fixture
def script() -> list[str]:
    """Lend the command line of a container; a test may change it."""
    return [sys.executable, "-m", "tinytown_workers"]


@pytest.fixture
def engine(home: Path, script: list[str]) -> Iterator[Engine]:
    log = (home / "log").open("wb")

    def run(environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        image = {"PATH": os.environ["PATH"], "HOME": str(home), "TINYTOWN_HOME": str(home)}
        return subprocess.Popen(script, env={**image, **environ}, stderr=log)

    with log, Engine(home / "engine.sock", run=run) as engine:
        yield engine


@pytest.fixture
def environment(redis_url: str) -> Callable[[str], dict[str, str]]:
    environ = {
        "TINYTOWN_AGENT": "command",
        "TINYTOWN_AGENT_COMMAND": "cat",
        "TINYTOWN_IDLE_SECONDS": "0.2",
        "TINYTOWN_API_KEY": "the town's own",
        "HOME": "/root",
    }
    return lambda pool: container_environment(environ, redis_url=redis_url, town="main", pool=pool)


async def test_a_mission_gets_a_container_that_is_gone_after_it(
    engine: Engine,
    environment: Callable[[str], dict[str, str]],
    town_of: MakeTown,
    store: Store,
    eventually: Eventually,
) -> None:
    async with reconciling(town_of(), docker_launcher(engine.socket, SHAPE, environment)):
        mission = await start(store)

        async def completed() -> bool:
            return (await store.missions.read(mission.id)).state == "completed"

        await eventually(completed, within_seconds=20)
        (container,) = engine.containers.values()
        await eventually(container.ended.is_set)
        assert container.process is not None
        assert container.process.returncode == 0
    counters = await store.clockwork.counters()
    assert counters["worker_starts:docker:arrived"] == 1


async def test_a_container_is_small_nameable_and_may_do_little(
    engine: Engine, environment: Callable[[str], dict[str, str]], redis_url: str, script: list[str]
) -> None:
    script[:] = ["true"]
    async with docker_launcher(engine.socket, SHAPE, environment) as launcher:
        assert await launcher.start([Start("s1", "gpu")], NO_SIGNAL) == {}
        assert (await launcher.ended()).clean
    (container,) = engine.containers.values()
    assert container.name == "tinytown-main-s1"
    assert container.environment == {
        "REDIS_URL": redis_url,
        "TINYTOWN_TOWN": "main",
        "TINYTOWN_POOL": "gpu",
        "TINYTOWN_AGENT": "command",
        "TINYTOWN_AGENT_COMMAND": "cat",
        "TINYTOWN_IDLE_SECONDS": "0.2",
    }
    assert container.config["Labels"] == {
        "tinytown.town": "main",
        "tinytown.pool": "gpu",
        "tinytown.start": "s1",
    }
    assert container.config["HostConfig"] == {
        "AutoRemove": True,
        "Memory": 256 * 1024 * 1024,
        "MemorySwap": 256 * 1024 * 1024,
        "PidsLimit": 1024,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "RestartPolicy": {"Name": "no"},
        "NetworkMode": "town",
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "exec", "/home/town": "uid=10001,gid=10001,mode=700"},
    }
    assert container.config["Volumes"] == {"/work": {}}, "it goes with its container"


async def test_a_container_that_fails_at_once_is_heard_of(
    engine: Engine, environment: Callable[[str], dict[str, str]], script: list[str]
) -> None:
    script[:] = ["sh", "-c", "exit 127"]
    async with docker_launcher(engine.socket, SHAPE, environment) as launcher:
        await launcher.start(DEFAULT, NO_SIGNAL)
        with anyio.fail_after(10):
            ended = await launcher.ended()
    assert (ended.start, ended.clean) == (DEFAULT[0], False)
    assert ended.reason == "exit 127 (its command is not in the image)"


async def test_an_image_that_exits_at_once_opens_the_circuit_and_no_storm(
    engine: Engine,
    environment: Callable[[str], dict[str, str]],
    script: list[str],
    town_of: MakeTown,
    impatient: Store,
    eventually: Eventually,
) -> None:
    script[:] = ["false"]
    async with reconciling(
        town_of(of=impatient), docker_launcher(engine.socket, SHAPE, environment)
    ):
        await start(impatient)

        async def told() -> bool:
            events = await impatient.events.after("0-0", limit=99)
            return "worker.lost" in [event.type for event in events]

        await eventually(told)
        for _ in range(5):
            await start(impatient)
        await anyio.sleep(0.5)  # that nothing happens can only be seen by waiting
    assert len(engine.containers) == 3


async def test_an_image_that_is_not_there_is_named(
    engine: Engine, environment: Callable[[str], dict[str, str]]
) -> None:
    shape = Shape(image="nobodys", town="main")
    async with docker_launcher(engine.socket, shape, environment) as launcher:
        failed = await launcher.start(DEFAULT, NO_SIGNAL)
    assert str(failed["s1"]) == (
        "create: there is no image nobodys here (or no such network): No such image: nobodys:latest"
    )


async def test_a_container_that_cannot_be_started_is_cleared_away(
    engine: Engine, environment: Callable[[str], dict[str, str]]
) -> None:
    engine.refuses_start = "driver failed programming external connectivity"
    async with docker_launcher(engine.socket, SHAPE, environment) as launcher:
        failed = await launcher.start(DEFAULT, NO_SIGNAL)
        assert str(failed["s1"]) == "start: driver failed programming external connectivity"
    assert engine.removed == list(engine.containers)


async def test_an_engine_that_went_away_is_a_failed_start(
    home: Path, environment: Callable[[str], dict[str, str]]
) -> None:
    async with docker_launcher(home / "engine.sock", SHAPE, environment) as launcher:
        failed = await launcher.start(DEFAULT, NO_SIGNAL)
    assert str(failed["s1"]) == "cannot reach docker: nobody listens there"


def test_a_missing_socket_is_one_line(home: Path) -> None:
    with pytest.raises(CannotLaunch) as refused:
        check_socket(home / "none.sock")
    assert str(refused.value) == (
        f"TINYTOWN_LAUNCHER=docker: there is no socket {home}/none.sock (TINYTOWN_DOCKER_SOCKET)"
    )


def test_a_socket_nobody_listens_at_is_one_line(engine: Engine, home: Path) -> None:
    check_socket(engine.socket)
    left = home / "left.sock"
    import socket

    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left))
    with pytest.raises(CannotLaunch, match="no engine listens at the socket"):
        check_socket(left)
