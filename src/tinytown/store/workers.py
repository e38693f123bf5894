"""The workers' shelf: who is there, who leaves, and the signals each one hears."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tinytown.errors import WorkerNotFound
from tinytown.models.worker import Worker, WorkerState
from tinytown.store import records
from tinytown.store.events import entries
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.replies import DONE, MISSING, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client


class Signal(msgspec.Struct, frozen=True):
    """Something a worker should hear: `kind` is answer, cancel, message or drain."""

    id: str
    kind: str
    fields: dict[str, str]


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says about itself."""

    host: str
    version: str
    agent: str | None


class Workers:
    """Reads and moves workers."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's workers."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def register(
        self,
        worker_id: str,
        pools: Sequence[str],
        card: Card,
        *,
        silence_ms: int,
        boot_ms: int = 0,
    ) -> WorkerState:
        """Say that a worker is there; safe to repeat."""
        reply = await self._scripts.run(
            "register_worker",
            worker=worker_id,
            silence_ms=silence_ms,
            boot_ms=boot_ms,
            card=msgspec.json.encode(card),
            pools=pools,
        )
        return WorkerState(reply[1])

    async def drain(self, worker_id: str) -> WorkerState:
        """Let a worker take nothing new."""
        reply = await self._scripts.run("drain_worker", worker=worker_id)
        if reply[0] != DONE:
            refuse(reply, WorkerNotFound, "worker", "drain")
        return WorkerState(reply[1])

    async def leave(self, worker_id: str, *, always: bool, reason: str) -> bool:
        """Let a worker go home; False while there is work for it (or it still holds some)."""
        reply = await self._scripts.run(
            "leave_worker", worker=worker_id, always=int(always), reason=reason
        )
        # A worker the store has forgotten has nothing to leave.
        return bool(reply[0] in {DONE, MISSING})

    def inbox(self, worker_id: str) -> str:
        """Name the stream of a worker's signals, for its blocking read."""
        return self._keys("worker_inbox", worker_id)

    async def wait(
        self, client: Client, streams: dict[str, str], *, block_ms: int
    ) -> dict[str, list[tuple[str, dict[str, str]]]]:
        """Block on streams after the given ids with a connection of the caller's own."""
        with store_errors():
            reply = await client.xread(streams, block=block_ms, count=100)
        return dict(entries(reply))

    async def list(self) -> list[Worker]:
        """List the workers that live or left within the hour, most recently seen first."""
        with store_errors():
            seen = await self._client.zrevrange(self._keys("workers"), 0, 499, withscores=True)
            pipe = self._client.pipeline(transaction=False)
            for worker_id, _ in seen:
                pipe.hgetall(self._keys("worker", worker_id))
            rows = await pipe.execute() if seen else []
        return [
            records.worker(worker_id, fields, score)
            for (worker_id, score), fields in zip(seen, rows, strict=True)
            if fields
        ]

    async def read(self, worker_id: str) -> Worker:
        """Read a worker; raises WorkerNotFound."""
        with store_errors():
            fields = await self._client.hgetall(self._keys("worker", worker_id))
            seen = await self._client.zscore(self._keys("workers"), worker_id)
        if not fields:
            raise WorkerNotFound("there is no worker with this id")
        return records.worker(worker_id, fields, seen or 0)
