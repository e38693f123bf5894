"""The store: the only room that speaks Redis. Opened and closed once; hands out its shelves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from tinytown.store.access import Access
from tinytown.store.audit import Audit
from tinytown.store.client import Connections, connect
from tinytown.store.clockwork import Clockwork
from tinytown.store.deliveries import Deliveries
from tinytown.store.docket import Docket
from tinytown.store.endpoints import Endpoints
from tinytown.store.events import Events
from tinytown.store.faults import Patience
from tinytown.store.keys import Keyring
from tinytown.store.missions import Missions
from tinytown.store.questions import Questions
from tinytown.store.scripts import Limits, Scripts, servers_own_clock
from tinytown.store.workers import Workers

if TYPE_CHECKING:
    from tinytown.store.hooks import Hooks
    from tinytown.store.sources import Sources

__all__ = ["Limits", "Store", "open_store"]


class Store:
    """One town's records in one Redis."""

    def __init__(
        self,
        connections: Connections,
        town: str,
        limits: Limits,
        *,
        clock: Callable[[], int] = servers_own_clock,
    ) -> None:
        """Lay out the shelves; nothing is sent yet."""
        self._connections = connections
        self.keys = Keyring(town)
        self.town = town
        self.limits = limits
        client = connections.commands
        scripts = Scripts(client, self.keys, limits, clock=clock)
        self.missions = Missions(client, self.keys, scripts)
        self.docket = Docket(client, scripts)
        self.questions = Questions(client, self.keys, scripts)
        self.workers = Workers(client, self.keys, scripts)
        self.events = Events(client, self.keys)
        self.endpoints = Endpoints(client, self.keys, scripts)
        self.deliveries = Deliveries(client, self.keys, scripts)
        self.access = Access(client, self.keys, scripts)
        self.audit = Audit(client, self.keys, scripts)
        self.clockwork = Clockwork(client, self.keys, scripts)
        self.scripts = scripts
        self._client = client

    # A worker has nothing to do with other services' webhooks, and does not load how they are read.
    @cached_property
    def sources(self) -> Sources:
        """Whose hooks the town takes."""
        from tinytown.store.sources import Sources

        return Sources(self._client, self.keys, self.scripts)

    @cached_property
    def hooks(self) -> Hooks:
        """What they sent, and what became of it."""
        from tinytown.store.hooks import Hooks

        return Hooks(self._client, self.keys, self.scripts)

    @property
    def patience(self) -> Patience:
        """How this process's loops live through an outage of Redis."""
        return self._connections.patience

    def blocking(self, purpose: str, *, block_seconds: float) -> AbstractAsyncContextManager[Redis]:
        """Lend a connection of its own for reads that block."""
        return self._connections.blocking(purpose, block_seconds=block_seconds)


@asynccontextmanager
async def open_store(
    url: str,
    *,
    town: str,
    name: str,
    max_connections: int = 8,
    limits: Limits | None = None,
    wait_seconds: float = 5.0,
) -> AsyncIterator[Store]:
    """Connect to a town's Redis; `CannotConnect` says in one line why it cannot be used."""
    async with connect(
        url,
        name=name,
        max_connections=max_connections,
        wait_seconds=wait_seconds,
        key=Keyring(town)("events"),
    ) as connections:
        yield Store(connections, town, limits or Limits())
