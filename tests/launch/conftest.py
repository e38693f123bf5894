"""Towns on the empty Redis, for whoever starts workers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from paper import MakeTown
from tinytown.egress import Egress
from tinytown.links import AnswerLinks
from tinytown.store import Limits, Store, open_store
from tinytown.town import Town, TownRules
from tinytown.vault import Vault
from towns import open_town


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with open_store(redis_url, town="main", name="tt:test") as opened:
        yield opened


@pytest.fixture
def town_of(store: Store) -> MakeTown:
    """Lend a way to make a town on the empty Redis: `town_of(max_workers=2)`, or `of=` a store."""

    async def fine(_: str) -> None:
        pass

    def make(*, of: Store = store, **rules: int) -> Town:
        return Town(
            of,
            rules=TownRules(**rules),
            vault=Vault(None, "main"),
            links=AnswerLinks(town="main", keys=["0123456789abcdef"]),
            check_url=fine,
            redact_url=str,
            egress=Egress(),
        )

    return make


@pytest.fixture
async def impatient(redis_url: str) -> AsyncIterator[Store]:
    """Lend a town that tries again soon, and whose circuit opens at the third failure."""
    async with open_town(redis_url, limits=Limits(start_pauses_ms=(50, 50, 30_000))) as opened:
        yield opened
