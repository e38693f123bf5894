"""The `process` launcher: workers are child processes on the townhall's own machine."""

from __future__ import annotations

import logging
import math
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
import msgspec
from anyio.abc import Process, TaskGroup

from tinytown.launch import Ended, StartFailed, one_by_one
from tinytown.launch.environment import worker_environment
from tinytown.models.scaling import Signal, Start

_log = logging.getLogger(__name__)

_SLACK_SECONDS: Final = 5.0
"""A worker told to go has this long after its own drain time before it is killed."""


class Child(msgspec.Struct, frozen=True):
    """A worker that lives, and the scope of whoever waits for its end."""

    process: Process
    waiting: anyio.CancelScope


class ProcessLauncher:
    """Starts `tt agent` children and waits for each; made by `process_launcher`."""

    name = "process"
    outlived = False

    def __init__(
        self,
        group: TaskGroup,
        environments: Callable[[str], dict[str, str]],
        log: int | None = None,
    ) -> None:
        """Start children in the environment of their pool; their log lines go to `log` or ours."""
        self._group = group
        self._log = log
        self._environments = environments
        self._children: dict[str, Child] = {}
        self._tell, self._hear = anyio.create_memory_object_stream[Ended](math.inf)

    @property
    def pids(self) -> tuple[int, ...]:
        """The process ids of the workers that live."""
        return tuple(child.process.pid for child in self._children.values())

    async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:  # noqa: ARG002 (the seam's)
        """Start workers; gives those that the machine refuses."""
        return await one_by_one(self._start, starts)

    async def _start(self, start: Start) -> None:
        begun = anyio.current_time()
        try:
            process = await anyio.open_process(
                [sys.executable, "-m", "tinytown.launch.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                env=self._environments(start.pool),
                # A Ctrl-C in the terminal is for the town; it tells its workers in its own order.
                start_new_session=True,
            )
        except OSError as error:
            raise StartFailed(f"cannot start a process: {error.strerror}") from error
        # The shield lets a worker be waited for while the town closes.
        child = self._children[start.id] = Child(process, anyio.CancelScope(shield=True))
        self._group.start_soon(self._wait_for, start, child, begun)

    async def ended(self) -> Ended:
        """Wait for the next worker that is gone."""
        return await self._hear.receive()

    async def see_off(self, seconds: float) -> None:
        """Ask every worker to hand its task back and go; insist after so many seconds."""
        try:
            for how, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, _SLACK_SECONDS)):
                for child in self._children.values():
                    with suppress(ProcessLookupError):
                        child.process.send_signal(how)
                with anyio.move_on_after(patience, shield=True):
                    while self._children:
                        await self._hear.receive()
                    return
                _log.warning("launch.unwilling", extra={"facts": {"pids": list(self.pids)}})
        finally:
            for child in self._children.values():
                child.waiting.cancel()
            self._tell.close()
            self._hear.close()

    async def _wait_for(self, start: Start, child: Child, begun: float) -> None:
        with child.waiting:
            code = await child.process.wait()
            if child.process.stdin is not None:
                await child.process.stdin.aclose()
            del self._children[start.id]
            lived = anyio.current_time() - begun
            facts = {
                "start": start.id,
                "pool": start.pool,
                "exit": code,
                "seconds": round(lived, 1),
            }
            _log.info("launch.ended", extra={"facts": facts})
            gone = Ended(
                start=start,
                clean=code == 0,
                lived_seconds=lived,
                reason="" if code == 0 else _reason(code),
            )
            self._tell.send_nowait(gone)


@asynccontextmanager
async def process_launcher(
    environ: Mapping[str, str],
    *,
    redis_url: str,
    town: str,
    drain_seconds: float,
    log: int | None = None,
) -> AsyncIterator[ProcessLauncher]:
    """Launch workers that join `town` on `redis_url`; they are gone when the block is left.

    `environ` is the town's; a worker gets it without the town's secrets. On leaving, workers have
    `drain_seconds` and a little more to hand their tasks back, then they are killed. `log` is the
    file descriptor that takes their log lines; None sends them where ours go.
    """

    def environment(pool: str) -> dict[str, str]:
        return worker_environment(environ, redis_url=redis_url, town=town, pool=pool)

    async with anyio.create_task_group() as group:
        launcher = ProcessLauncher(group, environment, log)
        try:
            yield launcher
        finally:
            await launcher.see_off(drain_seconds + _SLACK_SECONDS)


def _reason(code: int) -> str:
    """Say how a worker ended; its own last words are in the log above."""
    meaning = {2: " (its settings)", 5: " (Redis not usable)"}
    return f"killed by signal {-code}" if code < 0 else f"exit {code}{meaning.get(code, '')}"
