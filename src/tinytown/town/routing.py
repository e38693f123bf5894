"""Hooks to deeds: read the queue by consumer group, decide, do it, and write down the outcome.

A hook leaves the queue with the script that writes down its outcome, so a router that dies in
between leaves it pending and the next look finds it; everything a hook does carries its id, so
doing it twice does it once. That also lets all routers of a town share one consumer name.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from tinytown.errors import StoreUnavailable, TownError
from tinytown.models.hook import HookMove, HookOutcome
from tinytown.store import Store
from tinytown.store.hooks import Entry, Settled, Waiting
from tinytown.town.acts import Acts, Done
from tinytown.town.deciding import decide, facts_of
from tinytown.town.rules import Unfit
from tinytown.town.sealing import opened
from tinytown.vault import Vault

_log = logging.getLogger(__name__)

CONSUMER: Final = "router"
BLOCK_SECONDS: Final = 30
"""How long one read blocks: proxies drop sockets that are silent much longer."""
ORPHAN_SECONDS: Final = 5.0
"""Routing takes milliseconds; a hook that was read and not settled by then is an orphan. Also how
long one that failed waits for its next try."""
LOOK_SECONDS: Final = 60.0
"""A townhall that comes back looks at once, and one that has hooks to route as soon as orphans can
be ripe; this is for the rest of an idle town, which pays for each look with one command."""
BATCH: Final = 100
LINE_SECONDS: Final = 1.0
"""At most one line about failures in so many seconds: a fault may meet every hook there is."""
TOGETHER: Final = 16
"""Hooks that are opened and settled together: two scripts for so many, and still at once."""
TRIES: Final = 5
"""A hook that fails so often, or ends its townhall so often, is poison: it is put aside."""


class HookRouter:
    """Routes the hooks of one town; any number of these may run at once."""

    name = "hooks"

    def __init__(
        self,
        store: Store,
        acts: Acts,
        vault: Vault,
        *,
        orphan_seconds: float = ORPHAN_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        """Route from one store; the seconds are for tests that cannot wait."""
        self._store = store
        self._acts = acts
        self._vault = vault
        self._orphan_seconds = orphan_seconds
        self._look_seconds = look_seconds
        self._look_at = [0.0]
        self._said_at = float("-inf")
        self._unsaid = 0

    async def run(self) -> None:
        """Route until cancelled; an outage of Redis delays hooks but loses none."""
        patience = self._store.patience
        await patience.keep_trying("hooks", self._store.hooks.ensure_group)
        # Look for orphans at once, and again when those that died with our predecessor are ripe.
        self._look_at = [0.0, self._ripe_at()]
        async with self._store.blocking("hooks", block_seconds=BLOCK_SECONDS) as client:
            while True:
                if time.monotonic() >= self._look_at[0]:
                    await self._look()
                wait = max(0.05, self._look_at[0] - time.monotonic())
                read = partial(
                    self._store.hooks.consume,
                    client,
                    CONSUMER,
                    # Up: a read that ends just before a look would be one more.
                    block_ms=math.ceil(min(float(BLOCK_SECONDS), wait) * 1000),
                    limit=BATCH,
                )
                entries = await patience.keep_trying("hooks", read)
                if entries and self._ripe_at() < self._look_at[0]:
                    # Where there are hooks, another townhall may have died with some.
                    self._look_at.insert(0, self._ripe_at())
                await self._route_all(entries)

    def _ripe_at(self) -> float:
        return time.monotonic() + self._orphan_seconds + 0.1

    async def _look(self) -> None:
        orphans = await self._store.patience.keep_trying("hooks", self._orphans)
        later = [each for each in self._look_at[1:] if each > time.monotonic()]
        self._look_at = later or [time.monotonic() + self._look_seconds]
        if len(orphans) == BATCH:
            self._look_at.insert(0, 0.0)  # a full batch hides those behind it
        # One by one: what ended our predecessor must not count against its neighbours.
        await self._route_all(orphans, together=1)

    async def _orphans(self) -> list[Entry]:
        return await self._store.hooks.reclaim(
            CONSUMER, idle_ms=int(self._orphan_seconds * 1000), limit=BATCH
        )

    async def _route_all(self, entries: Sequence[Entry], *, together: int = TOGETHER) -> None:
        for start in range(0, len(entries), together):
            try:
                await self._route(entries[start : start + together])
            except Exception:  # noqa: BLE001 - a fault of ours must not stop the rest
                self._failed(entries[start][1])

    async def _route(self, entries: Sequence[Entry]) -> None:
        """Route a few hooks. Each step may be repeated, by us or by whoever comes after us."""
        patience = self._store.patience
        opened = await patience.keep_trying("hooks", partial(self._store.hooks.open, entries))
        settled = []
        for entry, waiting in opened:
            try:
                done = await patience.keep_trying("hooks", partial(self._carried_out, waiting))
            except Exception:  # noqa: BLE001 - the same
                self._failed(entry[1])
                continue
            settled.append(
                Settled(
                    entry=entry,
                    move=done.move,
                    outcome=done.outcome,
                    mission_id=done.told_in,
                    line=_log_line(done.line) if done.line else b"",
                )
            )
            _say(entry[1], waiting, done)
        if settled:
            await patience.keep_trying("hooks", partial(self._store.hooks.settle, settled))

    def _failed(self, hook_id: str) -> None:
        """Leave a hook pending: it is looked at again when it is an orphan, TRIES times in all."""
        self._unsaid += 1
        if time.monotonic() >= self._said_at + LINE_SECONDS:
            facts = {"hook_id": hook_id, "failures": self._unsaid}
            _log.exception("hooks.not_routed", extra={"facts": facts})
            self._said_at, self._unsaid = time.monotonic(), 0
        self._look_at = sorted({*self._look_at[:3], self._ripe_at()})

    async def _carried_out(self, waiting: Waiting | None) -> Done:
        """Decide and do; what cannot be done becomes a dead hook with the reason."""
        if waiting is None:
            return _dead("its record is damaged")
        source, hook = waiting.source, waiting.hook
        if source is None:
            outcome = HookOutcome(reason="its source was removed")
            return Done(move=HookMove.IGNORE, outcome=outcome)
        if hook.tries > TRIES:
            return _dead(f"gave up after {TRIES} tries that ended their townhall")
        try:
            payload = opened(self._vault, source, waiting.payload)
            facts = facts_of(source, kind=hook.kind, headers=waiting.headers, payload=payload)
            return await self._acts.perform(decide(source, facts), waiting, source)
        except StoreUnavailable:
            raise
        except Unfit as error:
            return _dead(str(error))
        except TownError as error:
            # Trying again changes nothing: it is what it asks for.
            return _dead(error.detail)
        except Exception as error:
            if hook.tries < TRIES:
                raise
            _log.exception("hooks.poison", extra={"facts": {"hook_id": hook.id}})
            return _dead(f"gave up after {TRIES} tries: {type(error).__name__}")


def _say(hook_id: str, waiting: Waiting | None, done: Done) -> None:
    """Write a line about a hook; most of what services send is of no use, and seldom worth one."""
    facts = {
        "hook_id": hook_id,
        "source_id": waiting.hook.source_id if waiting else None,
        "kind": waiting.hook.kind if waiting else None,
        "move": done.move.value,
        "action": done.outcome.action,
        "mission_id": done.outcome.mission_id,
    }
    level = logging.DEBUG if done.move is HookMove.IGNORE else logging.INFO
    _log.log(level, "hook", extra={"facts": facts})


def _dead(reason: str) -> Done:
    return Done(move=HookMove.GIVE_UP, outcome=HookOutcome(reason=reason))


def _log_line(text: str) -> bytes:
    """Write a line of a mission's log the way agents' notices are written there."""
    return msgspec.json.encode({"kind": "notice", "text": text})
