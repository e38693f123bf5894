"""A worker of paper: everything a worker does with the store, and no coding CLI.

Its own process, so that it can be killed, frozen and told to go. It writes every settle that the
town accepted into a journal of its own: what it believes it has done.

    python tests/chaos/paper_worker.py REDIS_URL JOURNAL LEASE_MS
"""

from __future__ import annotations

import random
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio

from tinytown import ids
from tinytown.errors import IllegalMove, LeaseLost, NotFound, StoreUnavailable
from tinytown.models.mission import Result
from tinytown.models.question import Ask
from tinytown.models.task import Claim
from tinytown.store import Store, open_store
from tinytown.store.docket import Nothing, Refused
from tinytown.store.workers import Card


class PaperWorker:
    """Claims, perhaps asks, settles; honest about what it lost."""

    def __init__(self, store: Store, journal: Path, lease_ms: int) -> None:
        self.store = store
        self.journal = journal
        self.lease_ms = lease_ms
        self.id = ids.new("agent")
        self.holding: Claim | None = None

    async def run(self) -> None:
        """Live until told to go."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._until_told, group.cancel_scope)
            group.start_soon(self._renew)
            await self._live()
        # Told to go: the task is back at once, and so is the worker's place.
        with anyio.move_on_after(3):
            await self._hand_back()

    async def _until_told(self, scope: anyio.CancelScope) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(self.lease_ms / 5000)
            task_id, attempt = "", 0
            if self.holding is not None:
                task_id, attempt = self.holding.task_id, self.holding.attempt
            try:
                await self.store.docket.renew(
                    self.id,
                    silence_ms=4 * self.lease_ms,
                    lease_ms=self.lease_ms,
                    task_id=task_id,
                    attempt=attempt,
                )
            except (LeaseLost, NotFound, StoreUnavailable):
                continue  # whoever works will hear it from its next step

    async def _live(self) -> None:
        patience = self.store.patience
        await patience.keep_trying("register", self._register)
        while True:
            claim = await patience.keep_trying("claim", self._claim)
            if isinstance(claim, Refused):
                await patience.keep_trying("register", self._register)
            elif isinstance(claim, Nothing):
                await self._wait(claim)
            else:
                self.holding = claim
                # Lost: another attempt has it, or nobody needs it any more.
                with suppress(LeaseLost, NotFound):
                    await self._work(claim)
                self.holding = None

    async def _register(self) -> object:
        card = Card(host="paper", version="0", agent="command")
        return await self.store.workers.register(
            self.id, ["default"], card, silence_ms=4 * self.lease_ms
        )

    async def _claim(self) -> Claim | Nothing | Refused:
        return await self.store.docket.claim(
            self.id, ["default"], lease_ms=self.lease_ms, silence_ms=4 * self.lease_ms
        )

    async def _wait(self, nothing: Nothing) -> None:
        try:
            async with self.store.blocking("wait", block_seconds=1) as client:
                await self.store.workers.wait(client, nothing.streams, block_ms=500)
        except StoreUnavailable:
            await anyio.sleep(0.1)

    async def _work(self, claim: Claim) -> None:
        keep = self.store.patience.keep_trying
        docket, task, attempt = self.store.docket, claim.task_id, claim.attempt
        await keep("log", lambda: docket.append_log(task, attempt, first=0, lines=[b'{"n":1}']))
        await anyio.sleep(random.uniform(0.005, 0.05))
        if "ask" in claim.goal:
            question = Ask(text=f"Which way, {task}?", options=("left", "right"))
            _, id_ = await keep(
                "ask",
                lambda: self.store.questions.ask(
                    ids.new("question"), question, task_id=task, attempt=attempt
                ),
            )
            take = partial(self.store.questions.take, id_, task_id=task, attempt=attempt)
            while not await keep("take", take):  # noqa: ASYNC110 - paper has no inbox
                await anyio.sleep(0.05)
        await keep(
            "settle",
            lambda: docket.settle(
                task,
                attempt,
                completed=True,
                summary="done",
                reason="",
                result=Result(summary="done"),
                patch=b"",
            ),
        )
        with self.journal.open("a") as journal:
            journal.write(f"{task} {attempt}\n")

    async def _hand_back(self) -> None:
        try:
            await self.store.workers.drain(self.id)
            if self.holding is not None:
                await self.store.docket.release(
                    self.holding.task_id, self.holding.attempt, reason="told to go", counts=False
                )
            await self.store.workers.leave(self.id, always=True, reason="told to go")
        except (LeaseLost, NotFound, IllegalMove, StoreUnavailable):
            return  # the lease will tell, or has told: a worker given up has nothing to hand back


async def main(url: str, journal: str, lease_ms: str) -> None:
    """Open the town and work."""
    async with open_store(url, town="main", name="tt:paper", max_connections=3) as store:
        await PaperWorker(store, Path(journal), int(lease_ms)).run()


if __name__ == "__main__":
    redis_url, journal_path, lease = sys.argv[1:]
    anyio.run(main, redis_url, journal_path, lease)
