"""The way to an engine's socket: cancelled, cut off, kept waiting, used again."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest

from tinytown.launch.unix import UnixTransport

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def listener(home: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(home / "sock"))
        listening.listen()
        listening.settimeout(5)
        yield listening


@pytest.fixture
async def client(home: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=UnixTransport(home / "sock"), base_url="http://engine", timeout=0.5
    ) as client:
        yield client


async def taken(listener: socket.socket) -> socket.socket:
    """Accept a connection whose request has arrived."""

    def take() -> socket.socket:
        peer, _ = listener.accept()
        assert peer.recv(65536).startswith(b"GET /")
        return peer

    return await anyio.to_thread.run_sync(take)


async def test_a_request_is_cancelled_in_the_moment_its_answer_comes(
    listener: socket.socket, client: httpx.AsyncClient
) -> None:
    """The loop then has both in its hands: the cancelled wait, and the news that it is over."""
    async with anyio.create_task_group() as group:
        group.start_soon(client.get, "/")
        with await taken(listener) as peer:
            await anyio.sleep(0.05)  # the client waits for the answer now
            peer.sendall(REPLY)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
            await anyio.lowlevel.cancel_shielded_checkpoint()


async def test_a_connection_is_used_again_until_the_other_side_ends_it(
    listener: socket.socket, client: httpx.AsyncClient
) -> None:
    async with anyio.create_task_group() as first:
        first.start_soon(client.get, "/1")
        peer = await taken(listener)
        peer.sendall(REPLY)
    async with anyio.create_task_group() as again:
        again.start_soon(client.get, "/2")
        assert (await anyio.to_thread.run_sync(peer.recv, 99)).startswith(b"GET /2")
        peer.sendall(REPLY)
    peer.close()
    async with anyio.create_task_group() as afresh:
        afresh.start_soon(client.get, "/3")
        with await taken(listener) as other:
            other.sendall(REPLY)


async def test_an_answer_that_does_not_come_is_given_up(
    listener: socket.socket, client: httpx.AsyncClient
) -> None:
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/")


async def test_an_answer_that_is_cut_off_is_no_answer(
    listener: socket.socket, client: httpx.AsyncClient
) -> None:
    async def cut() -> None:
        (await taken(listener)).close()

    async with anyio.create_task_group() as group:
        group.start_soon(cut)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")


async def test_much_is_sent_although_little_fits_at_once(
    listener: socket.socket, client: httpx.AsyncClient
) -> None:
    length = 3_000_000
    received = 0

    def take() -> None:
        nonlocal received
        peer, _ = listener.accept()
        with peer:
            while received < length:
                received += len(peer.recv(65536))
            peer.sendall(REPLY)

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, take)
        reply = await client.post("/", content=b"x" * length, timeout=10)
    assert reply.text == "hi"
    assert received > length


async def test_nobody_listens(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.ConnectError):
        await client.get("/")


async def test_a_listener_too_busy_to_take_anybody_is_not_waited_for_long(
    home: Path, client: httpx.AsyncClient
) -> None:
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
        full.bind(str(home / "sock"))
        full.listen(0)
        first.connect(str(home / "sock"))
        with pytest.raises(httpx.ConnectTimeout):
            await client.get("/")
