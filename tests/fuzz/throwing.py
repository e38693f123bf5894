"""Turns bytes into hooks and throws them at the verifiers: a stranger's, or a sender's gone mad.

Bytes choose a scheme, whether the hook is signed with the right secret, which of its headers are
changed, and what is in them; the rest is the body. A stranger who is believed, an error that is
not ours, or a reading that the store could not keep, is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Final

import msgspec

from senders import FORM, JSON, KEY_PAIR, NOW, OPTIONS, SECRETS, sent
from tinytown.schemes import SCHEMES, Hook, Recognised, Rejected, recognise
from tinytown.standard_webhooks import BadSignature, public_key, verify

_NAMES: Final = sorted(SCHEMES)
_KEYS: Final = {**SECRETS, "standard": KEY_PAIR}
_PUBLIC: Final = str(public_key(KEY_PAIR))
_TYPES: Final = (JSON, FORM, "text/plain", "")
# What may change without the proof being another: nothing of this is signed.
_CARDS: Final = frozenset(
    {"content-type", "x-github-delivery", "x-github-event", "linear-delivery", "x-hub-signature"}
)


class Bytes:
    """Reads choices and texts off the front of some bytes; at the end everything is empty."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def number(self, below: int) -> int:
        """Choose a number; 0 when there is nothing left."""
        taken, self.rest = self.rest[:1], self.rest[1:]
        return taken[0] % below if taken else 0

    def text(self) -> str:
        """Take a header's value: Latin-1 as servers read it, or any text at all."""
        odd, size = self.number(8) == 7, self.number(256)
        raw, self.rest = self.rest[:size], self.rest[size:]
        if odd:
            return "".join(chr(byte * 257) for byte in raw)  # up to U+FFFF, surrogates and all
        return raw.decode("latin-1")


def seeds() -> Iterator[bytes]:
    """Write hooks to start from: each scheme's own, with bodies that lead into every corner."""
    bodies = (
        b'{"type":"thing","action":"create","webhookTimestamp":1790000000000,"id":"x"}',
        b'{"type":"url_verification","challenge":"abc"}',
        b'{"type":"event_callback","event_id":"Ev1","event":{"type":"message"}}',
        b"payload=%7B%22type%22%3A%22block_actions%22%7D&a=1&a=2&a=3",
        b"ssl_check=1&token=x",
        b"[" * 70 + b"]" * 70,
        b"text",
        b"",
    )
    for scheme, body, content_type in product(range(len(_NAMES)), bodies, range(len(_TYPES))):
        yield bytes([scheme, 1, 0, content_type, 0]) + body


def throw(data: bytes) -> Recognised | None:
    """Throw one hook; returns what a believed one says. Raises whatever should never be raised."""
    choices = Bytes(data)
    scheme = _NAMES[choices.number(len(_NAMES))]
    right = choices.number(2) == 1
    late = choices.number(4) * 200
    content_type = _TYPES[choices.number(len(_TYPES))]
    changes = [
        (choices.number(256), choices.number(3), choices.text()) for _ in range(choices.number(4))
    ]
    body = choices.rest
    secret = _KEYS[scheme] if right else _wrong(scheme)
    hook = sent(scheme, body, secret=secret, now=NOW - late, headers={"content-type": content_type})
    headers = list(hook.headers)
    for place, how, value in changes:
        name = headers[place % len(headers)][0]
        if how == 0:
            headers[place % len(headers)] = (name, value)
        elif how == 1:
            headers.append((name, value))
        elif len(headers) > 1:
            del headers[place % len(headers)]
    thrown = Hook(headers=tuple(headers), body=body)
    untouched = [pair for pair in headers if pair[0] not in _CARDS] == [
        pair for pair in hook.headers if pair[0] not in _CARDS
    ]
    return _caught(scheme, thrown, believable=right and (untouched or scheme in _LENIENT))


# Their proof may be written in more than one way: capitals, spaces, or values that nobody reads.
_LENIENT: Final = frozenset({"basic", "hmac", "stripe", "token"})


def _caught(scheme: str, hook: Hook, *, believable: bool) -> Recognised | None:
    if scheme == "standard":
        _verified(hook, believable=believable)
    try:
        known = recognise(scheme, OPTIONS[scheme], [_KEYS[scheme]], hook, now=NOW)
    except Rejected:
        return None
    assert believable, f"{scheme} believed a stranger"
    assert known.delivery_id.isascii(), known.delivery_id
    assert 0 < len(known.delivery_id) <= 256, known.delivery_id
    assert known.kind.isascii(), known.kind
    msgspec.json.encode(known)  # as the store keeps it
    return known


def _verified(hook: Hook, *, believable: bool) -> None:
    try:
        verify([SECRETS["standard"], _PUBLIC], hook.headers, hook.body, now=NOW)
    except BadSignature:
        return
    assert believable, "a stranger's signature was verified"


def _wrong(scheme: str) -> str:
    # The shared secret is known as well as the key pair: neither is this one.
    return "whsec_" + "A" * 43 + "=" if scheme == "standard" else "nobody's secret, surely"
