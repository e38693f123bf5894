"""A storm over a town: missions go in, everything else is killed, and the books must be right.

Redis, the townhall and the workers are real processes. People (who start missions and answer
questions, two at once) do what real clients do: the same request again until there is a reply.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import msgspec
from redis import Redis

from books import Books
from halls import API_KEY, HallProcess
from servers import RedisServer, free_port

TRIES: tuple[type[Exception], ...] = (httpx.TransportError,)


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """How bad it gets."""

    missions: int = 300
    workers: int = 4
    lease_seconds: float = 1.5
    blows: int = 40
    calm_seconds: tuple[float, float] = (0.1, 0.5)
    """Pauses between two blows."""
    seed: int = 0


class Outcome(msgspec.Struct, kw_only=True):
    """What the storm left behind."""

    blows: Counter[str]
    states: Counter[str]
    redelivered: int
    completed: Counter[str]
    """How often each task was completed, by the town's events."""
    settled: Counter[str]
    """How often each task was settled, by the workers' own journals."""
    answers: Counter[str]
    """How often each question was answered, by the town's events."""
    wrong: list[str]
    """What the books found."""


class Weather:
    """One storm, from the first mission to the last."""

    def __init__(
        self, storm: Storm, redis: RedisServer, start_worker: Callable[[], subprocess.Popen[bytes]]
    ) -> None:
        self.storm = storm
        self.redis = redis
        self.start_worker = start_worker
        self.dice = random.Random(storm.seed)
        self.blows: Counter[str] = Counter()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.port = str(free_port())
        self.hall = self._new_hall()
        self.hall_falls = False
        self.calm = anyio.Event()

    async def blow(self) -> None:
        """Let it rage until every mission has ended."""
        self.hall.__enter__()
        self.workers = [self.start_worker() for _ in range(self.storm.workers)]
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_workers)
                group.start_soon(self._strike)
                for _ in range(2):
                    group.start_soon(self._answer)
                await self._start_missions()
                await self._wait_for_the_end()
                group.cancel_scope.cancel()
        finally:
            for worker in self.workers:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()
            self.hall.__exit__()

    # -- people --------------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send a request until there is a reply that is not "later"."""
        headers = {"Authorization": f"Bearer {API_KEY}", **more.pop("headers", {})}
        address = f"http://127.0.0.1:{self.port}"
        async with httpx.AsyncClient(base_url=address, timeout=10, trust_env=False) as client:
            while True:
                try:
                    reply = await client.request(method, path, headers=headers, **more)
                except TRIES:
                    await anyio.sleep(0.05)
                    continue
                if reply.status_code < 500 and not _running(reply):
                    return reply
                await anyio.sleep(0.05)

    async def _start_missions(self) -> None:
        async def start(number: int, places: anyio.Semaphore) -> None:
            goal = f"mission {number}" + (" ask" if number % 3 == 0 else "")
            async with places:
                reply = await self._ask(
                    "POST",
                    "/v1/missions",
                    headers={"Idempotency-Key": f"storm-{number}"},
                    json={"goal": goal},
                )
            assert reply.status_code == 201, reply.text

        places = anyio.Semaphore(8)
        async with anyio.create_task_group() as group:
            for number in range(self.storm.missions):
                group.start_soon(start, number, places)

    async def _answer(self) -> None:
        while True:
            found = await self._ask("GET", "/v1/questions?state=open&limit=100")
            for question in found.json()["items"]:
                answer = self.dice.choice(["left", "right"])
                reply = await self._ask(
                    "POST", f"/v1/questions/{question['id']}/answer", json={"answer": answer}
                )
                assert reply.status_code in {200, 409}, reply.text
            await anyio.sleep(0.05)

    async def _wait_for_the_end(self) -> None:
        await self.calm.wait()
        while True:
            lists = [
                await self._ask("GET", f"/v1/missions?state={state}&limit=1")
                for state in ("queued", "running", "blocked")
            ]
            if not any(reply.json()["items"] for reply in lists):
                return
            await anyio.sleep(0.2)

    # -- blows ---------------------------------------------------------------------------------

    async def _keep_workers(self) -> None:
        """Replace workers that are gone, as a launcher does."""
        while True:
            for index, worker in enumerate(self.workers):
                if worker.poll() is not None:
                    self.workers[index] = self.start_worker()
            await anyio.sleep(0.05)

    async def _strike(self) -> None:
        # One of each kind first: even a short storm has them all.
        strikes = [self._kill, self._hit_hall, self._term, self._freeze, self._kill]
        async with anyio.create_task_group() as frozen:
            for number in range(self.storm.blows):
                await anyio.sleep(self.dice.uniform(*self.storm.calm_seconds))
                if number == self.storm.blows // 2:
                    await self._hit_redis()
                else:
                    strike = strikes[number] if number < len(strikes) else self.dice.choice(strikes)
                    frozen.start_soon(strike)
        self.calm.set()

    def _any_worker(self) -> subprocess.Popen[bytes]:
        return self.dice.choice(self.workers)

    async def _kill(self) -> None:
        self.blows["worker killed"] += 1
        self._any_worker().kill()

    async def _term(self) -> None:
        self.blows["worker told to go"] += 1
        self._any_worker().terminate()

    async def _freeze(self) -> None:
        self.blows["worker frozen past its lease"] += 1
        worker = self._any_worker()
        worker.send_signal(signal.SIGSTOP)
        await anyio.sleep(self.storm.lease_seconds * 1.5)
        worker.send_signal(signal.SIGCONT)

    async def _hit_hall(self) -> None:
        if self.hall_falls:
            return  # it is not up again yet
        self.hall_falls = True
        how = self.dice.choice([signal.SIGKILL, signal.SIGTERM])
        self.blows[f"townhall {how.name}"] += 1
        hall, self.hall = self.hall, self._new_hall()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_replace, hall, self.hall, how)
        self.hall_falls = False

    async def _hit_redis(self) -> None:
        while self.hall_falls:  # noqa: ASYNC110 - it tells nobody, and it is soon
            await anyio.sleep(0.02)  # one that starts without Redis says so and ends, as it should
        self.hall_falls = True
        self.blows["Redis killed and started"] += 1
        self.redis.stop(signal.SIGKILL)
        await anyio.sleep(0.3)
        self.redis.start()
        self.hall_falls = False

    def _new_hall(self) -> HallProcess:
        return HallProcess(
            self.redis.url,
            "--port",
            self.port,
            TINYTOWN_LEASE_SECONDS=str(self.storm.lease_seconds),
            TINYTOWN_MAX_ATTEMPTS="20",
        )


