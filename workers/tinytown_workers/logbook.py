"""The logbook: what an agent says and does, written to its mission's log in small batches.

Bounded in every direction: a line, the lines waiting for Redis, and the lines of one attempt.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
import msgspec

from tinytown.errors import StoreUnavailable
from tinytown.store import Store
from tinytown_workers.agents import AgentEvent, Notice

LINE_BYTES: Final = 8_192
"""A line longer than this is cut: a phone shows less."""
BATCH: Final = 64
BATCH_SECONDS: Final = 0.1
"""A batch waits this long for company: ten commands a second at most, and still live to the eye."""
WAITING: Final = 1_000
"""Lines kept while Redis is away; older ones go first."""
LINES: Final = 20_000
"""Lines of one attempt; the store keeps fewer still."""


class Logbook:
    """Writes one attempt's log."""

    def __init__(self, store: Store, task_id: str, attempt: int) -> None:
        """Begin an empty log for an attempt."""
        self._store = store
        self._task_id = task_id
        self._attempt = attempt
        self._waiting: deque[bytes] = deque()
        self._first = 0
        self._seen = 0
        self._bell = anyio.Event()

    def write(self, event: AgentEvent) -> None:
        """Queue an event; never waits."""
        self._seen += 1
        if self._seen > LINES:
            return
        if self._seen == LINES:
            event = Notice(text=f"the log ends here: more than {LINES} lines")
        self._waiting.append(_line(event))
        if len(self._waiting) > WAITING:
            self._waiting.popleft()
            self._first += 1
        self._bell.set()

    async def run(self) -> None:
        """Write batches until cancelled; raises LeaseLost when the task is not ours any more."""
        while True:
            await self._bell.wait()
            self._bell = anyio.Event()
            await anyio.sleep(BATCH_SECONDS)
            await self._store.patience.keep_trying("logbook", self.flush)

    async def flush(self) -> None:
        """Write all that waits."""
        while self._waiting:
            first = self._first
            batch = [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]
            await self._store.docket.append_log(
                self._task_id, self._attempt, first=first, lines=batch
            )
            # `write` may have dropped lines from the front meanwhile.
            written = first + len(batch) - self._first
            for _ in range(max(0, written)):
                self._waiting.popleft()
            self._first = max(self._first, first + len(batch))

    async def close(self) -> None:
        """Write what is left before the task is settled; an outage costs only log lines."""
        with anyio.move_on_after(2):
            try:
                await self.flush()
            except StoreUnavailable:
                return


def _line(event: AgentEvent) -> bytes:
    line = msgspec.json.encode(event)
    if len(line) <= LINE_BYTES:
        return line
    # Cut the longest text so that the line stays valid JSON.
    texts = {
        name: text
        for name in event.__struct_fields__
        if isinstance(text := getattr(event, name), str)
    }
    longest = max(texts, key=lambda name: len(texts[name].encode()))
    room = LINE_BYTES - (len(line) - len(msgspec.json.encode(texts[longest]))) - 16
    cut = texts[longest].encode()[: max(0, room // 2)].decode("utf-8", "ignore")
    return msgspec.json.encode(msgspec.structs.replace(event, **{longest: f"{cut} …"}))
