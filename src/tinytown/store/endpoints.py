"""The endpoints' shelf: who wants to hear, and how each is doing."""

from __future__ import annotations

import msgspec

from tinytown.errors import EndpointNotFound
from tinytown.models.endpoint import EndpointRecord, EndpointState
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.replies import DONE, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint is doing."""

    state: EndpointState = EndpointState.ACTIVE
    failures: int = 0
    last_error: str = ""
    last_delivery_ms: int = 0


class Endpoints:
    """Reads, writes and moves endpoints."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's endpoints."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def put(self, record: EndpointRecord, *, must_exist: bool = False) -> None:
        """Add or change an endpoint; notifiers see it with their next event."""
        reply = await self._scripts.run(
            "put_endpoint",
            endpoint=record.id,
            record=msgspec.json.encode(record),
            must_exist=int(must_exist),
        )
        if reply[0] != DONE:
            refuse(reply, EndpointNotFound, "endpoint", "change")

    async def drop(self, endpoint_id: str) -> None:
        """Remove an endpoint and what is due for it."""
        reply = await self._scripts.run("drop_endpoint", endpoint=endpoint_id)
        if reply[0] != DONE:
            refuse(reply, EndpointNotFound, "endpoint", "remove")

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
        """Read one endpoint; raises EndpointNotFound."""
        with store_errors():
            text = await self._client.hget(self._keys("endpoints"), endpoint_id)
        if text is None or endpoint_id == "version":
            raise EndpointNotFound("there is no endpoint with this id")
        return msgspec.json.decode(text, type=EndpointRecord)

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
            )
            for row in rows
        ]
