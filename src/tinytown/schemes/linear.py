"""Linear: bare hex in `Linear-Signature` over the body, which itself says when it was sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tinytown.schemes.hook import DAY_SECONDS, Hook, Recognised, Rejected, Scheme
from tinytown.schemes.hook import SchemeOptions as Options
from tinytown.schemes.proof import check_hmac, check_window
from tinytown.schemes.reading import field, id_of, json, kind_of

_TOLERANCE_SECONDS: Final = 60  # Linear's own advice
_LAST_MILLISECOND: Final = 10**15


def read(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:
    """Recognise what Linear sends; the kind is type and action, as in `Issue.create`."""
    check_hmac(secrets, [hook.needed("linear-signature")], hook.body)
    delivery_id = id_of(hook.needed("linear-delivery"))
    if not delivery_id:
        raise Rejected("id")
    payload = json(hook.body)
    time = field(payload, "webhookTimestamp")
    if type(time) is not int or not 0 <= time < _LAST_MILLISECOND:
        raise Rejected("timestamp")
    sent_at = time / 1000
    check_window(sent_at, now, options.tolerance_seconds or _TOLERANCE_SECONDS)
    return Recognised(
        delivery_id=delivery_id,
        kind=kind_of(field(payload, "type"), field(payload, "action")),
        payload=payload,
        keep_seconds=SCHEME.keep_seconds,
        sent_at=sent_at,
    )


SCHEME = Scheme(
    read=read,
    keep_seconds=DAY_SECONDS,  # it tries again after a minute, an hour and six hours
    takes=frozenset({"tolerance_seconds"}),
)
