"""Compares signatures, tokens and times; the only place where a scheme decides whom to believe."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from typing import Final

from tinytown.schemes.hook import Rejected

MOST_SIGNATURES: Final = 16  # while a secret is rotated a sender signs with two or three
TOLERANCE_SECONDS: Final = 300  # Stripe's, Slack's and Standard Webhooks' own

_TIME: Final = re.compile(r"[0-9]{1,15}")
_FIRST_MILLISECONDS: Final = 10**11  # as seconds it is the year 5138, as milliseconds 1973


def check_hmac(
    secrets: Sequence[str],
    given: Sequence[str],
    content: bytes,
    *,
    algorithm: str = "sha256",
    encoding: str = "hex",
    prefix: str = "",
) -> None:
    """Raise Rejected unless one of the given signatures is one of the secrets'.

    They are compared as they are written, prefix and all, and each with each: the time it takes
    shows neither how much of one was right nor which secret it was.
    """
    if len(given) > MOST_SIGNATURES:
        raise Rejected("too_many_signatures")
    expected = [
        (prefix + _written(secret_bytes(secret), content, algorithm, encoding)).encode()
        for secret in secrets
    ]
    check_equal(expected, [header_bytes(text) for text in given])


def check_equal(expected: Iterable[bytes], given: Sequence[bytes]) -> None:
    """Raise Rejected unless one of those given is one of those expected; in constant time."""
    fits = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    if not any(fits):
        raise Rejected("signature")


def seconds(text: str) -> float:
    """Read a signed time in Unix seconds or milliseconds; digits and nothing else."""
    if not _TIME.fullmatch(text):
        raise Rejected("timestamp")
    number = int(text)
    return number / 1000 if number >= _FIRST_MILLISECONDS else number


def check_window(sent_at: float, now: float, tolerance_seconds: float) -> None:
    """Raise Rejected when a signed time is further from now than that, before or after."""
    if abs(now - sent_at) > tolerance_seconds:
        raise Rejected("stale")


def digest(*parts: bytes) -> str:
    """Name a delivery by what it says, where the sender gives it no id."""
    return "sha256-" + hashlib.sha256(b".".join(parts)).hexdigest()


def header_bytes(text: str) -> bytes:
    """Turn a header's text back into the bytes that came in; servers read them as Latin-1."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        raise Rejected("encoding") from None


def secret_bytes(secret: str) -> bytes:
    """Turn a secret into the key that both sides sign with."""
    return secret.encode("utf-8", "surrogatepass")


def _written(key: bytes, content: bytes, algorithm: str, encoding: str) -> str:
    raw = hmac.digest(key, content, algorithm)
    return raw.hex() if encoding == "hex" else base64.b64encode(raw).decode("ascii")
