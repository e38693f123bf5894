"""A townhall that starts its own workers, as processes of their own talk to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from conftest import Eventually
from servers import free_port

KEY = "tt_a-key-of-more-than-24-characters"


@contextmanager
def townhall(environ: dict[str, str], log: Path) -> Iterator[None]:
    """Run a townhall; it must end in order when it is told to."""
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "tinytown.townhall"], env=environ, stderr=file
        ) as process,
    ):
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(15)
    assert code == 0, log.read_text()


@pytest.mark.timeout(90)
async def test_a_mission_over_rest_finds_a_worker_and_leaves_nobody_behind(
    redis_url: str, tmp_path: Path, eventually: Eventually
) -> None:
    port = free_port()
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "REDIS_URL": redis_url,
        "TINYTOWN_HOME": str(tmp_path / "home"),
        "TINYTOWN_PORT": str(port),
        "TINYTOWN_API_KEY": KEY,
        "TINYTOWN_LAUNCHER": "process",
        "TINYTOWN_AGENT": "command",
        "TINYTOWN_AGENT_COMMAND": "cat",
        "TINYTOWN_IDLE_SECONDS": "0.2",
        "TINYTOWN_DRAIN_SECONDS": "1",
    }
    headers = {"Authorization": f"Bearer {KEY}"}
    with townhall(environ, tmp_path / "log"):
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False
        ) as client:

            async def serves() -> bool:
                try:
                    return (await client.get("/health")).is_success
                except httpx.TransportError:
                    return False

            await eventually(serves, within_seconds=20)
            made = await client.post("/v1/missions", json={"goal": "say it back"})
            assert made.status_code == 201
            address = made.headers["location"]

            async def completed() -> bool:
                return bool((await client.get(address)).json()["state"] == "completed")

            await eventually(completed, within_seconds=20)

            async def at_zero() -> bool:
                there = (await client.get("/api/scaling")).json()["workers"]
                return not any(there[state] for state in ("starting", "idle", "busy", "draining"))

            await eventually(at_zero, within_seconds=10)
            metrics = (await client.get("/metrics")).text
    assert 'tinytown_worker_starts_total{launcher="process",result="arrived"} 1.0' in metrics
