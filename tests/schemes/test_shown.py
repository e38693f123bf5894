"""Whoever shows a token or a password: as a bearer, in a header, or by name (RFC 7617)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from senders import NOW, SECRETS
from tinytown.schemes import Hook, Recognised, Rejected, SchemeOptions, recognise

TOKEN, PASSWORD = SECRETS["token"], SECRETS["basic"]
SAID = {"kind": "push"}


def read(scheme: str, headers: dict[str, str], *secrets: str, **options: Any) -> Recognised:
    hook = Hook(headers=tuple(headers.items()), body=b'{"kind":"push"}')
    return recognise(scheme, SchemeOptions(**options), secrets, hook, now=NOW)


def refusal(scheme: str, headers: dict[str, str], *secrets: str, **options: Any) -> str:
    with pytest.raises(Rejected) as refused:
        read(scheme, headers, *secrets, **options)
    return refused.value.reason


def basic(pair: str, charset: str = "utf-8") -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(pair.encode(charset)).decode()}


@pytest.mark.parametrize("said", ["Bearer ", "bearer ", "BEARER  "])
def test_a_bearer_shows_one_of_the_tokens(said: str) -> None:
    assert (
        read("token", {"authorization": said + TOKEN}, "old token of ours", TOKEN).payload == SAID
    )


@pytest.mark.parametrize(
    "said", ["", TOKEN, "Basic " + TOKEN, "Bearer", "Bearer ", "Bearer " + TOKEN + "x"]
)
def test_whoever_shows_something_else_is_refused(said: str) -> None:
    assert refusal("token", {"authorization": said}, TOKEN) == "signature"
    assert refusal("token", {"x-token": TOKEN}, TOKEN) == "missing_header"


def test_a_token_may_have_a_header_of_its_own() -> None:
    assert read("token", {"x-gitlab-token": TOKEN}, TOKEN, header="X-Gitlab-Token").payload == SAID
    other = {"authorization": "Token " + TOKEN}
    assert read("token", other, TOKEN, header="Authorization", prefix="Token ").payload == SAID
    assert refusal("token", other, TOKEN, header="Authorization", prefix="Key ") == "signature"
    assert refusal("token", other, TOKEN, header="x-gitlab-token") == "missing_header"
    assert refusal("token", {"x-token": "😀"}, TOKEN, header="x-token") == "encoding"


def test_a_token_outside_ascii_is_compared_by_its_bytes() -> None:
    said = "Bearer " + "ein Schlüssel für uns".encode().decode("latin-1")  # as servers read it
    assert read("token", {"authorization": said}, "ein Schlüssel für uns").payload == SAID


def test_a_password_is_shown_by_name() -> None:
    assert (
        read(
            "basic", basic(f"zoë:{PASSWORD}"), "an older password", PASSWORD, username="zoë"
        ).payload
        == SAID
    )
    for pair in (f"zoe:{PASSWORD}", f"zoë:{PASSWORD}x", f":{PASSWORD}", f"zoë:x:{PASSWORD}"):
        assert refusal("basic", basic(pair), PASSWORD, username="zoë") == "signature"


def test_without_a_name_only_the_password_counts() -> None:
    for name in ("", "zoë", "anyone"):
        assert read("basic", basic(f"{name}:a:{PASSWORD}"), "a:" + PASSWORD).payload == SAID
    assert refusal("basic", basic(":"), PASSWORD) == "signature"


@pytest.mark.parametrize("said", ["Basic !!!!", "Basic YQ", "Basic é", "Basic ", "Basic YWJj"])
def test_what_is_no_name_and_password_is_refused(said: str) -> None:
    assert refusal("basic", {"authorization": said}, PASSWORD) == "encoding"
    assert refusal("basic", {"authorization": "Bearer x"}, PASSWORD) == "signature"


def test_an_id_is_remembered_for_days_and_a_mere_repetition_for_minutes() -> None:
    said = {"authorization": "Bearer " + TOKEN, "idempotency-key": "k-1"}
    known = read("token", said, TOKEN, id_header="Idempotency-Key", kind_field="kind")
    assert (known.delivery_id, known.kind, known.keep_seconds) == ("k-1", "push", 345_600)
    repeated = read("token", said, TOKEN)
    assert (repeated.delivery_id[:7], repeated.keep_seconds) == ("sha256-", 600)
    empty = {**said, "idempotency-key": ""}
    assert refusal("token", empty, TOKEN, id_header="idempotency-key") == "id"
