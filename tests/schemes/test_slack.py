"""Slack's hooks: events, buttons and slash commands, held against its own verifier both ways."""

from __future__ import annotations

from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.signature import Clock, SignatureVerifier

from senders import FORM, NOW, SECRETS, sent
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise

SECRET = SECRETS["slack"]


def read(hook: Hook, now: float = NOW) -> Recognised:
    return recognise("slack", SchemeOptions(), [SECRET], hook, now=now)


def refusal(hook: Hook, now: float = NOW) -> str:
    with pytest.raises(Rejected) as refused:
        read(hook, now)
    return refused.value.reason


def is_proved(hook: Hook) -> bool:
    try:
        read(hook)
    except Rejected as refused:  # what is proved may still be no JSON
        return refused.reason in {"not_json", "too_deep"}
    return True


def form(**fields: str) -> Hook:
    return sent("slack", urlencode(fields).encode(), headers={"content-type": FORM})


def test_the_example_of_slacks_documentation_is_proved() -> None:
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
        b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner"
        b"&command=%2Fwebhook-collect&text="
        b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554"
        b"%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121"
        b".803a0bc887a14d10d2c447fce8b6703c"
    )
    documented = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    hook = sent(
        "slack",
        body,
        now=1531420618,
        headers={"content-type": FORM, "x-slack-signature": documented},
    )
    command = read(hook, now=1531420618)
    assert command.kind == "slash_command"
    assert command.payload["command"] == "/webhook-collect"
    assert command.payload["text"] == ""
    assert refusal(hook, now=1531420618 + 301) == "stale"


def test_an_event_goes_by_its_id_however_often_it_is_tried() -> None:
    event = b'{"type":"app_mention","text":"<@U1> hi"}'
    body = b'{"type":"event_callback","event_id":"Ev0PV52K21","event":%b}' % event
    first = read(sent("slack", body))
    again = read(
        sent("slack", body, now=NOW + 60, headers={"x-slack-retry-num": "1"}), now=NOW + 61
    )
    assert (first.delivery_id, first.kind) == ("Ev0PV52K21", "app_mention")
    assert again.delivery_id == first.delivery_id
    assert again.challenge is None


def test_a_pressed_button_comes_in_the_payload_of_a_form() -> None:
    payload = {"type": "block_actions", "actions": [{"value": "yes"}], "user": {"id": "U1"}}
    hook = form(payload=msgspec.json.encode(payload).decode())
    pressed = read(hook)
    assert (pressed.kind, pressed.payload) == ("block_actions", payload)
    # It has no id: the same bytes are the same press, other bytes are another.
    assert pressed.delivery_id == read(hook).delivery_id
    payload["user"] = {"id": "U2"}
    other = read(form(payload=msgspec.json.encode(payload).decode()))
    assert other.delivery_id != pressed.delivery_id
    assert refusal(form(payload="{")) == "not_json"


def test_an_address_is_verified_by_saying_the_challenge_back() -> None:
    hook = sent("slack", b'{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY"}')
    assert read(hook).challenge == (b"3eZbrw1aBm2rZgRNFdxV2595E9CY", "text/plain")
    assert read(form(ssl_check="1", token="x")).challenge == (b"", "text/plain")
    for odd in (
        b"{}",
        b'{"challenge":7}',
        b'{"challenge":""}',
        b'{"challenge":"%b"}' % (b"x" * 1025),
    ):
        body = odd.replace(b"{", b'{"type":"url_verification",', 1).replace(b",}", b"}")
        assert refusal(sent("slack", body)) == "challenge"


def test_a_challenge_that_slack_did_not_sign_is_not_said_back() -> None:
    body = b'{"type":"url_verification","challenge":"abc"}'
    assert refusal(sent("slack", body, secret="another's signing secret")) == "signature"


@pytest.mark.parametrize("time", [" 1790000000", "1_790000000", "1.79e9", "1790000000.0", ""])
def test_a_time_that_is_not_digits_is_refused(time: str) -> None:
    hook = sent("slack", headers={"x-slack-request-timestamp": time})
    assert refusal(hook) == "signature"


class Stopped(Clock):
    def now(self) -> float:
        return NOW


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200), st.integers(-400, 400))
def test_slacks_own_verifier_says_the_same_both_ways(text: str, late: int) -> None:
    theirs = SignatureVerifier(SECRET, Stopped())
    body, sent_at = text.encode(), NOW + late
    ours = sent("slack", body, now=sent_at)
    signature = theirs.generate_signature(timestamp=str(int(sent_at)), body=body)
    assert signature == dict(ours.headers)["x-slack-signature"]
    assert is_proved(ours) == theirs.is_valid_request(body, dict(ours.headers))
