"""Workers: who is there, and who should take nothing new."""

from __future__ import annotations

from tinytown import ids
from tinytown.errors import WorkerNotFound
from tinytown.models.worker import Worker
from tinytown.store import Store


class WorkerDesk:
    """What a person can do with workers."""

    def __init__(self, store: Store) -> None:
        """Work on one town's workers."""
        self._store = store

    async def all(self) -> list[Worker]:
        """List the workers that live or left within the hour, most recently seen first."""
        return await self._store.workers.list()

    async def drain(self, worker_id: str) -> Worker:
        """Let a worker finish what it holds, take nothing new and go home."""
        if not ids.is_id("agent", worker_id):
            raise WorkerNotFound("there is no worker with this id")
        await self._store.workers.drain(worker_id)
        return await self._store.workers.read(worker_id)
