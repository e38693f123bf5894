"""A whole town as processes: Redis, a townhall, workers with real CLIs, and us at the HTTP door.

async with street(tmp_path, model, path=installed_agents()) as town:
    worker = town.worker("claude")
    mission = await town.start("goal …")
    question = await town.question(mission)
    await town.answer(question, "blue")
    ended = await town.ended(mission)
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx

from e2e.model_server import ModelServer
from e2e.rig import MODELS, SYSTEM_PATH, model_keys
from servers import RedisServer, free_port

KEY = "tt_street_0123456789abcdef0123456789"
ENDED = {"completed", "failed", "canceled"}


class Street:
    """The town as a person with a key sees it, and the processes behind it."""

    def __init__(self, folder: Path, redis_url: str, model: ModelServer, *, path: str) -> None:
        self.folder = folder
        self.model = model
        self.work = folder / "work"
        self.redis_url = redis_url
        self._path = f"{path}{os.pathsep}{SYSTEM_PATH}"
        self._port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self._port}",
            headers={"authorization": f"Bearer {KEY}"},
            timeout=30,
        )

    # Processes --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Start the townhall and wait until it serves."""
        hall = self._run(
            "townhall",
            ("-m", "tinytown.townhall", "--port", str(self._port)),
            {"TINYTOWN_API_KEY": KEY, "TINYTOWN_SECRET_KEY": "street-secret-0123456789"},
        )

        async def ready() -> bool:
            assert hall.poll() is None, self.log("townhall")
            try:
                return (await self.http.get("/ready")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready, "the townhall is ready")

    def worker(
        self, cli: str, *, base: str = "", name: str = "worker", **settings: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker whose agent is `cli`; settings as in settings.py."""
        model = MODELS.get(cli)
        environ = {
            **model_keys(self.model.url, base),
            "TINYTOWN_AGENT": cli,
            "TINYTOWN_WORK_DIR": str(self.work),
            "TINYTOWN_PERMISSIONS": "bypass",
            **({"TINYTOWN_MODEL": model} if model else {}),
            **{f"TINYTOWN_{key.upper()}": value for key, value in settings.items()},
        }
        return self._run(name, ("-m", "tinytown_workers"), environ)

    def _run(
        self, name: str, arguments: tuple[str, ...], environ: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        surroundings = {
            "PATH": self._path,
            "HOME": str(self.folder),
            "REDIS_URL": self.redis_url,
            "TINYTOWN_HOME": str(self.folder / "home"),
            "TINYTOWN_LEASE_SECONDS": "2",  # townhall and workers have to agree on it
            "TINYTOWN_LOG": "json",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], env=surroundings | environ, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process

    def log(self, name: str) -> str:
        """Read what a process wrote."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def close(self) -> None:
        """Ask all processes to leave, and make those that do not."""
        await self.http.aclose()
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
                with anyio.move_on_after(20):
                    while process.poll() is None:  # noqa: ASYNC110 - a process tells nobody
                        await anyio.sleep(0.02)
            if process.poll() is None:
                process.kill()
            process.wait()

    # The HTTP door ----------------------------------------------------------------------------

    async def start(self, goal: str, **more: Any) -> str:
        """Start a mission; returns its id."""
        reply = await self.http.post("/v1/missions", json={"goal": goal, **more})
        assert reply.status_code == 201, reply.text
        return str(reply.json()["id"])

    async def mission(self, mission_id: str) -> dict[str, Any]:
        """Read a mission."""
        return await self.read(f"/v1/missions/{mission_id}")

    async def question(self, mission_id: str) -> dict[str, Any]:
        """Wait for the mission's open question."""
        found: list[dict[str, Any]] = []

        async def asked() -> bool:
            seen = await self.mission(mission_id)
            assert seen["state"] not in ENDED, seen["reason"] or seen["result"]
            if seen["question"]:
                found.append(seen["question"])
            return bool(found)

        await until(asked, "a question is asked")
        return found[0]

    async def answer(self, question: dict[str, Any], answer: str) -> None:
        """Answer a question."""
        path = f"/v1/questions/{question['id']}/answer"
        reply = await self.http.post(path, json={"answer": answer})
        assert reply.status_code == 200, reply.text

    async def say(self, mission_id: str, text: str) -> None:
        """Say something to the mission's agents."""
        reply = await self.http.post(f"/v1/missions/{mission_id}/message", json={"text": text})
        assert reply.status_code == 200, reply.text

    async def ended(self, mission_id: str) -> dict[str, Any]:
        """Wait for the end of a mission."""
        seen: dict[str, Any] = {}

        async def over() -> bool:
            seen.update(await self.mission(mission_id))
            return seen["state"] in ENDED

        await until(over, "the mission ends", within_seconds=90)
        return seen

    async def result(self, mission_id: str) -> dict[str, Any]:
        """Read what a mission left behind."""
        found = (await self.read(f"/v1/missions/{mission_id}/result"))["result"]
        assert isinstance(found, dict)
        return found

    async def read(self, path: str) -> dict[str, Any]:
        """GET some JSON."""
        reply = await self.http.get(path)
        assert reply.status_code == 200, reply.text
        body = reply.json()
        assert isinstance(body, dict)
        return body


@asynccontextmanager
async def street(folder: Path, model: ModelServer, *, path: str) -> AsyncIterator[Street]:
    """Open a town for one test; its logs are printed if the test fails."""
    with RedisServer() as redis:
        town = Street(folder, redis.url, model, path=path)
        try:
            await town.open()
            yield town
        except BaseException:
            for log in sorted(folder.glob("*.log")):
                sys.stdout.write(f"--- {log.name}\n{log.read_text(errors='replace')}\n")
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await town.close()


async def until(
    holds: Callable[[], Awaitable[bool]], describe: str, *, within_seconds: float = 60
) -> None:
    """Wait for something to come true."""
    with anyio.move_on_after(within_seconds):
        while not await holds():  # noqa: ASYNC110 - over HTTP nobody rings a bell
            await anyio.sleep(0.03)
        return
    message = f"not within {within_seconds} s: {describe}"
    raise AssertionError(message)


def show(repo: Path, what: str) -> str:
    """Read `branch:file` of a repository, byte for byte."""
    return subprocess.run(
        ["git", "-C", repo, "show", what], check=True, capture_output=True, text=True
    ).stdout
