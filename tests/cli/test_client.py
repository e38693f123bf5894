"""The client on a bad line: what it repeats, what it never repeats, and how a stream goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from tinytown.cli.client import TownClient, on_this_machine
from tinytown.cli.connection import Connection
from tinytown.cli.failures import Failure, Refused, Unreachable
from tinytown.models.endpoint import NewEndpoint

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
GONE = b"HTTP/1.1 204 No Content\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
DROP = b""

Reply = bytes | Callable[[str], bytes]


class Line:
    """A server that gives each request the next reply, then hangs up; it keeps what it was sent."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[str] = []
        self.url = ""

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            reader = BufferedByteReceiveStream(stream)
            head = (await reader.receive_until(b"\r\n\r\n", 65536)).decode()
            length = next(
                (
                    int(line.split(":")[1])
                    for line in head.splitlines()
                    if line.lower().startswith("content-length:")
                ),
                0,
            )
            body = await reader.receive_exactly(length) if length else b""
            self.requests.append(f"{head}\r\n\r\n{body.decode()}")
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            data = reply(head) if callable(reply) else reply
            if data:
                await stream.send(data)

    def headers(self, name: str) -> list[str | None]:
        """List what each request said in a header."""
        found: list[str | None] = []
        for request in self.requests:
            head = request.partition("\r\n\r\n")[0].splitlines()[1:]
            pairs = dict(line.lower().split(": ", 1) for line in head)
            found.append(pairs.get(name))
        return found


@asynccontextmanager
async def line(*replies: Reply) -> AsyncIterator[tuple[Line, TownClient]]:
    """Run such a server, with a client of it."""
    made = Line(*replies)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        made.url = f"http://127.0.0.1:{port}"
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, made.serve)
            async with TownClient(Connection(made.url, "secret-key"), patience_seconds=1) as town:
                yield made, town
            group.cancel_scope.cancel()


async def test_reading_is_repeated_when_the_line_breaks() -> None:
    async with line(DROP, BUSY, OK) as (server, town):
        assert (await town.get("/v1/missions")).body == b"{}"
    assert len(server.requests) == 3


async def test_a_creation_is_repeated_under_the_same_key() -> None:
    async with line(DROP, OK) as (server, town):
        await town.post("/v1/endpoints", NewEndpoint(url="ntfy://x/y"))
    first, second = server.headers("idempotency-key")
    assert first
    assert first == second
    assert server.requests[0] == server.requests[1]


async def test_two_creations_have_two_keys() -> None:
    async with line(OK) as (server, town):
        await town.post("/v1/missions", {})
        await town.post("/v1/missions", {})
    assert len(set(server.headers("idempotency-key"))) == 2


async def test_a_creation_that_is_still_at_work_is_waited_for() -> None:
    body = b'{"type":"/problems/in-progress","status":409}'
    busy = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    async with line(DROP, busy, OK) as (server, town):
        await town.post("/v1/missions", {})
    assert len(server.requests) == 3


async def test_a_move_is_never_sent_twice() -> None:
    async with line(DROP, OK) as (server, town):
        with pytest.raises(Unreachable, match="the connection broke"):
            await town.post("/v1/missions/x/cancel", repeatable=False)
    assert len(server.requests) == 1


async def test_a_town_that_stays_busy_is_reported_in_time() -> None:
    async with line(BUSY) as (server, town):
        with anyio.fail_after(3), pytest.raises(Refused) as refused:
            await town.get("/v1/missions")
    assert refused.value.exit_code == 5
    assert len(server.requests) > 2


async def test_a_key_never_follows_to_another_address() -> None:
    away = b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n"
    async with line(away) as (server, town):
        with pytest.raises(Failure, match="leads elsewhere"):
            await town.get("/v1/missions")
    assert len(server.requests) == 1


async def test_something_that_is_no_town_is_recognised() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>"
    async with line(page, missing) as (_, town):
        reply = await town.get("/health")
        with pytest.raises(Failure, match="does not look like"):
            reply.read(dict)
        with pytest.raises(Failure, match="is this the address of a town") as refused:
            await town.get("/health")
    assert refused.value.exit_code == 3


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, 2), (401, 1), (403, 1), (404, 3), (409, 4), (410, 4), (413, 2), (422, 4), (500, 1)],
)
async def test_each_refusal_has_its_exit_code_and_its_words(status: int, code: int) -> None:
    body = b'{"title":"No","detail":"because\\nof it","errors":[{"key":"goal","message":"short"}]}'
    head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    async with line(head + body) as (_, town):
        with pytest.raises(Refused) as refused:
            await town.get("/v1/missions")
    assert refused.value.exit_code == code
    assert refused.value.message.startswith("because\nof it; goal: short")


async def test_nobody_there_is_unreachable() -> None:
    async with TownClient(Connection("http://127.0.0.1:9", None), patience_seconds=0) as town:
        with pytest.raises(Unreachable, match="connection refused") as refused:
            await town.get("/health")
    assert refused.value.exit_code == 5


async def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with line(OK) as (server, town):
        await town.get("/health")
    assert len(server.requests) == 1
    assert on_this_machine("http://[::1]:8080")
    assert on_this_machine("http://localhost:8080")
    assert not on_this_machine("https://town.example")


def told(*numbers: int, cut: bool = False) -> bytes:
    """Write events of a stream; `cut` breaks off in the middle of one more."""
    events = b"".join(b"id: %d-0\nevent: x\ndata: %d\n\n" % (n, n) for n in numbers)
    return STREAM + b"retry: 1\n\n:\n\n" + events + (b"id: 9-0\ndata: hal" if cut else b"")


async def test_a_stream_goes_on_where_it_broke_without_gap_or_repeat() -> None:
    bye = b"event: bye\ndata: {}\n\n"
    async with line(told(1, 2, cut=True), DROP, BUSY, told(3) + bye, told(4), GONE) as (
        server,
        town,
    ):
        stream = town.follow("/v1/events", after="0-0")
        with anyio.fail_after(10):
            heard = [(sent.id, sent.data) async for sent in stream]
    assert heard == [("1-0", "1"), ("2-0", "2"), ("3-0", "3"), ("4-0", "4")]
    assert server.headers("last-event-id") == ["0-0", "2-0", "2-0", "2-0", "3-0", "4-0"]
    assert set(server.headers("accept")) == {"text/event-stream"}


async def test_a_stream_that_is_refused_says_so() -> None:
    missing = b'HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{"detail":"none"}'[:-1]
    async with line(missing) as (_, town):
        with pytest.raises(Refused) as refused:
            await anext(aiter(town.follow("/v1/missions/x/events")))
    assert refused.value.exit_code == 3


async def test_a_list_is_read_to_its_limit() -> None:
    def page(head: str) -> bytes:
        cursor = b"null" if "cursor=next" in head else b'"next"'
        body = b'{"items":[1,2],"next_cursor":' + cursor + b"}"
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async with line(page) as (server, town):
        assert len(await town.pages("/v1/x", {"state": "a", "label": None}, limit=50)) == 4
        assert len(await town.pages("/v1/x", {}, limit=1)) == 1
    asked = [request.split()[1] for request in server.requests]
    assert asked == [
        "/v1/x?state=a&limit=50",
        "/v1/x?state=a&cursor=next&limit=48",
        "/v1/x?limit=1",
    ]
