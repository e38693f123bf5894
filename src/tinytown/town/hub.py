"""The hub: one reader of the event stream per process, any number of listeners.

A listener that falls behind is dropped: it comes back with the last id it saw and the stream
itself is its buffer, so nothing is lost and nobody else waits.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from tinytown.models.event import MISSION_ENDS, Event
from tinytown.store import Store

_log = logging.getLogger(__name__)

BLOCK_SECONDS: Final = 30
"""How long one read blocks: proxies drop sockets that are silent much longer."""
BACKLOG: Final = 512
"""Events a listener may be behind before it is dropped; at 1 KB each a phone costs 0.5 MB."""
BATCH: Final = 200


class FellBehind(Exception):
    """This listener was too slow; it should come back with the last id it has seen."""


class Listener:
    """One reader's queue, filled by the hub."""

    def __init__(self, wants: Callable[[Event], bool]) -> None:
        """Take the events the predicate accepts."""
        self._wants = wants
        self._queue: deque[Event] = deque()
        self._bell = anyio.Event()
        self._behind = False

    def offer(self, event: Event) -> None:
        """Queue an event; never waits."""
        if self._behind or not self._wants(event):
            return
        if len(self._queue) >= BACKLOG:
            self._behind = True
            self._queue.clear()
        else:
            self._queue.append(event)
        self._bell.set()

    async def next(self) -> Event:
        """Wait for the next event; raises FellBehind when some were dropped."""
        while not self._queue:
            if self._behind:
                raise FellBehind
            self._bell = anyio.Event()
            await self._bell.wait()
        return self._queue.popleft()


class Hub:
    """Reads the town's stream once and tells everyone in this process."""

    name = "hub"

    def __init__(self, store: Store) -> None:
        """Listen to one town."""
        self._store = store
        self._listeners: set[Listener] = set()
        self._position = ""
        self.ready = anyio.Event()
        """Set once it hears: what happens from then on reaches every listener."""
        self._reading = anyio.Event()

    async def run(self) -> None:
        """Read until cancelled; an outage of Redis delays events but loses none."""
        patience = self._store.patience
        self._position = await patience.keep_trying("hub", self._store.events.last_id)
        self.ready.set()
        self._reading.set()
        while True:
            async with self._store.blocking("hub", block_seconds=BLOCK_SECONDS) as client:
                while True:
                    events = await patience.keep_trying(
                        "hub",
                        lambda client=client: self._store.events.tail(  # type: ignore[misc]
                            client, self._position, block_ms=BLOCK_SECONDS * 1000
                        ),
                    )
                    for event in events:
                        self._position = event.stream_id
                        for listener in tuple(self._listeners):
                            listener.offer(event)

    @contextmanager
    def listen(self, wants: Callable[[Event], bool]) -> Iterator[Listener]:
        """Register a listener for as long as the block lasts."""
        listener = Listener(wants)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def follow(
        self, wants: Callable[[Event], bool], *, after: str | None
    ) -> AsyncGenerator[Event, None]:
        """Yield events after an id (None: from now on), then live ones; no gap and no repeat.

        Raises FellBehind when the reader is too slow.
        """
        with self.listen(wants) as listener:
            # Before it knows where the stream ends, events would fall between history and hub.
            await self._reading.wait()
            seen = order(after) if after is not None else (0, 0)
            if after is not None:
                position = after
                while True:
                    batch = await self._store.events.after(position, limit=BATCH)
                    for event in batch:
                        position = event.stream_id
                        seen = order(position)
                        if wants(event):
                            yield event
                    if len(batch) < BATCH:
                        break
            while True:
                event = await listener.next()
                if order(event.stream_id) > seen:
                    seen = order(event.stream_id)
                    yield event

    async def follow_mission(
        self, mission_id: str, *, after: str | None, ended: bool
    ) -> AsyncGenerator[Event, None]:
        """Yield a mission's history after an id (None: all of it), then live, until its end.

        `ended` says that the mission is over already. Raises FellBehind.
        """
        with self.listen(lambda event: event.mission_id == mission_id) as listener:
            position, last = after or "0-0", ""
            while True:
                batch = await self._store.events.of_mission(mission_id, after=position, limit=BATCH)
                for event in batch:
                    position, last = event.stream_id, event.type
                    yield event
                if len(batch) < BATCH:
                    break
            if ended or last in MISSION_ENDS:
                return
            while True:
                event = await listener.next()
                if order(event.stream_id) > order(position):
                    position = event.stream_id
                    yield event
                    if event.type in MISSION_ENDS:
                        return


def order(stream_id: str) -> tuple[int, int]:
    """Make a stream id comparable."""
    ms, _, number = stream_id.partition("-")
    return int(ms), int(number or 0)
