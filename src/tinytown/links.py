"""Signed answer links: what a phone needs to answer one question, and nothing more.

A token is 57 bytes, written as 76 characters of base64url without padding (57 is a multiple
of three, so no token has a second spelling):

    version 1 · key id 1 · question 16 · choice 1 · expires 4 · endpoint 16 · signature 18

The signature is HMAC-SHA256, cut to 144 bits, over the other 39 bytes and the name of the town.
Several secrets may verify (rotation); the first one signs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tinytown import ids
from tinytown.errors import Gone, Invalid, NotFound

_VERSION: Final = 1
_BODY: Final = struct.Struct(">BB16sBI16s")
_SIGNATURE_BYTES: Final = 18
_TOKEN_BYTES: Final = _BODY.size + _SIGNATURE_BYTES
TOKEN_LENGTH: Final = _TOKEN_BYTES * 4 // 3
"""Every token has exactly this many characters."""

_NO_CHOICE: Final = 0xFF
MAX_CHOICE: Final = _NO_CHOICE - 1
"""The largest option index a link can carry."""
_LATEST: Final = 2**32 - 1
_NOBODY: Final = bytes(16)
_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_SUFFIX_LENGTH: Final = 26
_CONTEXT: Final = b"tinytown answer link\0"


@dataclass(frozen=True, slots=True)
class AnswerLink:
    """What a genuine token says: which question, which option, for whom and until when."""

    question_id: str
    choice: int | None
    """The index of the option the link stands for; None = the page with all of them."""
    expires_at: int
    """Unix time in seconds; from then on the link is dead."""
    endpoint_id: str | None
    """The endpoint the link was sent to; None = made for no endpoint in particular."""


@dataclass(frozen=True, slots=True)
class _Key:
    identity: int
    secret: bytes = field(repr=False)


class AnswerLinks:
    """Makes and checks the tokens of one town."""

    def __init__(self, *, town: str, keys: Sequence[str | bytes]) -> None:
        """Sign with the first key, accept all of them; a key is any secret of 16 bytes or more."""
        if not keys:
            message = "answer links need at least one key"
            raise ValueError(message)
        self._town = town.encode()
        self._keys = tuple(self._derive(key) for key in keys)

    def __repr__(self) -> str:
        """Show the town, never a key."""
        return f"AnswerLinks(town={self._town.decode()!r}, keys={len(self._keys)})"

    def make(
        self,
        question_id: str,
        *,
        expires_at: int,
        choice: int | None = None,
        endpoint_id: str | None = None,
    ) -> str:
        """Make the token of one question, for one option (`choice`) or for its page.

        Raises Invalid where the question is no question id, the choice is above MAX_CHOICE or the
        time does not fit into 32 bits.
        """
        if choice is not None and not 0 <= choice <= MAX_CHOICE:
            detail = f"a link can carry the options 0 to {MAX_CHOICE}, not {choice}"
            raise Invalid(detail)
        if not 0 <= expires_at <= _LATEST:
            detail = f"a link cannot expire at {expires_at}"
            raise Invalid(detail)
        key = self._keys[0]
        body = _BODY.pack(
            _VERSION,
            key.identity,
            _pack_id("question", question_id),
            _NO_CHOICE if choice is None else choice,
            expires_at,
            _NOBODY if endpoint_id is None else _pack_id("endpoint", endpoint_id),
        )
        return base64.urlsafe_b64encode(body + self._sign(key, body)).decode()

    def verify(self, token: str, *, now: float) -> AnswerLink:
        """Read a token at `now` (Unix seconds).

        Raises NotFound for anything this town did not sign, Gone for a link past its time.
        """
        raw = _decode(token)
        body, signature = raw[: _BODY.size], raw[_BODY.size :]
        version, identity, question, choice, expires_at, endpoint = _BODY.unpack(body)
        genuine = False
        for key in self._keys:
            # No early exit: the time taken tells nothing about which key came close.
            if key.identity == identity:
                genuine |= hmac.compare_digest(self._sign(key, body), signature)
        if not genuine or version != _VERSION:
            raise _unknown()
        link = AnswerLink(
            question_id=_unpack_id("question", question),
            choice=None if choice == _NO_CHOICE else choice,
            expires_at=expires_at,
            endpoint_id=None if endpoint == _NOBODY else _unpack_id("endpoint", endpoint),
        )
        if now >= expires_at:
            detail = "this link has expired: its question is past its time"
            raise Gone(detail, question_id=link.question_id)
        return link

    def _derive(self, key: str | bytes) -> _Key:
        raw = key.encode() if isinstance(key, str) else key
        if len(raw) < 16:  # 128 bits, about as strong as the signature
            message = "a key that signs answer links needs 16 bytes or more"
            raise ValueError(message)
        # The same secret also encrypts at rest, so each use has a key of its own.
        secret = hmac.digest(raw, _CONTEXT + self._town, "sha256")
        return _Key(hashlib.sha256(secret).digest()[0], secret)

    def _sign(self, key: _Key, body: bytes) -> bytes:
        return hmac.digest(key.secret, body, "sha256")[:_SIGNATURE_BYTES]


def new_secret() -> str:
    """Make a secret good enough to sign links with (256 random bits)."""
    return secrets.token_urlsafe(32)


def _unknown() -> NotFound:
    return NotFound("this is no link of this town")


def _decode(token: str) -> bytes:
    # b64decode takes `+` and `/` for `-` and `_` too: that would be a second spelling.
    if len(token) != TOKEN_LENGTH or not token.isascii() or "+" in token or "/" in token:
        raise _unknown()
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True)
    except binascii.Error:
        raise _unknown() from None


def _pack_id(noun: str, text: str) -> bytes:
    if not ids.is_id(noun, text):
        detail = f"{text!r} is no {noun} id"
        raise Invalid(detail)
    number = 0
    for letter in text.partition("_")[2]:
        number = number << 5 | _DIGITS.index(letter)
    try:
        return number.to_bytes(16, "big")
    except OverflowError:
        detail = f"{text!r} is no {noun} id"
        raise Invalid(detail) from None


def _unpack_id(noun: str, raw: bytes) -> str:
    number = int.from_bytes(raw, "big")
    letters = []
    for _ in range(_SUFFIX_LENGTH):
        number, digit = divmod(number, 32)
        letters.append(_DIGITS[digit])
    return f"{ids.PREFIXES[noun]}_{''.join(reversed(letters))}"
