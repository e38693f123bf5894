"""Senders that sign nothing and show a secret instead: a token in a header, or a password."""

from __future__ import annotations

import base64
import binascii
import re
import secrets as randomness
from collections.abc import Sequence
from typing import Final

from tinytown.errors import Invalid
from tinytown.schemes.hook import REDELIVERY_SECONDS, Hook, Recognised, Rejected, Scheme
from tinytown.schemes.hook import SchemeOptions as Options
from tinytown.schemes.proof import check_equal, digest, header_bytes, secret_bytes
from tinytown.schemes.reading import anything
from tinytown.schemes.signed import given_id, given_kind

# Without an id, the same body again within this time is a sender that tries again; after it, the
# same thing has happened once more. Replay is no concern here: who can replay holds the secret.
_AGAIN_SECONDS: Final = 600
_PLACES: Final = frozenset({"id_header", "id_field", "kind_header", "kind_field"})
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def read_token(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:  # noqa: ARG001 - nothing is signed, not even the time
    """Recognise whoever shows one of the tokens: as a bearer (RFC 6750), or in another header."""
    if options.header is None:
        given = _credentials(hook, "bearer")
    else:
        prefix = options.prefix or ""
        value = hook.needed(options.header)
        if not value.startswith(prefix):
            raise Rejected("signature")
        given = header_bytes(value.removeprefix(prefix))
    check_equal([secret_bytes(secret) for secret in secrets], [given])
    return _recognised(options, hook)


def read_basic(options: Options, secrets: Sequence[str], hook: Hook, now: float) -> Recognised:  # noqa: ARG001 - the same
    """Recognise whoever knows one of the passwords (RFC 7617), under any name unless one is set."""
    try:
        pair = base64.b64decode(_credentials(hook, "basic"), validate=True)
    except binascii.Error:
        raise Rejected("encoding") from None
    name, colon, password = pair.partition(b":")
    if not colon:
        raise Rejected("encoding")
    expected = [secret_bytes(secret) for secret in secrets]
    if options.username is None:
        check_equal(expected, [password])
    else:
        wanted = options.username.encode("utf-8", "surrogatepass")
        check_equal([wanted + b":" + secret for secret in expected], [name + b":" + password])
    return _recognised(options, hook)


def check_token(options: Options, secrets: Sequence[str]) -> None:
    """Raise Invalid for tokens that no header can carry, or a prefix without a header."""
    for secret in secrets:
        if _CONTROL.search(secret) or secret != secret.strip():
            raise Invalid("a token holds no control characters, and no spaces around it")
    if options.prefix and not options.header:
        raise Invalid("`prefix` needs a `header`; a bearer token has its own")


def check_basic(options: Options, secrets: Sequence[str]) -> None:
    """Raise Invalid for names and passwords that RFC 7617 cannot carry."""
    if options.username is not None and (
        ":" in options.username or _CONTROL.search(options.username)
    ):
        raise Invalid("`username` holds neither a colon nor control characters")
    if any(_CONTROL.search(secret) for secret in secrets):
        raise Invalid("a password holds no control characters")


def _credentials(hook: Hook, scheme: str) -> bytes:
    """Take what follows the scheme in the Authorization header (RFC 9110, 11.6.2)."""
    said, _, value = hook.needed("authorization").partition(" ")
    if said.lower() != scheme:
        raise Rejected("signature")
    return header_bytes(value.strip(" "))


def _recognised(options: Options, hook: Hook) -> Recognised:
    payload = anything(hook)
    delivery_id = given_id(options, hook, payload)
    if options.id_header and delivery_id is None:
        raise Rejected("id")
    return Recognised(
        delivery_id=delivery_id or digest(hook.body),
        kind=given_kind(options, hook, payload),
        payload=payload,
        keep_seconds=REDELIVERY_SECONDS if delivery_id else _AGAIN_SECONDS,
    )


def _new_secret() -> str:
    return randomness.token_urlsafe(32)


TOKEN = Scheme(
    read=read_token,
    keep_seconds=REDELIVERY_SECONDS,
    takes=_PLACES | {"header", "prefix"},
    check=check_token,
    new_secret=_new_secret,
)
BASIC = Scheme(
    read=read_basic,
    keep_seconds=REDELIVERY_SECONDS,
    takes=_PLACES | {"username"},
    check=check_basic,
    new_secret=_new_secret,
)
