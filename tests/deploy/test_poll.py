"""poll.sh against a real townhall: it wakes real workers, and knowing nothing it does nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from deploy.parts import ROOT
from halls import API_KEY, PROBE_KEY, HallProcess

Eventually = Callable[..., Awaitable[None]]
POLL = ROOT / "deploy" / "poll.sh"


def environment(town: str, start: str, **more: str) -> dict[str, str]:
    """Build what a crontab would give the script."""
    return {"PATH": os.defpath, "TOWN": town, "START": start, "BOOT": "1", **more}


def once(town: str, start: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run it as cron would."""
    return subprocess.run(
        [POLL, "once"],
        env=environment(town, start, **more),
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )


def start_mission(town: str, **more: str) -> str:
    """Post a mission; returns its path."""
    with httpx.Client(base_url=town, trust_env=False) as client:
        reply = client.post(
            "/v1/missions",
            json={"goal": "say hello", **more},
            headers={"Authorization": f"Bearer {API_KEY}"},
        )
    assert reply.status_code == 201, reply.text
    return str(reply.headers["Location"])


def test_an_idle_town_starts_nobody(redis_url: str, tmp_path: Path) -> None:
    with HallProcess(redis_url) as hall:
        done = once(hall.address, f"echo started >> {tmp_path}/starts")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "starts").exists()


def test_as_many_are_started_as_are_missing(redis_url: str, tmp_path: Path) -> None:
    with HallProcess(redis_url) as hall:
        for _ in range(3):
            start_mission(hall.address)
        done = once(hall.address, f"echo started >> {tmp_path}/starts")
    assert done.returncode == 0
    assert (tmp_path / "starts").read_text() == "started\n" * 3


def test_it_shows_the_probes_key_and_fails_without(redis_url: str) -> None:
    with HallProcess(redis_url, TINYTOWN_PROBE_KEY=PROBE_KEY) as hall:
        assert once(hall.address, "true", KEY=PROBE_KEY).returncode == 0
        assert once(hall.address, "true").returncode == 1


class Unknowing(BaseHTTPRequestHandler):
    """A town that cannot read its Redis, or something that is no town at all."""

    def do_GET(self) -> None:
        """Answer what the path says."""
        status, _, body = self.path.strip("/").partition("/")[0].partition(":")
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def unknowing() -> Iterator[str]:
    """Lend the address of a server that knows nothing."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Unknowing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("answer", ["503:", "200:", "200:{}", "200:<html>", "404:"])
def test_not_knowing_starts_nobody_and_says_so(unknowing: str, answer: str, tmp_path: Path) -> None:
    done = once(f"{unknowing}/{answer}", f"echo started >> {tmp_path}/starts")
    assert done.returncode == 1
    assert not (tmp_path / "starts").exists()


def test_a_start_that_fails_is_said_and_the_others_are_tried(
    redis_url: str, tmp_path: Path
) -> None:
    with HallProcess(redis_url) as hall:
        start_mission(hall.address)
        start_mission(hall.address)
        done = once(hall.address, f"echo tried >> {tmp_path}/starts; false")
    assert done.returncode == 0
    assert done.stderr.count("could not start one") == 2
    assert (tmp_path / "starts").read_text() == "tried\n" * 2


async def test_a_mission_wakes_a_worker_that_completes_it_and_goes_home(
    redis_url: str, tmp_path: Path, eventually: Eventually
) -> None:
    """The whole loop: an idle town hears from it every half minute, a mission starts at once."""
    worker = (
        f"REDIS_URL={redis_url} TINYTOWN_AGENT=command TINYTOWN_AGENT_COMMAND=cat "
        f"TINYTOWN_IDLE_SECONDS=1 TINYTOWN_HOME={tmp_path}/home "
        f"{sys.executable} -m tinytown_workers & echo $! >> {tmp_path}/workers"
    )
    with (
        HallProcess(redis_url) as hall,
        polling(environment(hall.address, worker)),
        httpx.Client(
            base_url=hall.address,
            headers={"Authorization": f"Bearer {API_KEY}"},
            trust_env=False,
        ) as client,
    ):

        def asked() -> bool:
            asked_once = 'tinytown_http_request_seconds_count{method="GET",route="/api/scaling"'
            return asked_once in client.get("/metrics").text

        await eventually(asked, "the script asks nothing")
        mission = start_mission(hall.address)

        def completed() -> bool:
            return bool(client.get(mission).json()["state"] == "completed")

        await eventually(completed, "the mission does not complete", within_seconds=15)

        def at_zero() -> bool:
            there = client.get("/api/scaling").json()["workers"]
            return not any(there[state] for state in ("idle", "busy", "starting", "draining"))

        await eventually(at_zero, "the worker does not go home", within_seconds=15)
    assert len((tmp_path / "workers").read_text().split()) == 1


@contextmanager
def polling(env: dict[str, str]) -> Iterator[None]:
    """Let it run as a service would, and end it with the request it is in."""
    poller = subprocess.Popen([POLL], env=env, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(poller.pid, signal.SIGTERM)
        poller.wait(timeout=10)
