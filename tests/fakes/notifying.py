"""A notifier as tests build it: quick to try again, quick to stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from tinytown.links import AnswerLinks
from tinytown.models.delivery import Delivery
from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_notifiers import Notifier, Rules
from tinytown_notifiers.schedule import Schedule
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.wording import Writer

LINKS = AnswerLinks(town="main", keys=["a secret long enough to sign with"])
WRITER = Writer(public_url="https://town.example", links=LINKS)
QUICK = Rules(
    schedule=Schedule(first_seconds=0.05, cap_seconds=0.2, attempts=4),
    lease_seconds=6,
    grace_seconds=0.3,
    orphan_seconds=0.3,
)


def notifier_of(store: Store, sink: PushSink, rules: Rules = QUICK, **fields: object) -> Notifier:
    parts = {"vault": Vault(None, "main"), "writer": WRITER, **fields}
    return Notifier(store, sink=sink, rules=rules, **parts)  # type: ignore[arg-type]


@asynccontextmanager
async def running(*notifiers: Notifier) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        for notifier in notifiers:
            group.start_soon(notifier.run)
        yield
        group.cancel_scope.cancel()


async def deliveries(store: Store, endpoint: str) -> list[Delivery]:
    return (await store.deliveries.of_endpoint(endpoint, cursor=None, limit=50))[0]


async def only(store: Store, endpoint: str) -> Delivery:
    (delivery,) = await deliveries(store, endpoint)
    return delivery
