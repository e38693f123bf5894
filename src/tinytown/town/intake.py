"""Takes hooks in: proves who sent one, stores it with one script, and tells a stranger nothing.

Sources are kept in memory with their version; the script that stores a hook, or writes down why one
was refused, compares it, so that a change made anywhere counts from the next hook on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

import msgspec

from tinytown import clock, ids
from tinytown.errors import Unauthenticated, Unavailable
from tinytown.models.hook import Taken
from tinytown.models.source import SourceRecord, SourceState
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise
from tinytown.store import Store
from tinytown.town.sealing import sealed
from tinytown.vault import Vault

_CHANGES: Final = 5
"""How often the sources may change while one hook is on its way in."""
_HEADERS: Final = 40
_HEADER_LENGTH: Final = 500
# What may be kept of a hook's headers, for rules; and what in their names says "secret".
_KEPT: Final = re.compile(r"content-type|user-agent|(x|webhook|svix|linear|stripe)-[a-z0-9-]+")
_SECRET: Final = re.compile(r"sig|secret|token|auth|cookie|key|passw|forwarded|real-ip|client-cert")
_NOBODY: Final = "nobody's secret, so that strangers wait as long"


class _Known(msgspec.Struct, frozen=True):
    """A source as hooks are proved by it; each secret with the Unix time at which it ends."""

    record: SourceRecord
    secrets: tuple[tuple[str, float], ...]

    def __repr__(self) -> str:
        return f"_Known({self.record.id})"


class Challenge(msgspec.Struct, frozen=True):
    """What the sender wants to hear at once; nothing is stored."""

    body: bytes
    media_type: str


class Intake:
    """The way in of one town's hooks."""

    def __init__(self, store: Store, vault: Vault) -> None:
        """Take hooks into a store."""
        self._store = store
        self._vault = vault
        self._version = ""
        self._records: Mapping[str, SourceRecord] = {}
        self._opened: dict[str, _Known] = {}

    async def receive(self, source_id: str, hook: Hook, *, request_id: str) -> Taken | Challenge:
        """Prove a hook and store it; one that was stored before is a duplicate.

        Raises Unauthenticated, the same for whatever is wrong, TooMany while too much waits, and
        StoreUnavailable.
        """
        if not self._version:
            await self._load()
        hook_id = ids.new("hook")
        fresh = False
        for _ in range(_CHANGES):
            # What was proved by one version is stored under it, or not at all.
            version, record = self._version, self._records.get(source_id)
            try:
                recognised = self._proved(record, hook)
                payload = _encoded(recognised)
            except Rejected as error:
                known = record.id if record else ""
                if await self._store.hooks.reject(
                    known, version=version, reason=error.reason, request_id=request_id
                ):
                    raise Unauthenticated("this hook is not taken here") from None
                await self._load()
                continue
            if recognised.challenge is not None:
                if fresh:
                    return Challenge(*recognised.challenge)
                # No script compares the version here: look again whether the source is as it was.
                await self._load()
                fresh = True
                continue
            assert record is not None  # noqa: S101 - `_proved` refuses what nobody knows
            taken = await self._store.hooks.take(
                hook_id,
                source_id=record.id,
                version=version,
                delivery=_digest(recognised.delivery_id),
                keep_seconds=recognised.keep_seconds,
                kind=recognised.kind,
                headers=msgspec.json.encode(_kept(hook, record.options)),
                payload=sealed(self._vault, record, payload),
                sent_ms=round((recognised.sent_at or 0) * 1000),
            )
            if taken is not None:
                return Taken(id=taken[0], duplicate=taken[1])
            await self._load()
        raise Unavailable("the sources change too fast", retry_after_seconds=1)

    async def _load(self) -> None:
        version, records = await self._store.sources.all()
        self._version, self._records = version, {record.id: record for record in records}
        self._opened = {}

    def _proved(self, record: SourceRecord | None, hook: Hook) -> Recognised:
        """Recognise a hook; raises Rejected."""
        now = clock.unix_seconds()
        if record is None:
            shown = Hook(headers=(("x-signature", "0" * 64),), body=hook.body)
            with suppress(Rejected):
                recognise("hmac", SchemeOptions(), [_NOBODY], shown, now=now)
            raise Rejected("unknown_source")
        alive = [secret for secret, ends in self._known(record).secrets if ends > now]
        recognised = recognise(record.scheme, record.options, alive, hook, now=now)
        if record.state is SourceState.PAUSED:
            raise Rejected("paused")
        return recognised

    def _known(self, record: SourceRecord) -> _Known:
        """Open a source's secrets, once per version."""
        known = self._opened.get(record.id)
        if known is None:
            secrets = tuple(
                (self._vault.open(each.secret), _ends(each.expires_at)) for each in record.secrets
            )
            known = self._opened[record.id] = _Known(record, secrets)
        return known


def _ends(text: str | None) -> float:
    return float("inf") if text is None else datetime.fromisoformat(text).timestamp()


def _encoded(recognised: Recognised) -> bytes:
    try:
        return msgspec.json.encode(recognised.payload)
    except (
        OverflowError
    ):  # JSON sets no bound to whole numbers, and msgspec reads what it won't write
        return json.dumps(recognised.payload).encode()
    except UnicodeEncodeError:
        raise Rejected("encoding") from None


def _kept(hook: Hook, options: SchemeOptions) -> dict[str, str]:
    """Keep the headers that rules may want, never one that proves anything."""
    proofs = {options.header, options.timestamp_header}
    kept: dict[str, str] = {}
    for name, value in hook.headers:
        fits = _KEPT.fullmatch(name) and not _SECRET.search(name) and name not in proofs
        if fits and len(value) <= _HEADER_LENGTH and len(kept) < _HEADERS:
            kept.setdefault(name, value)
    return kept


def _digest(delivery_id: str) -> str:
    """Name a delivery as a key can: whatever its sender calls it, one plain word."""
    return hashlib.sha256(delivery_id.encode("utf-8", "replace")).hexdigest()[:40]
