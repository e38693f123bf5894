"""The hooks' shelf: store what was proved, consume it by group, settle it once, keep the latest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from redis import exceptions as redis_errors

from tinytown.errors import HookNotFound, IllegalMove, TooMany
from tinytown.models.hook import HookMove, HookOutcome, HookState, StoredHook
from tinytown.models.source import SourceRecord
from tinytown.store import records
from tinytown.store.events import entries
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.pages import Index, page_of
from tinytown.store.replies import DONE, NOT_YOURS, REFUSED, TOO_MANY, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

GROUP: Final = "routers"
FULL_SECONDS: Final = 10
"""When a sender may try again whose hook found the queue full."""
_SEEN: Final = 2
_STATE_OF: Final = {
    HookMove.ROUTE: HookState.ROUTED,
    HookMove.IGNORE: HookState.IGNORED,
    HookMove.GIVE_UP: HookState.DEAD,
}

Entry = tuple[str, str]
"""A place in the queue and the hook that waits there."""


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A hook that a router has begun with; `source` is None where it was removed meanwhile."""

    hook: StoredHook
    headers: dict[str, str]
    payload: Any
    source: SourceRecord | None


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a hook, and what the log of a mission says about it."""

    entry: Entry
    move: HookMove
    outcome: HookOutcome
    mission_id: str = ""
    line: bytes = b""


class Hooks:
    """Reads and moves hooks."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's hooks."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    # -- taking ---------------------------------------------------------------------------------

    async def take(
        self,
        hook_id: str,
        *,
        source_id: str,
        version: str,
        delivery: str,
        keep_seconds: float,
        kind: str,
        headers: bytes,
        payload: bytes,
        sent_ms: int,
    ) -> tuple[str, bool] | None:
        """Store a hook: its id, and whether it was there before under that id.

        None when the sources have another version by now. Raises TooMany when too much waits.
        """
        reply = await self._scripts.run(
            "take_hook",
            hook=hook_id,
            source=source_id,
            version=version,
            delivery=delivery,
            keep_ms=round(keep_seconds * 1000),
            kind=kind,
            headers=headers,
            payload=payload,
            sent_at=sent_ms,
        )
        if reply[0] == TOO_MANY:
            raise TooMany("too many hooks wait already", retry_after_seconds=FULL_SECONDS)
        return None if reply[0] == REFUSED else (str(reply[1]), bool(reply[0] == _SEEN))

    async def reject(self, source_id: str, *, version: str, reason: str, request_id: str) -> bool:
        """Write down why a hook was refused; False when the sources have another version."""
        reply = await self._scripts.run(
            "reject_hook", source=source_id, version=version, reason=reason, request=request_id
        )
        return bool(reply[0] == DONE)

    # -- routing --------------------------------------------------------------------------------

    async def ensure_group(self) -> None:
        """Create the routers' group at the queue's beginning, unless it is there."""
        try:
            with store_errors():
                await self._client.xgroup_create(
                    self._keys("hooks"), GROUP, id="0-0", mkstream=True
                )
        except redis_errors.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def consume(
        self, client: Client, consumer: str, *, block_ms: int, limit: int
    ) -> list[Entry]:
        """Block for hooks no router has seen; heals a lost group (after FLUSHALL)."""
        try:
            with store_errors():
                reply = await client.xreadgroup(
                    GROUP, consumer, {self._keys("hooks"): ">"}, count=limit, block=block_ms
                )
        except redis_errors.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_group()
            return []
        return [(id_, fields.get("hook", "")) for _, rows in entries(reply) for id_, fields in rows]

    async def reclaim(self, consumer: str, *, idle_ms: int, limit: int) -> list[Entry]:
        """Take over hooks whose router died on the way, or that failed a while ago."""
        try:
            with store_errors():
                reply = await self._client.xautoclaim(
                    self._keys("hooks"), GROUP, consumer, idle_ms, start_id="0-0", count=limit
                )
        except redis_errors.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_group()
            return []
        return [(id_, records.pairs(fields).get("hook", "")) for id_, fields in reply[1] if fields]

    async def open(self, entries: Sequence[Entry]) -> list[tuple[Entry, Waiting | None]]:
        """Begin with hooks; those that wait no more are left out, damaged ones are None."""
        flat = [part for entry in entries for part in entry]
        reply = await self._scripts.run("open_hooks", entries=flat)
        places = {hook_id: (stream_id, hook_id) for stream_id, hook_id in entries}
        return [
            (places[hook_id], _readable(hook_id, records.pairs(fields), source))
            for hook_id, fields, source in reply
        ]

    async def settle(self, settled: Sequence[Settled]) -> int:
        """Write down what became of hooks; says how many it had not been written of before."""
        reply = await self._scripts.run(
            "settle_hooks", settled=msgspec.json.encode([_line_of(each) for each in settled])
        )
        return int(reply[1])

    # -- looking --------------------------------------------------------------------------------

    async def waiting(self) -> int:
        """Count the hooks that wait for their rule."""
        with store_errors():
            return int(await self._client.xlen(self._keys("hooks")))

    async def of_source(
        self, source_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[StoredHook], str | None]:
        """List a source's latest hooks, newest first."""
        key = self._keys("source_hooks", source_id)
        return await self._page(key, "received_at", cursor, limit)

    async def dead(self, *, cursor: str | None, limit: int) -> tuple[list[StoredHook], str | None]:
        """List the hooks of all sources that could not be carried out, newest first."""
        return await self._page(self._keys("hooks_dead"), "settled_at", cursor, limit)

    async def read(self, hook_id: str) -> Waiting:
        """Read a hook with what is kept of its payload; raises HookNotFound."""
        with store_errors():
            fields = await self._client.hgetall(self._keys("hook", hook_id))
        if not fields:
            raise HookNotFound("there is no hook with this id")
        return _waiting(hook_id, fields, None)

    async def replay(self, hook_id: str) -> None:
        """Let a dead or ignored hook go through its rules once more."""
        reply = await self._scripts.run("replay_hook", hook=hook_id)
        if reply[0] == TOO_MANY:
            raise TooMany("too many hooks wait already", retry_after_seconds=FULL_SECONDS)
        if reply[0] == NOT_YOURS:
            raise IllegalMove("this hook's payload was too large to be kept", state="settled")
        if reply[0] != DONE:
            refuse(reply, HookNotFound, "hook", "replay")

    async def _page(
        self, key: str, field: str, cursor: str | None, limit: int
    ) -> tuple[list[StoredHook], str | None]:
        ids, more = await page_of(
            self._client,
            Index(key=key, field=field, newest_first=True),
            cursor=cursor,
            record=self._keys("hook", cursor or ""),
            limit=limit,
        )
        return await self._read_many(ids), ids[-1] if more else None

    async def _read_many(self, ids: Sequence[str]) -> list[StoredHook]:
        if not ids:
            return []
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for hook_id in ids:
                pipe.hmget(self._keys("hook", hook_id), *_SHOWN)
                pipe.hexists(self._keys("hook", hook_id), "payload")
            rows = await pipe.execute()
        return [
            _hook(hook_id, dict(zip(_SHOWN, values, strict=True)), payload_kept=bool(kept))
            for hook_id, values, kept in zip(ids, rows[::2], rows[1::2], strict=True)
            if values[0] is not None
        ]


