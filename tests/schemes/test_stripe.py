"""Stripe's hooks, held against its own library both ways."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe import SignatureVerificationError, WebhookSignature

from senders import NOW, SECRETS, hexed, sent
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise

SECRET = SECRETS["stripe"]
BODY = b'{"id":"evt_1MqqbKLt4dXK03v5qaIbiNCC","object":"event","type":"checkout.session.completed"}'


def read(hook: Hook, *secrets: str, now: float = NOW) -> Recognised:
    return recognise("stripe", SchemeOptions(), secrets or [SECRET], hook, now=now)


def refusal(hook: Hook, now: float = NOW) -> str:
    with pytest.raises(Rejected) as refused:
        read(hook, now=now)
    return refused.value.reason


def is_proved(hook: Hook, now: float) -> bool:
    try:
        read(hook, now=now)
    except Rejected as refused:  # what is proved may still be no JSON
        return refused.reason in {"not_json", "too_deep"}
    return True


def signed(header: str, body: bytes = BODY) -> Hook:
    return sent("stripe", body, headers={"stripe-signature": header})


def test_an_event_goes_by_its_id_and_type() -> None:
    hook = read(sent("stripe", BODY))
    assert hook.delivery_id == "evt_1MqqbKLt4dXK03v5qaIbiNCC"
    assert (hook.kind, hook.sent_at) == ("checkout.session.completed", NOW)


def test_while_a_secret_is_rolled_either_signature_will_do() -> None:
    old, time = "whsec_an_old_one_of_ours", int(NOW)
    content = b"%d.%b" % (time, BODY)
    header = f"t={time},v1={hexed(old, content)},v1={hexed(SECRET, content)}"
    assert read(signed(header)) == read(signed(header), old) == read(signed(header), "x", SECRET)


@pytest.mark.parametrize(
    ("late", "taken"), [(-300, True), (300, True), (-301, False), (301, False)]
)
def test_its_signed_time_is_close_to_now(late: int, taken: bool) -> None:  # noqa: FBT001 - a table
    hook = sent("stripe", BODY, now=NOW - late)
    assert read(hook).sent_at == NOW - late if taken else refusal(hook) == "stale"


def test_an_old_event_is_refused_for_its_signature_before_its_age() -> None:
    hook = sent("stripe", BODY, now=0, secret="somebody else's entirely")
    assert refusal(hook) == "signature"


@pytest.mark.parametrize(
    "time",
    [
        "",
        " 1790000000",
        "1_790000000",
        "1.79e9",
        "+1790000000",
        "-1",
        "1790000000.0",
        "١٧٩",
        "9" * 16,
    ],
)
def test_a_time_that_is_not_digits_is_refused_even_when_it_is_signed(time: str) -> None:
    header = f"t={time},v1={hexed(SECRET, time.encode('latin-1', 'replace') + b'.' + BODY)}"
    assert refusal(signed(header)) in {"timestamp", "encoding"}


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "timestamp"),
        ("v1=abc", "timestamp"),
        ("t=1790000000", "signature"),
        ("t=1790000000,v0=abc", "signature"),
        ("t=1790000000,t=1790000000,v1=abc", "timestamp"),
        ("t=1790000000," + ",".join(["v1=abc"] * 17), "too_many_signatures"),
        (",=,==,t=1790000000,v1", "signature"),
    ],
)
def test_a_header_that_is_not_stripes_is_refused(header: str, why: str) -> None:
    assert refusal(signed(header)) == why


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_stripes_own_library_takes_ours_and_we_take_its(text: str) -> None:
    now, body = time.time(), text.encode()
    ours = sent("stripe", body, now=now)
    WebhookSignature.verify_header(text, dict(ours.headers)["stripe-signature"], SECRET, 300)
    theirs = signed(WebhookSignature.generate_signature_header(text, SECRET), body)
    assert is_proved(ours, now)
    assert is_proved(theirs, now)
    changed = Hook(headers=theirs.headers, body=body + b" ")
    assert refusal(changed, now) == "signature"
    with pytest.raises(SignatureVerificationError):
        WebhookSignature.verify_header(
            changed.body, dict(changed.headers)["stripe-signature"], SECRET, 300
        )
