"""What every test may ask for: a real Redis, patience without sleeping, and a check for leaks."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import anyio
import hypothesis
import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from leaks import key_leaks
from servers import RedisServer
from tinytown.embedded import Quarters

# A shell that starts the tests in the background lets them, and all they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long one example takes says more about the machine's other work than about the code.
hypothesis.settings.register_profile("everyday", deadline=None)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("everyday")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run every async test on asyncio: Redis and Granian know no other."""
    return "asyncio"


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """Start the redis-server of this test process; not to be hurt, others use it too."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_url(shared_redis: RedisServer) -> Iterator[str]:
    """Lend an empty real Redis; afterwards no key may be without a reason or an end."""
    shared_redis.send("FLUSHALL")
    yield shared_redis.url
    with BlockingRedis.from_url(shared_redis.url, decode_responses=True, protocol=2) as client:
        leaks = key_leaks(client)
    assert not leaks, f"keys without a reason or an end: {leaks}"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Lend a plain client of the empty Redis, to look behind the counter."""
    async with Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
        yield client


@pytest.fixture
def redis_server() -> Iterator[Callable[..., RedisServer]]:
    """Make redis-servers that may be hurt: `redis_server(tcp=True, maxmemory="1mb")`."""
    with ExitStack() as stack:

        def make(**options: str | int | bool) -> RedisServer:
            return stack.enter_context(RedisServer(**options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def home() -> Iterator[Path]:
    """Lend a home with a short path; whatever server is left in it ends with the test."""
    home = Path(mkdtemp(prefix="tt-home-", dir="/tmp"))
    yield home
    pid = Quarters(home).server_pid()
    if pid:
        os.kill(pid, signal.SIGKILL)
    rmtree(home)


Eventually = Callable[..., Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Lend a way to wait for a predicate (sync or async) to hold; its words say what was missed."""

    async def wait(
        predicate: Callable[[], object], describe: str = "", *, within_seconds: float = 10
    ) -> None:
        with anyio.move_on_after(within_seconds):
            while True:
                held = predicate()
                if inspect.isawaitable(held):
                    held = await held
                if held:
                    return
                await anyio.sleep(0.005)
        pytest.fail(f"not within {within_seconds} s: {describe or predicate}")

    return wait
