"""Answer links: only what this town signed opens a question, and only in time."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.errors import Gone, Invalid, NotFound
from tinytown.links import MAX_CHOICE, TOKEN_LENGTH, AnswerLinks, new_secret
from tinytown.redact import redact

KEY = "a secret long enough to sign with"
LINKS = AnswerLinks(town="main", keys=[KEY])
# Spelled out, not made: ids are part of test names, which must be the same in every process.
QUESTION = "qst_01m82zsky9wp979wxk9w14qsq7"
ENDPOINT = "end_01m82zsky9wp979wxk9w14qsq8"

SUFFIXES = st.text("0123456789abcdefghjkmnpqrstvwxyz", min_size=25, max_size=25)
QUESTIONS = st.builds(lambda head, rest: f"qst_{head}{rest}", st.sampled_from("01234567"), SUFFIXES)
ENDPOINTS = st.none() | st.builds(
    lambda head, rest: f"end_{head}{rest}", st.sampled_from("1234567"), SUFFIXES
)
CHOICES = st.none() | st.integers(0, MAX_CHOICE)
TIMES = st.integers(1, 2**32 - 1)


@given(QUESTIONS, CHOICES, TIMES, ENDPOINTS)
def test_a_link_says_what_was_put_into_it(
    question: str, choice: int | None, expires_at: int, endpoint: str | None
) -> None:
    token = LINKS.make(question, choice=choice, expires_at=expires_at, endpoint_id=endpoint)

    link = LINKS.verify(token, now=expires_at - 1)

    assert (link.question_id, link.choice) == (question, choice)
    assert (link.expires_at, link.endpoint_id) == (expires_at, endpoint)


@given(st.data())
def test_any_single_changed_bit_is_refused(data: st.DataObject) -> None:
    token = LINKS.make(QUESTION, choice=1, expires_at=2_000_000_000, endpoint_id=ENDPOINT)
    raw = bytearray(base64.urlsafe_b64decode(token))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8

    with pytest.raises(NotFound):
        LINKS.verify(base64.urlsafe_b64encode(raw).decode(), now=0)


@given(st.data())
def test_any_single_changed_character_is_refused(data: st.DataObject) -> None:
    token = LINKS.make(QUESTION, expires_at=2_000_000_000)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda letter: letter != token[place]))

    with pytest.raises(NotFound):
        LINKS.verify(token[:place] + letter + token[place + 1 :], now=0)


@given(st.text(max_size=200) | st.text("ABCabc012-_", min_size=76, max_size=76))
def test_rubbish_is_not_found_and_nothing_worse(rubbish: str) -> None:
    with pytest.raises(NotFound):
        LINKS.verify(rubbish, now=0)


def test_a_link_dies_in_the_second_it_names() -> None:
    token = LINKS.make(QUESTION, expires_at=1_000)

    assert LINKS.verify(token, now=999.9).question_id == QUESTION
    with pytest.raises(Gone) as caught:
        LINKS.verify(token, now=1_000)
    assert caught.value.extra == {"question_id": QUESTION}


def test_an_expired_link_that_was_tampered_with_is_only_unknown() -> None:
    token = LINKS.make(QUESTION, expires_at=1_000)

    with pytest.raises(NotFound):
        LINKS.verify("B" + token[1:], now=5_000)


def test_a_new_key_signs_while_the_old_one_still_verifies() -> None:
    old, new = new_secret(), new_secret()
    before = AnswerLinks(town="main", keys=[old])
    during = AnswerLinks(town="main", keys=[new, old])
    after = AnswerLinks(town="main", keys=[new])
    sent_before = before.make(QUESTION, expires_at=1_000)
    sent_during = during.make(QUESTION, expires_at=1_000)

    assert during.verify(sent_before, now=1).question_id == QUESTION
    assert after.verify(sent_during, now=1).question_id == QUESTION
    with pytest.raises(NotFound):
        after.verify(sent_before, now=1)


def test_another_town_with_the_same_secret_does_not_accept_the_link() -> None:
    token = LINKS.make(QUESTION, expires_at=1_000)

    with pytest.raises(NotFound):
        AnswerLinks(town="other", keys=[KEY]).verify(token, now=1)


def test_every_token_has_one_length_and_is_masked_in_logs() -> None:
    token = LINKS.make(QUESTION, choice=2, expires_at=1_000, endpoint_id=ENDPOINT)

    assert len(token) == TOKEN_LENGTH
    assert token not in redact(f"POST https://town.example/a/{token} 200")


def test_neither_repr_shows_a_key() -> None:
    assert KEY not in repr(LINKS)
    assert KEY not in str(vars(LINKS))


@pytest.mark.parametrize(
    ("question", "choice", "expires_at"),
    [
        ("mis_" + QUESTION[4:], None, 1),
        ("qst_short", None, 1),
        ("qst_" + "z" * 26, None, 1),
        (QUESTION, MAX_CHOICE + 1, 1),
        (QUESTION, -1, 1),
        (QUESTION, None, 2**32),
        (QUESTION, None, -1),
    ],
)
def test_what_does_not_fit_into_a_link_is_refused(
    question: str, choice: int | None, expires_at: int
) -> None:
    with pytest.raises(Invalid):
        LINKS.make(question, choice=choice, expires_at=expires_at)


@pytest.mark.parametrize("keys", [[], ["too short"]])
def test_weak_keys_are_refused(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="key"):
        AnswerLinks(town="main", keys=keys)


def test_the_plain_base64_spelling_of_a_token_is_refused() -> None:
    tokens = (LINKS.make(QUESTION, expires_at=time) for time in range(2_000_000_000, 2_000_001_000))
    token = next(token for token in tokens if "_" in token and "-" in token)

    for letter, other in (("_", "/"), ("-", "+")):
        with pytest.raises(NotFound):
            LINKS.verify(token.replace(letter, other), now=0)
