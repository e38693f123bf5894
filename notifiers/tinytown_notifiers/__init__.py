"""The notifier: watch the event stream and push what matters to phones and programs."""

from __future__ import annotations

from typing import Final

import anyio

from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_notifiers.deliver import Deliverer, Rules
from tinytown_notifiers.sinks import Outcome, Sink
from tinytown_notifiers.watch import BLOCK_SECONDS, Watch
from tinytown_notifiers.wording import Writer

__all__ = ["Notifier", "Rules"]

SILENT_SECONDS: Final = BLOCK_SECONDS + 10.0
"""A watch that has not come back from a blocking read by then has lost its Redis or its mind."""


class Notifier:
    """Plans and delivers for one town; any number of these may run at once."""

    name = "notifier"

    def __init__(
        self,
        store: Store,
        *,
        vault: Vault,
        writer: Writer,
        sink: Sink,
        rules: Rules | None = None,
    ) -> None:
        """Watch and deliver from one store through one sink."""
        rules = rules or Rules()
        self._deliverer = Deliverer(store, vault=vault, writer=writer, sink=sink, rules=rules)
        self._watch = Watch(
            store, planned=self._deliverer.ring, orphan_seconds=rules.orphan_seconds
        )
        self._running = False

    async def run(self) -> None:
        """Work until cancelled; attempts on their way are then given a few seconds to end."""
        self._running = True
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._watch.run)
                group.start_soon(self._deliverer.run)
        finally:
            self._running = False

    @property
    def ok(self) -> bool:
        """Whether it runs and hears from Redis."""
        return self._running and self._watch.silent_seconds < SILENT_SECONDS

    @property
    def lag_seconds(self) -> float:
        """How far it is behind the event stream."""
        return round(self._watch.lag_seconds, 3)

    def ring(self) -> None:
        """Say that something became due by other ways than an event (a replay)."""
        self._deliverer.ring()

    async def send_test(self, endpoint_id: str) -> Outcome:
        """Send the test message to one endpoint now; raises EndpointNotFound."""
        return await self._deliverer.send_to(endpoint_id)
