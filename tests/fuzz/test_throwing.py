"""The fuzzer's own aim: what it throws is sometimes believed, and finds what should not be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import throwing
from fuzz.throwing import throw
from tinytown.schemes import SCHEMES, Recognised

RIGHT, WRONG = b"\x01", b"\x00"
CALM = b"\x00\x00\x00"  # in time, as JSON, nothing changed


@pytest.mark.parametrize("scheme", range(len(SCHEMES)))
def test_a_hook_with_the_right_secret_is_believed_and_another_is_not(scheme: int) -> None:
    body = b'{"type":"thing","webhookTimestamp":1790000000000}'
    believed = throw(bytes([scheme]) + RIGHT + CALM + body)
    assert believed is not None
    assert believed.payload["type"] == "thing"
    assert throw(bytes([scheme]) + WRONG + CALM + body) is None


@given(st.binary(max_size=300))
def test_nothing_is_found_in_a_few_handfuls(data: bytes) -> None:
    throw(data)


def test_a_verifier_that_believes_everybody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def gullible(*_: Any, **__: Any) -> Recognised:
        return Recognised(delivery_id="1", kind="", payload=None, keep_seconds=1)

    monkeypatch.setattr(throwing, "recognise", gullible)
    with pytest.raises(AssertionError, match="believed a stranger"):
        throw(b"\x01" + WRONG + CALM)


def test_an_error_that_is_not_ours_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def clumsy(_secrets: Sequence[str], _headers: Any, body: bytes, **_: Any) -> str:
        return body.decode()  # as the reference library does

    monkeypatch.setattr(throwing, "verify", clumsy)
    standard = sorted(SCHEMES).index("standard")
    with pytest.raises(UnicodeDecodeError):
        throw(bytes([standard]) + RIGHT + CALM + b"\xff")
