"""Whoever signs in a way of their own: what a source may say about it, and what that proves."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any, Literal

import pytest

from senders import FORM, NOW, SECRETS, hexed
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise

SECRET = SECRETS["hmac"]
BODY = b'{"event":{"id":42,"name":"deploy.done"}}'


def read(headers: dict[str, str], body: bytes = BODY, **options: Any) -> Recognised:
    hook = Hook(headers=tuple(headers.items()), body=body)
    return recognise("hmac", SchemeOptions(**options), [SECRET], hook, now=NOW)


def refusal(headers: dict[str, str], body: bytes = BODY, **options: Any) -> str:
    with pytest.raises(Rejected) as refused:
        read(headers, body, **options)
    return refused.value.reason


def test_unless_told_otherwise_it_is_hex_of_sha256_over_the_body() -> None:
    right = hexed(SECRET, BODY)
    hook = read({"x-signature": right})
    assert (hook.kind, hook.sent_at, hook.payload["event"]["id"]) == ("", None, 42)
    assert hook.delivery_id == "sha256-" + hashlib.sha256(BODY).hexdigest()
    # Hex has no case of its own.
    assert read({"x-signature": right.upper()}) == hook
    for wrong in ("", right[:-1], right + "0", "é" * 64, hexed(SECRET, BODY, "sha1")):
        assert refusal({"x-signature": wrong}) == "signature"
    assert refusal({"x-signature": "😀"}) == "encoding"
    assert refusal({}) == "missing_header"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
def test_algorithm_encoding_and_prefix_are_the_senders(
    algorithm: Literal["sha1", "sha256", "sha512"], encoding: Literal["hex", "base64"]
) -> None:
    raw = hmac.new(SECRET.encode(), BODY, getattr(hashlib, algorithm)).digest()
    written = raw.hex() if encoding == "hex" else base64.b64encode(raw).decode()
    options: dict[str, Any] = {"algorithm": algorithm, "encoding": encoding, "prefix": "Mac: "}
    assert read({"x-signature": "Mac: " + written}, **options).payload["event"]
    for wrong in (written, "mac: " + written, "Mac: " + written.rstrip("=")[:-1]):
        assert refusal({"x-signature": wrong}, **options) == "signature"


def test_a_signed_time_closes_the_window_in_seconds_or_milliseconds() -> None:
    options: dict[str, Any] = {"template": "v1.{timestamp}.{body}", "timestamp_header": "X-Time"}

    def signed(time: str) -> dict[str, str]:
        return {"x-time": time, "x-signature": hexed(SECRET, f"v1.{time}.".encode() + BODY)}

    assert read(signed("1790000000"), **options).sent_at == NOW
    assert read(signed("1789999999500"), **options).sent_at == NOW - 0.5
    assert refusal(signed("1789999699"), **options) == "stale"
    assert refusal(signed("1789999699999"), **options) == "stale"
    assert refusal(signed("1_790_000_000"), **options) == "timestamp"
    assert refusal(signed("1789999969"), **options, tolerance_seconds=30) == "stale"
    moved = {**signed("1790000000"), "x-time": "1790000001"}
    assert refusal(moved, **options) == "signature"
    # The same body at another time is another delivery, where nothing else tells them apart.
    first, second = (read(signed(time), **options) for time in ("1790000000", "1790000001"))
    assert first.delivery_id != second.delivery_id


def test_id_and_kind_are_where_the_source_says() -> None:
    right = {"x-signature": hexed(SECRET, BODY)}
    hook = read(right, id_field="event.id", kind_field="event.name")
    assert (hook.delivery_id, hook.kind) == ("42", "deploy.done")
    named = {**right, "x-id": "abc-1", "x-kind": "push"}
    hook = read(named, id_header="X-Id", kind_header="X-Kind")
    assert (hook.delivery_id, hook.kind) == ("abc-1", "push")
    assert refusal(right, id_header="x-id") == "missing_header"
    assert refusal({**named, "x-id": ""}, id_header="x-id") == "id"
    # A field that is not there leaves the digest and no kind.
    hook = read(right, id_field="event.name.7", kind_field="nothing.here")
    assert (hook.delivery_id[:7], hook.kind) == ("sha256-", "")


def test_an_id_may_be_signed_too() -> None:
    signed = {"x-id": "7", "x-signature": hexed(SECRET, b"7|" + BODY)}
    options: dict[str, Any] = {"template": "{id}|{body}", "id_header": "x-id"}
    assert read(signed, **options).delivery_id == "7"
    assert refusal({**signed, "x-id": "8"}, **options) == "signature"


def test_a_path_leads_through_lists() -> None:
    body = b'{"events":[{"id":"a"},{"id":"b"}]}'
    right = {"x-signature": hexed(SECRET, body)}
    assert read(right, body, id_field="events.1.id").delivery_id == "b"
    assert read(right, body, id_field="events.2.id").delivery_id[:7] == "sha256-"
    assert read(right, body, id_field="events.-1.id").delivery_id[:7] == "sha256-"


def test_forms_and_texts_are_read_as_well() -> None:
    headers = {"x-signature": hexed(SECRET, b"a=%C3%A9&a=2")}
    assert read({**headers, "content-type": FORM}, b"a=%C3%A9&a=2").payload == {"a": ["é", "2"]}
    # What `curl -d` sends, and what only looks like it.
    for body, payload in ((b' {"a": 1}', {"a": 1}), (b"[a]=1", {"[a]": "1"})):
        curled = {"x-signature": hexed(SECRET, body), "content-type": FORM}
        assert read(curled, body).payload == payload
    assert read(headers, b"a=%C3%A9&a=2").payload == {"text": "a=%C3%A9&a=2"}
    json = {**headers, "content-type": "application/vnd.some+json; charset=utf-8"}
    assert refusal(json, b"a=%C3%A9&a=2") == "not_json"
