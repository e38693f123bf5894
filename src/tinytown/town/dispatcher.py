"""The dispatcher: sleeps until something is due by time, then handles it.

Nothing waits for it but the clock: work moves in the scripts that finish other work. It learns
from events when the next thing is due, so an idle town is ticked once in `IDLE_SECONDS`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import anyio

from tinytown.models.event import Event
from tinytown.store import Store
from tinytown.town.hub import FellBehind, Hub

_log = logging.getLogger(__name__)

IDLE_SECONDS: Final = 45.0
"""The safety net's mesh: about one command a minute on a Redis that is paid by the command."""
SLACK_SECONDS: Final = 0.01
"""A deadline is looked at just after it, never just before."""


class Dispatcher:
    """One process's clock; any number may run."""

    name = "dispatcher"

    def __init__(
        self, store: Store, hub: Hub, *, handled: Callable[[], None] = lambda: None
    ) -> None:
        """Tick one town; call `handled` whenever a tick found something due."""
        self._store = store
        self._hub = hub
        self._handled = handled
        self._last_tick = 0.0
        self._wake_at = 0.0
        self._bell = anyio.Event()

    @property
    def last_tick_age_seconds(self) -> float | None:
        """Seconds since the last good tick; None before the first."""
        return None if not self._last_tick else time.monotonic() - self._last_tick

    @property
    def healthy(self) -> bool:
        """Whether ticks come as they should."""
        age = self.last_tick_age_seconds
        return age is not None and age < 2 * IDLE_SECONDS

    def ring(self) -> None:
        """Say that something became due that no event tells of (a replay)."""
        self._wake_at = 0.0
        self._bell.set()

    async def run(self) -> None:
        """Tick until cancelled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen)
            while True:
                # What is heard while the tick is on its way counts: it may have just missed it.
                self._wake_at = math.inf
                tick = await self._store.patience.keep_trying(
                    "dispatcher", self._store.clockwork.tick
                )
                self._last_tick = time.monotonic()
                wait = IDLE_SECONDS if tick.wait_ms is None else tick.wait_ms / 1000
                due_at = self._last_tick + min(wait + SLACK_SECONDS, IDLE_SECONDS)
                self._wake_at = min(self._wake_at, due_at)
                if tick.handled:
                    _log.info("tick", extra={"facts": {"handled": tick.handled}})
                    self._handled()
                await self._sleep()

    async def _sleep(self) -> None:
        while (left := self._wake_at - time.monotonic()) > 0:
            self._bell = anyio.Event()
            with anyio.move_on_after(left):
                await self._bell.wait()

    async def _listen(self) -> None:
        """Hear of new deadlines from the events that set them."""
        while True:
            with self._hub.listen(lambda event: self._due_in(event) is not None) as listener:
                try:
                    while True:
                        event = await listener.next()
                        seconds = self._due_in(event) or 0.0
                        soon = time.monotonic() + max(0.0, seconds) + SLACK_SECONDS
                        if soon < self._wake_at:
                            self._wake_at = soon
                            self._bell.set()
                except FellBehind:
                    self.ring()

    @staticmethod
    def _due_in(event: Event) -> float | None:
        """Say in how many seconds the deadline that an event sets is due; None if it sets none."""
        facts = event.data
        if (seconds := facts.get("lease_seconds") or facts.get("silence_seconds")) is not None:
            return float(seconds)
        due_at = facts.get("expires_at") or facts.get("not_before")
        if due_at is None:
            return None
        # Both times are the Redis server's: this machine's clock does not matter.
        return (
            datetime.fromisoformat(due_at) - datetime.fromisoformat(event.timestamp)
        ).total_seconds()
