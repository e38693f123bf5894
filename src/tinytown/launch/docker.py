"""The `docker` launcher: each worker is a container, started through the engine's socket.

A container removes itself when its worker goes home. Closing the town ends none of them: they hold
tasks, and leave by themselves when nothing is left.
"""

from __future__ import annotations

import logging
import math
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import msgspec
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from tinytown.launch import CannotLaunch, Ended, StartFailed, one_by_one
from tinytown.launch.http import SECONDS, Unsure, ask, read
from tinytown.launch.unix import UnixTransport
from tinytown.models.scaling import Signal, Start

_log = logging.getLogger(__name__)

API: Final = "/v1.41"
"""Engine 20.10 and everything newer speaks it."""
MOST_PROCESSES: Final = 1024
"""A build forks a lot; a fork bomb stays one worker's trouble."""
WALLS: Final[Mapping[str, Any]] = {
    "ReadonlyRootfs": True,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    # What a worker and its CLI may write, beside the volume of its rooms: programs are built in
    # /tmp, and nobody else reads the home.
    "Tmpfs": {"/tmp": "exec", "/home/town": "uid=10001,gid=10001,mode=700"},  # noqa: S108
}
"""What keeps an agent in, whoever starts it: docker/gate.py and compose.yml say the same. The user
that is not root and the init are the image's own."""
ROOMS: Final[Mapping[str, Any]] = {"/work": {}}
"""A volume without a name: it is removed with its container."""
STOP_SECONDS: Final = 40
"""What `docker stop` gives a worker: its drain time and what handing back takes."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What every worker's container has in common."""

    image: str
    town: str
    network: str | None = None
    memory_mb: int = 1024


class _Created(msgspec.Struct, frozen=True):
    Id: str


class _Waited(msgspec.Struct, frozen=True):
    StatusCode: int


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""


