"""A receiver of webhooks on loopback that does to its callers what it is told: raw sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Behaviour = Callable[["Visit"], None]


class Visit:
    """One connection, seen from the stranger's side."""

    def __init__(self, stranger: Stranger, connection: socket.socket) -> None:
        self.stranger = stranger
        self.connection = connection

    def take(self) -> bytes | None:
        """Read one whole request; None when the caller hung up."""
        raw = b""
        while b"\r\n\r\n" not in raw:
            piece = self.connection.recv(65536)
            if not piece:
                return None
            raw += piece
        head, _, body = raw.partition(b"\r\n\r\n")
        wanted = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                wanted = int(value)
        while len(body) < wanted:
            body += self.connection.recv(65536)
        self.stranger.requests.append(head + b"\r\n\r\n" + body)
        return head

    def say(self, raw: bytes) -> None:
        self.connection.sendall(raw)

    def drip(self, raw: bytes) -> None:
        """Send a byte now and then, until the caller or the test has enough."""
        for byte in raw:
            if self.stranger.closing.wait(0.05):
                return
            self.connection.sendall(bytes([byte]))

    def flood(self, piece: bytes) -> None:
        """Send the same for ever."""
        while not self.stranger.closing.is_set():
            self.connection.sendall(piece)

    def wait(self) -> None:
        """Say nothing until the caller hangs up or the test has enough."""
        self.connection.settimeout(0.02)
        while not self.stranger.closing.is_set():
            with contextlib.suppress(TimeoutError):
                if not self.connection.recv(65536):
                    return

    def reset(self) -> None:
        """Cut the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def polite(visit: Visit) -> None:
    """Answer 200 to everything, over one connection."""
    while visit.take() is not None:
        visit.say(OK)


class Stranger:
    """The server; use it as a context manager."""

    def __init__(
        self,
        behaviour: Behaviour = polite,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
        certificate: tuple[Path, Path] | None = None,
        tls: ssl.TLSVersion | None = None,
    ) -> None:
        self.behaviour = behaviour
        self.requests: list[bytes] = []
        self.connections = 0
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=256)
        self.address = address
        self.port: int = self._listener.getsockname()[1]
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(*certificate)
            if tls is not None:
                self._context.maximum_version = tls
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self._thread.join(5)
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "http" if self._context is None else "https"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{scheme}://{host}:{self.port}/hook"

    def hang_up(self) -> None:
        """End every connection from this side."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def gone(self, seconds: float = 5) -> bool:
        """Wait until no caller is connected any more."""
        end = time.monotonic() + seconds
        while self._open and time.monotonic() < end:
            time.sleep(0.005)
        return not self._open

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            self._open.add(connection)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        connection: Any = plain
        try:
            if self._context is not None:
                plain.settimeout(5)
                connection = self._context.wrap_socket(plain, server_side=True)
                self._open.add(connection)
                self._open.discard(plain)
            connection.settimeout(30)
            self.behaviour(Visit(self, connection))
        except (OSError, ValueError):
            pass  # the caller has had enough: that is what is tested
        finally:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
            self._open.discard(connection)
            self._open.discard(plain)
