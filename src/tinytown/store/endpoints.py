"""The endpoints' shelf: who wants to hear, and how each is doing."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

from tinytown.errors import EndpointNotFound, Stale, TooMany
from tinytown.models.endpoint import EndpointRecord, EndpointState
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.replies import DONE, REFUSED, TOO_MANY, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint is doing."""

    state: EndpointState = EndpointState.ACTIVE
    failures: int = 0
    last_error: str = ""
    last_delivery_ms: int = 0
    disabled_reason: str = ""
    held_until_ms: int = 0


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it was at one moment; `digest` tells it from every other moment."""

    record: EndpointRecord
    digest: str
    callback: bool = False
    """Whether it belongs to a mission: it comes and goes with it, and is not changed."""


class Endpoints:
    """Reads, writes and moves endpoints."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's endpoints."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def put(
        self, record: EndpointRecord, *, must_exist: bool = False, digest: str = ""
    ) -> None:
        """Add or change an endpoint; notifiers see it with their next event.

        With the `digest` of a record, only that very record is replaced; raises Stale.
        """
        interval_ms, burst_ms = pace(record.rate_per_second)
        reply = await self._scripts.run(
            "put_endpoint",
            endpoint=record.id,
            record=msgspec.json.encode(record),
            must_exist=int(must_exist),
            digest=digest,
            kind=record.kind,
            cap=in_flight(record),
            fifo=int(record.fifo),
            interval_ms=interval_ms,
            burst_ms=burst_ms,
        )
        self._changed(reply, "change")

    async def drop(self, endpoint_id: str, *, digest: str = "") -> None:
        """Remove an endpoint and what is due for it; with a `digest` as `put`."""
        reply = await self._scripts.run("drop_endpoint", endpoint=endpoint_id, digest=digest)
        self._changed(reply, "remove")

    @staticmethod
    def _changed(reply: Any, move: str) -> None:
        if reply[0] == REFUSED:
            raise Stale("the endpoint was changed since it was read")
        if reply[0] == TOO_MANY:
            raise TooMany("a town has at most 500 endpoints")
        if reply[0] != DONE:
            refuse(reply, EndpointNotFound, "endpoint", move)

    async def move(self, endpoint_id: str, move: str, *, reason: str) -> EndpointState:
        """Disable or revive an endpoint."""
        reply = await self._scripts.run(
            "move_endpoint", endpoint=endpoint_id, move=move, reason=reason
        )
        if reply[0] != DONE:
            refuse(reply, EndpointNotFound, "endpoint", move)
        return EndpointState(reply[1])

    async def all(self) -> tuple[str, list[EndpointRecord]]:
        """Read every endpoint and the version of the set."""
        with store_errors():
            rows = await self._client.hgetall(self._keys("endpoints"))
        version = rows.pop("version", "0")
        records = [msgspec.json.decode(text, type=EndpointRecord) for text in rows.values()]
        return version, sorted(records, key=lambda record: record.id)

    async def read(self, endpoint_id: str) -> EndpointRecord:
        """Read one endpoint, or the callback of a mission; raises EndpointNotFound."""
        return (await self.versioned(endpoint_id)).record

    async def versioned(self, endpoint_id: str) -> Versioned:
        """Read one endpoint as `read` does, with what names this state of it."""
        callback = False
        with store_errors():
            text = await self._client.hget(self._keys("endpoints"), endpoint_id)
            if text is None:
                callback = True
                text = await self._client.hget(self._keys("callbacks"), endpoint_id)
        if text is None or endpoint_id == "version":
            raise EndpointNotFound("there is no endpoint with this id")
        return Versioned(
            record=msgspec.json.decode(text, type=EndpointRecord),
            digest=_digest(text.encode("utf-8", "surrogateescape")),
            callback=callback,
        )

    async def health(self, endpoint_ids: list[str]) -> list[Health]:
        """Read how endpoints are doing, in the order asked."""
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for endpoint_id in endpoint_ids:
                pipe.hgetall(self._keys("endpoint_health", endpoint_id))
            rows = await pipe.execute() if endpoint_ids else []
        return [
            Health(
                state=EndpointState(row.get("state", "active")),
                failures=int(row.get("failures", 0)),
                last_error=row.get("last_error", ""),
                last_delivery_ms=int(row.get("last_delivery_at", 0)),
                disabled_reason=row.get("disabled_reason", ""),
                held_until_ms=max(number(row.get("open_until")), number(row.get("hold_until"))),
            )
            for row in rows
        ]


def digest_of(record: EndpointRecord) -> str:
    """Name a record as it is stored: what `put` and `drop` compare."""
    return _digest(msgspec.json.encode(record))


def _digest(text: bytes) -> str:
    """Name a record by its bytes, as the scripts do."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()


def in_flight(record: EndpointRecord) -> int:
    """Say how many may be on their way at once: one to a phone, so that it rings in order."""
    return 1 if record.kind == "push" or record.fifo else record.max_in_flight


def pace(rate_per_second: float | None) -> tuple[int, int]:
    """Make the milliseconds between two requests of a rate, and how much may come early.

    A second's worth may come at once (GCRA's burst tolerance).
    """
    if rate_per_second is None:
        return 0, 0
    interval = max(1, round(1000 / rate_per_second))
    return interval, (math.ceil(rate_per_second) - 1) * interval


def number(text: str | None) -> int:
    """Read a number that a script wrote, which may be empty."""
    return int(float(text or 0))
