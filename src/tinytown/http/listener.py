"""Granian's embedded server on a socket of our own: one process, real ports, an orderly end.

Why the embedded server and not the command: decision 0014. What it leaves to us: signals (none
here: whoever leaves the block ends it), back-pressure, and readers that never read.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import anyio

BACKLOG: Final = 1024
BACKPRESSURE: Final = 8192
"""Granian stops accepting at so many open connections, health checks included. Its own default
is 128; the memory of 8192 streams is more than a small machine has, so memory is the bound."""
STOP_SECONDS: Final = 4.0
"""How long requests on their way may take to finish; platforms allow 10 seconds in all."""
SILENT_MS: Final = 30_000
"""After this long without an acknowledgement the kernel cuts a connection: a reader that never
reads, or a phone that left the network, holds its stream no longer than two heartbeats."""


class CannotListen(Exception):
    """The address cannot be listened on; one line that says why."""


class Listener:
    """A listening socket, and the server that answers on it."""

    def __init__(self, host: str, port: int) -> None:
        """Choose an address; port 0 is any free one."""
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self.port = port
        """The real port, once entered."""

    @property
    def address(self) -> str:
        """The base URL; a wildcard address is shown as this machine's loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def __enter__(self) -> Self:
        """Bind; raises CannotListen."""
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, where = found[0]
            bound = socket.socket(family, kind, protocol)
        except OSError as error:
            raise CannotListen(f"cannot listen on {self._host}: {error.strerror}") from error
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # What is accepted inherits these two.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if sys.platform == "linux":
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_MS)
            bound.bind(where)
            # From here on the kernel keeps callers waiting until somebody answers.
            bound.listen(BACKLOG)
        except OSError as error:
            bound.close()
            raise CannotListen(
                f"cannot listen on {self._host}:{self._port}: {(error.strerror or '').lower()}"
            ) from error
        bound.setblocking(False)  # noqa: FBT003 - the library's own signature
        self._socket = bound
        self.port = bound.getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the socket unless the server has taken it over."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @asynccontextmanager
    async def serving(self, app: Any) -> AsyncIterator[None]:
        """Answer with an ASGI application while the block lasts; then let requests finish."""
        # Here and not above: it takes 60 ms to load, and a port in use should be said at once.
        from granian._granian import SocketHolder
        from granian.constants import HTTPModes, Interfaces
        from granian.server.embed import Server

        if self._socket is None:
            message = "enter the listener first"
            raise RuntimeError(message)
        bound = self._socket

        class OnOurSocket(Server):
            """Granian would bind by itself: with SO_REUSEPORT, and deaf to port 0."""

            def _init_shared_socket(self) -> None:
                # Its stub does not know the constructor that its own pickling uses.
                take: Any = SocketHolder
                self._shd = take(bound.detach(), False, BACKLOG)  # noqa: FBT003

        server: Any = OnOurSocket(
            app,
            # What opens and closes with the town is the composition root's, not the framework's.
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            backlog=BACKLOG,
            backpressure=BACKPRESSURE,
            websockets=False,
            log_enabled=False,
        )
        self._socket = None
        ended = anyio.Event()

        async def run() -> None:
            try:
                await server.serve()
            finally:
                ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run, name="http")
            try:
                yield
            finally:
                server.stop()
                with anyio.move_on_after(STOP_SECONDS, shield=True):
                    await ended.wait()
                # What is still open now has a reader that does not read.
                group.cancel_scope.cancel()
