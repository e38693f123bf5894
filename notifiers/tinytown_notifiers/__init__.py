"""The notifier: watch the event stream and tell phones and programs what they asked for."""

from __future__ import annotations

from typing import Final

import anyio

from tinytown.models.delivery import Trial
from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_notifiers.carrying import Carrier
from tinytown_notifiers.deliver import Deliverer, Rules
from tinytown_notifiers.posting import Poster
from tinytown_notifiers.pushing import Pusher
from tinytown_notifiers.sinks import Sink
from tinytown_notifiers.sinks.webhook import WebhookSender
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
        sender: WebhookSender | None = None,
        rules: Rules | None = None,
    ) -> None:
        """Watch and deliver from one store: pushes through `sink`, webhooks through `sender`."""
        rules = rules or Rules()
        carriers: dict[str, Carrier] = {
            "push": Pusher(
                store,
                vault=vault,
                writer=writer,
                sink=sink,
                schedule=rules.schedule,
                late_seconds=rules.lease_seconds / 2,
            )
        }
        if sender is not None:
            carriers["webhook"] = Poster(
                store.town, vault=vault, sender=sender, writer=writer, waits=rules.waits
            )
        self._deliverer = Deliverer(store, carriers=carriers, rules=rules)
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

    async def send_test(self, endpoint_id: str) -> Trial:
        """Send the test message to one endpoint now; raises EndpointNotFound."""
        return await self._deliverer.send_to(endpoint_id)
