"""Homes with a server of their own for tests, and what tests do to them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
from redis.asyncio import Redis

from tinytown.embedded import (
    EmbeddedServer,
)

OWNER = """
import anyio, sys
from pathlib import Path
from tinytown.embedded import EmbeddedServer, Quarters
async def main():
    async with EmbeddedServer(Quarters(Path(sys.argv[1]))) as server:
        print(server.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


@asynccontextmanager
async def redis_of(server: EmbeddedServer) -> AsyncIterator[Redis]:
    """Lend a plain client of an embedded server."""
    async with Redis.from_url(server.url, decode_responses=True, protocol=2) as client:
        yield client


async def write(server: EmbeddedServer, key: str) -> None:
    """Leave a mark."""
    async with redis_of(server) as redis:
        await redis.set(key, "here")


async def holds(server: EmbeddedServer, key: str) -> bool:
    """Look for a mark."""
    async with redis_of(server) as redis:
        return bool(await redis.get(key) == "here")


async def everything(redis: Redis) -> list[object]:
    """Read all that the portable town has, as the server tells it."""
    assert 0 < await redis.pttl("ends") <= 100_000
    pending = await redis.xpending_range("docket", "workers", "-", "+", 10)
    return [
        await redis.xinfo_stream("docket", full=False),
        await redis.xinfo_groups("docket"),
        [(entry["message_id"], entry["consumer"], entry["times_delivered"]) for entry in pending],
        await redis.zrange("timers", 0, -1, withscores=True),
        await redis.hgetall("record"),
    ]


def script(folder: Path, name: str, text: str) -> Path:
    """Write a program."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@asynccontextmanager
async def owner_process(home: Path) -> AsyncIterator[tuple[subprocess.Popen[str], int]]:
    """Run the town of a home in a process that may be killed; give it and its server's pid."""
    owner = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner.stdout:
        line = await anyio.to_thread.run_sync(owner.stdout.readline)
        try:
            yield owner, int(line)
        finally:
            owner.kill()
            owner.wait()
