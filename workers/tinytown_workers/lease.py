"""The lease: renewed while a task runs; when it is lost, the work stops and nothing is written."""

from __future__ import annotations

import logging
from typing import Final

import anyio

from tinytown.errors import LeaseLost, StoreUnavailable, WorkerNotFound
from tinytown.models.task import Claim
from tinytown.store import Store

_log = logging.getLogger(__name__)

RENEWALS: Final = 3
"""Renewals per lease: two may fail before it runs out."""


class Lease:
    """One attempt's right to write its task, as this worker knows it.

    The worker's own clock starts before each renewal is sent, so it never believes in a lease
    longer than the store does.
    """

    def __init__(
        self,
        store: Store,
        worker_id: str,
        claim: Claim,
        *,
        lease_seconds: float,
        silence_seconds: float,
    ) -> None:
        """Hold the lease of a claim just made."""
        self._store = store
        self._worker_id = worker_id
        self._claim = claim
        self._seconds = lease_seconds
        self._silence_seconds = silence_seconds
        self._until = anyio.current_time() + lease_seconds
        self._held = True
        self.lost: Final = anyio.Event()
        """Set when somebody else may own the task: stop, write nothing."""

    async def keep(self) -> None:
        """Renew until cancelled; returns when the lease is lost."""
        pause = self._seconds / RENEWALS
        while not self.lost.is_set():
            await anyio.sleep(pause)
            pause = self._seconds / RENEWALS
            if self._given_back():
                continue
            try:
                await self.renew()
            except LeaseLost as lost:
                if self._given_back():
                    continue
                _log.warning("lease.lost", extra={"facts": {**self._facts(), "why": lost.detail}})
                self.lost.set()
            except StoreUnavailable as away:
                pause = min(1.0, self._seconds / 10)
                if anyio.current_time() >= self._until:
                    facts = {**self._facts(), "why": f"not renewed in time: {away.detail}"}
                    _log.warning("lease.lost", extra={"facts": facts})
                    self.lost.set()

    def let_go(self) -> None:
        """Renew nothing any more: the lease is about to be given back."""
        self._held = False

    def _given_back(self) -> bool:
        return not self._held

    def keep_on(self) -> None:
        """Go on renewing: the lease was not given back after all."""
        self._held = True

    async def renew(self) -> None:
        """Renew once; raises LeaseLost, StoreUnavailable."""
        asked_at = anyio.current_time()
        try:
            await self._store.docket.renew(
                self._worker_id,
                silence_ms=round(self._silence_seconds * 1000),
                lease_ms=round(self._seconds * 1000),
                task_id=self._claim.task_id,
                attempt=self._claim.attempt,
            )
        except WorkerNotFound as unknown:
            raise LeaseLost(unknown.detail) from unknown
        self._until = asked_at + self._seconds

    def _facts(self) -> dict[str, str | int]:
        return {"task": self._claim.task_id, "attempt": self._claim.attempt}
