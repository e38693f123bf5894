"""Deliveries to programs: an event becomes a signed request, its answer a verdict."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from tinytown import clock, ids
from tinytown.errors import Unavailable
from tinytown.models.delivery import DueDelivery, Trial
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.event import Event
from tinytown.vault import Vault
from tinytown_notifiers import letters
from tinytown_notifiers.carrying import Effect, Verdict
from tinytown_notifiers.schedule import Waits
from tinytown_notifiers.sinks.webhook import Letter, Reply, WebhookSender
from tinytown_notifiers.wording import Writer

PING: Final = "ping"
"""The type of a test message: none of the closed set, so that no program takes it for news."""
_NO_MORE: Final = "the receiver wants no more"
_POINTLESS: Final = frozenset({"blocked_address", "invalid_url"})
"""Failures that no later attempt can mend: somebody has to change the endpoint or the settings."""


class _Address(msgspec.Struct, frozen=True):
    """What of an endpoint is secret, opened."""

    url: str
    headers: dict[str, str]
    secrets: tuple[tuple[str, str | None], ...]
    """Each with the time at which it stops signing."""


class Poster:
    """Carries webhooks through one sender."""

    def __init__(
        self,
        town: str,
        *,
        vault: Vault,
        sender: WebhookSender,
        writer: Writer,
        waits: Waits,
        now: Callable[[], str] = lambda: clock.written(clock.now()),
    ) -> None:
        """Post for one town."""
        self._town = town
        self._vault = vault
        self._sender = sender
        self._writer = writer
        self._waits = waits
        self._now = now
        self._opened: dict[str, tuple[EndpointRecord, _Address]] = {}

    async def carry(self, delivery: DueDelivery, record: EndpointRecord) -> Verdict | None:
        """Post one event."""
        if not delivery.event.type:
            return Verdict(said="dead", reason="its event is no longer kept", effect="spare")
        try:
            letter = self._letter(delivery.event, record)
        except Unavailable as error:
            waits = self._waits_of(record)
            wait = waits.wait(delivery.tried)
            return Verdict(
                said="dead" if wait is None else "retry",
                reason=error.detail,
                delay_seconds=wait or 0.0,
                error=error.detail,
            )
        return self._verdict(delivery, record, await self._sender.send(letter))

    async def test(self, record: EndpointRecord) -> Trial:
        """Post a ping, signed like everything else."""
        event = Event(
            id=ids.new("event"),
            type=PING,
            timestamp=self._now(),
            town=self._town,
            data={"endpoint_id": record.id},
        )
        reply = await self._sender.send(self._letter(event, record))
        return Trial(
            delivered=reply.code == "ok",
            duration_seconds=reply.duration_seconds,
            status=reply.status,
            code=None if reply.code == "ok" else reply.code,
            reason=reply.reason or None,
            webhook_id=event.id,
        )

    def _letter(self, event: Event, record: EndpointRecord) -> Letter:
        address = self._address(record)
        body, content_type = letters.write(
            event,
            format=record.format,
            payload=record.payload,
            link=letters.link_to(self._writer.public_url, event),
            writer=self._writer,
            endpoint_id=record.id,
        )
        now = self._now()
        return Letter(
            id=event.id,
            url=address.url,
            body=body,
            headers={**address.headers, "content-type": content_type},
            secrets=tuple(
                secret
                for secret, expires_at in address.secrets
                if not expires_at or expires_at > now
            ),
        )

    def _address(self, record: EndpointRecord) -> _Address:
        """Open what is sealed, once for every change of the record."""
        known = self._opened.get(record.id)
        if known is not None and known[0] is record:
            return known[1]
        address = _Address(
            url=self._vault.open(record.url),
            headers={name: self._vault.open(value) for name, value in record.headers.items()},
            secrets=tuple((self._vault.open(s.secret), s.expires_at) for s in record.secrets),
        )
        if len(self._opened) >= 1_000:  # callbacks come and go with their missions
            self._opened.clear()
        self._opened[record.id] = (record, address)
        return address

    def _waits_of(self, record: EndpointRecord) -> Waits:
        if record.schedule_seconds is None:
            return self._waits
        return msgspec.structs.replace(self._waits, seconds=record.schedule_seconds)

    def _verdict(self, delivery: DueDelivery, record: EndpointRecord, reply: Reply) -> Verdict:
        effect: Effect
        if reply.code == "ok":
            # It has this one; it may still want no more.
            effect = "disable" if reply.disable else ""
            return Verdict(
                said="delivered",
                status=reply.status,
                effect=effect,
                reason=_NO_MORE if reply.disable else "",
            )
        asked = reply.retry_after_seconds
        wait = None
        reason = reply.reason
        effect = "throttle" if reply.throttled else ""
        if reply.disable:
            effect = "disable"
            reason = f"{_NO_MORE}: {reply.reason}"
        elif reply.abort:
            effect = effect or "spare"
            reason = f"the receiver refuses this one: {reply.reason}"
        elif reply.code not in _POINTLESS:
            wait = self._waits_of(record).wait(delivery.tried, retry_after_seconds=asked)
            if wait is None:
                reason = f"given up after attempt {delivery.attempt}: {reply.reason}"
        return Verdict(
            said="dead" if wait is None else "retry",
            reason=reason,
            delay_seconds=wait or 0.0,
            status=reply.status,
            code=reply.code,
            error=reply.reason,
            effect=effect,
            hold_seconds=asked or 0.0 if reply.throttled else 0.0,
        )
