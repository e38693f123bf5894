"""An ntfy server on loopback, to the contract of binwiederhier/ntfy 2.x, with faults on demand.

Written from its documentation (publish.md) and its Go source (server/actions.go, server/util.go,
server/server.go: transformBodyJSON, parsePublishParams; server/errors.go), not from what our
notifier sends: JSON and header publishing, RFC 2047 in headers, both ways to write actions, at most
three of them, priorities by name and number, topics, logins, size limits, errors as JSON.
"""

from __future__ import annotations

import base64
import contextlib
import email.header
import itertools
import json
import re
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from fakes.ntfy_actions import Action, NtfyError, parse_actions

MESSAGE_BYTES = 4096
_TOPIC = re.compile(r"^[-_A-Za-z0-9]{1,64}$")
_PRIORITIES = {
    "": 0,
    **dict.fromkeys(("1", "min"), 1),
    **dict.fromkeys(("2", "low"), 2),
    **dict.fromkeys(("3", "default"), 3),
    **dict.fromkeys(("4", "high"), 4),
    **dict.fromkeys(("5", "max", "urgent"), 5),
}


@dataclass(frozen=True)
class Published:
    """A message as a subscriber gets it."""

    id: str
    topic: str
    message: str
    title: str
    priority: int
    tags: list[str]
    click: str
    icon: str
    actions: list[Action]
    attachment: bool
    at: float


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request instead of an answer."""

    status: int | None = None
    """Answer with this status and ntfy's own error body."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    hang: bool = False
    """Take the request and never answer (until the server closes)."""
    reset: bool = False
    """Take the request, then cut the connection with RST."""
    drip: bool = False
    """Send the head of an answer one byte at a time, for ever."""
    after: bool = False
    """Store the message first, then misbehave: accepted, but the sender cannot know."""


_CODES = {
    401: (40101, "unauthorized"),
    403: (40301, "forbidden"),
    404: (40401, "page not found"),
    413: (41301, "attachment too large, or bandwidth limit reached"),
    429: (42901, "limit reached: too many requests"),
    500: (50001, "internal server error"),
    507: (50701, "cannot publish to UnifiedPush topic without previously active subscriber"),
}


class NtfyServer:
    """The server; use it as a context manager."""

    def __init__(
        self,
        users: dict[str, str] | None = None,
        tokens: set[str] | None = None,
        port: int = 0,
    ) -> None:
        self.users = users or {}
        self.tokens = tokens or set()
        self.published: list[Published] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.connections = 0
        self._faults: dict[str, Iterator[Fault | None]] = {}
        self._changed = threading.Condition()
        self.closing = threading.Event()
        self._http = _Http(self, port)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()

    @property
    def port(self) -> int:
        port: int = self._http.server_address[1]
        return port

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def endpoint(self, topic: str, login: str = "", query: str = "") -> str:
        """Name a topic the way an endpoint's URL does."""
        at = f"{login}@" if login else ""
        return f"ntfy://{at}127.0.0.1:{self.port}/{topic}{f'?{query}' if query else ''}"

    def fault(self, topic: str, *faults: Fault | None, forever: bool = False) -> None:
        """Let the next requests to a topic fail like this, one after another (None = go well)."""
        self._faults[topic] = itertools.cycle(faults) if forever else iter(faults)

    def next_fault(self, topic: str) -> Fault | None:
        with self._changed:
            return next(self._faults.get(topic, iter(())), None)

    def store(self, published: Published) -> None:
        with self._changed:
            self.published.append(published)
            self._changed.notify_all()

    def on(self, topic: str) -> list[Published]:
        """List what a subscriber of a topic has got."""
        return [message for message in self.published if message.topic == topic]

    def wait(self, count: int, topic: str | None = None, seconds: float = 10) -> list[Published]:
        """Wait until so many messages came; fails with what is there instead."""

        def there() -> list[Published]:
            return self.published if topic is None else self.on(topic)

        with self._changed:
            came = self._changed.wait_for(lambda: len(there()) >= count, seconds)
        assert came, f"{count} messages expected on {topic or 'any topic'}, got {there()}"
        return there()

    def publish(self, request: _Request) -> Published:
        """Do what ntfy does with a publish request; raises NtfyError."""
        self._authorize(request)
        if not _TOPIC.match(request.topic):
            raise NtfyError(400, 40009, "invalid request: topic invalid")
        try:
            text = request.message.decode()
        except UnicodeDecodeError:
            raise NtfyError(400, 40011, "invalid request: message must be UTF-8 encoded") from None
        told = request.param("x-message", "message", "m").replace("\\n", "\n")
        message = told or text
        priority = request.param("x-priority", "priority", "prio", "p").strip().lower()
        if priority not in _PRIORITIES:
            raise NtfyError(400, 40007, "invalid priority parameter")
        icon = request.param("x-icon", "icon")
        if icon and not re.match(r"^https?://", icon):
            raise NtfyError(400, 40021, "invalid request: icon URL is invalid")
        tags = request.param("x-tags", "tags", "tag", "ta")
        return Published(
            id=f"fake{len(self.published):08d}",
            topic=request.topic,
            message=message or "triggered",
            title=request.param("x-title", "title", "t"),
            priority=_PRIORITIES[priority],
            tags=[tag.strip() for tag in tags.split(",") if tag.strip()],
            click=request.param("x-click", "click"),
            icon=icon,
            actions=parse_actions(request.param("x-actions", "actions", "action")),
            attachment=len(message.encode()) > MESSAGE_BYTES
            or bool(request.param("x-filename", "filename", "file", "f")),
            at=time.monotonic(),
        )

    def _authorize(self, request: _Request) -> None:
        if not self.users and not self.tokens:
            return
        kind, _, value = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and value in self.tokens:
            return
        if kind.lower() == "basic":
            with contextlib.suppress(ValueError):
                user, _, password = base64.b64decode(value).decode().partition(":")
                if self.users.get(user) == password:
                    return
        if kind:
            raise NtfyError(401, *_CODES[401])
        raise NtfyError(403, *_CODES[403])


