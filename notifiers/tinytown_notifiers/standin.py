"""A stand-in for a phone: takes pushes on loopback as an ntfy server would, and presses buttons.

`tt demo` needs a phone without an account and without the network. This one speaks as much of
ntfy's publish API as a push from here uses; what it shows came over a real HTTP request, and a
press performs a real one.
"""

from __future__ import annotations

import http.client
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.abc
import anyio.to_thread
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from tinytown_notifiers.sinks import MAX_BUTTONS

HEAD_BYTES: Final = 32_768
"""Room for three answer links in a header; Apprise sends the buttons there."""
BODY_BYTES: Final = 16_384
PRESS_SECONDS: Final = 10.0
_NUMBERS: Final = {"min": 1, "low": 2, "default": 3, "high": 4, "max": 5, "urgent": 5}


class PhoneButton(msgspec.Struct, frozen=True, kw_only=True):
    """A button under a notification."""

    action: str
    label: str
    url: str
    method: str = "POST"
    clear: bool = False


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What the lock screen shows."""

    topic: str
    title: str
    message: str
    priority: int
    click: str
    tags: tuple[str, ...]
    buttons: tuple[PhoneButton, ...]


class Pressed(msgspec.Struct, frozen=True, kw_only=True):
    """What came back from a press."""

    status: int
    text: str


class _Publish(msgspec.Struct, frozen=True):
    topic: str
    title: str = ""
    message: str = ""


class _Head(msgspec.Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]


class _Refusal(msgspec.Struct, frozen=True):
    """Why a request is answered with an error."""

    status: int
    reason: str

    def body(self) -> bytes:
        """Write it as ntfy does."""
        told = {"code": self.status * 100, "http": self.status, "error": self.reason}
        return msgspec.json.encode(told)


class StandIn:
    """The phone; made by `stand_in()`."""

    def __init__(self, port: int) -> None:
        """Be reachable on a loopback port; every notification waits until it is looked at."""
        self.port = port
        self._send, self._receive = anyio.create_memory_object_stream[Notification](math.inf)

    def endpoint(self, topic: str = "phone") -> str:
        """Name this phone as an endpoint's URL."""
        return f"ntfy://127.0.0.1:{self.port}/{topic}"

    async def next(self) -> Notification:
        """Wait for the next notification, in the order in which they came."""
        return await self._receive.receive()

    async def press(self, button: PhoneButton) -> Pressed:
        """Press a button: perform its HTTP request, as the app on a phone does in the background.

        Raises ValueError for a button that opens a page, OSError where nobody answers.
        """
        if button.action != "http":
            message = f"{button.label!r} opens a page; it does nothing by itself"
            raise ValueError(message)
        return await anyio.to_thread.run_sync(_perform, button)

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        """Answer the requests of one connection."""
        async with stream:
            reader = BufferedByteReceiveStream(stream)
            try:
                while await self._answer(reader, stream):
                    pass
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError, ValueError):
                return  # the other side is done, or speaks something else

    async def _answer(
        self, reader: BufferedByteReceiveStream, stream: anyio.abc.SocketStream
    ) -> bool:
        """Answer one request; says whether the connection can be used for another."""
        taken = await _take(reader)
        if isinstance(taken, _Refusal):
            await stream.send(_reply(taken.status, taken.body()))
            return False
        self._send.send_nowait(taken)
        await stream.send(_reply(200, b'{"event":"message"}'))
        return True

    def close(self) -> None:
        """Take no more; whoever waits for a notification is told."""
        self._send.close()
        self._receive.close()


@asynccontextmanager
async def stand_in(port: int = 0) -> AsyncIterator[StandIn]:
    """Run a stand-in phone on loopback for as long as the block lasts; 0 takes any free port."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port) as listener:
        bound = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        phone = StandIn(bound)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, phone.serve)
                yield phone
                group.cancel_scope.cancel()
        finally:
            phone.close()


async def _take(reader: BufferedByteReceiveStream) -> Notification | _Refusal:
    """Read one request."""
    head = await _head(reader)
    if head is None:
        return _Refusal(431, "request header fields too large")
    length = int(head.headers.get("content-length", "0"))
    if length > BODY_BYTES:
        return _Refusal(413, "JSON body too large")
    return _understand(head, await reader.receive_exactly(length))


async def _head(reader: BufferedByteReceiveStream) -> _Head | None:
    """Read the head of a request; None for one that is too long."""
    try:
        head = await reader.receive_until(b"\r\n\r\n", HEAD_BYTES)
    except anyio.DelimiterNotFound:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return _Head(method, path, {name.strip().lower(): value.strip() for name, _, value in pairs})


def _understand(head: _Head, body: bytes) -> Notification | _Refusal:
    """Read a publish request: JSON to `/`, or plain text to `/topic`; headers carry the rest."""
    headers = head.headers
    if head.method not in {"POST", "PUT"}:
        return _Refusal(404, "page not found")
    topic = urlsplit(head.path).path.strip("/")
    try:
        told = (
            _Publish(topic=topic, title=headers.get("x-title", ""), message=body.decode())
            if topic
            else msgspec.json.decode(body, type=_Publish)
        )
        actions = headers.get("x-actions", "")
        buttons = msgspec.json.decode(actions or "[]", type=tuple[PhoneButton, ...])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _Refusal(400, f"invalid request: {error}")
    if len(buttons) > MAX_BUTTONS:
        return _Refusal(400, "invalid request: actions invalid; only 3 actions allowed")
    priority = headers.get("x-priority", "default").lower()
    return Notification(
        topic=told.topic,
        title=told.title,
        message=told.message,
        priority=_NUMBERS.get(priority) or (int(priority) if priority.isdecimal() else 3),
        click=headers.get("x-click", ""),
        tags=tuple(tag.strip() for tag in headers.get("x-tags", "").split(",") if tag.strip()),
        buttons=buttons,
    )


def _perform(button: PhoneButton) -> Pressed:
    parts = urlsplit(button.url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=PRESS_SECONDS)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(button.method, path, headers={"Content-Length": "0"})
        reply = connection.getresponse()
        return Pressed(status=reply.status, text=reply.read(BODY_BYTES).decode(errors="replace"))
    finally:
        connection.close()


def _reply(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {http.client.responses.get(status, '')}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
