"""GitHub: `X-Hub-Signature-256` over the body, the delivery's id and the event in headers."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Sequence

from tinytown.schemes.hook import REDELIVERY_SECONDS, Hook, Recognised, Rejected, Scheme
from tinytown.schemes.hook import SchemeOptions as Options
from tinytown.schemes.proof import check_hmac
from tinytown.schemes.reading import field, id_of, json_or_form, kind_of


def read(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:  # noqa: ARG001 - GitHub signs no time
    """Recognise what GitHub sends, as JSON or as a form; `ping` is an event like any other."""
    check_hmac(secrets, [hook.needed("x-hub-signature-256")], hook.body, prefix="sha256=")
    delivery_id = id_of(hook.needed("x-github-delivery"))
    event = kind_of(hook.needed("x-github-event"))
    if not delivery_id:
        raise Rejected("id")
    if not event:
        raise Rejected("kind")
    payload = json_or_form(hook)
    return Recognised(
        delivery_id=delivery_id,
        kind=kind_of(event, field(payload, "action")),
        payload=payload,
        keep_seconds=REDELIVERY_SECONDS,
    )


SCHEME = Scheme(
    read=read,
    # By hand or through the API, a delivery can be sent again for three days.
    keep_seconds=REDELIVERY_SECONDS,
    new_secret=lambda: randomness.token_urlsafe(32),
)