@dataclass
class _Request:
    topic: str
    headers: dict[str, str]
    query: dict[str, str]
    message: bytes

    def param(self, *names: str) -> str:
        """Read a parameter from a header (RFC 2047 decoded) or else from the query."""
        for name in names:
            if value := _decode_header(self.headers.get(name, "")).strip():
                return value
        for name in names:
            if value := self.query.get(name, "").strip():
                return value
        return ""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, ntfy: NtfyServer, port: int) -> None:
        self.ntfy = ntfy
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def hang_up(self) -> None:
        """End the connections that clients keep, as a server that stops does."""
        for connection in list(self.open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Http
    timeout = 30
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def setup(self) -> None:
        super().setup()
        self.server.ntfy.connections += 1
        self.server.open.add(self.connection)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        self._publish()

    def do_PUT(self) -> None:
        self._publish()

    def do_GET(self) -> None:
        self._answer(404, _error(404, *_CODES[404]))

    def _publish(self) -> None:
        ntfy = self.server.ntfy
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {
            name.lower(): value.encode("latin-1").decode("utf-8", "replace")
            for name, value in self.headers.items()
        }
        ntfy.requests.append((self.command, self.path, headers))
        try:
            request = self._understand(raw, headers)
            fault = ntfy.next_fault(request.topic)
            published = None
            if fault is None or fault.after:
                published = ntfy.publish(request)
                ntfy.store(published)
            if fault is not None:
                self._misbehave(fault)
                return
        except NtfyError as error:
            self._answer(error.status, _error(error.status, error.code, error.words))
            return
        assert published is not None
        self._answer(
            200,
            json.dumps({"id": published.id, "event": "message", "topic": published.topic}).encode(),
        )

    def _understand(self, raw: bytes, headers: dict[str, str]) -> _Request:
        parts = urllib.parse.urlsplit(self.path)
        query = {key.lower(): value for key, value in urllib.parse.parse_qsl(parts.query)}
        topic = parts.path.strip("/")
        if topic:
            return _Request(topic, headers, query, raw)
        # transformBodyJSON: what the JSON says is written over the headers of the same meaning.
        if len(raw) > MESSAGE_BYTES * 2:
            raise NtfyError(413, 41303, "JSON body too large")
        try:
            told = json.loads(raw)
            topic = told["topic"]
        except (ValueError, KeyError, TypeError):
            raise NtfyError(
                400, 40017, "invalid request: request body must be message JSON"
            ) from None
        for name in ("title", "click", "icon", "attach", "filename", "email", "delay"):
            if told.get(name):
                headers[f"x-{name}"] = told[name]
        if told.get("priority"):
            headers["x-priority"] = str(int(told["priority"]))
        if told.get("tags"):
            headers["x-tags"] = ",".join(told["tags"])
        if told.get("actions"):
            headers["x-actions"] = json.dumps(told["actions"])
        return _Request(topic, headers, query, told.get("message", "").encode())

    def _misbehave(self, fault: Fault) -> None:
        if fault.hang:
            self.server.ntfy.closing.wait()
            self.close_connection = True
        elif fault.reset:
            # SO_LINGER of zero: close() sends RST instead of FIN.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        elif fault.drip:
            self._drip()
        else:
            status = fault.status or 500
            body = fault.body
            if body is None:
                code, words = _CODES.get(status, (status * 100, "error"))
                body = _error(status, code, words)
            self._answer(status, body, fault.headers)

    def _drip(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 4000
        with contextlib.suppress(OSError):
            for letter in head:
                if self.server.ntfy.closing.wait(0.05):
                    break
                self.wfile.write(bytes([letter]))
                self.wfile.flush()
        self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _error(status: int, code: int, words: str) -> bytes:
    return json.dumps({"code": code, "http": status, "error": words}).encode()


def _decode_header(value: str) -> str:
    """Decode RFC 2047 words, as Go's mime.WordDecoder does for ntfy."""
    if "=?" not in value:
        return value
    decoded = email.header.decode_header(value)
    return "".join(
        piece.decode(charset or "utf-8", "replace") if isinstance(piece, bytes) else piece
        for piece, charset in decoded
    )
