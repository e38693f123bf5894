"""Standard Webhooks: the published vectors, other people's libraries, and all that is refused."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from packages import ask_node
from tinytown.errors import Invalid
from tinytown.standard_webhooks import (
    BadSignature,
    check_secret,
    new_secret,
    public_key,
    sent_at,
    sign,
    verify,
)

# The vectors that Svix's server and half a dozen libraries test with.
SHARED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRIVATE = (
    "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
)
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
ID, TIME, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

SECRETS = {"v1": SHARED, "v1a": PRIVATE}
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60).map(
    lambda text: text.replace(".", "_")
)


def headers(signature: str = V1, **other: str) -> dict[str, str]:
    made = {"id": ID, "timestamp": str(TIME), "signature": signature, **other}
    return {f"webhook-{name}": value for name, value in made.items()}


def refusal(secrets: list[str], sent: Any, body: bytes = BODY, *, now: float = TIME) -> str:
    with pytest.raises(BadSignature) as refused:
        verify(secrets, sent, body, now=now)
    return refused.value.reason


# ── the specification ──


@pytest.mark.parametrize(("secret", "signature"), [(SHARED, V1), (PRIVATE, V1A)])
def test_the_published_vectors_come_out(secret: str, signature: str) -> None:
    assert sign([secret], id=ID, timestamp=TIME, body=BODY) == signature
    assert verify([secret], headers(signature), BODY, now=TIME) == ID


def test_a_public_key_verifies_what_its_secret_signed() -> None:
    assert public_key(PRIVATE) == PUBLIC
    assert public_key(SHARED) is None
    assert verify([PUBLIC], headers(V1A), BODY, now=TIME) == ID


@pytest.mark.parametrize(("kind", "start", "size"), [("v1", "whsec_", 32), ("v1a", "whsk_", 64)])
def test_new_secrets_have_the_form_of_the_specification(kind: Any, start: str, size: int) -> None:
    secret = new_secret(kind)
    assert secret != new_secret(kind)
    assert secret.startswith(start)
    assert len(base64.b64decode(secret.removeprefix(start), validate=True)) == size
    check_secret(secret)


def test_several_secrets_make_several_signatures_and_any_of_them_will_do() -> None:
    signature = sign([SHARED, PRIVATE], id=ID, timestamp=TIME, body=BODY)
    assert signature == f"{V1} {V1A}"
    other = new_secret("v1")
    for known in ([SHARED], [PUBLIC], [other, SHARED], [PUBLIC, other]):
        assert verify(known, headers(signature), BODY, now=TIME) == ID
    assert refusal([other, new_secret("v1a")], headers(signature)) == "signature"


def test_signatures_of_other_versions_are_passed_over() -> None:
    crowd = f"v2,{V1[3:]} garbage v1, v1a v1a, v1a,AAAA ,  {V1}"
    assert verify([SHARED], headers(crowd), BODY, now=TIME) == ID
    assert refusal([SHARED], headers(f"v2,{V1[3:]}")) == "signature"
    # A digest under the other version's name is nobody's signature.
    assert refusal([SHARED, PUBLIC], headers(f"v1a,{V1[3:]} v1,{V1A[4:]}")) == "signature"


def test_another_spelling_of_a_signature_is_another_signature() -> None:
    """Base64 leaves bits over at its end, which most decoders pass over."""
    for secret, right in ((SHARED, V1), (PUBLIC, V1A)):
        body, padding = right.rstrip("="), right[len(right.rstrip("=")) :]
        other = body[:-1] + chr(ord(body[-1]) + 1) + padding
        assert base64.b64decode(other.partition(",")[2]) == base64.b64decode(
            right.partition(",")[2]
        )
        for written in (other, body, right + "="):
            assert refusal([secret], headers(written)) == "signature"


@pytest.mark.parametrize("late", [-300, 0, 300])
def test_five_minutes_either_way_are_still_now(late: int) -> None:
    assert verify([SHARED], headers(), BODY, now=TIME + late) == ID


@pytest.mark.parametrize("late", [-301, 301, 86_400])
def test_after_five_minutes_a_message_is_stale(late: int) -> None:
    assert refusal([SHARED], headers(), now=TIME + late) == "stale"
    assert verify([SHARED], headers(), BODY, now=TIME + late, tolerance_seconds=86_400) == ID


def test_the_names_of_the_headers_are_read_in_any_case_and_as_svix_writes_them() -> None:
    svix = {name.replace("webhook", "Svix"): value for name, value in headers().items()}
    assert verify([SHARED], svix, BODY, now=TIME) == ID
    assert verify([SHARED], [(n.upper(), v) for n, v in headers().items()], BODY, now=TIME) == ID
    assert sent_at(svix) == TIME
    # With both families, the specification's own count, and are not completed from the other.
    both = {**svix, **headers(new_secret())}
    assert refusal([SHARED], both) == "signature"
    del both["webhook-id"]
    assert refusal([SHARED], both) == "missing_header"


# ── what is refused ──


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_or_comes_twice_is_refused(name: str) -> None:
    sent = headers()
    assert refusal([SHARED], [*sent.items(), (name.upper(), sent[name])]) == "duplicate_header"
    del sent[name]
    assert refusal([SHARED], sent) == "missing_header"


@pytest.mark.parametrize(
    "written",
    [
        *("", " 1614265330", "1614265330 ", "+1614265330", "-1614265330", "1_614265330"),
        *("1614265330.0", "1614265330.", "1.614265330e9", "1614265330\n", "0x6037bab2", "nan"),
        *("١٦١٤٢٦٥٣٣٠", "１６１４２６５３３０", "1614265330\u0000", "9" * 13, "inf", "1614265³30"),  # noqa: RUF001 - digits of other scripts
    ],
)
def test_a_time_is_ascii_digits_and_nothing_else(written: str) -> None:
    made = sign([SHARED], id=ID, timestamp=TIME, body=BODY)
    assert refusal([SHARED], headers(made, timestamp=written)) == "timestamp"


@pytest.mark.parametrize("written", ["", "a.b", "a b", "a\n", "é", "\ud800", "x" * 257, "a\x00"])
def test_an_id_is_a_word_without_a_full_stop(written: str) -> None:
    assert refusal([SHARED], headers(id=written)) == "id"
    with pytest.raises(Invalid):
        sign([SHARED], id=written, timestamp=TIME, body=BODY)


def test_nobody_makes_us_check_a_thousand_signatures() -> None:
    assert verify([SHARED], headers(" ".join([*["v1,x"] * 15, V1])), BODY, now=TIME) == ID
    assert refusal([SHARED], headers(" ".join([*["v1,x"] * 16, V1]))) == "too_many_signatures"
    assert verify([PUBLIC], headers(" ".join([*["v1a,x"] * 3, V1A])), BODY, now=TIME) == ID
    assert refusal([PUBLIC], headers(" ".join([*["v1a,x"] * 4, V1A]))) == "too_many_signatures"


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("", "starts with"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with"),
        ("whsec_", "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(b"x" * 23).decode(), "24 to 64 bytes"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "24 to 64 bytes"),
        ("whsec_not base64 at all, not at all!", "not base64"),
        ("whsec_Ünicode", "not base64"),
        ("whsec_\ud800", "not base64"),
        ("whsec_AAAAA", "not base64"),
        ("whsk_" + base64.b64encode(b"x" * 32).decode(), "64 bytes"),
        ("whsk_" + base64.b64encode(b"x" * 64).decode(), "do not belong together"),
        ("whpk_" + base64.b64encode(b"x" * 31).decode(), "32 bytes"),
        (PUBLIC, "only verifies"),
    ],
)
def test_a_secret_that_cannot_sign_is_refused_without_being_repeated(secret: str, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        check_secret(secret)
    key = secret.partition("_")[2]
    assert not key or key not in refused.value.detail
    if secret != PUBLIC:
        with pytest.raises(Invalid):
            check_secret(secret, to="verify")
    if "belong" not in why:
        with pytest.raises(Invalid):
            sign([secret], id=ID, timestamp=TIME, body=BODY)


def test_whoever_verifies_may_have_only_the_public_key() -> None:
    for secret in (SHARED, PRIVATE, PUBLIC):
        check_secret(secret, to="verify")
    with pytest.raises(Invalid, match="at least one"):
        sign([], id=ID, timestamp=TIME, body=BODY)
    assert refusal([], headers()) == "signature"
    assert refusal(["whsec_broken"], headers()) == "secret"


# ── any bytes ──


@given(st.sampled_from(sorted(SECRETS)), IDS, st.integers(0, 10**12 - 1), st.binary(max_size=500))
def test_whatever_is_signed_verifies_text_or_not(
    kind: str, message_id: str, timestamp: int, body: bytes
) -> None:
    signature = sign([SECRETS[kind]], id=message_id, timestamp=timestamp, body=body)
    sent = headers(signature, id=message_id, timestamp=str(timestamp))
    assert verify([SECRETS[kind]], sent, body, now=timestamp) == message_id


@given(st.data(), st.sampled_from(sorted(SECRETS)), st.binary(min_size=1, max_size=100))
def test_a_single_changed_bit_is_refused(data: st.DataObject, kind: str, body: bytes) -> None:
    signature = sign([SECRETS[kind]], id=ID, timestamp=TIME, body=body)
    parts = {"body": body, "id": ID.encode(), "timestamp": str(TIME).encode()}
    parts["signature"] = signature.encode()
    name = data.draw(st.sampled_from(sorted(parts)))
    changed = bytearray(parts[name])
    place = data.draw(st.integers(0, len(changed) - 1))
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    parts[name] = bytes(changed)
    sent = headers(**{part: parts[part].decode("latin-1") for part in parts if part != "body"})
    with pytest.raises(BadSignature):
        verify([SECRETS[kind]], sent, parts["body"], now=TIME)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [f"{f}-{p}" for f in ("webhook", "svix") for p in ("id", "timestamp", "signature")]
            ),
            st.one_of(
                st.text(st.characters(), max_size=40),
                st.sampled_from([ID, str(TIME), V1, V1A, V1 + " ", "v1a,=", "v1,,,", "  "]),
            ),
        ),
        max_size=7,
    ),
    st.binary(max_size=60),
)
def test_nothing_but_a_bad_signature_is_ever_raised(
    sent: list[tuple[str, str]], body: bytes
) -> None:
    with pytest.raises(BadSignature):
        verify([SHARED, PRIVATE, PUBLIC], sent, body, now=TIME)


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"\x00" * 1_000_000, b"v1", "😀".encode()])
def test_a_body_need_not_be_text(body: bytes) -> None:
    for secret in (SHARED, PRIVATE):
        signature = sign([secret], id=ID, timestamp=TIME, body=body)
        assert verify([secret], headers(signature), body, now=TIME) == ID
        assert refusal([secret], headers(signature), body + b" ") == "signature"


# ── other people's libraries ──

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.binary(min_size=24, max_size=64), IDS, TEXTS)
def test_the_reference_library_takes_ours_and_we_take_its(
    key: bytes, message_id: str, text: str
) -> None:
    secret, now = "whsec_" + base64.b64encode(key).decode(), int(time.time())
    theirs, body = Webhook(secret), text.encode()
    sent = headers(
        sign([secret], id=message_id, timestamp=now, body=body), id=message_id, timestamp=str(now)
    )
    theirs.verify(body, sent, json_parse=False)
    at = datetime.fromtimestamp(now, tz=UTC)
    sent["webhook-signature"] = theirs.sign(message_id, at, text)
    assert verify([secret], sent, body, now=now) == message_id
    with pytest.raises(WebhookVerificationError):
        theirs.verify(body + b"!", sent, json_parse=False)


@pytest.mark.parametrize(
    ("change", "crash"),
    [
        ({"webhook-signature": "garbage"}, ValueError),
        ({"webhook-signature": V1 + "  " + V1}, ValueError),
        ({"webhook-signature": "v1,A"}, ValueError),
    ],
)
def test_where_the_reference_library_falls_over_we_refuse(
    change: dict[str, str], crash: type[Exception]
) -> None:
    sent = {**headers(), "webhook-timestamp": str(int(time.time())), **change}
    with pytest.raises(crash) as fell:
        Webhook(SHARED).verify(BODY, sent)
    assert not isinstance(fell.value, WebhookVerificationError)
    assert refusal([SHARED], sent, now=time.time()) == "signature"


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_another_ed25519_takes_ours_and_we_take_its(seed: bytes, body: bytes) -> None:
    theirs = Ed25519PrivateKey.from_private_bytes(seed)
    public = theirs.public_key().public_bytes_raw()
    secret = "whsk_" + base64.b64encode(seed + public).decode()
    content = f"{ID}.{TIME}.".encode() + body
    signature = sign([secret], id=ID, timestamp=TIME, body=body)
    theirs.public_key().verify(base64.b64decode(signature.removeprefix("v1a,")), content)
    assert signature == "v1a," + base64.b64encode(theirs.sign(content)).decode()
    assert public_key(secret) == "whpk_" + base64.b64encode(public).decode()
    check_secret(secret)


def test_the_npm_library_takes_ours_and_we_take_its() -> None:
    now = int(time.time())
    texts = ["{}", '{"emoji":"😀","nul":"\\u0000"}', "", '{"é":[1,2.50,null]}']
    secrets = [new_secret("v1") for _ in texts]
    given = [
        {
            "secret": secret,
            "text": text,
            "now": now,
            "headers": headers(
                # A v1a beside it, as while an endpoint goes over to public keys.
                sign([PRIVATE, secret], id=f"msg_{n}", timestamp=now, body=text.encode()),
                id=f"msg_{n}",
                timestamp=str(now),
            ),
        }
        for n, (secret, text) in enumerate(zip(secrets, texts, strict=True))
    ]
    theirs = ask_node(
        """
        const { Webhook } = require('standardwebhooks');
        done(input.map(({ secret, text, now, headers }, n) => {
            const webhook = new Webhook(secret);
            let took = true, refused = false;
            try { webhook.verify(text, headers); }
            catch (error) { took = error.name === 'SyntaxError'; } // proved, then no JSON
            try { webhook.verify(text + ' ', headers); }
            catch (error) { refused = error.name === 'WebhookVerificationError'; }
            const signature = webhook.sign(`msg_${n}`, new Date(now * 1000), text);
            return { took, refused, signature };
        }));
        """,
        given,
    )
    assert len(theirs) == len(texts)
    for n, (reply, secret, text) in enumerate(zip(theirs, secrets, texts, strict=True)):
        assert reply["took"], text
        assert reply["refused"], text
        sent = headers(reply["signature"], id=f"msg_{n}", timestamp=str(now))
        assert verify([secret], sent, text.encode(), now=now) == f"msg_{n}"
