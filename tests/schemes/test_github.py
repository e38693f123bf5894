"""GitHub's hooks: signatures as documented, and all real payloads of Octokit's collection."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest

from packages import ask_node, github_examples
from senders import FORM, NOW, SECRETS, sent, without
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise

SECRET = SECRETS["github"]


def read(hook: Hook, *secrets: str) -> Recognised:
    return recognise("github", SchemeOptions(), secrets or [SECRET], hook, now=NOW)


def refusal(hook: Hook) -> str:
    with pytest.raises(Rejected) as refused:
        read(hook)
    return refused.value.reason


def test_the_example_of_githubs_documentation_is_proved() -> None:
    documented = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    hook = sent("github", b"Hello, World!", headers={"x-hub-signature-256": documented})
    assert refusal(hook) == "not_json"  # proved, but nothing that GitHub would send
    assert refusal(Hook(headers=hook.headers, body=b"Hello, World?")) == "signature"


def test_event_and_action_name_what_happened() -> None:
    body = b'{"action":"labeled","issue":{"number":7}}'
    assert read(sent("github", body)) == Recognised(
        delivery_id="72d3162e-cc78-11e3-81ab-4c9367dc0958",
        kind="issues.labeled",
        payload={"action": "labeled", "issue": {"number": 7}},
        keep_seconds=4 * 86_400,
    )


def test_a_ping_is_an_event_like_any_other() -> None:
    ping = read(
        sent("github", b'{"zen":"Design for failure."}', headers={"x-github-event": "ping"})
    )
    assert (ping.kind, ping.challenge) == ("ping", None)


def test_a_form_holds_the_same_in_its_payload() -> None:
    body = urlencode({"payload": '{"action":"öpened"}'}).encode()
    assert read(sent("github", body, headers={"content-type": FORM})).payload == {
        "action": "öpened"
    }
    for broken in (b"", b"other=1", b"payload=%7B%7D&payload=%7B%7D"):
        assert refusal(sent("github", broken, headers={"content-type": FORM})) == "not_form"
    assert refusal(sent("github", b"payload=%7B", headers={"content-type": FORM})) == "not_json"
    assert refusal(sent("github", b"payload=%FF", headers={"content-type": FORM})) == "encoding"
    crowd = b"&".join([b"a=1"] * 1001)
    assert refusal(sent("github", crowd, headers={"content-type": FORM})) == "not_form"


@pytest.mark.parametrize("name", ["x-hub-signature-256", "x-github-delivery", "x-github-event"])
def test_without_one_of_its_headers_it_is_not_github(name: str) -> None:
    assert refusal(without(sent("github"), name)) == "missing_header"


def test_an_old_signature_or_a_bare_one_proves_nothing() -> None:
    right = dict(sent("github").headers)["x-hub-signature-256"]
    for written in (right.removeprefix("sha256="), right.upper(), right + " ", "sha1=" + right[7:]):
        assert refusal(sent("github", headers={"x-hub-signature-256": written})) == "signature"


def test_an_event_that_is_no_word_is_refused() -> None:
    assert refusal(sent("github", headers={"x-github-event": "a b"})) == "kind"
    assert refusal(sent("github", headers={"x-github-delivery": ""})) == "id"
    # The id goes into a key and into logs: what is no plain word goes by its digest.
    odd = read(sent("github", headers={"x-github-delivery": "a\x1bb" * 200}))
    assert odd.delivery_id.startswith("sha256-")


def test_every_real_payload_signed_by_octokit_is_recognised() -> None:
    """329 payloads of 58 events, signed by GitHub's own JavaScript library."""
    texts = [
        (event, msgspec.json.encode(example).decode())
        for event, examples in github_examples().items()
        for example in examples
    ]
    signatures: list[str] = ask_node(
        """
        const { sign } = await import('@octokit/webhooks-methods');
        done(await Promise.all(input.texts.map(([event, text]) => sign(input.secret, text))));
        """,
        {"secret": SECRET, "texts": texts},
    )
    assert len(texts) > 300
    kinds = set()
    for (event, text), signature in zip(texts, signatures, strict=True):
        payload: Any = msgspec.json.decode(text)
        headers = {"x-hub-signature-256": signature, "x-github-event": event}
        hook = read(sent("github", text.encode(), headers=headers), "another, old secret", SECRET)
        assert hook.payload == payload
        action = payload.get("action")
        assert hook.kind == (f"{event}.{action}" if action else event)
        kinds.add(hook.kind)
    assert {"issues.labeled", "issue_comment.created", "check_run.completed", "ping"} <= kinds


def test_octokit_verifies_what_our_tests_send() -> None:
    body = '{"emoji":"😀"}'
    signature = dict(sent("github", body.encode()).headers)["x-hub-signature-256"]
    verified = ask_node(
        """
        const { verify } = await import('@octokit/webhooks-methods');
        done(await verify(input.secret, input.body, input.signature));
        """,
        {"secret": SECRET, "body": body, "signature": signature},
    )
    assert verified is True
