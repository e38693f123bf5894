"""The log hub: one blocking read for the logs of all missions that somebody watches right now.

A connection per watcher would be too many for a small managed Redis. When the set of watched
missions changes, the one read is given up and begun again with the new set; positions are stream
ids, so nothing is lost between two reads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

import anyio

from tinytown.models.event import MISSION_ENDS, Event
from tinytown.store import Store
from tinytown.store.events import LogLine
from tinytown.town.hub import BLOCK_SECONDS, FellBehind, Hub, order

BACKLOG: Final = 512
"""Lines a watcher may be behind before it is dropped; it comes back with the last id it saw."""
BATCH: Final = 200


class _Watcher:
    """One reader's queue of a mission's log, filled by the hub."""

    def __init__(self) -> None:
        self._queue: deque[LogLine] = deque()
        self._bell = anyio.Event()
        self._behind = False
        self._ended = False

    def offer(self, line: LogLine) -> None:
        """Queue a line; never waits."""
        if len(self._queue) >= BACKLOG:
            self._behind = True
            self._queue.clear()
        elif not self._behind:
            self._queue.append(line)
        self._bell.set()

    def end(self) -> None:
        """Say that the mission has ended: what is stored by now is all there will be."""
        self._ended = True
        self._bell.set()

    async def next(self) -> LogLine | None:
        """Wait for the next line; None at the end; raises FellBehind when some were dropped."""
        while not self._queue:
            if self._behind:
                raise FellBehind
            if self._ended:
                return None
            self._bell = anyio.Event()
            await self._bell.wait()
        return self._queue.popleft()


class LogHub:
    """Reads the logs of watched missions for everyone in this process."""

    name = "logs"

    def __init__(self, store: Store, hub: Hub) -> None:
        """Read one town's logs; the hub tells when a mission ends."""
        self._store = store
        self._hub = hub
        self._watchers: dict[str, set[_Watcher]] = {}
        self._positions: dict[str, str] = {}
        self._changed = anyio.Event()
        self._read: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Read until cancelled; nothing is sent while nobody watches."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._end_with_missions)
            while True:
                while not self._positions:
                    await self._changed.wait()
                    self._changed = anyio.Event()
                await self._read_while_watched()

    async def follow(
        self, mission_id: str, *, after: str | None, ended: Callable[[], Awaitable[bool]]
    ) -> AsyncGenerator[LogLine, None]:
        """Yield a mission's log after an id (None: from its start) until the mission has ended.

        `ended` asks the store whether it has. Raises FellBehind when the reader is too slow.
        """
        watcher = _Watcher()
        self._watchers.setdefault(mission_id, set()).add(watcher)
        try:
            position = after or "0-0"
            if await ended():
                watcher.end()
            async for line in self._stored(mission_id, position):
                position = line.id
                yield line
            if mission_id in self._positions:
                # Others watch it already. What the hub read before it knew of this watcher, but
                # after the pages above, is in nobody's hands: so once more to the end.
                async for line in self._stored(mission_id, position):
                    position = line.id
                    yield line
            else:
                self._positions[mission_id] = position
                self._begin_again()
            while (live := await watcher.next()) is not None:
                if order(live.id) > order(position):
                    position = live.id
                    yield live
            async for line in self._stored(mission_id, position):
                yield line
        finally:
            self._forget(mission_id, watcher)

    async def _stored(self, mission_id: str, position: str) -> AsyncGenerator[LogLine, None]:
        while True:
            batch = await self._store.events.log_of(mission_id, after=position, limit=BATCH)
            for line in batch:
                position = line.id
                yield line
            if len(batch) < BATCH:
                return

    def _forget(self, mission_id: str, watcher: _Watcher) -> None:
        left = self._watchers[mission_id]
        left.discard(watcher)
        if not left:
            del self._watchers[mission_id]
            self._positions.pop(mission_id, None)
            self._begin_again()

    def _begin_again(self) -> None:
        self._changed.set()
        if self._read is not None:
            self._read.cancel()

    async def _read_while_watched(self) -> None:
        patience = self._store.patience
        async with self._store.blocking("logs", block_seconds=BLOCK_SECONDS) as client:
            while self._positions:
                with anyio.CancelScope() as self._read:
                    lines = await patience.keep_trying(
                        "logs",
                        lambda: self._store.events.tail_logs(
                            client, dict(self._positions), block_ms=BLOCK_SECONDS * 1000
                        ),
                    )
                    for mission_id, line in lines:
                        if mission_id in self._positions:
                            self._positions[mission_id] = line.id
                        for watcher in tuple(self._watchers.get(mission_id, ())):
                            watcher.offer(line)

    async def _end_with_missions(self) -> None:
        def ends(event: Event) -> bool:
            return event.type in MISSION_ENDS and event.mission_id in self._watchers

        while True:
            with self._hub.listen(ends) as listener:
                try:
                    while True:
                        event = await listener.next()
                        for watcher in tuple(self._watchers.get(event.mission_id or "", ())):
                            watcher.end()
                except FellBehind:
                    for watchers in self._watchers.values():
                        for watcher in watchers:
                            watcher.end()