def _replace(old: HallProcess, new: HallProcess, how: signal.Signals) -> None:
    """End one townhall and start the next on the same port."""
    old.stop(how)
    old.__exit__()
    new.__enter__()


def _running(reply: httpx.Response) -> bool:
    """Tell whether an earlier try of the same request is still on its way (or died there)."""
    return reply.status_code == 409 and "in-progress" in reply.text


def count(weather: Weather, journal: Path) -> Outcome:
    """Read what is left when the storm is over."""
    with Redis.from_url(weather.redis.url, decode_responses=True, protocol=2) as client:
        books = Books(client)
        rows: Any = client.xrange(books.keys("events"))
        counters: Any = client.hgetall(books.keys("counters"))
        events = [
            (fields["type"], fields["task"], json.loads(fields["data"])) for _, fields in rows
        ]
        return Outcome(
            blows=weather.blows,
            states=Counter(record["state"] for record in books.missions.values()),
            redelivered=int(counters.get("redelivered", 0)),
            completed=Counter(task for kind, task, _ in events if kind == "task.completed"),
            settled=Counter(line.split()[0] for line in journal.read_text().splitlines()),
            answers=Counter(
                data["question_id"] for kind, _, data in events if kind == "question.answered"
            ),
            wrong=books.check(),
        )
