"""Sends as the senders do: hooks of every scheme, signed as their makers document it.

hook = sent("github", b'{"action":"opened"}', headers={"x-github-event": "issues"})
recognise("github", OPTIONS["github"], [SECRETS["github"]], hook, now=NOW)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from tinytown.schemes import SCHEMES, Hook, SchemeOptions
from tinytown.standard_webhooks import sign

NOW = 1_790_000_000.0
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
KEY_PAIR = (
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
)
SECRETS = {
    "github": "It's a Secret to Everybody",  # of GitHub's documentation
    "stripe": "whsec_4eC39HqLyjWDarjtT1zdp7dcTYooMQauvdEDq54NiTphI7jx",
    "slack": "8f742231b10e8888abcd99yyyzzz85a5",  # of Slack's documentation
    "linear": "lin_wh_0123456789abcdefghij",
    "standard": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "hmac": "a secret of somebody's own",
    "token": "glpat-0123456789abcdef",
    "basic": "correct horse battery staple",
}
OPTIONS: dict[str, SchemeOptions] = {
    **dict.fromkeys(SCHEMES, SchemeOptions()),
    "hmac": SchemeOptions(
        header="x-mark",
        template="{id}:{timestamp}:{body}",
        timestamp_header="x-time",
        id_header="x-id",
        kind_field="type",
    ),
    "basic": SchemeOptions(username="zoë"),
}


def sent(
    scheme: str,
    body: bytes = b"{}",
    *,
    now: float = NOW,
    secret: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Hook:
    """Write one hook as its sender would at `now`; `headers` are put over the usual ones."""
    proof = _PROOFS[scheme](secret or SECRETS[scheme], body, int(now))
    made = {"content-type": JSON, **_CARDS.get(scheme, {}), **proof, **(headers or {})}
    return Hook(headers=tuple(made.items()), body=body)


def without(hook: Hook, name: str) -> Hook:
    """Leave one header out of a hook."""
    return Hook(headers=tuple(pair for pair in hook.headers if pair[0] != name), body=hook.body)


def twice(hook: Hook, name: str) -> Hook:
    """Say one header of a hook again."""
    again = tuple(pair for pair in hook.headers if pair[0] == name)
    return Hook(headers=hook.headers + again, body=hook.body)


def hexed(secret: str, content: bytes, algorithm: str = "sha256") -> str:
    """Sign with a text as the key, in hex."""
    return hmac.new(secret.encode(), content, getattr(hashlib, algorithm)).hexdigest()


def _github(secret: str, body: bytes, _now: int) -> dict[str, str]:
    return {"x-hub-signature-256": "sha256=" + hexed(secret, body)}


def _stripe(secret: str, body: bytes, now: int) -> dict[str, str]:
    signature = hexed(secret, b"%d.%b" % (now, body))
    return {"stripe-signature": f"t={now},v1={signature},v0={'6' * 64}"}


def _slack(secret: str, body: bytes, now: int) -> dict[str, str]:
    signature = "v0=" + hexed(secret, b"v0:%d:%b" % (now, body))
    return {"x-slack-request-timestamp": str(now), "x-slack-signature": signature}


def _linear(secret: str, body: bytes, _now: int) -> dict[str, str]:
    return {"linear-signature": hexed(secret, body)}


def _standard(secret: str, body: bytes, now: int) -> dict[str, str]:
    signature = sign([secret], id="msg_1", timestamp=now, body=body)
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": signature,
    }


def _hmac(secret: str, body: bytes, now: int) -> dict[str, str]:
    return {"x-id": "17", "x-time": str(now), "x-mark": hexed(secret, b"17:%d:%b" % (now, body))}


def _token(secret: str, _body: bytes, _now: int) -> dict[str, str]:
    return {"authorization": "Bearer " + secret}


def _basic(secret: str, _body: bytes, _now: int) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"zoë:{secret}".encode()).decode()}


_PROOFS: dict[str, Any] = {
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "linear": _linear,
    "standard": _standard,
    "hmac": _hmac,
    "token": _token,
    "basic": _basic,
}
# What they say about a delivery without signing it.
_CARDS: dict[str, dict[str, str]] = {
    "github": {
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-github-event": "issues",
        "x-hub-signature": "sha1=" + "0" * 40,
    },
    "linear": {"linear-delivery": "234d1a4e-b617-4388-90fe-adc3633d6b72", "linear-event": "Issue"},
}
