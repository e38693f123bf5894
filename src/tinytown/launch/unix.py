"""How httpx reaches an engine's socket: so that whoever waits for an answer may be cancelled.

anyio's own stream of a unix socket resolves a future whose wait was cancelled in the very moment
the answer came; asyncio then tells of an `InvalidStateError` that nobody can catch. To wait for the
bare socket has no such moment.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpcore
import httpx

_AGAIN_SECONDS: Final = 0.01
"""A listener whose queue is full takes the next connection about now."""


class UnixTransport(httpx.AsyncHTTPTransport):
    """Speaks HTTP through one unix socket, with as many connections as there are requests."""

    def __init__(self, path: Path) -> None:
        """Name the socket; it is opened by the first request."""
        super().__init__()
        # httpx has no other word for how to connect.
        self._pool = httpcore.AsyncConnectionPool(
            uds=str(path), network_backend=_Backend(), max_connections=None
        )


class _Backend(httpcore.AsyncNetworkBackend):
    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's)
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 (the same)
    ) -> httpcore.AsyncNetworkStream:
        """Connect: to a unix socket that is at once, or not at all."""
        bare = socket.socket(socket.AF_UNIX)
        bare.settimeout(0)
        try:
            with _told(httpcore.ConnectTimeout, httpcore.ConnectError), anyio.fail_after(timeout):
                while True:
                    try:
                        bare.connect(path)
                    except BlockingIOError:
                        await anyio.sleep(_AGAIN_SECONDS)
                    else:
                        return _Stream(bare)
        except BaseException:
            bare.close()
            raise

    async def sleep(self, seconds: float) -> None:
        """Pause."""
        await anyio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, bare: socket.socket) -> None:
        self._bare = bare

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Take what is there, wait if there is nothing; empty at the end."""
        with _told(httpcore.ReadTimeout, httpcore.ReadError), anyio.fail_after(timeout):
            while True:
                try:
                    return self._bare.recv(max_bytes)
                except BlockingIOError:
                    await anyio.wait_readable(self._bare)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send everything."""
        left = memoryview(buffer)
        with _told(httpcore.WriteTimeout, httpcore.WriteError), anyio.fail_after(timeout):
            while left:
                try:
                    left = left[self._bare.send(left) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._bare)

    async def aclose(self) -> None:
        """Close; whoever waits hears of it."""
        if self._bare.fileno() >= 0:
            anyio.notify_closing(self._bare)
            self._bare.close()

    def get_extra_info(self, info: str) -> Any:
        """Tell the pool whether an idle connection was ended by the other side."""
        if info != "is_readable":
            return None
        if self._bare.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(self._bare, select.POLLIN)
        return bool(poll.poll(0))


@contextmanager
def _told(late: type[Exception], broken: type[Exception]) -> Iterator[None]:
    """Say in httpcore's words what went wrong."""
    try:
        yield
    except TimeoutError as error:
        raise late from error
    except (OSError, anyio.ClosedResourceError) as error:
        raise broken(str(error)) from error
