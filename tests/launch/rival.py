"""A townhall of paper that may be killed: reconciles, and writes every start into a journal.

python tests/launch/rival.py REDIS_URL JOURNAL START_MS
"""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from tinytown.egress import Egress
from tinytown.launch import Ended, StartFailed, silence
from tinytown.launch.reconciler import Reconciler
from tinytown.links import AnswerLinks
from tinytown.models.scaling import Signal, Start
from tinytown.store import Limits, open_store
from tinytown.town import Town, TownRules
from tinytown.vault import Vault


class Journal:
    """A launcher that starts nothing but a line."""

    name = "journal"
    outlived = True

    def __init__(self, path: Path) -> None:
        self._path = path

    async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:
        """Write a line for each, after a moment in which a kill may fall."""
        for start in starts:
            await anyio.sleep(random.random() * 0.02)
            with self._path.open("a") as file:
                file.write(f"{start.id} {start.pool}\n")
        return {}

    async def ended(self) -> Ended:
        """Never."""
        return await silence()


async def main(url: str, journal: str, start_ms: str) -> None:
    """Reconcile until killed."""

    async def fine(_: str) -> None:
        pass

    @asynccontextmanager
    async def opening() -> AsyncIterator[Journal]:
        yield Journal(Path(journal))

    limits = Limits(start_ms=int(start_ms), start_pauses_ms=(10,))
    async with open_store(url, town="main", name="tt:rival", limits=limits) as store:
        town = Town(
            store,
            rules=TownRules(max_workers=3),
            vault=Vault(None, "main"),
            links=AnswerLinks(town="main", keys=["0123456789abcdef"]),
            check_url=fine,
            redact_url=str,
            egress=Egress(),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(town.hub.run)
            group.start_soon(Reconciler(town, opening()).run)
            await town.hub.ready.wait()
            print("ready", flush=True)  # noqa: T201


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