_SHOWN: Final = (
    "source", "kind", "state", "received_at", "sent_at", "settled_at", "tries", "size", "outcome",
)  # fmt: skip


def _line_of(settled: Settled) -> dict[str, str]:
    stream_id, hook_id = settled.entry
    return {
        "entry": stream_id,
        "hook": hook_id,
        "move": settled.move,
        "state": _STATE_OF[settled.move],
        "outcome": msgspec.json.encode(settled.outcome).decode(),
        "mission": settled.mission_id,
        "line": settled.line.decode(),
    }


def _readable(hook_id: str, fields: dict[str, str], source: str) -> Waiting | None:
    try:
        record = msgspec.json.decode(source, type=SourceRecord) if source else None
        return _waiting(hook_id, fields, record)
    except (KeyError, ValueError):  # msgspec's errors are ValueErrors
        return None


def _waiting(hook_id: str, fields: dict[str, str], source: SourceRecord | None) -> Waiting:
    kept = "payload" in fields
    return Waiting(
        hook=_hook(hook_id, fields, payload_kept=kept),
        headers=msgspec.json.decode(fields["headers"], type=dict[str, str]),
        payload=msgspec.json.decode(fields["payload"]) if kept else None,
        source=source,
    )


def _hook(hook_id: str, fields: dict[str, Any], *, payload_kept: bool) -> StoredHook:
    outcome = fields.get("outcome")
    return StoredHook(
        id=hook_id,
        source_id=fields["source"],
        kind=fields["kind"],
        state=HookState(fields["state"]),
        received_at=records.must(fields["received_at"]),
        sent_at=records.instant(fields.get("sent_at")),
        settled_at=records.instant(fields.get("settled_at")),
        tries=int(fields["tries"]),
        size=int(fields["size"]),
        payload_kept=payload_kept,
        outcome=msgspec.json.decode(outcome, type=HookOutcome) if outcome else None,
    )
