"""A door on a real socket for every test of this room, and the town behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from halls import Hall, open_hall
from tinytown.store import Store
from towns import open_town


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """Lend the store of an empty town."""
    async with open_town(redis_url) as store:
        yield store


@pytest.fixture
async def hall(store: Store) -> AsyncIterator[Hall]:
    """Lend an open door."""
    async with open_hall(store) as hall:
        yield hall


@pytest.fixture
async def http(hall: Hall) -> AsyncIterator[httpx.AsyncClient]:
    """Lend a client with the operator's key."""
    async with hall.client() as client:
        yield client
