"""Queues of hooks for tests, filled as the door fills them, and routers that empty them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import msgspec

from tinytown import ids
from tinytown.models.hook import HookState, StoredHook
from tinytown.models.source import GithubRules, Rule, SchemeName, SourceRecord
from tinytown.store import Store
from tinytown.town import Town
from tinytown.town.routing import HookRouter

START: Final = Rule(
    action="start_mission",
    fields={"goal": "Do {{ payload.job }}", "thread": "{{ payload.thread | }}"},
)


class Inbox:
    """A source, and a way to put hooks into its queue."""

    def __init__(self, store: Store, source: SourceRecord) -> None:
        self.store = store
        self.source = source

    async def put(self, payload: Any, *, kind: str = "job") -> str:
        """Store a hook as the door does; gives its id."""
        version, _ = await self.store.sources.all()
        taken = await self.store.hooks.take(
            ids.new("hook"),
            source_id=self.source.id,
            version=version,
            delivery=ids.new("request"),
            keep_seconds=60,
            kind=kind,
            headers=b"{}",
            payload=msgspec.json.encode(payload),
            sent_ms=0,
        )
        assert taken is not None
        return taken[0]

    async def read(self, hook: str) -> StoredHook:
        """Read what became of a hook."""
        return (await self.store.hooks.read(hook)).hook

    async def settled(self, hook: str) -> bool:
        """Tell whether a hook has left the queue."""
        return (await self.read(hook)).state is not HookState.STORED


async def inbox(
    store: Store, *rules: Rule, scheme: SchemeName = "hmac", github: GithubRules | None = None
) -> Inbox:
    """Add a source."""
    source = SourceRecord(
        id=ids.new("source"), scheme=scheme, name="shop", created_at="", updated_at="",
        rules=rules, github=github,
    )  # fmt: skip
    await store.sources.put(source)
    return Inbox(store, source)


@asynccontextmanager
async def routing(
    town: Town, *, routers: int = 1, orphan_seconds: float = 0.2, look_seconds: float = 60
) -> AsyncIterator[None]:
    """Route the hooks of a town for as long as the block lasts."""
    async with anyio.create_task_group() as group:
        for _ in range(routers):
            router = HookRouter(
                town.store,
                town.acts,
                town.vault,
                orphan_seconds=orphan_seconds,
                look_seconds=look_seconds,
            )
            group.start_soon(router.run)
        yield
        group.cancel_scope.cancel()
