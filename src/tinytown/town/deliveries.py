"""Deliveries: what was sent to whom, what could not be, and another try for it."""

from __future__ import annotations

import re
from typing import Final

from tinytown import ids
from tinytown.errors import DeliveryNotFound, EndpointNotFound
from tinytown.models.delivery import Delivery
from tinytown.store import Store

_ID: Final = re.compile(r"dlv_\d{1,20}-\d{1,20}_[0-9a-z]{26}")


class DeliveryDesk:
    """What can be done with deliveries."""

    def __init__(self, store: Store) -> None:
        """Work on one town's deliveries."""
        self._store = store

    async def of_endpoint(
        self, endpoint_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Delivery], str | None]:
        """List an endpoint's latest deliveries, newest first; raises EndpointNotFound."""
        if not ids.is_id("endpoint", endpoint_id):
            raise EndpointNotFound("there is no endpoint with this id")
        await self._store.endpoints.read(endpoint_id)
        return await self._store.deliveries.of_endpoint(endpoint_id, cursor=cursor, limit=limit)

    async def dead(self, *, cursor: str | None, limit: int) -> tuple[list[Delivery], str | None]:
        """List the dead letters, newest first."""
        return await self._store.deliveries.dead(cursor=cursor, limit=limit)

    async def replay(self, delivery_id: str) -> Delivery:
        """Make a dead letter due again; raises DeliveryNotFound or IllegalMove."""
        if not _ID.fullmatch(delivery_id):
            raise DeliveryNotFound("there is no delivery with this id")
        return await self._store.deliveries.replay(delivery_id)
