"""A town of its own for every test of the store, with a clock that the test turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from redis import Redis

from books import Books
from tinytown.store import Store
from towns import TurnedClock, open_town


@pytest.fixture
def clock() -> TurnedClock:
    """Lend the clock that the scripts of `store` look at."""
    return TurnedClock()


@pytest.fixture
async def store(redis_url: str, clock: TurnedClock) -> AsyncIterator[Store]:
    """Lend the store of an empty town; afterwards its books must add up."""
    async with open_town(redis_url, clock=clock) as store:
        yield store
    with Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
        wrong = Books(client, now_ms=clock.ms).check()
    assert not wrong, "\n".join(wrong)


@pytest.fixture
def books(redis_url: str) -> Iterator[Redis]:
    """Lend a plain client that looks behind the counter between two awaits."""
    with Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
        yield client
