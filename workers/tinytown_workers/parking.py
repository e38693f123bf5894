"""Parking: an attempt is saved so that another worker goes on with it, and restored there.

A worker parks when nobody answers for the hold time, and saves when it is told to stop.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tinytown.errors import LeaseLost, QuestionNotFound, StoreUnavailable
from tinytown.models.question import QuestionState
from tinytown.models.task import Claim
from tinytown.store import Store
from tinytown.store.questions import Outcome
from tinytown.vault import Vault
from tinytown_workers import checkpoint, prompts
from tinytown_workers.agents import Usage
from tinytown_workers.asking import Asking
from tinytown_workers.checkpoint import Checkpoint, Unreadable
from tinytown_workers.git import GitError
from tinytown_workers.lease import Lease
from tinytown_workers.workspace import Workspace

_log = logging.getLogger(__name__)


class Parking:
    """Saves and restores one claim's attempt."""

    def __init__(self, store: Store, claim: Claim, lease: Lease, vault: Vault) -> None:
        """Work for one claim; `vault` seals what is saved."""
        self._store = store
        self._claim = claim
        self._lease = lease
        self._vault = vault

    async def restore(self) -> Checkpoint | None:
        """Read what an earlier attempt left; None when there is nothing to go on with."""
        if not self._claim.checkpoint:
            return None
        packed = await self._store.patience.keep_trying(
            "checkpoint", lambda: self._store.missions.checkpoint(self._claim.task_id)
        )
        if packed is None:
            return None
        try:
            return checkpoint.unpack(packed, self._vault)
        except Unreadable as damage:
            await self.tell(f"the checkpoint cannot be restored, starting over: {damage}")
            return None

    async def answers(self, saved: Checkpoint, asking: Asking) -> list[str]:
        """Write the answers to what the earlier attempt asked; asks again what is still open."""
        written = []
        for asked in saved.asked:
            try:
                question = await self._store.patience.keep_trying(
                    "question", partial(self._store.questions.read, asked.question_id)
                )
            except QuestionNotFound:
                continue
            if question.state is QuestionState.OPEN:
                await asking.ask_again(asked.ask)
            elif question.outcome is not None:
                outcome = Outcome(
                    kind=question.outcome,
                    answer=question.answer or "",
                    by=question.answered_by or "",
                    via=question.answered_via or "",
                )
                written.append(prompts.late_answer(asked.ask, outcome))
        return written

    async def save(
        self,
        *,
        agent: str,
        home: Path,
        session_id: str | None,
        files: Sequence[Path],
        workspace: Workspace,
        asking: Asking,
        usage: Usage,
        spent: Usage,
    ) -> bool:
        """Save the attempt under its lease; False (and said so) when it is too large to be kept."""
        try:
            work = await workspace.pack(
                f"Work in progress\n\nMission: {self._claim.mission_id}",
                checkpoint.CHECKPOINT_BYTES,
            )
        except GitError as error:
            await self.tell(f"this session cannot be parked: {error}")
            return False
        packed = None
        if work is not None:
            kept = checkpoint.read_files(home, files)
            saved = Checkpoint(
                agent=agent,
                # Stopped before the CLI wrote anything down, there is no session to go on with.
                session_id=session_id if kept else None,
                files=kept,
                bundle=work[1],
                base=work[0],
                asked=asking.left_open,
                usage=usage,
                spent=spent,
                told=asking.told,
            )
            packed = checkpoint.pack(saved, self._vault)
        if packed is None:
            limit = checkpoint.CHECKPOINT_BYTES // (1024 * 1024)
            await self.tell(f"this session is larger than {limit} MiB and stays on its worker")
            return False
        claim = self._claim
        await self._store.patience.keep_trying(
            "save",
            lambda: self._store.docket.save_checkpoint(claim.task_id, claim.attempt, packed),
        )
        return True

    async def park(self) -> bool:
        """Give the lease back while the question is open; False when it has just been answered."""
        self._lease.let_go()
        parked = await self._store.patience.keep_trying(
            "park",
            lambda: self._store.docket.park(self._claim.task_id, self._claim.attempt),
        )
        if not parked:
            self._lease.keep_on()
        return parked

    async def tell(self, text: str) -> None:
        """Say something about the attempt where people read it; not worth waiting for."""
        _log.info("parking", extra={"facts": {"task": self._claim.task_id, "text": text}})
        try:
            await self._store.docket.progress(
                self._claim.task_id,
                self._claim.attempt,
                {"name": self._claim.name, "text": text},
            )
        except (StoreUnavailable, LeaseLost):
            return
