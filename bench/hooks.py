"""How many signed hooks one townhall takes in a second, beside a handler that proves nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from bench.ground import Row, cpu_seconds, percentile, until
from halls import HallProcess
from hooking import add_source, github, issue
from servers import RedisServer
from tinytown.store import Store, open_store

ROUNDS: Final = 5
HOOKS: Final = 1_500
"""Per round and door: less than may wait, should a router be slower than its door."""
AT_ONCE: Final = 16
BYTES: Final = 4_000
"""Of text in a payload, which makes it about as large as GitHub's median without it."""
PROMISED: Final = 1_000


class Round:
    """What a round of hooks took."""

    def __init__(self, seconds: float, effort: float, waits: list[float]) -> None:
        self.rate = HOOKS / seconds
        self.effort = effort / HOOKS
        """Processor seconds of the door's process for one hook, its routing included."""
        self.waits = waits


async def hooks() -> list[Row]:
    """Send to both doors in turns, each a process of its own on the same Redis."""
    with RedisServer() as redis, HallProcess(redis.url) as hall, _bare(redis.url) as bare:
        async with (
            hall.client() as client,
            open_store(redis.url, town="main", name="tt:bench") as store,
        ):
            source = await add_source(client, "github")
            ours: list[Round] = []
            theirs: list[Round] = []
            port = int(hall.address.rpartition(":")[2])
            for number in range(ROUNDS + 1):
                fair = await _round(bare[1], source["id"], bare[0])
                own = await _round(port, source["id"], hall.process.pid)
                begun = time.perf_counter()
                await until(lambda: _none_waits(store))
                behind = time.perf_counter() - begun
                if number:  # the first one warms both up
                    theirs.append(fair)
                    ours.append(own)
            stored = await _stored(client)
    assert stored == (ROUNDS + 1) * HOOKS, f"{stored} were stored"
    rate, limit = median(each.rate for each in ours), median(each.rate for each in theirs)
    effort = median(o.effort / t.effort for o, t in zip(ours, theirs, strict=True))
    p99 = percentile([wait for each in ours for wait in each.waits], 99) * 1000
    return [
        Row(
            "signed hooks stored by one townhall, routed meanwhile (and a bare Litestar handler"
            " with one Redis call, same run)",
            f"≥ {PROMISED}/s, or this machine's limit",
            f"{rate:.0f}/s (bare {limit:.0f}/s, ratio {rate / limit:.2f};"
            f" {median(each.effort for each in ours) * 1e6:.0f} µs of processor a hook,"
            f" {effort:.1f} times the bare one's); the answer p99 {p99:.0f} ms of 16 at once;"
            f" the last was routed {behind:.1f} s after the last answer",
            # A machine on which even the bare handler does not do twice as many cannot tell.
            True if rate >= PROMISED else None if limit < 2 * PROMISED else False,
        )
    ]


@contextmanager
def _bare(url: str) -> Iterator[tuple[int, int]]:
    """Run the bare door; gives its process and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.bare_door", url],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[1],
    )
    try:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


async def _round(port: int, source_id: str, pid: int) -> Round:
    """Send hooks over connections that are kept; what they say is made before the clock runs."""
    requests = [_request(source_id, number) for number in range(HOOKS)]
    waits: list[float] = []
    effort, begun = cpu_seconds(pid), time.perf_counter()
    async with anyio.create_task_group() as group:
        for start in range(AT_ONCE):
            group.start_soon(_send, port, requests[start::AT_ONCE], waits)
    seconds = time.perf_counter() - begun
    return Round(seconds, cpu_seconds(pid) - effort, waits)


def _request(source_id: str, number: int) -> bytes:
    body, headers = github("issue_comment", issue(number=number, body="x" * BYTES))
    lines = [f"POST /hooks/{source_id} HTTP/1.1", "host: town", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _send(port: int, requests: list[bytes], waits: list[float]) -> None:
    """Send one after another and read each reply to its end."""
    async with _connected(port) as (stream, reader):
        for request in requests:
            begun = time.perf_counter()
            await stream.send(request)
            head = await reader.receive_until(b"\r\n\r\n", 4096)
            assert head.startswith(b"HTTP/1.1 202"), head
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.receive_exactly(int(length))
            waits.append(time.perf_counter() - begun)


@asynccontextmanager
async def _connected(port: int) -> AsyncIterator[tuple[Any, BufferedByteReceiveStream]]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield stream, BufferedByteReceiveStream(stream)


async def _none_waits(store: Store) -> bool:
    return await store.hooks.waiting() == 0


async def _stored(client: Any) -> int:
    await anyio.sleep(1.1)  # numbers are a second old at most
    for line in (await client.get("/metrics")).text.splitlines():
        if line.startswith('tinytown_hooks_total{outcome="stored"}'):
            return int(float(line.split()[-1]))
    return 0
