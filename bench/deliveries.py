"""Deliveries from the event to the receiver: how many a notifier makes, and who waits for whom."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median
from typing import Any, Final

import anyio
import msgspec

from bench.ground import Row, cpu_seconds, percentile, until
from bench.webhooks import ENDPOINTS, bare_post, bare_session, receivers
from fakes.receiver import Answer, Got, Receiver, receiver
from posts import webhook
from servers import RedisServer
from tinytown.egress import Egress, parse_allow
from tinytown.models.endpoint import SigningSecret
from tinytown.standard_webhooks import new_secret
from tinytown.store import Store, open_store
from towns import start

MISSIONS: Final = 75
"""Each is one event for every endpoint."""
ROUNDS: Final = 5
AT_ONCE: Final = 64
PER_SECOND: Final = 1_000
HEALTHY: Final = 8
PAIRS: Final = 4
BEATS: Final = 80
BEAT_SECONDS: Final = 0.04
RATIO: Final = 1.2
DELIVERED: Final = "deliveries:webhook:delivered"


class Spent(msgspec.Struct, frozen=True):
    """What one round took."""

    per_second: float
    cpu_us: float
    """Processor time of the notifier for one delivery."""
    redis_us: float


async def deliveries() -> list[Row]:
    """Measure both on a notifier in a process of its own."""
    return [*await _throughput(), await _neighbours()]


@contextmanager
def _notifier(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `tt notifier` as an operator does, but for its log."""
    settings = {"REDIS_URL": url, "TINYTOWN_EGRESS_ALLOW": "127.0.0.1", "TINYTOWN_LOG": "json"}
    with subprocess.Popen(
        [sys.executable, "-m", "tinytown_notifiers"],
        env={**os.environ, **settings},
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def _subscribe(store: Store, url: str) -> None:
    secret = SigningSecret(
        id="sec_bench", kind="v1", secret=new_secret("v1"), created_at="2025-11-22T21:00:00.000Z"
    )
    await store.endpoints.put(webhook(url=url, events=("mission.created",), secrets=(secret,)))


# -- throughput ------------------------------------------------------------------------------------


async def _throughput() -> list[Row]:
    """Let events pile up, and see how fast they are delivered; the bare loop in turns."""
    ours, limits = [], []
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        urls = stack.enter_context(receivers())
        async with (
            open_store(redis.url, town="main", name="tt:bench") as store,
            bare_session(Egress(parse_allow("127.0.0.1"))) as session,
        ):
            for url in urls:
                await _subscribe(store, url)
            notifier = stack.enter_context(_notifier(redis.url))
            await _pile(store, redis, notifier, 5)
            client = store._connections.commands  # noqa: SLF001 - the same client on purpose
            await _bare_round(client, bare_post(session), urls)
            for _ in range(ROUNDS):
                limits.append(await _bare_round(client, bare_post(session), urls))
                ours.append(await _pile(store, redis, notifier, MISSIONS))
    best, limit = max(ours, key=lambda each: each.per_second), max(limits)
    ratio = median(mine.per_second / theirs for mine, theirs in zip(ours, limits, strict=True))
    return [
        Row(
            f"deliveries from event to record, {ENDPOINTS} endpoints, one notifier process",
            f"≥ {PER_SECOND}/s, or the machine's limit (aiohttp and two Redis commands)",
            f"{best.per_second:.0f}/s ({best.cpu_us:.0f} µs of the notifier, {best.redis_us:.0f} µs"
            f" of Redis each); the bare loop {limit:.0f}/s, ours / bare {ratio:.2f}",
            best.per_second >= min(PER_SECOND, limit),
        )
    ]


async def _pile(
    store: Store, redis: RedisServer, notifier: subprocess.Popen[bytes], missions: int
) -> Spent:
    """Hold the notifier still until everything has happened, then let it go."""

    async def delivered() -> int:
        return (await store.clockwork.counters()).get(DELIVERED, 0)

    wanted = await delivered() + missions * ENDPOINTS
    notifier.send_signal(signal.SIGSTOP)
    for _ in range(missions):
        await start(store)
    cpu, redis_cpu = cpu_seconds(notifier.pid), cpu_seconds(redis.pid)
    began = time.perf_counter()
    notifier.send_signal(signal.SIGCONT)
    with anyio.fail_after(120):
        while await delivered() < wanted:  # noqa: ASYNC110 - it is in another process
            await anyio.sleep(0.01)
    seconds, count = time.perf_counter() - began, missions * ENDPOINTS
    return Spent(
        count / seconds,
        (cpu_seconds(notifier.pid) - cpu) / count * 1e6,
        (cpu_seconds(redis.pid) - redis_cpu) / count * 1e6,
    )


async def _bare_round(client: Any, send: Any, urls: list[str]) -> float:
    """Take, post, and write down that it is done: the least that any queue of webhooks does."""
    letters = MISSIONS * ENDPOINTS
    numbers = iter(range(letters))

    async def work() -> None:
        for number in numbers:
            await client.zadd("bare:flight", {str(number): number})
            await send(urls[number % len(urls)])
            await client.zrem("bare:flight", str(number))

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(work)
    return letters / (time.perf_counter() - began)


# -- noisy neighbours ------------------------------------------------------------------------------


async def _neighbours() -> Row:
    """Deliver to healthy endpoints alone, and beside a black hole and a very slow one, in turns."""
    pairs = [(await _p99(noisy=False), await _p99(noisy=True)) for _ in range(PAIRS)]
    ratio = median(noisy / alone for alone, noisy in pairs)
    alone, noisy = (median(each) * 1000 for each in zip(*pairs, strict=True))
    return Row(
        f"p99 from event to {HEALTHY} healthy receivers, with a black hole and one at 5 s beside",
        f"≤ {RATIO} × without",
        f"{ratio:.2f} × ({noisy:.1f} ms / {alone:.1f} ms)",
        ratio <= RATIO,
    )


def _mood(got: Got) -> Answer:
    return Answer(after_seconds=5.0 if got.path == "slow" else 0.0)


async def _p99(*, noisy: bool) -> float:
    """Let an event happen every few milliseconds; seconds until it is at the healthy receivers."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        hole = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        async with (
            open_store(redis.url, town="main", name="tt:bench") as store,
            receiver() as mail,
        ):
            mail.rule = _mood
            stack.enter_context(_notifier(redis.url))
            healthy = [f"healthy{number}" for number in range(HEALTHY)]
            for path in healthy:
                await _subscribe(store, mail.url(path))
            await start(store)
            await until(lambda: len(mail.got) == HEALTHY)
            if noisy:
                await _subscribe(store, mail.url("slow"))
                await _subscribe(store, f"http://127.0.0.1:{hole.getsockname()[1]}/")
            for _ in range(BEATS):
                await start(store)
                await anyio.sleep(BEAT_SECONDS)
            await until(partial(_all_there, mail, healthy))
            late = time.time() - anyio.current_time()
            waited = [
                got.at + late - got.order[0] / 1000 for got in mail.got if got.path in healthy
            ]
    return percentile(waited[HEALTHY * 5 :], 99)


def _all_there(mail: Receiver, healthy: list[str]) -> bool:
    return all(len(mail.on(path)) == BEATS + 1 for path in healthy)
