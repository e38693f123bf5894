"""Stripe: `Stripe-Signature: t=…,v1=…` over the time and the body, the event's id in the body."""

from __future__ import annotations

from collections.abc import Sequence

from tinytown.schemes.hook import REDELIVERY_SECONDS, Hook, Recognised, Rejected, Scheme
from tinytown.schemes.hook import SchemeOptions as Options
from tinytown.schemes.proof import (
    TOLERANCE_SECONDS,
    check_hmac,
    check_window,
    digest,
    header_bytes,
    seconds,
)
from tinytown.schemes.reading import field, id_of, json, kind_of


def read(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:
    """Recognise an event of Stripe's; while its secret is rolled it signs with both."""
    pairs = [item.partition("=") for item in hook.needed("stripe-signature").split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    if len(times) != 1:
        raise Rejected("timestamp")
    written = header_bytes(times[0])
    given = [value for name, _, value in pairs if name == "v1"]
    check_hmac(secrets, given, b"%b.%b" % (written, hook.body))
    sent_at = seconds(times[0])
    check_window(sent_at, now, options.tolerance_seconds or TOLERANCE_SECONDS)
    payload = json(hook.body)
    return Recognised(
        delivery_id=id_of(field(payload, "id")) or digest(written, hook.body),
        kind=kind_of(field(payload, "type")),
        payload=payload,
        keep_seconds=REDELIVERY_SECONDS,
        sent_at=sent_at,
    )


SCHEME = Scheme(
    read=read,
    keep_seconds=REDELIVERY_SECONDS,  # it tries for up to three days
    takes=frozenset({"tolerance_seconds"}),
)
