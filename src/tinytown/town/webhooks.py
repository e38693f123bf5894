"""Webhooks as their owners describe them: what is refused, what is sealed, what is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from tinytown import clock, ids, standard_webhooks
from tinytown.egress import Egress
from tinytown.errors import Invalid
from tinytown.models.endpoint import (
    CALLBACK_EVENTS,
    WEBHOOK_EVENTS,
    EndpointRecord,
    EventFilter,
    NewEndpoint,
    Signing,
    SigningSecret,
)
from tinytown.models.event import is_pattern
from tinytown.models.headers import check_headers
from tinytown.redact import MASK
from tinytown.vault import Vault

SCHEDULE_SECONDS: Final = 6 * 86_400
"""The longest a delivery may be tried: events are kept for a week."""
HIDDEN: Final = "***"
"""What stands for a header's value; sent back, it means "as it is"."""
FOR_WEBHOOKS: Final = (
    "format",
    "payload",
    "headers",
    "signing",
    "secret",
    "schedule_seconds",
    "max_in_flight",
    "rate_per_second",
    "fifo",
)


class WebhookMaker:
    """Makes the records of webhooks: what is secret in them is sealed."""

    def __init__(self, vault: Vault, egress: Egress) -> None:
        """Seal with one town's vault, and refuse what its egress rule cannot let out."""
        self._vault = vault
        self._egress = egress

    def endpoint(self, new: NewEndpoint, endpoint_id: str) -> EndpointRecord:
        """Make the record of a webhook; raises Invalid."""
        check_events(new.events or ())
        check_schedule(new.schedule_seconds)
        return EndpointRecord(
            id=endpoint_id,
            kind="webhook",
            url=self.url(new.url),
            name=new.name,
            events=new.events or WEBHOOK_EVENTS,
            created_at=clock.written(clock.now()),
            filter=new.filter,
            format=new.format,
            payload=new.payload,
            headers=self.headers(new.headers, {}),
            secrets=(self.secret(new.signing, new.secret),),
            schedule_seconds=new.schedule_seconds,
            max_in_flight=new.max_in_flight,
            rate_per_second=new.rate_per_second,
            fifo=new.fifo,
        )

    def callback(
        self, mission_id: str, *, url: str, secret: str | None, events: tuple[str, ...] | None
    ) -> EndpointRecord:
        """Make the record of a mission's callback, named after the mission; raises Invalid."""
        check_events(events or ())
        return EndpointRecord(
            id=callback_of(mission_id),
            kind="webhook",
            url=self.url(url),
            name="callback",
            events=events or CALLBACK_EVENTS,
            created_at=clock.written(clock.now()),
            filter=EventFilter(mission_id=mission_id),
            secrets=(self.secret("v1", secret),),
            max_in_flight=1,
        )

    def url(self, url: str) -> str:
        """Check and seal an address; raises Invalid."""
        self._egress.check_url(url)
        return self._vault.seal(url)

    def headers(self, headers: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
        """Check and seal headers; a value that is only its stand-in stays as it is at present."""
        known = {name.lower(): value for name, value in present.items()}
        opened = {
            name: self._vault.open(known[name.lower()])
            if value == HIDDEN and name.lower() in known
            else value
            for name, value in headers.items()
        }
        unknown = [name for name, value in opened.items() if value == HIDDEN]
        if unknown:
            raise Invalid(f"{HIDDEN} stands for a value that is set; {unknown[0]!r} has none yet")
        return {name: self._vault.seal(value) for name, value in check_headers(opened).items()}

    def secret(
        self, signing: Signing | None, secret: str | None, *, secret_id: str | None = None
    ) -> SigningSecret:
        """Seal a secret of the caller's, or make one; raises Invalid.

        `signing` is the kind to make; with a secret of the caller's, v1a has to be its kind.
        """
        if secret is None:
            text = standard_webhooks.new_secret(signing or "v1")
        else:
            standard_webhooks.check_secret(secret)
            text = secret
        kind: Signing = "v1a" if text.startswith(standard_webhooks.PRIVATE) else "v1"
        if signing == "v1a" and kind == "v1":
            raise Invalid("signatures of kind v1a take a whsk_ secret")
        return SigningSecret(
            id=secret_id or ids.new("secret"),
            kind=kind,
            secret=self._vault.seal(text),
            created_at=clock.written(clock.now()),
            public_key=standard_webhooks.public_key(text),
        )

    def shown(self, record: EndpointRecord, brought: str | None) -> dict[str, Any]:
        """Say once what the receiver needs to verify: the newest secret, or its public key."""
        newest = record.secrets[0]
        mine = brought is None and newest.kind == "v1"
        return {
            "secret": self._vault.open(newest.secret) if mine else None,
            "public_key": newest.public_key,
        }


def callback_of(mission_id: str) -> str:
    """Name the endpoint that is a mission's callback (`callback_of` in _deliveries.lua)."""
    return f"end_{mission_id.partition('_')[2]}"


def shown_url(url: str) -> str:
    """Show where a webhook goes without what may open it: `https://hooks.example.com/•••`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return MASK
    if ":" in host:
        host = f"[{host}]"
    rest = MASK if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}/{rest}"


def refuse_webhook_fields(said: msgspec.Struct) -> None:
    """Raise Invalid for what a push cannot have, naming it."""
    defaults = dict(zip(said.__struct_fields__[::-1], said.__struct_defaults__[::-1], strict=False))
    wrong = [
        name
        for name in FOR_WEBHOOKS
        if name in said.__struct_fields__ and getattr(said, name) != _plain(defaults[name])
    ]
    if wrong:
        raise Invalid(f"only a webhook has {', '.join(wrong)}; a push has not", fields=wrong)


def check_events(patterns: tuple[str, ...]) -> None:
    """Raise Invalid for patterns that no event of the closed set matches."""
    wrong = [pattern for pattern in patterns if not is_pattern(pattern)]
    if wrong:
        raise Invalid(f"no event matches {', '.join(wrong)}", events=wrong)


def check_schedule(waits: tuple[float, ...] | None) -> None:
    """Raise Invalid for a schedule that outlives the event."""
    if waits is not None and sum(waits) > SCHEDULE_SECONDS:
        days = SCHEDULE_SECONDS // 86_400
        raise Invalid(f"schedule_seconds adds up to more than {days} days")


def _plain(default: Any) -> Any:
    """Make the default that msgspec keeps as a factory."""
    factory = getattr(default, "factory", None)
    return default if factory is None else factory()
