"""A receiver of webhooks on loopback: it writes down what comes and answers by script.

Every path is an endpoint of its own. It counts how many requests of a path are open at once, as
only a receiver can.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered, and after how long."""

    status: int = 200
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    after_seconds: float = 0.0
    never: bool = False
    """Say nothing until the sender hangs up."""


class Got(msgspec.Struct, kw_only=True):
    """One request."""

    path: str
    headers: dict[str, str]
    """With names in lower case."""
    body: bytes
    at: float
    """When it was whole, by the event loop's clock."""
    answered: int | None = None
    """The status of the answer; None while there is none."""

    @property
    def id(self) -> str:
        """Its `webhook-id`."""
        return self.headers["webhook-id"]

    @property
    def order(self) -> tuple[int, int]:
        """Where its event stands among all."""
        ms, _, sequence = self.id.removeprefix("evt_").partition("-")
        return int(ms), int(sequence)


Script = Callable[[Got], Answer]


class Receiver:
    """The server; `receiver()` runs it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.got: list[Got] = []
        self.open: Counter[str] = Counter()
        self.most_open: Counter[str] = Counter()
        self.rule: Script = lambda _: Answer()
        """Answers what no script of its path does."""
        self._scripts: dict[str, deque[Answer]] = {}

    def url(self, path: str) -> str:
        """Spell the address of an endpoint."""
        return f"http://127.0.0.1:{self.port}/{path}"

    def answer(self, path: str, *answers: Answer) -> Self:
        """Answer the next requests of a path in these ways."""
        self._scripts.setdefault(path, deque()).extend(answers)
        return self

    def on(self, path: str) -> list[Got]:
        """List what came for a path."""
        return [got for got in self.got if got.path == path]

    def accepted(self, path: str) -> list[Got]:
        """List what was taken with thanks, in the order in which it came."""
        return [got for got in self.on(path) if (got.answered or 0) // 100 == 2]

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        """Answer one connection, request by request, until the sender hangs up."""
        reader = BufferedByteReceiveStream(stream)
        ended = (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError)
        try:
            async with stream:
                while True:
                    await self._answer(await self._read(reader), stream)
        except ended:
            return

    async def _read(self, reader: BufferedByteReceiveStream) -> Got:
        head = (await reader.receive_until(b"\r\n\r\n", 65_536)).decode("latin-1")
        request, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in map(_parted, lines)}
        body = await reader.receive_exactly(int(headers.get("content-length", "0")))
        path = request.split(" ")[1].removeprefix("/")
        return Got(path=path, headers=headers, body=body, at=anyio.current_time())

    async def _answer(self, got: Got, stream: anyio.abc.SocketStream) -> None:
        self.got.append(got)
        self.open[got.path] += 1
        self.most_open[got.path] = max(self.most_open[got.path], self.open[got.path])
        try:
            scripted = self._scripts.get(got.path)
            answer = scripted.popleft() if scripted else self.rule(got)
            if answer.never:
                await stream.receive()  # a sender has nothing more to say: it can only hang up
            elif answer.after_seconds:
                await anyio.sleep(answer.after_seconds)
        finally:
            # Before the answer: the next request may be here before we come back from sending.
            self.open[got.path] -= 1
        if not answer.never:
            headers = {"content-length": "0", **answer.headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            got.answered = answer.status
            await stream.send(f"HTTP/1.1 {answer.status} So\r\n{lines}\r\n".encode())


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition(":")


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """Run a receiver on a free port of loopback."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port: int = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
    server = Receiver(port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, server.serve)
        yield server
        group.cancel_scope.cancel()
