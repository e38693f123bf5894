"""Any sender that signs with a shared secret: the source says where, how, and what is signed."""

from __future__ import annotations

import re
import secrets as randomness
from collections.abc import Sequence
from typing import Any, Final

from tinytown.errors import Invalid
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
from tinytown.schemes.reading import anything, field, id_of, kind_of

_HEADER: Final = "x-signature"
_PLACES: Final = re.compile(r"(\{(?:timestamp|id|body)\})")


def read(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:
    """Recognise a body whose HMAC is in a header; hex in either case, base64 as it is written."""
    parts = {"{body}": hook.body}
    sent_at, delivery_id = None, None
    time = b""
    if options.timestamp_header:
        time = parts["{timestamp}"] = header_bytes(hook.needed(options.timestamp_header))
    if options.id_header:
        parts["{id}"] = header_bytes(hook.needed(options.id_header))
    given = hook.needed(options.header or _HEADER)
    encoding, prefix = options.encoding or "hex", options.prefix or ""
    if encoding == "hex":
        given = given[: len(prefix)] + given[len(prefix) :].lower()
    check_hmac(
        secrets,
        [given],
        _content(options, parts),
        algorithm=options.algorithm or "sha256",
        encoding=encoding,
        prefix=prefix,
    )
    if options.timestamp_header:
        sent_at = seconds(hook.needed(options.timestamp_header))
        check_window(sent_at, now, options.tolerance_seconds or TOLERANCE_SECONDS)
    payload = anything(hook)
    delivery_id = given_id(options, hook, payload)
    if options.id_header and delivery_id is None:
        raise Rejected("id")
    return Recognised(
        delivery_id=delivery_id or digest(*([time] if time else []), hook.body),
        kind=given_kind(options, hook, payload),
        payload=payload,
        keep_seconds=SCHEME.keep_seconds,
        sent_at=sent_at,
    )


def given_id(options: Options, hook: Hook, payload: Any) -> str | None:
    """Find a delivery's id where the source says it is: in a header, or in the body."""
    if options.id_header:
        return id_of(hook.header(options.id_header))
    return id_of(field(payload, options.id_field)) if options.id_field else None


def given_kind(options: Options, hook: Hook, payload: Any) -> str:
    """Find what happened where the source says it is: in a header, or in the body."""
    if options.kind_header:
        return kind_of(hook.header(options.kind_header))
    return kind_of(field(payload, options.kind_field)) if options.kind_field else ""


def check(options: Options, secrets: Sequence[str]) -> None:  # noqa: ARG001 - one shape for all schemes
    """Raise Invalid for a template that leaves the body out, or for a time that nobody signs."""
    template = options.template or "{body}"
    places = _PLACES.findall(template)
    if "{" in _PLACES.sub("", template) or "}" in _PLACES.sub("", template):
        raise Invalid("`template` knows {timestamp}, {id} and {body}, and no other braces")
    if places.count("{body}") != 1:
        raise Invalid("`template` holds {body} exactly once: what is not signed proves nothing")
    if ("{timestamp}" in places) != bool(options.timestamp_header):
        raise Invalid("`timestamp_header` and {timestamp} in `template` go together")
    if "{id}" in places and not options.id_header:
        raise Invalid("{id} in `template` needs `id_header`")
    if options.tolerance_seconds and not options.timestamp_header:
        raise Invalid("`tolerance_seconds` needs a `timestamp_header` that is signed")


def _content(options: Options, parts: dict[str, bytes]) -> bytes:
    """Put together what was signed; a place that the hook does not fill stays empty."""
    pieces = _PLACES.split(options.template or "{body}")
    return b"".join(
        parts.get(piece, b"") if _PLACES.fullmatch(piece) else piece.encode() for piece in pieces
    )


SCHEME = Scheme(
    read=read,
    keep_seconds=REDELIVERY_SECONDS,
    takes=frozenset(Options.__struct_fields__) - {"username"},
    check=check,
    new_secret=lambda: randomness.token_urlsafe(32),
)
