"""What becomes of an attempt: the Carrier protocol, and the endpoints a carrier is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

import anyio
import msgspec

from tinytown.errors import NotFound
from tinytown.models.delivery import DueDelivery, Trial
from tinytown.models.endpoint import EndpointRecord
from tinytown.store import Store

T = TypeVar("T")
Said: TypeAlias = Literal["delivered", "retry", "dead", "obsolete"]
Effect: TypeAlias = Literal["", "throttle", "disable", "spare"]

LEFT: Final = "the endpoint was removed"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt means: for the delivery, and for the endpoint as a whole."""

    said: Said
    reason: str = ""
    delay_seconds: float = 0.0
    """How long the delivery waits for its next attempt."""
    status: int | None = None
    code: str | None = None
    error: str | None = None
    """What this attempt failed of; `reason` is what the delivery as a whole did."""
    effect: Effect = ""
    hold_seconds: float = 0.0
    """How long the endpoint asked not to be sent anything."""


class Carrier(Protocol):
    """Carries deliveries of one kind to their endpoints."""

    async def carry(self, delivery: DueDelivery, record: EndpointRecord) -> Verdict | None:
        """Make one attempt; None when it came too late to be made.

        Never raises for the other side's sake.
        """
        ...

    async def test(self, record: EndpointRecord) -> Trial:
        """Send a test message to an endpoint now."""
        ...


class Directory:
    """The endpoints as they are now: read again whenever their version has changed."""

    def __init__(self, store: Store) -> None:
        """Keep one town's endpoints."""
        self._store = store
        self._version = self._asked = -1
        self._records: dict[str, EndpointRecord] = {}
        self._reading = anyio.Lock()

    async def find(self, endpoint_id: str, version: int) -> EndpointRecord | None:
        """Find an endpoint, or the callback of a mission; None when it was removed.

        `version` is the least that will do. Waits as long as Redis is away.
        """
        async with self._reading:
            # Versions only grow, unless all of Redis was lost (FLUSHALL).
            if version > self._version or version < self._asked:
                told, records = await self._store.patience.keep_trying(
                    "deliver", self._store.endpoints.all
                )
                self._version = int(told)
                self._records = {record.id: record for record in records}
            self._asked = version
        if (record := self._records.get(endpoint_id)) is not None:
            return record
        return await found(self._store, lambda: self._store.endpoints.read(endpoint_id))


async def found(store: Store, read: Callable[[], Awaitable[T]]) -> T | None:
    """Read a record, however long Redis is away; None when there is none."""
    try:
        return await store.patience.keep_trying("deliver", read)
    except NotFound:
        return None
