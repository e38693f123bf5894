"""Slack: `v0:time:body` under the signing secret, for events, buttons and slash commands alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tinytown.schemes.hook import DAY_SECONDS, Hook, Recognised, Rejected, Scheme
from tinytown.schemes.hook import SchemeOptions as Options
from tinytown.schemes.proof import (
    TOLERANCE_SECONDS,
    check_hmac,
    check_window,
    digest,
    header_bytes,
    seconds,
)
from tinytown.schemes.reading import FORM, field, form, id_of, json, kind_of

_MOST_CHALLENGE: Final = 1024  # Slack's are about fifty characters


def read(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:
    """Recognise what Slack sends.

    Events come as JSON and are tried three more times with the same id (`X-Slack-Retry-Num`
    counts them); interactions come in the field `payload` of a form, slash commands as a form. The
    kind is the inner event's type, the interaction's type, or `slash_command`.
    """
    time = hook.needed("x-slack-request-timestamp")
    written = header_bytes(time)
    content = b"v0:%b:%b" % (written, hook.body)
    check_hmac(secrets, [hook.needed("x-slack-signature")], content, prefix="v0=")
    sent_at = seconds(time)
    check_window(sent_at, now, options.tolerance_seconds or TOLERANCE_SECONDS)
    kind, payload = _decoded(hook)
    return Recognised(
        # Interactions have no id and are sent once: what they say, and when, is who they are.
        delivery_id=id_of(field(payload, "event_id")) or digest(written, hook.body),
        kind=kind,
        payload=payload,
        keep_seconds=SCHEME.keep_seconds,
        sent_at=sent_at,
        challenge=_challenge(kind, payload),
    )


def _decoded(hook: Hook) -> tuple[str, Any]:
    if hook.content_type != FORM:
        payload = json(hook.body)
        said = field(payload, "type")
        return kind_of(field(payload, "event.type") if said == "event_callback" else said), payload
    fields = form(hook)
    if "payload" in fields:
        if not isinstance(fields["payload"], str):
            raise Rejected("not_form")
        payload = json(fields["payload"].encode())
        return kind_of(field(payload, "type")), payload
    return ("ssl_check" if "ssl_check" in fields else "slash_command"), fields


def _challenge(kind: str, payload: Any) -> tuple[bytes, str] | None:
    """Write what Slack wants to read back before it sends anything, or when it tries the TLS."""
    if kind == "ssl_check":
        return b"", "text/plain"
    if kind != "url_verification":
        return None
    text = field(payload, "challenge")
    if not isinstance(text, str) or not 0 < len(text) <= _MOST_CHALLENGE:
        raise Rejected("challenge")
    return text.encode(), "text/plain"


SCHEME = Scheme(
    read=read,
    keep_seconds=DAY_SECONDS,  # it tries again at once, after one minute and after five
    takes=frozenset({"tolerance_seconds"}),
)
