"""The docket's shelf: what a worker does with tasks, always under its lease."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tinytown.errors import TaskNotFound, TooLarge, WorkerNotFound
from tinytown.models.mission import MissionState, Result
from tinytown.models.task import Claim
from tinytown.store import records
from tinytown.store.replies import DONE, MISSING, REFUSED, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

PATCH_BYTES: Final = 2 * 1024 * 1024
"""The largest patch kept in Redis; the branch holds what is larger."""
_CLAIMED, _DUE = 1, 4
RECLAIM: Final = 8
"""Expired things one claim looks after before it reads, so that nothing waits for a tick."""


class Nothing(msgspec.Struct, frozen=True):
    """Nothing waits: block on these streams after these ids, at most until the next due time."""

    streams: dict[str, str]
    next_due_ms: int


class Refused(msgspec.Struct, frozen=True):
    """This worker may not claim: it drains, was given up (`lost`) or is unknown (``)."""

    state: str


class Docket:
    """Claims, renews, settles and hands back tasks."""

    def __init__(self, client: Client, scripts: Scripts) -> None:
        """Work on one town's docket."""
        self._client = client
        self._scripts = scripts

    async def claim(
        self, worker_id: str, pools: Sequence[str], *, lease_ms: int, silence_ms: int
    ) -> Claim | Nothing | Refused:
        """Take the most urgent waiting task of these pools, or learn what to wait for."""
        for ticked in (0, 1):
            reply = await self._scripts.run(
                "claim_task",
                worker=worker_id,
                lease_ms=lease_ms,
                silence_ms=silence_ms,
                ticked=ticked,
                pools=pools,
            )
            if reply[0] != _DUE:
                break
            await self._scripts.run("tick", limit=RECLAIM)
        if reply[0] == _CLAIMED:
            return records.claim(reply[1:])
        if reply[0] == REFUSED:
            return Refused(reply[1])
        if reply[0] == MISSING:
            return Refused("")
        return Nothing(streams=records.pairs(reply[2]), next_due_ms=int(reply[1]))

    async def renew(
        self, worker_id: str, *, silence_ms: int, lease_ms: int, task_id: str, attempt: int
    ) -> str:
        """Show that the worker lives and keep its lease; says the worker's state.

        Raises LeaseLost when the task is not its own any more, WorkerNotFound when the town
        forgot or gave up the worker (it should register again).
        """
        reply = await self._scripts.run(
            "renew_lease",
            worker=worker_id,
            silence_ms=silence_ms,
            lease_ms=lease_ms,
            task=task_id,
            attempt=attempt,
        )
        if reply[0] == REFUSED:
            raise WorkerNotFound(f"the town gave this worker up as {reply[1]}")
        if reply[0] != DONE:
            refuse(reply, WorkerNotFound, "worker", "renew")
        return str(reply[1])

    async def settle(
        self,
        task_id: str,
        attempt: int,
        *,
        completed: bool,
        summary: str,
        reason: str,
        result: Result,
        patch: bytes,
        bundle: bytes = b"",
    ) -> MissionState:
        """End a task; safe to repeat. Raises LeaseLost, TaskNotFound, TooLarge."""
        if len(patch) > PATCH_BYTES:
            raise TooLarge(f"a patch of {len(patch)} bytes is larger than {PATCH_BYTES}")
        kept = msgspec.structs.replace(result, patch=None)
        reply = await self._scripts.run(
            "settle_task",
            task=task_id,
            attempt=attempt,
            outcome="completed" if completed else "failed",
            summary=summary,
            reason=reason,
            result=msgspec.json.encode(kept),
            patch=patch,
            bundle=bundle,
            input_tokens=result.input_tokens,
            output_tokens=result.output_tokens,
            cost_micros=round((result.cost_usd or 0) * 1_000_000),
        )
        self._mine(reply)
        return MissionState(reply[1])

    async def release(self, task_id: str, attempt: int, *, reason: str, counts: bool) -> None:
        """Hand a task back at once; `counts` makes it a loss towards the dead letter."""
        self._mine(
            await self._scripts.run(
                "release_task", task=task_id, attempt=attempt, reason=reason, counts=int(counts)
            )
        )

    async def save_checkpoint(self, task_id: str, attempt: int, checkpoint: bytes) -> None:
        """Leave what another worker needs to go on; the latest one counts."""
        self._mine(
            await self._scripts.run(
                "save_checkpoint", task=task_id, attempt=attempt, checkpoint=checkpoint
            )
        )

    async def park(self, task_id: str, attempt: int) -> bool:
        """Give a blocked task's worker back; False when somebody has just answered."""
        reply = await self._scripts.run("park_task", task=task_id, attempt=attempt)
        if reply[0] == REFUSED:
            return False
        self._mine(reply)
        return True

    async def append_log(
        self, task_id: str, attempt: int, *, first: int, lines: Sequence[bytes]
    ) -> int:
        """Add lines to the mission's log, once each; says the number of the next line."""
        reply = await self._scripts.run(
            "append_log", task=task_id, attempt=attempt, first=first, lines=lines
        )
        self._mine(reply)
        return int(reply[1])

    async def progress(self, task_id: str, attempt: int, facts: Mapping[str, Any]) -> None:
        """Tell how far a task is."""
        self._mine(
            await self._scripts.run(
                "report_progress",
                task=task_id,
                attempt=attempt,
                data=msgspec.json.encode(dict(facts)),
            )
        )

    def _mine(self, reply: Any) -> None:
        if reply[0] != DONE:
            refuse(reply, TaskNotFound, "task", "write")
