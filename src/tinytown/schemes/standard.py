"""Standard Webhooks, with shared secrets and public keys: OpenAI, Clerk, Resend and all of Svix."""

from __future__ import annotations

from collections.abc import Sequence

from tinytown import standard_webhooks
from tinytown.schemes.hook import REDELIVERY_SECONDS, Hook, Recognised, Rejected, Scheme
from tinytown.schemes.hook import SchemeOptions as Options
from tinytown.schemes.proof import TOLERANCE_SECONDS
from tinytown.schemes.reading import anything, field, kind_of


def read(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:
    """Recognise a message signed as `v1` or `v1a`, its headers called `webhook-*` or `svix-*`."""
    tolerance = options.tolerance_seconds or TOLERANCE_SECONDS
    try:
        delivery_id = standard_webhooks.verify(
            secrets, hook.headers, hook.body, now=now, tolerance_seconds=tolerance
        )
    except standard_webhooks.BadSignature as error:
        raise Rejected(error.reason) from None
    payload = anything(hook)
    return Recognised(
        delivery_id=delivery_id,
        kind=kind_of(field(payload, options.kind_field or "type")),
        payload=payload,
        keep_seconds=REDELIVERY_SECONDS,
        sent_at=standard_webhooks.sent_at(hook.headers),
    )


def check(options: Options, secrets: Sequence[str]) -> None:  # noqa: ARG001 - one shape for all schemes
    """Raise Invalid unless every secret is a whsec_, whsk_ or whpk_ that can verify."""
    for secret in secrets:
        standard_webhooks.check_secret(secret, to="verify")


SCHEME = Scheme(
    read=read,
    keep_seconds=REDELIVERY_SECONDS,  # the specification's schedule lasts 75 hours and a half
    takes=frozenset({"tolerance_seconds", "kind_field"}),
    check=check,
    new_secret=standard_webhooks.new_secret,
)
