"""Linear's hooks: bare hex over a body that says itself when it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from senders import NOW, SECRETS, sent, without
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise

MILLISECONDS = int(NOW * 1000)


def read(hook: Hook, **options: Any) -> Recognised:
    return recognise("linear", SchemeOptions(**options), [SECRETS["linear"]], hook, now=NOW)


def refusal(hook: Hook) -> str:
    with pytest.raises(Rejected) as refused:
        read(hook)
    return refused.value.reason


def body(time: Any = MILLISECONDS, **other: Any) -> bytes:
    made = {"action": "create", "type": "Issue", "webhookTimestamp": time, **other}
    return json.dumps(made).encode()


def test_type_and_action_name_what_happened() -> None:
    hook = read(sent("linear", body(data={"identifier": "ENG-7"})))
    assert hook.delivery_id == "234d1a4e-b617-4388-90fe-adc3633d6b72"
    assert (hook.kind, hook.sent_at) == ("Issue.create", NOW)
    assert hook.payload["data"] == {"identifier": "ENG-7"}


@pytest.mark.parametrize("late", [-60_000, 0, 60_000])
def test_a_minute_either_way_is_still_now(late: int) -> None:
    assert read(sent("linear", body(MILLISECONDS + late))).sent_at == NOW + late / 1000


@pytest.mark.parametrize("late", [-60_001, 60_001, -MILLISECONDS])
def test_after_a_minute_it_is_stale(late: int) -> None:
    assert refusal(sent("linear", body(MILLISECONDS + late))) == "stale"


def test_a_source_may_allow_more() -> None:
    assert read(sent("linear", body(MILLISECONDS - 200_000)), tolerance_seconds=300).kind


@pytest.mark.parametrize("time", [None, "1790000000000", True, 1.79e12, -1, 10**300, [], {}])
def test_a_time_that_is_no_whole_number_is_refused(time: Any) -> None:
    assert refusal(sent("linear", body(time))) == "timestamp"


@pytest.mark.parametrize("text", [b"[]", b"7", b'""', b"null"])
def test_a_body_without_a_time_is_refused(text: bytes) -> None:
    assert refusal(sent("linear", text)) == "timestamp"


@pytest.mark.parametrize("name", ["linear-signature", "linear-delivery"])
def test_without_one_of_its_headers_it_is_not_linear(name: str) -> None:
    assert refusal(without(sent("linear", body()), name)) == "missing_header"


def test_the_signature_is_bare_hex() -> None:
    right = dict(sent("linear", body()).headers)["linear-signature"]
    for written in ("sha256=" + right, right.upper(), right[:-1], ""):
        hook = sent("linear", body(), headers={"linear-signature": written})
        assert refusal(hook) == "signature"
    assert refusal(sent("linear", b"{")) == "not_json"
    assert refusal(sent("linear", body(), headers={"linear-delivery": ""})) == "id"
