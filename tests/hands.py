"""Real workers as processes, for tests that kill them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from tinytown.store import Store
from tinytown.town.dispatcher import Dispatcher
from tinytown.town.hub import Hub


class WorkerProcess:
    """A `tt agent` with the agent `command`, which runs a shell script."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self.pid = process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def exit_code(self, within_seconds: float = 20) -> int:
        """Wait for its end; negative for a signal."""
        return await anyio.to_thread.run_sync(self._process.wait, within_seconds)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote to its log."""
        return self._log.read_text()


class Workers:
    """Starts workers of one Redis; each has the same work directory, as on one machine."""

    def __init__(self, redis_url: str, directory: Path) -> None:
        self._url = redis_url
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, script: str = "true", **settings: str) -> WorkerProcess:
        """Start a worker; settings are named as in settings.py."""
        number = len(self._processes)
        path = self._directory / f"agent-{number}.sh"
        path.write_text(script)
        environ = {
            "PATH": os.environ["PATH"],
            "REDIS_URL": self._url,
            "TINYTOWN_HOME": str(self._directory),
            "TINYTOWN_AGENT": "command",
            "TINYTOWN_AGENT_COMMAND": f"sh {path}",
            "TINYTOWN_IDLE_SECONDS": "60",
            "TINYTOWN_LEASE_SECONDS": "1",
            "TINYTOWN_LOG": "json",
        } | {f"TINYTOWN_{name.upper()}": value for name, value in settings.items()}
        log = self._directory / f"worker-{number}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tinytown_workers"], env=environ, stderr=file
            )
        self._processes.append(process)
        return WorkerProcess(process, log)

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@contextmanager
def workers(redis_url: str, directory: Path) -> Iterator[Workers]:
    """Lend a way to start workers; none outlives the block."""
    made = Workers(redis_url, directory)
    try:
        yield made
    finally:
        made.end()


@asynccontextmanager
async def ticking(store: Store) -> AsyncIterator[None]:
    """Let a town's clock tick, as a townhall does."""
    hub = Hub(store)
    dispatcher = Dispatcher(store, hub)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        group.start_soon(dispatcher.run)
        yield
        group.cancel_scope.cancel()
