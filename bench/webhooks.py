"""What a webhook costs beside a bare POST of the same library behind the same guard."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import anyio
import msgspec

from bench.ground import Row
from tinytown import standard_webhooks
from tinytown.egress import Egress, parse_allow
from tinytown_notifiers.sinks.webhook import Letter, WebhookSender

ENDPOINTS: Final = 20
AT_ONCE: Final = 40
LETTERS: Final = 1_000
ROUNDS: Final = 15
BODY: Final = msgspec.json.encode({"type": "mission.finished", "data": "x" * 980})
"""One kilobyte."""
CPU_RATIO: Final = 1.5
PER_SECOND: Final = 1_000

Send = Callable[[str], Awaitable[None]]


class Spent(msgspec.Struct, frozen=True):
    """What one round took."""

    cpu_us: float
    """Processor time of this process for one POST."""
    per_second: float


async def webhooks() -> list[Row]:
    """Send the same letters bare and through the sender, turn by turn, and compare."""
    egress = Egress(parse_allow("127.0.0.1"))
    with receivers() as urls:
        sender = WebhookSender(egress)
        async with bare_session(egress) as session:
            ours, bare = _through(sender, "v1"), bare_post(session)
            both = _through(sender, "v1", "v1a")
            for warm in (bare, ours, both):
                await _round(warm, urls, ENDPOINTS * 4)
            found: dict[str, list[Spent]] = {"ours": [], "bare": [], "both": []}
            for _ in range(ROUNDS):
                found["bare"].append(await _round(bare, urls, LETTERS))
                found["ours"].append(await _round(ours, urls, LETTERS))
                found["both"].append(await _round(both, urls, LETTERS))
        await sender.close()
    # Each round against the one before it: the machine's other work changes by the minute.
    pairs = list(zip(found["ours"], found["bare"], strict=True))
    ratio = median(mine.cpu_us / theirs.cpu_us for mine, theirs in pairs)
    pairs = list(zip(found["both"], found["bare"], strict=True))
    dear = median(mine.cpu_us / theirs.cpu_us for mine, theirs in pairs)
    cpu, bare_cpu = (median(each.cpu_us for each in found[who]) for who in ("ours", "bare"))
    rate, bare_rate = (max(each.per_second for each in found[who]) for who in ("ours", "bare"))
    return [
        Row(
            "processor time of a signed webhook of 1 KB / of a bare aiohttp POST, same guard",
            f"≤ {CPU_RATIO} ×",
            f"{ratio:.2f} × ({cpu:.0f} µs / {bare_cpu:.0f} µs)",
            ratio <= CPU_RATIO,
        ),
        Row("the same, signed with an ed25519 key as well", "", f"{dear:.2f} ×"),
        Row(
            f"webhooks to {ENDPOINTS} endpoints over kept connections, one process",
            f"≥ {PER_SECOND}/s, or the machine's limit (bare aiohttp / {CPU_RATIO})",
            f"{rate:.0f}/s (bare aiohttp {bare_rate:.0f}/s)",
            rate >= min(PER_SECOND, bare_rate / CPU_RATIO),
        ),
    ]


@contextmanager
def receivers() -> Iterator[list[str]]:
    """Run the receivers in a process of their own."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.receiver", str(ENDPOINTS)],
        cwd=Path(__file__).resolve().parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield [f"http://127.0.0.1:{port}/hook" for port in process.stdout.readline().split()]
        assert process.stdin is not None
        process.stdin.close()


async def _round(send: Send, urls: list[str], letters: int) -> Spent:
    """Send so many letters, so many at once, to all endpoints in turn."""
    numbers = iter(range(letters))

    async def work() -> None:
        for number in numbers:
            await send(urls[number % len(urls)])

    cpu, begun = time.process_time(), time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(work)
    seconds = time.perf_counter() - begun
    return Spent((time.process_time() - cpu) / letters * 1e6, letters / seconds)


def _through(sender: WebhookSender, *kinds: standard_webhooks.Kind) -> Send:
    secrets = tuple(standard_webhooks.new_secret(kind) for kind in kinds)

    async def send(url: str) -> None:
        letter = Letter(
            id="evt_1763856000000-0",
            url=url,
            body=BODY,
            headers={"content-type": "application/json"},
            secrets=secrets,
        )
        reply = await sender.send(letter)
        assert reply.code == "ok", reply

    return send


def bare_session(egress: Egress) -> aiohttp.ClientSession:
    """Open a session that does what any careful sender would, and no more."""

    def guarded(info: Any) -> socket.socket:
        family, kind, protocol, _, address = info
        egress.check_peer(address, port=address[1], secure=False)
        return socket.socket(family, kind, protocol)

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(socket_factory=guarded, limit=128),
        timeout=aiohttp.ClientTimeout(total=15, sock_connect=5),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def bare_post(session: aiohttp.ClientSession) -> Send:
    """Post the same headers without signing anything."""
    headers = {
        "content-type": "application/json",
        "webhook-id": "evt_1763856000000-0",
        "webhook-timestamp": "1763856000",
        "webhook-signature": "v1," + "A" * 43 + "=",
    }

    async def send(url: str) -> None:
        async with session.post(url, data=BODY, headers=headers, allow_redirects=False) as reply:
            assert reply.status == 200
            await reply.read()

    return send
