"""Standard Webhooks coming in: either key, either family of headers, any body."""

from __future__ import annotations

import time

import pytest

from packages import ask_node
from senders import FORM, KEY_PAIR, NOW, SECRETS, sent
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise
from tinytown.standard_webhooks import public_key

SECRET = SECRETS["standard"]
BODY = b'{"type":"response.completed","data":{"id":"resp_1"}}'


def read(hook: Hook, *secrets: str, now: float = NOW) -> Recognised:
    return recognise("standard", SchemeOptions(), secrets or [SECRET], hook, now=now)


def refusal(hook: Hook, *secrets: str, now: float = NOW) -> str:
    with pytest.raises(Rejected) as refused:
        read(hook, *secrets, now=now)
    return refused.value.reason


@pytest.mark.parametrize("family", ["webhook", "svix"])
def test_either_family_of_headers_is_read(family: str) -> None:
    headers = sent("standard", BODY).headers
    hook = Hook(headers=tuple((n.replace("webhook", family), v) for n, v in headers), body=BODY)
    assert read(hook) == Recognised(
        delivery_id="msg_1",
        kind="response.completed",
        payload={"type": "response.completed", "data": {"id": "resp_1"}},
        keep_seconds=4 * 86_400,
        sent_at=NOW,
    )


def test_a_public_key_is_all_a_receiver_needs() -> None:
    hook = sent("standard", BODY, secret=KEY_PAIR)
    known = public_key(KEY_PAIR)
    assert known is not None
    assert read(hook, SECRET, known).delivery_id == "msg_1"
    assert refusal(hook, SECRET) == "signature"


def test_its_reasons_are_those_of_the_verifier() -> None:
    assert refusal(sent("standard", BODY), now=NOW + 301) == "stale"
    assert refusal(sent("standard", headers={"webhook-id": "a.b"})) == "id"
    assert refusal(sent("standard", headers={"webhook-timestamp": "1_7"})) == "timestamp"


def test_a_body_that_is_not_json_is_text_unless_it_says_it_is() -> None:
    assert refusal(sent("standard", b"hello")) == "not_json"
    text = {"content-type": "text/plain; charset=utf-8"}
    assert read(sent("standard", b"hello", headers=text)).payload == {"text": "hello"}
    assert refusal(sent("standard", b"\xff", headers=text)) == "encoding"
    assert read(sent("standard", b"", headers=text)).payload == {"text": ""}
    fields = read(sent("standard", b"a=1&b=2&b=3&b=4&c=", headers={"content-type": FORM})).payload
    assert fields == {"a": "1", "b": ["2", "3", "4"], "c": ""}
    crowd = b"&".join([b"a=1"] * 1001)
    assert refusal(sent("standard", crowd, headers={"content-type": FORM})) == "not_form"


def test_what_the_npm_library_signs_is_recognised() -> None:
    now = int(time.time())
    signature = ask_node(
        """
        const { Webhook } = require('standardwebhooks');
        done(new Webhook(input.secret).sign('msg_1', new Date(input.now * 1000), input.body));
        """,
        {"secret": SECRET, "now": now, "body": BODY.decode()},
    )
    hook = sent("standard", BODY, now=now, headers={"webhook-signature": signature})
    assert read(hook, now=now).kind == "response.completed"
