"""Agent text on a phone: what is seen is what was written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown_notifiers.text import clip, line, plain

# Everything Python can hold, lone surrogates included.
ANY = st.text(st.characters())


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("\x1b[31mred\x1b[0m and \x1b]8;;http://x\x07link", "red and link"),
        ("approve \u202eteled\u202c me", "approve teled me"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("tags\U000e0041\U000e0042", "tags"),
        ("a\x00b\x07c\x9bd", "abcd"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("much\n\n\n\n\nroom", "much\n\nroom"),
        ("half \ud83d pair", "half \ufffd pair"),
        ("family 👨‍👩‍👧 ✅ café ñ 日本", "family 👨‍👩‍👧 ✅ café ñ 日本"),
    ],
)
def test_what_would_deceive_or_disturb_is_taken_out(written: str, seen: str) -> None:
    assert plain(written) == seen


@given(ANY)
def test_plain_text_is_utf8_and_stays_as_it_is(text: str) -> None:
    once = plain(text)

    once.encode()
    assert plain(once) == once


@given(ANY)
def test_a_line_is_one_line(text: str) -> None:
    assert len(line(text).splitlines()) <= 1


@given(st.text(), st.integers(0, 60))
def test_a_clipped_text_fits_and_begins_as_it_began(text: str, limit: int) -> None:
    short = clip(text, limit)

    assert len(short.encode()) <= limit
    assert short == text or text.startswith(short.removesuffix("…"))
