"""Signs and verifies webhooks as Standard Webhooks says: `v1` (HMAC-SHA256) and `v1a` (ed25519).

What is signed is `id.timestamp.body`; three headers carry the id, the time and the signatures.
Secrets are base64 after what they are: `whsec_` (shared), `whsk_` (private key), `whpk_` (public).
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets as randomness
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

from tinytown.errors import Invalid

Kind = Literal["v1", "v1a"]
Headers = Mapping[str, str] | Iterable[tuple[str, str]]

SHARED: Final = "whsec_"
PRIVATE: Final = "whsk_"
PUBLIC: Final = "whpk_"
TOLERANCE_SECONDS: Final = 300  # what every library of the specification takes
FAMILIES: Final = (
    "webhook",
    "svix",
)  # the specification's headers, and what they were called first

_PARTS: Final = ("id", "timestamp", "signature")
_NAMES: Final = frozenset(f"{family}-{part}" for family in FAMILIES for part in _PARTS)
_SHARED_BYTES: Final = range(24, 65)  # the specification's bounds
_NEW_SHARED_BYTES: Final = 32
_SEED_BYTES: Final = 32  # of an ed25519 key; as many again are its public half
_SIGNATURE_BYTES: Final = 64
# Nobody signs with more than two or three keys. A stranger makes up signatures for nothing, and one
# of ed25519 over 1 MB costs us 4 ms for each key.
_MOST_SIGNATURES: Final = 16
_MOST_ED25519: Final = 4
# Full stops separate what is signed, so an id may hold none; whitespace is none of an id's either.
_ID: Final = re.compile(r"[!-\-/-~]{1,256}")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


class BadSignature(Exception):
    """The message is not what one of the keys signed just now; `reason` is a slug for the audit."""

    def __init__(self, reason: str) -> None:
        """Keep why: for our own books, never for whoever sent it."""
        super().__init__(reason)
        self.reason = reason


def new_secret(kind: Kind = "v1") -> str:
    """Make a secret to sign with: `whsec_` and 32 random bytes, or `whsk_` and a new key pair."""
    if kind == "v1":
        return SHARED + _written(randomness.token_bytes(_NEW_SHARED_BYTES))
    seed = randomness.token_bytes(_SEED_BYTES)
    return PRIVATE + _written(seed + _public_half(seed))


def public_key(secret: str) -> str | None:
    """Write the `whpk_` of a `whsk_`, to hand to whoever verifies; a shared secret has none."""
    if not secret.startswith(PRIVATE):
        return None
    return PUBLIC + _written(_opened(secret)[1][_SEED_BYTES:])


def check_secret(secret: str, *, to: Literal["sign", "verify"] = "sign") -> None:
    """Raise Invalid unless one can sign (or verify) with it; the message never repeats it."""
    form, key = _opened(secret)
    if form == PUBLIC and to == "sign":
        raise Invalid("a whpk_ key only verifies: signing takes a whsec_ or a whsk_ secret")
    if form == PRIVATE and key[_SEED_BYTES:] != _public_half(key[:_SEED_BYTES]):
        raise Invalid("the two halves of this whsk_ secret do not belong together")


def sign(secrets: Sequence[str], *, id: str, timestamp: int, body: bytes) -> str:  # noqa: A002 - the header's name
    """Write the `webhook-signature` of a message: one signature for each secret, space-separated.

    `timestamp` is in Unix seconds. Raises Invalid for a secret that cannot sign, or for an id that
    holds a full stop, whitespace or nothing.
    """
    if not _ID.fullmatch(id):
        raise Invalid("a webhook's id is 1 to 256 visible ASCII characters without a full stop")
    if not secrets:
        raise Invalid("a webhook is signed with at least one secret")
    return " ".join(_signature(secret, _content(id, str(timestamp), body)) for secret in secrets)


def verify(
    secrets: Sequence[str],
    headers: Headers,
    body: bytes,
    *,
    now: float,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> str:
    """Tell the id of a message that one of `secrets` (whsec_, whsk_ or whpk_) signed around `now`.

    Raises BadSignature, and nothing else whatever the bytes: the body need not be text. Every
    signature is compared in constant time, and a header that comes twice is refused.
    """
    message_id, timestamp, signatures = _read_headers(headers)
    if not _ID.fullmatch(message_id):
        raise BadSignature("id")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise BadSignature("timestamp")
    given = [text for text in signatures.split(" ") if text]
    of_key_pairs = sum(text.startswith("v1a,") for text in given)
    if len(given) > _MOST_SIGNATURES or of_key_pairs > _MOST_ED25519:
        raise BadSignature("too_many_signatures")
    content = _content(message_id, timestamp, body)
    fits = [_fits(secret, given, content) for secret in secrets]  # all, whichever was right
    if not any(fits):
        raise BadSignature("signature")
    if abs(now - int(timestamp)) > tolerance_seconds:
        raise BadSignature("stale")
    return message_id


def sent_at(headers: Headers) -> int:
    """Tell the Unix second that a verified message says it was sent in."""
    return int(_read_headers(headers)[1])


def _read_headers(headers: Headers) -> tuple[str, str, str]:
    """Find id, timestamp and signatures in one family of headers, each exactly once."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, str] = {}
    for name, value in pairs:
        lower = name.lower()
        if lower in _NAMES:
            if lower in found:
                raise BadSignature("duplicate_header")
            found[lower] = value
    # A sender may send both families; the newer then speaks for itself alone.
    family = next((name for name in FAMILIES if f"{name}-signature" in found), FAMILIES[0])
    if not all(f"{family}-{part}" in found for part in _PARTS):
        raise BadSignature("missing_header")
    return found[f"{family}-id"], found[f"{family}-timestamp"], found[f"{family}-signature"]


