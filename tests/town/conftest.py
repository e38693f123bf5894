"""A store, and what turns it into a living town: the hub and the dispatcher."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from tinytown.store import Store
from tinytown.town.hub import Hub
from towns import open_town


@pytest.fixture
async def town_store(redis_url: str) -> AsyncIterator[Store]:
    """Lend the store of an empty town on the server's own clock."""
    async with open_town(redis_url) as store:
        yield store


@pytest.fixture
async def hub(town_store: Store) -> AsyncIterator[Hub]:
    """Lend a hub that reads."""
    hub = Hub(town_store)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        yield hub
        group.cancel_scope.cancel()
