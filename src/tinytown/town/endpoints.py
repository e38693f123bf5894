"""Endpoints: add a phone or a program, change it, rotate its secret, pause it, remove it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import msgspec

from tinytown import clock, ids
from tinytown.errors import Conflict, EndpointNotFound, Invalid, Stale
from tinytown.models.endpoint import (
    PUSH_EVENTS,
    Endpoint,
    EndpointPatch,
    EndpointRecord,
    EndpointWithSecret,
    EventFilter,
    NewEndpoint,
    NewSecret,
    ShownSecret,
    SigningSecret,
)
from tinytown.store import Store
from tinytown.store.endpoints import Health, Versioned, digest_of, in_flight
from tinytown.store.records import instant
from tinytown.town.webhooks import (
    HIDDEN,
    WebhookMaker,
    check_events,
    check_schedule,
    refuse_webhook_fields,
    shown_url,
)
from tinytown.vault import Vault

SECRETS: Final = 10
"""Secrets of one endpoint that sign at once: no receiver looks at more signatures than that."""
_RACES: Final = 10
_CROCKFORD: Final = "0123456789abcdefghjkmnpqrstvwxyz"

Expected = tuple[str, ...] | None
"""The states of a record that may be changed, by their digests; None = whichever it is."""


class EndpointDesk:
    """What can be done with endpoints."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        maker: WebhookMaker,
        *,
        check_url: Callable[[str], Awaitable[None]],
        redact_url: Callable[[str], str],
    ) -> None:
        """Work on one town's endpoints; `check_url` raises Invalid for a push that cannot be sent.

        `maker` makes what is a webhook.
        """
        self._store = store
        self._vault = vault
        self._check_url = check_url
        self._redact_url = redact_url
        self._maker = maker

    async def add(self, new: NewEndpoint, *, endpoint_id: str | None = None) -> EndpointWithSecret:
        """Add an endpoint; with an id given again, it is the same endpoint and secret."""
        endpoint_id = endpoint_id or ids.new("endpoint")
        try:
            # A request that is repeated may have come as far as this the first time.
            record = await self._store.endpoints.read(endpoint_id)
        except EndpointNotFound:
            record = await self._made(new, endpoint_id)
            await self._store.endpoints.put(record)
        return await self._with_secret(record, new.secret)

    async def add_from_settings(self, urls: tuple[str, ...]) -> None:
        """Make sure that the push endpoints of TINYTOWN_NOTIFY are there, each once."""
        _, known = await self._store.endpoints.all()
        ids_known = {record.id for record in known}
        for url in urls:
            endpoint_id = id_of_url(self._store.town, url)
            if endpoint_id not in ids_known:
                await self.add(NewEndpoint(url=url, name="phone"), endpoint_id=endpoint_id)

    async def read(self, endpoint_id: str) -> Endpoint:
        """Read an endpoint, or the callback of a mission; raises EndpointNotFound."""
        return (await self.look(endpoint_id))[0]

    async def look(self, endpoint_id: str) -> tuple[Endpoint, str]:
        """Read an endpoint, and the digest that tells this state of it from others.

        How it is doing is no part of that state: nobody changes it.
        """
        known = await self._known(endpoint_id)
        return await self._told(known.record), known.digest

    async def all(self) -> list[Endpoint]:
        """List all endpoints, oldest first; the callbacks of missions are not among them."""
        _, records = await self._store.endpoints.all()
        healths = await self._store.endpoints.health([record.id for record in records])
        return [self._show(record, health) for record, health in zip(records, healths, strict=True)]

    async def change(
        self, endpoint_id: str, patch: EndpointPatch, *, expected: Expected = None
    ) -> tuple[Endpoint, str]:
        """Change what the patch names; raises Stale where it is none of the `expected` states."""
        changes = {
            name: value
            for name, value in msgspec.structs.asdict(patch).items()
            if value is not msgspec.UNSET
        }
        check_events(changes.get("events", ()))
        check_schedule(changes.get("schedule_seconds"))
        _check_filter(changes.get("filter"))
        pushes: str | None = None

        async def changed(record: EndpointRecord) -> EndpointRecord:
            nonlocal pushes
            sealed = dict(changes)
            if record.kind == "push":
                refuse_webhook_fields(patch)
                if "url" in changes:
                    if pushes is None:
                        await self._check_url(changes["url"])
                        pushes = self._vault.seal(changes["url"])
                    sealed["url"] = pushes
                return msgspec.structs.replace(record, **sealed)
            if "url" in changes:
                sealed["url"] = self._maker.url(changes["url"])
            if "headers" in changes:
                sealed["headers"] = self._maker.headers(changes["headers"], record.headers)
            return msgspec.structs.replace(record, **sealed)

        record = await self._write(endpoint_id, changed, expected)
        return await self._told(record), digest_of(record)

    async def rotate(
        self,
        endpoint_id: str,
        new: NewSecret,
        *,
        secret_id: str | None = None,
        expected: Expected = None,
    ) -> EndpointWithSecret:
        """Give a webhook a new secret; the present ones go on signing beside it for the overlap.

        With a secret id given again, it is the same secret.
        """
        secret_id = secret_id or ids.new("secret")
        fresh: SigningSecret | None = None

        async def rotated(record: EndpointRecord) -> EndpointRecord:
            nonlocal fresh
            if record.kind == "push":
                raise Conflict("a push has no secret to rotate: its URL is one")
            if any(each.id == secret_id for each in record.secrets):
                return record
            if fresh is None:
                # Nothing said about the kind: the present one, or that of the caller's secret.
                kind = new.signing or (record.secrets[0].kind if new.secret is None else None)
                fresh = self._maker.secret(kind, new.secret, secret_id=secret_id)
            end = clock.written(clock.now() + timedelta(seconds=new.overlap_seconds))
            kept = [
                msgspec.structs.replace(each, expires_at=min(each.expires_at or end, end))
                for each in alive(record)
                if new.overlap_seconds > 0 and self._vault.open(each.secret) != new.secret
            ]
            return msgspec.structs.replace(record, secrets=(fresh, *kept)[:SECRETS])

        record = await self._write(endpoint_id, rotated, expected)
        return await self._with_secret(record, new.secret)

    async def remove(self, endpoint_id: str, *, expected: Expected = None) -> None:
        """Remove an endpoint with what is due for it."""
        known = await self._changeable(endpoint_id, expected, "removed")
        await self._store.endpoints.drop(endpoint_id, digest=known.digest if expected else "")

    async def pause(self, endpoint_id: str) -> Endpoint:
        """Send nothing to an endpoint until it is resumed."""
        known = await self._known(endpoint_id)
        await self._store.endpoints.move(endpoint_id, "disable", reason="paused by a person")
        return await self._told(known.record)

    async def resume(self, endpoint_id: str) -> Endpoint:
        """Send to an endpoint again."""
        known = await self._known(endpoint_id)
        await self._store.endpoints.move(endpoint_id, "revive", reason="resumed by a person")
        return await self._told(known.record)

    async def secret_url(self, endpoint_id: str) -> str:
        """Open an endpoint's URL, for the one who sends."""
        return self._vault.open((await self._known(endpoint_id)).record.url)

    # -- records --------------------------------------------------------------------------------

    async def _made(self, new: NewEndpoint, endpoint_id: str) -> EndpointRecord:
        _check_filter(new.filter)
        if new.kind == "webhook":
            return self._maker.endpoint(new, endpoint_id)
        refuse_webhook_fields(new)
        check_events(new.events or ())
        await self._check_url(new.url)
        return EndpointRecord(
            id=endpoint_id,
            kind="push",
            url=self._vault.seal(new.url),
            name=new.name,
            events=new.events or PUSH_EVENTS,
            created_at=clock.written(clock.now()),
            filter=new.filter,
        )

    async def _known(self, endpoint_id: str) -> Versioned:
        if not ids.is_id("endpoint", endpoint_id):
            raise EndpointNotFound("there is no endpoint with this id")
        return await self._store.endpoints.versioned(endpoint_id)

    async def _changeable(self, endpoint_id: str, expected: Expected, move: str) -> Versioned:
        known = await self._known(endpoint_id)
        if known.callback:
            detail = f"the callback of a mission cannot be {move}: it goes with its mission"
            raise Conflict(f"{detail}; pause it to hear no more")
        if expected is not None and known.digest not in expected and "*" not in expected:
            raise Stale("the endpoint was changed since it was read: read it again")
        return known

    async def _write(
        self,
        endpoint_id: str,
        changed: Callable[[EndpointRecord], Awaitable[EndpointRecord]],
        expected: Expected,
    ) -> EndpointRecord:
        """Write a change; without an expectation, to whatever the record is by then."""
        for attempt in range(_RACES):
            known = await self._changeable(endpoint_id, expected, "changed")
            after = await changed(known.record)
            if after == known.record:
                return after
            try:
                await self._store.endpoints.put(after, must_exist=True, digest=known.digest)
            except Stale:
                if expected is not None or attempt + 1 == _RACES:
                    raise
            else:
                return after
        raise AssertionError  # the last attempt returns or raises

    async def _told(self, record: EndpointRecord) -> Endpoint:
        return self._show(record, (await self._store.endpoints.health([record.id]))[0])

    async def _with_secret(self, record: EndpointRecord, brought: str | None) -> EndpointWithSecret:
        told = await self._told(record)
        shown = self._maker.shown(record, brought) if record.secrets else {}
        return EndpointWithSecret(**fields_of(told), **shown)

    def _show(self, record: EndpointRecord, health: Health) -> Endpoint:
        url = self._vault.open(record.url)
        held_until = instant(health.held_until_ms)
        told = Endpoint(
            id=record.id,
            kind=record.kind,
            url=self._redact_url(url) if record.kind == "push" else shown_url(url),
            name=record.name,
            events=record.events,
            state=health.state,
            created_at=record.created_at,
            filter=record.filter,
            failures=health.failures,
            last_error=health.last_error or None,
            last_delivery_at=instant(health.last_delivery_ms),
            disabled_reason=health.disabled_reason or None,
            held_until=held_until
            if held_until and held_until > clock.written(clock.now())
            else None,
        )
        if record.kind == "push":
            return told
        return msgspec.structs.replace(
            told,
            format=record.format,
            payload=record.payload,
            headers=dict.fromkeys(record.headers, HIDDEN),
            secrets=tuple(
                ShownSecret(
                    id=each.id,
                    kind=each.kind,
                    created_at=each.created_at,
                    public_key=each.public_key,
                    expires_at=each.expires_at,
                )
                for each in alive(record)
            ),
            schedule_seconds=record.schedule_seconds,
            max_in_flight=in_flight(record),
            rate_per_second=record.rate_per_second,
            fifo=record.fifo,
        )


def alive(record: EndpointRecord) -> list[SigningSecret]:
    """List the secrets that still sign, the newest first."""
    now = clock.written(clock.now())
    return [each for each in record.secrets if each.expires_at is None or each.expires_at > now]


def fields_of(value: msgspec.Struct) -> dict[str, Any]:
    """Take a value apart, to make a richer one of it."""
    return {name: getattr(value, name) for name in value.__struct_fields__}


def _check_filter(wanted: EventFilter | None) -> None:
    mission_id = wanted.mission_id if wanted else None
    if mission_id is not None and not ids.is_id("mission", mission_id):
        raise Invalid("filter.mission_id is no id of a mission")


def id_of_url(town: str, url: str) -> str:
    """Name the endpoint of a setting after its URL, so that a restart adds nothing twice."""
    number = int.from_bytes(hashlib.sha256(f"{town}\0{url}".encode()).digest()[:16], "big")
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_CROCKFORD[digit])
    return f"end_{''.join(reversed(digits))}"