class DockerLauncher:
    """Starts containers and hears of their end; made by `docker_launcher`."""

    name = "docker"
    outlived = True

    def __init__(
        self,
        client: httpx.AsyncClient,
        group: TaskGroup,
        shape: Shape,
        environments: Callable[[str], dict[str, str]],
        ears: tuple[MemoryObjectSendStream[Ended], MemoryObjectReceiveStream[Ended]],
    ) -> None:
        """Start containers of one shape, each in the environment of its pool."""
        self._client = client
        self._group = group
        self._shape = shape
        self._environments = environments
        self._tell, self._hear = ears

    async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:  # noqa: ARG002 (the seam's)
        """Create and start a container each."""
        return await one_by_one(self._start, starts)

    async def ended(self) -> Ended:
        """Wait for the next container that has ended."""
        return await self._hear.receive()

    def container(self, start: Start) -> dict[str, Any]:
        """Describe the container of a start, as the engine wants it (pure)."""
        shape = self._shape
        environment = self._environments(start.pool)
        memory = shape.memory_mb * 1024 * 1024
        host: dict[str, Any] = {
            "AutoRemove": True,
            "Memory": memory,
            "MemorySwap": memory,  # no swap beyond it: a worker out of memory should end, not crawl
            "PidsLimit": MOST_PROCESSES,
            "RestartPolicy": {"Name": "no"},
            **WALLS,
        }
        if shape.network:
            host["NetworkMode"] = shape.network
        return {
            "Image": shape.image,
            "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
            "Labels": {
                "tinytown.town": shape.town,
                "tinytown.pool": start.pool,
                "tinytown.start": start.id,
            },
            "Volumes": ROOMS,
            "StopTimeout": STOP_SECONDS,
            "HostConfig": host,
        }

    async def _start(self, start: Start) -> None:
        name = f"tinytown-{self._shape.town}-{start.id}"
        try:
            reply = await ask(
                self._client,
                "POST",
                f"{API}/containers/create",
                params={"name": name},
                json=self.container(start),
            )
            self._accept(reply, "create")
            created: _Created = read(reply, _Created)
        except Unsure as unsure:
            # What may have been created was not started: no worker comes of it.
            raise StartFailed(f"create: {unsure}") from unsure
        begun = anyio.current_time()
        listening = anyio.Event()
        self._group.start_soon(self._wait_for, start, created.Id, begun, listening)
        # An engine that says nothing before the end is heard of through the deadline.
        with anyio.move_on_after(SECONDS):
            await listening.wait()
        try:
            self._accept(await ask(self._client, "POST", f"{API}/containers/{name}/start"), "start")
        except StartFailed:
            await self._remove(created.Id)
            raise
        except Unsure as unsure:
            facts = {"start": start.id, "reason": str(unsure)}
            _log.warning("launch.unsure", extra={"facts": facts})

    def _accept(self, reply: httpx.Response, what: str) -> None:
        """Raise StartFailed with the engine's own words unless it agreed."""
        if reply.is_success or reply.status_code == httpx.codes.NOT_MODIFIED:
            return
        try:
            words = read(reply, _Refusal).message
        except Unsure:
            words = ""
        if reply.status_code == httpx.codes.NOT_FOUND and what == "create":
            words = f"there is no image {self._shape.image} here (or no such network): {words}"
        raise StartFailed(f"{what}: {words.strip()[:300] or f'HTTP {reply.status_code}'}")

    async def _remove(self, container: str) -> None:
        """Clear away what was created and could not be started (AutoRemove needs a start)."""
        try:
            await ask(
                self._client, "DELETE", f"{API}/containers/{container}", params={"force": "true"}
            )
        except (StartFailed, Unsure) as error:
            facts = {"container": container[:12], "reason": str(error)}
            _log.warning("launch.leftover", extra={"facts": facts})

    async def _wait_for(
        self, start: Start, container: str, begun: float, listening: anyio.Event
    ) -> None:
        """Hear of the end of a container; asked before its start, so that none is missed."""
        try:
            async with self._client.stream(
                "POST",
                f"{API}/containers/{container}/wait",
                params={"condition": "next-exit"},
                timeout=httpx.Timeout(SECONDS, read=None),
            ) as reply:
                listening.set()
                reply.raise_for_status()
                await reply.aread()
                code = read(reply, _Waited).StatusCode
        except (httpx.HTTPError, Unsure):
            # The engine went away, or the start was refused: the deadline looks after the rest.
            return
        finally:
            listening.set()
        lived = anyio.current_time() - begun
        facts = {"start": start.id, "pool": start.pool, "exit": code, "seconds": round(lived, 1)}
        _log.info("launch.ended", extra={"facts": facts})
        self._tell.send_nowait(
            Ended(start=start, clean=code == 0, lived_seconds=lived, reason=_reason(code))
        )


def check_socket(path: Path) -> None:
    """Find out whether an engine listens there; raises CannotLaunch with one line."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(SECONDS)
            probe.connect(str(path))
    except OSError as error:
        why = {
            FileNotFoundError: "there is no socket",
            PermissionError: "this user may not use the socket",
            ConnectionRefusedError: "no engine listens at the socket",
        }.get(type(error), f"cannot use the socket ({error.strerror or error})")
        raise CannotLaunch(
            f"TINYTOWN_LAUNCHER=docker: {why} {path} (TINYTOWN_DOCKER_SOCKET)"
        ) from error


@asynccontextmanager
async def docker_launcher(
    socket_path: Path, shape: Shape, environments: Callable[[str], dict[str, str]]
) -> AsyncIterator[DockerLauncher]:
    """Launch containers of one shape through the engine at a socket."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=UnixTransport(socket_path), base_url="http://docker", timeout=SECONDS
            )
        )
        ears = anyio.create_memory_object_stream[Ended](math.inf)
        for end in ears:
            stack.callback(end.close)
        async with anyio.create_task_group() as group:
            yield DockerLauncher(client, group, shape, environments, ears)
            group.cancel_scope.cancel()


def _reason(code: int) -> str:
    """Say how a container ended; its own last words are in its log."""
    if code == 0:
        return ""
    known = {
        2: "its settings",
        5: "Redis not usable",
        125: "the engine could not run it",
        126: "its command may not be run",
        127: "its command is not in the image",
        137: "killed, or out of memory",
    }
    return f"exit {code} ({known[code]})" if code in known else f"exit {code}"
