"""The gate before the engine: the launcher gets through it, and nobody gets past it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from deploy.parts import ROOT
from fakes.engine import Engine
from tinytown.launch.docker import DockerLauncher, Shape, docker_launcher
from tinytown.models.scaling import Signal, Start

Eventually = Callable[..., Awaitable[None]]
SHAPE = Shape(image="tinytown-worker", town="main", network="tinytown", memory_mb=256)
CREATE = "/v1.41/containers/create?name=tinytown-main-s1"


@pytest.fixture
def engine(home: Path) -> Iterator[Engine]:
    """Lend an engine whose containers end when their environment says."""

    def run(environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sh", "-c", environ["SCRIPT"]])

    with Engine(home / "engine", run=run, images=("tinytown-worker", "other")) as engine:
        yield engine


@pytest.fixture
async def gate(engine: Engine, home: Path, eventually: Eventually) -> AsyncIterator[Path]:
    """Lend the gate's socket."""
    own = home / "gate"
    script = str(ROOT / "docker" / "gate.py")
    places = [str(engine.socket), str(own), SHAPE.image, "tinytown"]
    async with await anyio.open_process([sys.executable, "-I", script, *places]) as process:
        await eventually(own.exists, "the gate does not open")
        yield own
        process.kill()


@pytest.fixture
async def door(gate: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Lend a client of the gate."""
    transport = httpx.AsyncHTTPTransport(uds=str(gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as client:
        yield client


def wanted() -> dict[str, Any]:
    """Describe a container as the launcher does."""
    nothing: Any = None  # describing one needs neither an engine nor ears
    launcher = DockerLauncher(
        nothing, nothing, SHAPE, lambda _: {"SCRIPT": ":"}, (nothing, nothing)
    )
    return launcher.container(Start("s1", "default"))


async def test_the_launcher_starts_a_worker_and_hears_of_its_end(
    gate: Path, engine: Engine
) -> None:
    def environment(pool: str) -> dict[str, str]:
        return {"SCRIPT": "exit 3", "TINYTOWN_POOL": pool}

    async with docker_launcher(gate, SHAPE, environment) as launcher:
        signal: Signal = None  # type: ignore[assignment] # not read
        assert not any((await launcher.start([Start("s1", "default")], signal)).values())
        with anyio.fail_after(10):
            ended = await launcher.ended()
    assert (ended.start.id, ended.clean) == ("s1", False)
    assert "exit 3" in ended.reason
    (container,) = engine.containers.values()
    assert container.environment["TINYTOWN_POOL"] == "default"


async def test_what_is_created_gets_its_walls_whatever_was_asked(
    door: httpx.AsyncClient, engine: Engine
) -> None:
    body = wanted()
    body["HostConfig"]["CapDrop"] = []
    body["HostConfig"]["SecurityOpt"] = ["seccomp=unconfined"]
    body["HostConfig"]["ReadonlyRootfs"] = False
    body["HostConfig"]["Tmpfs"] = {"/work": "exec"}
    body["Volumes"] = {"/host": {}}
    reply = await door.post(CREATE, json=body)
    assert reply.status_code == 201, reply.text
    (container,) = engine.containers.values()
    host = container.config["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert set(host["Tmpfs"]) == {"/tmp", "/home/town"}
    assert container.config["Volumes"] == {"/work": {}}
    assert host["AutoRemove"] is True


async def test_the_launcher_asks_for_these_walls_itself(
    door: httpx.AsyncClient, engine: Engine
) -> None:
    """Without a gate before its engine, a worker is kept in all the same."""
    body = wanted()
    assert (await door.post(CREATE, json=body)).status_code == 201
    (container,) = engine.containers.values()
    assert container.config == body


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"Image": "other"}, "only tinytown-worker"),
        ({"Entrypoint": ["sh"]}, "no Entrypoint"),
        ({"Cmd": ["sh"]}, "no Cmd"),
        ({"User": "0"}, "no User"),
        ({"HostConfig": None}, "describes no container"),
        ({"HostConfig.Binds": ["/:/host"]}, "no Binds"),
        ({"HostConfig.Mounts": [{"Type": "bind"}]}, "no Mounts"),
        ({"HostConfig.Privileged": True}, "no Privileged"),
        ({"HostConfig.CapAdd": ["SYS_ADMIN"]}, "no CapAdd"),
        ({"HostConfig.Devices": []}, "no Devices"),
        ({"HostConfig.PidMode": "host"}, "no PidMode"),
        ({"HostConfig.NetworkMode": "host"}, "in the network tinytown"),
        ({"HostConfig.NetworkMode": None}, "in the network tinytown"),
        ({"HostConfig.Memory": 0}, "limit of memory"),
    ],
)
async def test_anything_but_a_worker_is_refused_by_name(
    door: httpx.AsyncClient, engine: Engine, change: dict[str, Any], why: str
) -> None:
    body = wanted()
    for path, value in change.items():
        place, _, key = path.rpartition(".")
        (body[place] if place else body)[key] = value
    reply = await door.post(CREATE, json=body)
    assert reply.status_code == 403
    assert why in reply.json()["message"]
    assert engine.containers == {}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1.41/containers/json"),
        ("GET", "/v1.41/secrets"),
        ("POST", "/v1.41/images/create?fromImage=other"),
        ("POST", "/v1.41/containers/tinytown-townhall-1/start"),
        ("POST", "/v1.41/containers/tinytown-townhall-1/exec"),
        ("POST", "/v1.41/containers/tinytown-redis-1/stop"),
        ("DELETE", "/v1.41/containers/tinytown-redis-1?force=true"),
        ("POST", "/v1.41/containers/create"),
        ("POST", "/v1.41/containers/create?name=townhall"),
        ("POST", "/v1.41/containers/create?name=tinytown-a&platform=x"),
        ("POST", "/v1.41/containers/../build"),
        ("PUT", "/v1.41/containers/x/archive"),
        ("POST", "/grpc"),
    ],
)
async def test_no_other_request_reaches_the_engine(
    door: httpx.AsyncClient, engine: Engine, method: str, path: str
) -> None:
    reply = await door.request(method, path, content=json.dumps(wanted()))
    assert reply.status_code in {403, 501}
    assert engine.containers == {}
    assert engine.removed == []


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"tinytown-worker"'])
async def test_what_is_no_container_is_refused(
    door: httpx.AsyncClient, engine: Engine, text: str
) -> None:
    assert (await door.post(CREATE, content=text)).status_code == 403
    assert engine.containers == {}


async def test_too_much_is_refused_unread(door: httpx.AsyncClient, engine: Engine) -> None:
    body = wanted()
    body["Env"] = ["A=" + "x" * 1_000_000]
    try:
        reply = await door.post(CREATE, json=body)
        assert reply.status_code == 403
    except httpx.WriteError:
        pass  # it hung up while we were still talking
    assert engine.containers == {}


async def test_only_what_was_made_here_is_started_and_removed(
    door: httpx.AsyncClient, engine: Engine
) -> None:
    made = (await door.post(CREATE, json=wanted())).json()["Id"]
    assert (await door.post("/v1.41/containers/tinytown-main-s1/start")).status_code == 204
    assert (await door.delete(f"/v1.41/containers/{made}?force=true")).status_code == 204
    assert (await door.delete("/v1.41/containers/another?force=true")).status_code == 403
    assert engine.removed == [made]


async def test_the_engines_own_words_come_through(door: httpx.AsyncClient, engine: Engine) -> None:
    await door.post(CREATE, json=wanted())
    engine.refuses_start = "no space left on device"
    reply = await door.post("/v1.41/containers/tinytown-main-s1/start")
    assert (reply.status_code, reply.json()) == (500, {"message": "no space left on device"})


async def test_an_engine_that_is_away_is_said(door: httpx.AsyncClient, engine: Engine) -> None:
    engine.socket.unlink()
    reply = await door.post(CREATE, json=wanted())
    assert reply.status_code == 502
    assert "the engine does not answer" in reply.json()["message"]
