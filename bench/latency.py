"""How long people and agents wait: for a worker, for the push, for the answer."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Final

import anyio
import httpx

from bench.ground import Row, latency, until
from fakes.ntfy import NtfyServer
from halls import HallProcess
from hands import workers
from servers import RedisServer
from tinytown import ids
from tinytown.models.question import Ask
from tinytown.models.task import Claim
from tinytown.store import Store, open_store
from tinytown.store.docket import Nothing
from tinytown.store.workers import Card

MISSIONS: Final = 200
PUSHES: Final = 60
ANSWERS: Final = 40

ASKING: Final = """exec bash -c '
for n in $(seq %d); do
    tt ask "Question $n?" --option yes --option no > /dev/null || exit 1
    echo $EPOCHREALTIME >> "%s"
done'
"""
"""bash tells the time without starting a program for it."""


async def latency_rows() -> list[Row]:
    """Measure all three on one town: a real townhall, its notifier and a real worker."""
    with (
        tempfile.TemporaryDirectory(prefix="tt-bench-", dir="/tmp") as folder,
        RedisServer() as redis,
        NtfyServer() as ntfy,
        HallProcess(redis.url, TINYTOWN_NOTIFY=f"ntfy://127.0.0.1:{ntfy.port}/bench") as hall,
    ):
        async with (
            open_store(redis.url, town="main", name="tt:bench") as store,
            hall.client() as client,
        ):
            claims = await _claims(store, client)
            pushes = await _pushes(store, client, ntfy)
            answers = await _answers(redis.url, client, Path(folder))
    return [
        latency("POST /v1/missions → claimed by a waiting worker", claims, p50_ms=10, p99_ms=50),
        latency("question.asked → push request arrives", pushes, p50_ms=15),
        latency("answer sent → the agent goes on (`tt ask` has returned)", answers, p50_ms=15),
    ]


async def _register(store: Store) -> str:
    worker = ids.new("agent")
    card = Card(host="bench", version="0", agent=None)
    await store.workers.register(worker, ["default"], card, silence_ms=600_000)
    return worker


async def _claim(store: Store, worker: str) -> Claim | Nothing:
    found = await store.docket.claim(worker, ["default"], lease_ms=600_000, silence_ms=600_000)
    assert isinstance(found, Claim | Nothing)
    return found


async def _claims(store: Store, client: httpx.AsyncClient) -> list[float]:
    """Let one worker wait as workers do, and start a mission as a laptop does."""
    begun, done = anyio.create_memory_object_stream[float](1), anyio.Event()
    spent = []

    async def work() -> None:
        worker = await _register(store)
        async with store.blocking("bench", block_seconds=30) as blocking:
            while not done.is_set():
                found = await _claim(store, worker)
                if isinstance(found, Nothing):
                    await store.workers.wait(blocking, found.streams, block_ms=1000)
                    continue
                now = time.perf_counter()
                await store.docket.release(
                    found.task_id, found.attempt, reason="bench", counts=False
                )
                await store.missions.cancel(found.mission_id, by="bench")
                await begun[0].send(now)
            await store.workers.leave(worker, always=True, reason="done")

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        for _ in range(MISSIONS):
            sent = time.perf_counter()
            reply = await client.post("/v1/missions", json={"goal": "do it"})
            assert reply.status_code == 201, reply.text
            spent.append(await begun[1].receive() - sent)
        done.set()
    begun[0].close()
    begun[1].close()
    return spent


async def _pushes(store: Store, client: httpx.AsyncClient, ntfy: NtfyServer) -> list[float]:
    """Ask, and look when the push server has the request."""
    await client.post("/v1/missions", json={"goal": "do it"})
    worker = await _register(store)
    claim = await _claim(store, worker)
    assert isinstance(claim, Claim)
    spent = []
    for number in range(PUSHES):
        asked = time.monotonic()
        _, question = await store.questions.ask(
            ids.new("question"),
            Ask(text=f"Question {number}?"),
            task_id=claim.task_id,
            attempt=claim.attempt,
        )
        await until(lambda number=number: len(ntfy.published) > number)  # type: ignore[misc]
        spent.append(ntfy.published[number].at - asked)
        await store.questions.answer(question, "yes", by="bench", via="bench")
    await store.missions.cancel(claim.mission_id, by="bench")
    await store.workers.leave(worker, always=True, reason="done")
    return spent


async def _answers(url: str, client: httpx.AsyncClient, folder: Path) -> list[float]:
    """Let a real worker's agent ask with `tt ask`, and answer as a laptop does."""
    went_on = folder / "went-on"
    went_on.touch()
    sent: list[float] = []
    with workers(url, folder) as crew:
        crew.start(ASKING % (ANSWERS, went_on), lease_seconds="30")
        await client.post("/v1/missions", json={"goal": "ask", "time_limit_seconds": 300})
        for number in range(1, ANSWERS + 1):
            question = await _question(client, f"Question {number}?")
            sent.append(time.time())  # bash tells the same clock
            reply = await client.post(f"/v1/questions/{question}/answer", json={"answer": "yes"})
            assert reply.status_code == 200, reply.text
        await until(lambda: len(went_on.read_text().splitlines()) == ANSWERS)
    times = [float(line) for line in went_on.read_text().splitlines()]
    return [after - before for before, after in zip(sent, times, strict=True)]


async def _question(client: httpx.AsyncClient, text: str) -> str:
    found: list[str] = []

    async def asked() -> bool:
        reply = await client.get("/v1/questions", params={"state": "open"})
        found.extend(each["id"] for each in reply.json()["items"] if each["text"] == text)
        return bool(found)

    await until(asked)
    await anyio.sleep(0.05)  # the asker has settled down to wait
    return found[0]
