"""Endpoints: add a phone, change it, pause it, remove it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from tinytown import clock, ids
from tinytown.errors import EndpointNotFound, Invalid
from tinytown.models.endpoint import (
    PUSH_EVENTS,
    WEBHOOK_EVENTS,
    Endpoint,
    EndpointPatch,
    EndpointRecord,
    NewEndpoint,
)
from tinytown.models.event import is_pattern
from tinytown.store import Store
from tinytown.store.endpoints import Health
from tinytown.store.records import instant
from tinytown.vault import Vault

_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"


class EndpointDesk:
    """What can be done with endpoints."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        *,
        check_url: Callable[[str], Awaitable[None]],
        redact_url: Callable[[str], str],
    ) -> None:
        """Work on one town's endpoints; `check_url` raises Invalid for what cannot be reached."""
        self._store = store
        self._vault = vault
        self._check_url = check_url
        self._redact_url = redact_url

    async def add(self, new: NewEndpoint, *, endpoint_id: str | None = None) -> Endpoint:
        """Add an endpoint; with an id given again, it is the same endpoint."""
        events = new.events or (PUSH_EVENTS if new.kind == "push" else WEBHOOK_EVENTS)
        await self._check(new.url, events)
        record = EndpointRecord(
            id=endpoint_id or ids.new("endpoint"),
            kind=new.kind,
            url=self._vault.seal(new.url),
            name=new.name,
            events=events,
            created_at=clock.written(clock.now()),
        )
        await self._store.endpoints.put(record)
        return await self.read(record.id)

    async def add_from_settings(self, urls: tuple[str, ...]) -> None:
        """Make sure that the push endpoints of TINYTOWN_NOTIFY are there, each once."""
        _, known = await self._store.endpoints.all()
        ids_known = {record.id for record in known}
        for url in urls:
            endpoint_id = id_of_url(self._store.town, url)
            if endpoint_id not in ids_known:
                await self.add(NewEndpoint(url=url, name="phone"), endpoint_id=endpoint_id)

    async def read(self, endpoint_id: str) -> Endpoint:
        """Read an endpoint; raises EndpointNotFound."""
        record = await self._record(endpoint_id)
        return self._show(record, (await self._store.endpoints.health([record.id]))[0])

    async def all(self) -> list[Endpoint]:
        """List all endpoints, oldest first."""
        _, records = await self._store.endpoints.all()
        healths = await self._store.endpoints.health([record.id for record in records])
        return [self._show(record, health) for record, health in zip(records, healths, strict=True)]

    async def change(self, endpoint_id: str, patch: EndpointPatch) -> Endpoint:
        """Change what the patch names."""
        record = await self._record(endpoint_id)
        changes = {
            name: value
            for name, value in msgspec.structs.asdict(patch).items()
            if value is not msgspec.UNSET
        }
        await self._check(changes.get("url"), changes.get("events", ()))
        if "url" in changes:
            changes["url"] = self._vault.seal(changes["url"])
        await self._store.endpoints.put(msgspec.structs.replace(record, **changes), must_exist=True)
        return await self.read(endpoint_id)

    async def remove(self, endpoint_id: str) -> None:
        """Remove an endpoint with what is due for it."""
        await self._record(endpoint_id)
        await self._store.endpoints.drop(endpoint_id)

    async def pause(self, endpoint_id: str) -> Endpoint:
        """Send nothing to an endpoint until it is resumed."""
        await self._record(endpoint_id)
        await self._store.endpoints.move(endpoint_id, "disable", reason="paused by a person")
        return await self.read(endpoint_id)

    async def resume(self, endpoint_id: str) -> Endpoint:
        """Send to an endpoint again."""
        await self._record(endpoint_id)
        await self._store.endpoints.move(endpoint_id, "revive", reason="resumed by a person")
        return await self.read(endpoint_id)

    async def secret_url(self, endpoint_id: str) -> str:
        """Open an endpoint's URL, for the one who sends."""
        return self._vault.open((await self._record(endpoint_id)).url)

    def open_url(self, record: EndpointRecord) -> str:
        """Open the URL of a record already read."""
        return self._vault.open(record.url)

    async def _check(self, url: str | None, events: tuple[str, ...]) -> None:
        if url is not None:
            await self._check_url(url)
        wrong = [pattern for pattern in events if not is_pattern(pattern)]
        if wrong:
            raise Invalid(f"no event matches {', '.join(wrong)}", events=wrong)

    async def _record(self, endpoint_id: str) -> EndpointRecord:
        if not ids.is_id("endpoint", endpoint_id):
            raise EndpointNotFound("there is no endpoint with this id")
        return await self._store.endpoints.read(endpoint_id)

    def _show(self, record: EndpointRecord, health: Health) -> Endpoint:
        return Endpoint(
            id=record.id,
            kind=record.kind,
            url=self._redact_url(self._vault.open(record.url)),
            name=record.name,
            events=record.events,
            state=health.state,
            created_at=record.created_at,
            failures=health.failures,
            last_error=health.last_error or None,
            last_delivery_at=instant(health.last_delivery_ms),
        )


def id_of_url(town: str, url: str) -> str:
    """Name the endpoint of a setting after its URL, so that a restart adds nothing twice."""
    number = int.from_bytes(hashlib.sha256(f"{town}\0{url}".encode()).digest()[:16], "big")
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_CROCKFORD[digit])
    return f"end_{''.join(reversed(digits))}"
