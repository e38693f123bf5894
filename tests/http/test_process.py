"""The townhall as a process: how it starts, what it says, and how it ends whatever happens."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest
from redis.asyncio import Redis

from halls import API_KEY, HallProcess
from listening import Told, listening
from servers import RedisServer, free_port
from towns import open_town, start

Eventually = Callable[..., Awaitable[None]]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a townhall that ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "tinytown.townhall", *arguments],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_help_and_version_need_no_settings() -> None:
    found = run("--help")
    assert found.returncode == 0
    assert "usage: townhall" in found.stdout
    assert run("--version").stdout.startswith("townhall ")


def test_settings_are_printed_without_their_secrets() -> None:
    found = run("settings", TINYTOWN_API_KEY=API_KEY, TINYTOWN_TOWN="paris")
    assert found.returncode == 0
    assert "TINYTOWN_TOWN=paris" in found.stdout.splitlines()
    assert "TINYTOWN_API_KEY=•••" in found.stdout.splitlines()
    assert API_KEY not in found.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "says"),
    [
        (["--prot", "1"], {}, 2, "unknown argument --prot"),
        (["--port", "high"], {}, 2, "--port takes a number"),
        (["--port", "70000"], {}, 2, "--port takes a number"),
        (["--host"], {}, 2, "--host takes a value"),
        ([], {"TINYTOWN_PROT": "1"}, 2, "did you mean TINYTOWN_PORT?"),
        ([], {"REDIS_URL": "redis://127.0.0.1:1"}, 5, "cannot be reached"),
        ([], {"TINYTOWN_NOTIFY": "json://127.0.0.1 nothing"}, 2, "entry 2 is not an Apprise URL"),
        (["--host", "nowhere.invalid"], {"REDIS_URL": "redis://127.0.0.1:1"}, 1, "cannot listen"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    arguments: list[str], environment: dict[str, str], code: int, says: str
) -> None:
    found = run(*arguments, **{"TINYTOWN_PORT": "0", **environment})
    assert found.returncode == code
    assert says in found.stderr
    assert len(found.stderr.splitlines()) == 1
    assert found.stdout == ""


def test_a_port_in_use_is_said_in_one_line(redis_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = run("--port", port, REDIS_URL=redis_url)
    assert found.returncode == 1
    assert found.stderr == f"townhall: cannot listen on 127.0.0.1:{port}: address already in use\n"


def test_two_townhalls_cannot_share_a_port(redis_url: str) -> None:
    port = str(free_port())
    with HallProcess(redis_url, "--port", port):
        assert run("--port", port, REDIS_URL=redis_url).returncode == 1


def test_a_new_town_shows_its_first_key_once(redis_url: str) -> None:
    with HallProcess(redis_url, TINYTOWN_API_KEY="") as hall:
        assert hall.stop() == 0
    (key,) = [line.strip() for line in hall.said if line.strip().startswith("tt_")]
    assert key not in str(hall.log)
    with HallProcess(redis_url, TINYTOWN_API_KEY="") as hall:
        reply = httpx.get(
            f"{hall.address}/v1/keys", headers={"Authorization": f"Bearer {key}"}, trust_env=False
        )
        assert [each["name"] for each in reply.json()["items"]] == ["first"]
        hall.stop()
    assert hall.said == []


def test_without_redis_url_it_brings_its_own(tmp_path: Path) -> None:
    with HallProcess("", TINYTOWN_HOME=str(tmp_path / "home")) as hall:
        ready = httpx.get(f"{hall.address}/ready", trust_env=False)
        assert ready.json()["status"] == "ok"
        assert {"redis", "dispatcher", "notifier"} == ready.json()["checks"].keys()
        assert hall.stop() == 0
    assert not list((tmp_path / "home").rglob("*.sock"))


def test_without_a_notifier_ready_does_not_ask_for_one(redis_url: str) -> None:
    with HallProcess(redis_url, TINYTOWN_NOTIFIER="off") as hall:
        found = httpx.get(f"{hall.address}/ready", trust_env=False).json()
        assert found["status"] == "ok"
        assert found["checks"].keys() == {"redis", "dispatcher"}
        assert hall.stop() == 0


def test_phones_of_the_settings_are_there_once_however_often_it_starts(redis_url: str) -> None:
    for _ in range(2):
        with HallProcess(redis_url, TINYTOWN_NOTIFY="ntfys://push.example/topic") as hall:
            found = httpx.get(
                f"{hall.address}/v1/endpoints",
                headers={"Authorization": f"Bearer {API_KEY}"},
                trust_env=False,
            ).json()
            assert [each["url"] for each in found["items"]] == ["ntfys://push.example/•••"]
            assert hall.stop() == 0


def test_a_phone_nobody_can_reach_is_named_by_its_place(redis_url: str) -> None:
    found = run(
        REDIS_URL=redis_url,
        TINYTOWN_PORT="0",
        TINYTOWN_NOTIFY="ntfys://push.example/topic nosuch://s3cret-token",
    )
    assert found.returncode == 2
    assert "TINYTOWN_NOTIFY entry 2" in found.stderr
    assert "s3cret" not in found.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_says_goodbye_to_streams_and_exits_0(
    redis_url: str, how: signal.Signals
) -> None:
    with HallProcess(redis_url) as hall:
        told: list[list[Told]] = []
        async with hall.client() as client, anyio.create_task_group() as group:
            open_streams: list[int] = []

            async def listen() -> None:
                async with listening(client, "/v1/events", after="0") as reader:
                    open_streams.append(1)
                    told.append(await reader.rest())

            for _ in range(5):
                group.start_soon(listen)
            while len(open_streams) < 5:
                await anyio.lowlevel.checkpoint()
            begun = time.monotonic()
            hall.process.send_signal(how)
        assert hall.process.wait(timeout=10) == 0
        assert time.monotonic() - begun < 5
    assert [[each.type for each in stream] for stream in told] == [["bye"]] * 5


async def test_a_reader_that_never_reads_cannot_keep_it_from_stopping(redis_url: str) -> None:
    with HallProcess(redis_url) as hall:
        host, _, port = hall.address.removeprefix("http://").rpartition(":")
        async with open_town(redis_url) as store:
            for _ in range(300):
                await start(store)
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall(
                b"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\n"
                b"Authorization: Bearer " + API_KEY.encode() + b"\r\n\r\n"
            )
            assert deaf.recv(15) == b"HTTP/1.1 200 OK"
            begun = time.monotonic()
            assert hall.stop() == 0
            assert time.monotonic() - begun < 10


async def test_a_request_on_its_way_is_finished(redis_url: str, eventually: Eventually) -> None:
    with HallProcess(redis_url) as hall:
        async with hall.client() as client, anyio.create_task_group() as group:
            found: list[httpx.Response] = []

            async def body() -> AsyncIterator[bytes]:
                yield b'{"goal": "sent '
                hall.process.send_signal(signal.SIGTERM)
                await anyio.sleep(0.3)  # the body itself is slow
                yield b'slowly"}'

            async def send() -> None:
                headers = {"Content-Type": "application/json"}
                found.append(await client.post("/v1/missions", content=body(), headers=headers))

            group.start_soon(send)
        assert found[0].status_code == 201
        assert hall.process.wait(timeout=10) == 0


async def test_a_stream_goes_on_after_kill_9_without_gap_or_repeat(redis_url: str) -> None:
    port = str(free_port())
    seen: list[str] = []
    async with open_town(redis_url) as store:
        for _ in range(3):
            with HallProcess(redis_url, "--port", port) as hall:
                async with hall.client() as client:
                    last = seen[-1] if seen else "0-0"
                    async with listening(client, "/v1/events", last_id=last) as reader:
                        for _ in range(5):
                            await start(store)
                            seen += [told.id for told in await reader.take(2)]
                        await start(store)
                        hall.process.kill()
                        hall.process.wait()
            await start(store)
        stored = [event.stream_id for event in await store.events.after("0-0", limit=1000)]
        with HallProcess(redis_url, "--port", port) as hall:
            async with (
                hall.client() as client,
                listening(client, "/v1/events", last_id=seen[-1]) as reader,
            ):
                seen += [told.id for told in await reader.take(len(stored) - len(seen))]
        assert seen == stored


async def test_kill_9_in_the_middle_of_creating_creates_once(
    redis_url: str, redis: Redis, eventually: Eventually
) -> None:
    port = str(free_port())
    headers = {"Idempotency-Key": "once"}
    body = {"goal": "x"}
    for _ in range(3):
        with HallProcess(redis_url, "--port", port) as hall:
            async with hall.client() as client, anyio.create_task_group() as group:

                async def send() -> None:
                    with suppress(httpx.TransportError):
                        await client.post("/v1/missions", json=body, headers=headers)

                for _ in range(4):
                    group.start_soon(send)
                await eventually(lambda: redis.keys("*idempotency*"), "one of them has begun")
                hall.process.kill()
        (key,) = await redis.keys("*idempotency*")
        record = json.loads(str(await redis.get(key)))
        # A try that died is given up after half a minute: let that time have passed.
        await redis.set(key, json.dumps({**record, "at": 0}), keepttl=True)
    with HallProcess(redis_url, "--port", port) as hall:
        async with hall.client() as client:
            reply = await client.post("/v1/missions", json=body, headers=headers)
            assert reply.status_code == 201
            assert len((await client.get("/v1/missions")).json()["items"]) == 1
        assert hall.stop() == 0


def test_an_outage_of_redis_is_survived(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server(persist=True)
    with HallProcess(server.url) as hall:
        server.stop()
        assert httpx.get(f"{hall.address}/ready", trust_env=False).status_code == 503
        server.start()
        deadline = time.monotonic() + 10
        while httpx.get(f"{hall.address}/ready", trust_env=False).status_code != 200:
            assert time.monotonic() < deadline
        assert hall.stop() == 0


def test_it_stops_in_time_while_redis_is_away(redis_server: Callable[..., RedisServer]) -> None:
    server = redis_server()
    with HallProcess(server.url) as hall:
        server.stop()
        hall.wait_for("redis.away")
        assert hall.stop() == 0
    server.start()
    with HallProcess(server.url) as hall:
        server.freeze()
        assert hall.stop() == 0
        server.thaw()
