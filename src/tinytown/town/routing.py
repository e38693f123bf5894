"""Hooks to deeds: read the queue by consumer group, decide, do it, and write down the outcome.

A hook leaves the queue with the script that writes down its outcome, so a router that dies in
between leaves it pending and the next look finds it; everything a hook does carries its id, so
doing it twice does it once. That also lets all routers of a town share one consumer name.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from tinytown.errors import StoreUnavailable, TownError
from tinytown.models.source import HookMove, HookOutcome
from tinytown.store import Store
from tinytown.store.hooks import Entry, Waiting
from tinytown.town.acts import Acts, Done
from tinytown.town.deciding import decide, facts_of
from tinytown.town.rules import Unfit

_log = logging.getLogger(__name__)

CONSUMER: Final = "router"
BLOCK_SECONDS: Final = 30
"""How long one read blocks: proxies drop sockets that are silent much longer."""
ORPHAN_SECONDS: Final = 5.0
"""Routing takes milliseconds; a hook that was read and not settled by then is an orphan. Also how
long one that failed waits for its next try."""
ORPHANS_EVERY_SECONDS: Final = 60.0
BATCH: Final = 100
TRIES: Final = 5
"""A hook that fails so often, or ends its townhall so often, is poison: it is put aside."""


class HookRouter:
    """Routes the hooks of one town; any number of these may run at once."""

    name = "hooks"

    def __init__(self, store: Store, acts: Acts, *, orphan_seconds: float = ORPHAN_SECONDS) -> None:
        """Route from one store; `orphan_seconds` is for tests that cannot wait."""
        self._store = store
        self._acts = acts
        self._orphan_seconds = orphan_seconds
        self._look_at = [0.0]

    async def run(self) -> None:
        """Route until cancelled; an outage of Redis delays hooks but loses none."""
        patience = self._store.patience
        await patience.keep_trying("hooks", self._store.hooks.ensure_group)
        # Look for orphans at once, and again when those that died with our predecessor are ripe.
        self._look_at = [0.0, time.monotonic() + self._orphan_seconds + 0.1]
        async with self._store.blocking("hooks", block_seconds=BLOCK_SECONDS) as client:
            while True:
                if time.monotonic() >= self._look_at[0]:
                    await self._look()
                wait = max(0.05, self._look_at[0] - time.monotonic())
                read = partial(
                    self._store.hooks.consume,
                    client,
                    CONSUMER,
                    block_ms=int(min(float(BLOCK_SECONDS), wait) * 1000),
                    limit=BATCH,
                )
                await self._route_all(await patience.keep_trying("hooks", read))

    async def _look(self) -> None:
        orphans = await self._store.patience.keep_trying("hooks", self._orphans)
        later = [each for each in self._look_at[1:] if each > time.monotonic()]
        # A full batch hides those behind it.
        again = 0.0 if len(orphans) == BATCH else time.monotonic() + ORPHANS_EVERY_SECONDS
        self._look_at = sorted([*later, again])
        await self._route_all(orphans)

    async def _orphans(self) -> list[Entry]:
        return await self._store.hooks.reclaim(
            CONSUMER, idle_ms=int(self._orphan_seconds * 1000), limit=BATCH
        )

    async def _route_all(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                await self._route(entry)
            except Exception:  # noqa: BLE001 - a fault of ours must not stop the rest
                # Left pending: it is looked at again when it is an orphan, TRIES times in all.
                _log.exception("hooks.not_routed", extra={"facts": {"hook_id": entry[1]}})
                ripe = time.monotonic() + self._orphan_seconds + 0.1
                self._look_at = sorted([*self._look_at, ripe])

    async def _route(self, entry: Entry) -> None:
        """Route one hook. Each step may be repeated by itself, and by whoever comes after us."""
        patience = self._store.patience
        waiting = await patience.keep_trying("hooks", partial(self._store.hooks.open, entry))
        if waiting is None:
            return
        done = await patience.keep_trying("hooks", partial(self._carried_out, waiting))
        line = _log_line(done.line) if done.line else b""
        settle = partial(
            self._store.hooks.settle,
            entry,
            done.move,
            done.outcome,
            mission_id=done.told_in,
            line=line,
        )
        await patience.keep_trying("hooks", settle)
        facts = {
            "hook_id": waiting.hook.id,
            "source_id": waiting.hook.source_id,
            "kind": waiting.hook.kind,
            "move": done.move.value,
            "action": done.outcome.action,
            "mission_id": done.outcome.mission_id,
        }
        _log.info("hook", extra={"facts": facts})

    async def _carried_out(self, waiting: Waiting) -> Done:
        """Decide and do; what cannot be done becomes a dead hook with the reason."""
        source, hook = waiting.source, waiting.hook
        if source is None:
            outcome = HookOutcome(reason="its source was removed")
            return Done(move=HookMove.IGNORE, outcome=outcome)
        if hook.tries > TRIES:
            return _dead(f"gave up after {TRIES} tries that ended their townhall")
        try:
            facts = facts_of(
                source, kind=hook.kind, headers=waiting.headers, payload=waiting.payload
            )
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


def _dead(reason: str) -> Done:
    return Done(move=HookMove.GIVE_UP, outcome=HookOutcome(reason=reason))


def _log_line(text: str) -> bytes:
    """Write a line of a mission's log the way agents' notices are written there."""
    return msgspec.json.encode({"kind": "notice", "text": text})