def _content(message_id: str, timestamp: str, body: bytes) -> bytes:
    return b"%b.%b.%b" % (message_id.encode("ascii"), timestamp.encode("ascii"), body)


def _signature(secret: str, content: bytes) -> str:
    form, key = _opened(secret)
    if form == SHARED:
        return _shared_signature(key, content)
    if form == PUBLIC:
        raise Invalid("a whpk_ key only verifies: signing takes a whsec_ or a whsk_ secret")
    from nacl.signing import SigningKey

    # The public half is derived anew: signing with one that does not belong gives the key away.
    return "v1a," + _written(SigningKey(key[:_SEED_BYTES]).sign(content).signature)


def _shared_signature(key: bytes, content: bytes) -> str:
    return "v1," + _written(hmac.digest(key, content, "sha256"))


def _fits(secret: str, given: Sequence[str], content: bytes) -> bool:
    """Say whether one of the given signatures is this secret's; looks at all of them."""
    try:
        form, key = _opened(secret)
    except Invalid:
        raise BadSignature("secret") from None
    if form == SHARED:
        # Compared as written: another spelling of the same bytes is another signature.
        expected = _shared_signature(key, content).encode()
        fits = [hmac.compare_digest(expected, _bytes(text)) for text in given]
    else:
        public = key if form == PUBLIC else _public_half(key[:_SEED_BYTES])
        fits = [_is_signed(public, text, content) for text in given if text.startswith("v1a,")]
    return any(fits)


def _is_signed(public: bytes, text: str, content: bytes) -> bool:
    written = text.removeprefix("v1a,")
    try:
        signature = base64.b64decode(_bytes(written), validate=True)
    except binascii.Error:
        return False
    if len(signature) != _SIGNATURE_BYTES or _written(signature) != written:
        return False
    from nacl.exceptions import BadSignatureError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(public).verify(content, signature)
    except BadSignatureError:
        return False
    return True


def _opened(secret: str) -> tuple[str, bytes]:
    """Take a secret apart into its form and its key; raises Invalid when it is none."""
    for form, lengths in (
        (SHARED, _SHARED_BYTES),
        (PRIVATE, (2 * _SEED_BYTES,)),
        (PUBLIC, (_SEED_BYTES,)),
    ):
        if not secret.startswith(form):
            continue
        written = secret.removeprefix(form).rstrip("=")
        try:
            # Some tools leave the padding out, so it is put back rather than asked for.
            key = base64.b64decode(_bytes(written + "=" * (-len(written) % 4)), validate=True)
        except binascii.Error:
            raise Invalid(f"what follows {form} is not base64") from None
        if len(key) not in lengths:
            detail = f"a {form} secret is {lengths[0]}"
            detail += f" to {lengths[-1]} bytes" if len(lengths) > 1 else " bytes"
            raise Invalid(f"{detail} in base64; this is {len(key)}")
        return form, key
    raise Invalid("a Standard Webhooks secret starts with whsec_, whsk_ or whpk_")


def _public_half(seed: bytes) -> bytes:
    from nacl.signing import SigningKey

    return bytes(SigningKey(seed).verify_key)


def _written(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")


def _bytes(text: str) -> bytes:
    """Turn any text into bytes; what no header can hold stays distinct from what one can."""
    return text.encode("utf-8", "surrogatepass")
