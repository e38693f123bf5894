"""What holds for every scheme: rotation, duplicates, and nothing but Rejected for any bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senders import FORM, JSON, NOW, OPTIONS, SECRETS, sent, twice, without
from tinytown.errors import Invalid
from tinytown.schemes import (
    MOST_BYTES,
    SCHEMES,
    Hook,
    Recognised,
    Rejected,
    SchemeOptions,
    check_options,
    new_secret,
    recognise,
)

NAMES = sorted(SCHEMES)
SIGNED_TIME = ("stripe", "slack", "standard", "hmac")
# What each scheme reads to decide whom to believe, or what a delivery is called.
READ = {
    "github": ("x-hub-signature-256", "x-github-delivery", "x-github-event"),
    "stripe": ("stripe-signature",),
    "slack": ("x-slack-signature", "x-slack-request-timestamp"),
    "linear": ("linear-signature", "linear-delivery"),
    "standard": ("webhook-id", "webhook-timestamp", "webhook-signature"),
    "hmac": ("x-mark", "x-time", "x-id"),
    "token": ("authorization",),
    "basic": ("authorization",),
}
BODY = b'{"type":"thing","webhookTimestamp":%d}' % (NOW * 1000)


def read(scheme: str, hook: Hook, *secrets: str, now: float = NOW) -> Recognised:
    known = secrets or (SECRETS[scheme],)
    return recognise(scheme, OPTIONS[scheme], known, hook, now=now)


def refusal(scheme: str, hook: Hook, *secrets: str, now: float = NOW) -> str:
    with pytest.raises(Rejected) as refused:
        read(scheme, hook, *secrets, now=now)
    return refused.value.reason


@pytest.mark.parametrize("scheme", NAMES)
def test_every_scheme_recognises_its_own_and_nobody_elses(scheme: str) -> None:
    hook = sent(scheme, BODY)
    known = read(scheme, hook)
    assert known.payload == msgspec.json.decode(BODY)
    assert known.delivery_id
    assert 0 < known.keep_seconds <= SCHEMES[scheme].keep_seconds
    for other in NAMES:
        if {scheme, other} == {"token", "basic"}:
            continue  # both show something in the same header
        if other != scheme:
            assert refusal(other, hook) == "missing_header"


@pytest.mark.parametrize("scheme", NAMES)
def test_while_a_secret_is_rotated_either_is_taken(scheme: str) -> None:
    hook, new = sent(scheme, BODY), new_secret("standard")
    assert read(scheme, hook, new, SECRETS[scheme]) == read(scheme, hook)
    assert refusal(scheme, hook, new) == "signature"
    for hopeless in ((), ("",), (SECRETS[scheme], "")):
        with pytest.raises(Rejected, match="secret"):
            recognise(scheme, OPTIONS[scheme], hopeless, hook, now=NOW)


@pytest.mark.parametrize(("scheme", "name"), [(s, name) for s in NAMES for name in READ[s]])
def test_a_header_that_is_read_is_there_exactly_once(scheme: str, name: str) -> None:
    hook = sent(scheme, BODY)
    assert refusal(scheme, twice(hook, name)) == "duplicate_header"
    assert refusal(scheme, without(hook, name)) == "missing_header"


@pytest.mark.parametrize("scheme", [s for s in NAMES if s not in {"stripe", "linear"}])
def test_two_content_types_are_none(scheme: str) -> None:
    assert refusal(scheme, twice(sent(scheme, BODY), "content-type")) == "duplicate_header"


@pytest.mark.parametrize("scheme", SIGNED_TIME)
def test_the_window_of_a_signed_time_is_the_sources_to_set(scheme: str) -> None:
    hook = sent(scheme, BODY)
    assert read(scheme, hook, now=NOW + 300).sent_at == NOW
    assert refusal(scheme, hook, now=NOW + 301) == refusal(scheme, hook, now=NOW - 301) == "stale"
    wide = msgspec.structs.replace(OPTIONS[scheme], tolerance_seconds=3600)
    assert recognise(scheme, wide, [SECRETS[scheme]], hook, now=NOW + 3600).sent_at == NOW


@pytest.mark.parametrize("scheme", NAMES)
def test_what_is_too_large_is_not_even_proved(scheme: str) -> None:
    start, end = b'{"webhookTimestamp":%d,"a":"' % (NOW * 1000), b'"}'
    full = start + b"x" * (MOST_BYTES - len(start + end)) + end
    assert read(scheme, sent(scheme, full)).payload["a"][:3] == "xxx"
    assert refusal(scheme, sent(scheme, full + b" ")) == "too_large"


@pytest.mark.parametrize("scheme", NAMES)
@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe{}", "not_json"),
        (b'{"a":"\xff"}', "not_json"),
        (b'"\\ud800"', "not_json"),
        (b"1e999", "not_json"),
        (b"1" * 5000, "not_json"),
        (b"[" * 100_000, "too_deep"),
        (b"[" * 65 + b"]" * 65, "too_deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "too_deep"),
        (b"[" * 500 + b"]" * 500, "too_deep"),
    ],
)
def test_proved_bytes_that_are_no_sane_json_are_refused(scheme: str, body: bytes, why: str) -> None:
    assert refusal(scheme, sent(scheme, body)) == why


def test_what_is_wide_but_not_deep_is_read() -> None:
    wide = b"[" + b",".join([b'{"a":[]}'] * 1000) + b"]"
    assert len(read("token", sent("token", wide)).payload) == 1000
    deep = b"[" * 64 + b"]" * 64
    assert read("token", sent("token", deep)).payload
    assert read("token", sent("token", b'["%b"]' % (b"[" * 100))).payload == ["[" * 100]


@given(st.data(), st.sampled_from([name for name in NAMES if name not in {"token", "basic"}]))
def test_a_single_changed_bit_of_the_body_is_refused(data: st.DataObject, scheme: str) -> None:
    changed = bytearray(BODY)
    changed[data.draw(st.integers(0, len(BODY) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert (
        refusal(scheme, Hook(headers=sent(scheme, BODY).headers, body=bytes(changed)))
        == "signature"
    )


@given(st.data(), st.sampled_from(NAMES))
def test_a_single_changed_bit_of_the_proof_is_refused(data: st.DataObject, scheme: str) -> None:
    hook = sent(scheme, BODY)
    proofs = [name for name in READ[scheme] if "delivery" not in name and "event" not in name]
    name = data.draw(st.sampled_from(proofs))
    changed = bytearray(dict(hook.headers)[name].encode("latin-1"))
    place = data.draw(st.integers(0, len(changed) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    changed[place] ^= bit
    value = changed.decode("latin-1")
    headers = tuple((n, value if n == name else v) for n, v in hook.headers)
    try:
        read(scheme, Hook(headers=headers, body=BODY))
    except Rejected:
        return
    # Three things mean the same: hex in capitals where any sender may write it, the name of an
    # authentication scheme, and Stripe's old v0 beside its v1, which nobody reads.
    said = dict(hook.headers)[name]
    read_as = said.partition(",v0=")[0] if scheme == "stripe" else said
    same = value.startswith(read_as) if scheme == "stripe" else value.lower() == said.lower()
    assert same


VALUES = st.one_of(
    st.text(st.characters(), max_size=60),
    st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")),
    st.sampled_from(["", JSON, FORM, str(int(NOW)), "t=1790000000,v1=", "Bearer ", "Basic Og=="]),
)
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"", b"payload=", b"payload=%7B%7D", b"ssl_check", b"%FF=%", b"\xff" * 1_000_000]
    ),
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text(st.characters(), max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["type", "event", "id", "event_id", "action", "challenge", "x"]),
                inner,
                max_size=5,
            )
        ),
    ).map(lambda value: str(value).encode("utf-8", "replace")),
)


@given(
    st.sampled_from(NAMES),
    st.lists(
        st.tuples(
            st.sampled_from(
                [*sorted({h for names in READ.values() for h in names}), "content-type"]
            ),
            VALUES,
        ),
        max_size=12,
    ),
    BODIES,
)
def test_strangers_are_rejected_whatever_they_send(
    scheme: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    with pytest.raises(Rejected):
        read(scheme, Hook(headers=tuple(headers), body=body))


@given(
    st.sampled_from(NAMES),
    BODIES,
    st.sampled_from([JSON, FORM, "text/plain", "", "application/x+json;x=\u00e9"]),
    VALUES,
)
def test_senders_are_recognised_or_rejected_whatever_they_sign(
    scheme: str, body: bytes, content_type: str, odd: str
) -> None:
    cards = {"content-type": content_type}
    if scheme in {"github", "linear"}:
        cards |= {"x-github-event": odd, "x-github-delivery": odd, "linear-delivery": odd}
    try:
        known = read(scheme, sent(scheme, body, headers=cards))
    except Rejected as refused:
        was_proved = refused.reason not in {"signature", "missing_header", "secret", "stale"}
    else:
        was_proved = known.delivery_id.isascii() and len(known.delivery_id) <= 256
        msgspec.json.encode(known)  # it goes into the store as it is
    assert was_proved


# ── what a source may be made of ──


@pytest.mark.parametrize("scheme", NAMES)
def test_what_the_tests_send_is_what_a_source_may_be(scheme: str) -> None:
    check_options(scheme, OPTIONS[scheme], [SECRETS[scheme]])


@pytest.mark.parametrize("scheme", NAMES)
def test_secrets_are_made_where_the_receiver_chooses_them(scheme: str) -> None:
    if scheme in {"stripe", "slack", "linear"}:
        with pytest.raises(Invalid, match=f"{scheme.capitalize()} makes the secret itself"):
            new_secret(scheme)
    else:
        secret = new_secret(scheme)
        assert secret != new_secret(scheme)
        check_options(scheme, SchemeOptions(), [secret])
        assert read(scheme, sent(scheme, BODY, secret=secret), secret).payload


LONG = "a secret that is long enough"


@pytest.mark.parametrize(
    ("scheme", "options", "secrets", "why"),
    [
        ("gitlab", {}, [LONG], "one of github, stripe"),
        ("github", {"header": "x-other"}, [LONG], "github takes no option `header`"),
        ("stripe", {"username": "x"}, [LONG], "no option `username`"),
        ("stripe", {"tolerance_seconds": 0}, [LONG], "1 to 3600"),
        ("slack", {"tolerance_seconds": 3601}, [LONG], "1 to 3600"),
        ("token", {"header": "x token"}, [LONG], "name of a header"),
        ("token", {"header": ""}, [LONG], "printable"),
        ("hmac", {"prefix": "a\nb"}, [LONG], "printable"),
        ("hmac", {"id_field": "x" * 257}, [LONG], "printable"),
        ("hmac", {"template": "nothing"}, [LONG], "exactly once"),
        ("hmac", {"template": "{body}{body}"}, [LONG], "exactly once"),
        ("hmac", {"template": "{url}{body}"}, [LONG], "no other braces"),
        ("hmac", {"template": "{timestamp}.{body}"}, [LONG], "go together"),
        ("hmac", {"timestamp_header": "x-time"}, [LONG], "go together"),
        ("hmac", {"template": "{id}.{body}"}, [LONG], "needs `id_header`"),
        ("hmac", {"tolerance_seconds": 60}, [LONG], "needs a `timestamp_header`"),
        ("token", {"prefix": "Token "}, [LONG], "needs a `header`"),
        ("token", {}, [LONG + " "], "no spaces around"),
        ("basic", {"username": "a:b"}, [LONG], "neither a colon"),
        ("standard", {}, [LONG], "starts with whsec_"),
        ("standard", {}, ["whsec_MfKQ9r8GKYqrTw=="], "24 to 64 bytes"),
        ("github", {}, [], "1 to 4 secrets"),
        ("github", {}, [LONG] * 5, "1 to 4 secrets"),
        ("github", {}, [""], "16 to 512"),
        ("github", {}, ["short"], "16 to 512"),
        ("github", {}, ["x" * 513], "16 to 512"),
        ("github", {}, [LONG, LONG + "\n"], "printable"),
    ],
)
def test_a_source_that_could_not_work_is_refused_when_it_is_made(
    scheme: str, options: dict[str, Any], secrets: list[str], why: str
) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        check_options(scheme, SchemeOptions(**options), secrets)
    assert all(secret not in refused.value.detail for secret in secrets if secret)


def test_options_are_read_as_they_are_written_in_json() -> None:
    known = msgspec.json.decode(b'{"header":"X-Mark","encoding":"base64"}', type=SchemeOptions)
    assert (known.header, known.encoding) == ("x-mark", "base64")
    assert msgspec.json.encode(known) == b'{"header":"x-mark","encoding":"base64"}'
    for odd in (b'{"headre":"x"}', b'{"algorithm":"md5"}', b'{"tolerance_seconds":"5"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(odd, type=SchemeOptions)


def test_a_hook_shows_neither_headers_nor_body() -> None:
    hook = Hook(headers=(("authorization", "Bearer secret"),), body=b"private")
    assert repr(hook) == "Hook(POST, 1 headers, 7 bytes)"
