"""The worker's life: register, claim, work, settle; go home when idle, drain when told."""

from __future__ import annotations

import logging
import platform
import socket
from collections.abc import Mapping
from typing import Any, Final, Literal

import anyio
import msgspec

from tinytown import __version__, ids
from tinytown.errors import IllegalMove, LeaseLost, StoreUnavailable, TownError
from tinytown.models.task import Claim
from tinytown.models.worker import WorkerState
from tinytown.store import Store
from tinytown.store.docket import Nothing, Refused
from tinytown.store.records import message
from tinytown.store.workers import Card
from tinytown.vault import Vault
from tinytown_workers.lease import Lease
from tinytown_workers.outcome import Attempt
from tinytown_workers.session import Session, SessionRules

_log = logging.getLogger(__name__)

BLOCK_SECONDS: Final = 30.0
"""How long one wait blocks: proxies drop sockets that are silent much longer."""
BEAT_SECONDS: Final = 60.0
"""How often an idle worker claims although nothing woke it: its sign of life."""
SILENCE_SECONDS: Final = 150.0
"""After this much silence an idle worker counts as lost: two missed signs of life."""

SAVING: Final = 0.7
"""The part of the drain time in which a stopped session may save itself."""

Stop = Literal["", "drain", "handback"]


class WorkerRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided about workers (settings.py)."""

    pools: tuple[str, ...] = ("default",)
    idle_seconds: float = 60
    lease_seconds: float = 30
    drain_seconds: float = 25


class Worker:
    """One worker from its first sign of life to its way home."""

    def __init__(
        self,
        store: Store,
        *,
        rules: WorkerRules,
        session_rules: SessionRules,
        environ: Mapping[str, str],
        vault: Vault,
        boot_seconds: float = 0.0,
    ) -> None:
        """Make a worker with an id of its own."""
        self.id: Final = ids.new("agent")
        self._store = store
        self._rules = rules
        self._session_rules = session_rules
        self._environ = environ
        self._vault = vault
        self._boot_seconds = boot_seconds
        self._inbox = store.workers.inbox(self.id)
        self._inbox_id = "0-0"
        self._stop: Stop = ""
        self._stopped = anyio.Event()
        self._waiting: anyio.CancelScope | None = None

    def stop(self) -> None:
        """Take nothing new, hand back what runs, go home (SIGTERM)."""
        self._stop = "handback"
        self._stopped.set()
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> None:
        """Work until there is nothing to do, or until told to stop."""
        await self._store.patience.keep_trying("register", self._register)
        while not await self._round():
            pass
        _log.info("worker.stopped", extra={"facts": {"worker": self.id}})

    async def _round(self) -> bool:
        """Open the blocking connection and work on it; True when it is time to go home."""
        async with self._store.blocking(f"worker:{self.id}", block_seconds=BLOCK_SECONDS) as client:
            idle_since = anyio.current_time()
            while True:
                if self._stop:
                    await self._leave("told to stop", always=True)
                    return True
                found = await self._claim_or_stop()
                match found:
                    case Claim():
                        await self._work(found, client)
                        idle_since = anyio.current_time()
                    case Refused(state=WorkerState.DRAINING):
                        await self._leave("drained", always=True)
                        return True
                    case Refused():
                        # Forgotten (FLUSHALL) or given up (a frozen machine): start anew.
                        self._inbox_id = "0-0"
                        await self._store.patience.keep_trying("register", self._register)
                    case Nothing():
                        left = idle_since + self._rules.idle_seconds - anyio.current_time()
                        if left <= 0 and await self._leave("idle", always=False):
                            return True
                        await self._wait(client, found.streams, max(0.0, left))
                    case None:
                        continue

    async def _claim_or_stop(self) -> Claim | Nothing | Refused | None:
        """Claim, unless told to stop while Redis is away."""
        with anyio.CancelScope() as scope:
            self._waiting = scope
            try:
                return await self._store.patience.keep_trying("claim", self._claim)
            finally:
                self._waiting = None
        return None

    async def _claim(self) -> Claim | Nothing | Refused:
        # Shielded: a claim that was made must not be forgotten by a cancellation.
        found: Claim | Nothing | Refused
        with anyio.CancelScope(shield=True):
            found = await self._store.docket.claim(
                self.id,
                self._rules.pools,
                lease_ms=round(self._rules.lease_seconds * 1000),
                silence_ms=round(SILENCE_SECONDS * 1000),
            )
        return found

    async def _wait(self, client: Any, streams: dict[str, str], left: float) -> None:
        """Block until there may be work, a signal, or nothing for long enough."""
        until = anyio.current_time() + min(BEAT_SECONDS, max(left, 0.05))
        found: dict[str, Any] = {}
        with anyio.CancelScope() as scope:
            self._waiting = scope
            try:
                # A block that ended in silence goes on from the same places: nothing is missed.
                while not (found or self._stop):
                    seconds = min(BLOCK_SECONDS, until - anyio.current_time())
                    if seconds <= 0:
                        return
                    found = await self._store.workers.wait(
                        client,
                        {**streams, self._inbox: self._inbox_id},
                        block_ms=max(1, round(seconds * 1000)),
                    )
                    for id_, signal in found.get(self._inbox, ()):
                        self._inbox_id = id_
                        if signal.get("kind") == "drain":
                            self._stop = self._stop or "drain"
            except StoreUnavailable:
                return  # the claim that follows waits with patience
            finally:
                self._waiting = None

    # One task ---------------------------------------------------------------------------------

    async def _work(self, claim: Claim, client: Any) -> None:
        """Run one claim to its end: settled, handed back, or lost."""
        facts: dict[str, Any] = {
            "mission": claim.mission_id,
            "task": claim.task_id,
            "attempt": claim.attempt,
        }
        started = anyio.current_time()
        lease = Lease(
            self._store,
            self.id,
            claim,
            lease_seconds=self._rules.lease_seconds,
            silence_seconds=SILENCE_SECONDS,
        )
        session = Session(
            self._store,
            claim,
            lease,
            rules=self._session_rules,
            environ=self._environ,
            vault=self._vault,
        )
        attempt: Attempt | None = None
        outcome = "ended"
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(lease.keep)
                group.start_soon(self._listen, client, claim, session, group.cancel_scope)
                group.start_soon(_cancel_when, lease.lost, group.cancel_scope)
                group.start_soon(self._drain_when_stopped, session, group.cancel_scope)
                attempt = await session.run()
                # The lease is kept until the outcome is written, and a stop must not undo work
                # that is done.
                with anyio.move_on_after(self._rules.lease_seconds, shield=True):
                    outcome = await self._finish(claim, attempt)
                group.cancel_scope.cancel()
        except* LeaseLost:
            outcome = "lost"
        except* Exception as failed:  # noqa: BLE001 (told, counted, and tried again elsewhere)
            _log.exception("session.broken", extra={"facts": facts})
            reason = f"its worker failed: {_root(failed)!r}"
            outcome = await self._hand_back(claim, reason, counts=True)
        if attempt is None and outcome == "ended" and self._stopped.is_set():
            outcome = await self._hand_back(claim, "its worker was stopped", counts=False)
        facts |= {"outcome": outcome, "seconds": round(anyio.current_time() - started, 3)}
        _log.info("session", extra={"facts": facts})

    async def _drain_when_stopped(self, session: Session, scope: anyio.CancelScope) -> None:
        """Let the session save itself; what takes too long is handed back without."""
        await self._stopped.wait()
        session.drain()
        await anyio.sleep(self._rules.drain_seconds * SAVING)
        scope.cancel()

    async def _finish(self, claim: Claim, attempt: Attempt) -> str:
        """Write what became of the attempt; Redis may be away for as long as the lease lasts."""
        if attempt.parked:
            return "parked"
        if attempt.again:
            await self._store.patience.keep_trying(
                "release",
                lambda: self._store.docket.release(
                    claim.task_id, claim.attempt, reason=attempt.again, counts=False
                ),
            )
            return "again"
        await self._store.patience.keep_trying(
            "settle",
            lambda: self._store.docket.settle(
                claim.task_id,
                claim.attempt,
                completed=attempt.completed,
                summary=attempt.summary,
                reason=attempt.reason or ("" if attempt.completed else "no reason was given"),
                result=attempt.result,
                patch=attempt.patch,
                bundle=attempt.bundle,
            ),
        )
        return "completed" if attempt.completed else "failed"

    async def _hand_back(self, claim: Claim, reason: str, *, counts: bool) -> str:
        """Give the task back at once: the agent is gone, somebody else may start."""
        with anyio.move_on_after(self._rules.drain_seconds):
            try:
                await self._store.patience.keep_trying(
                    "release",
                    lambda: self._store.docket.release(
                        claim.task_id, claim.attempt, reason=reason, counts=counts
                    ),
                )
            except TownError:
                return "lost"
            return "handed back"
        return "lost"

    async def _listen(
        self, client: Any, claim: Claim, session: Session, scope: anyio.CancelScope
    ) -> None:
        """Hear the signals of this worker while its agent runs."""
        while True:
            found = await self._store.patience.keep_trying(
                "inbox",
                lambda: self._store.workers.wait(
                    client, {self._inbox: self._inbox_id}, block_ms=round(BLOCK_SECONDS * 1000)
                ),
            )
            if not found:
                # Signals may be lost with the store they were in; look once in a while.
                session.asking.look_again()
            for id_, signal in found.get(self._inbox, ()):
                self._inbox_id = id_
                match signal.get("kind"):
                    case "answer":
                        session.asking.answered(signal["question"])
                    case "message" if signal["task"] == claim.task_id:
                        session.asking.heard(message(signal["message"]))
                    case "cancel" if signal["task"] == claim.task_id:
                        if int(signal["attempt"]) == claim.attempt:
                            scope.cancel()
                    case "drain":
                        self._stop = self._stop or "drain"
                    case _:
                        continue  # for an earlier task, or from a newer townhall

    # Coming and going -------------------------------------------------------------------------

    async def _register(self) -> None:
        card = Card(
            host=socket.gethostname(),
            version=f"{__version__} (Python {platform.python_version()})",
            agent=self._session_rules.agent,
        )
        await self._store.workers.register(
            self.id,
            self._rules.pools,
            card,
            silence_ms=round(SILENCE_SECONDS * 1000),
            boot_ms=round(self._boot_seconds * 1000),
        )
        self._boot_seconds = 0.0

    async def _leave(self, reason: str, *, always: bool) -> bool:
        """Go home; False when work came in at that very moment."""
        with anyio.move_on_after(self._rules.drain_seconds if always else None):
            try:
                return await self._store.patience.keep_trying(
                    "leave",
                    lambda: self._store.workers.leave(self.id, always=always, reason=reason),
                )
            except IllegalMove:
                return True
        return True


def _root(error: BaseException) -> BaseException:
    """Dig out the first error of nested groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
