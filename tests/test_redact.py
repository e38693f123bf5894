"""Masking: whatever looks like a secret is masked, however quick the first look at it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinytown.redact import _PATTERNS, MASK, redact


@pytest.mark.parametrize("pattern", _PATTERNS, ids=lambda pattern: pattern.pattern[:20])
@settings(max_examples=40)
@given(data=st.data())
def test_no_pattern_is_overlooked_by_the_quick_look(
    pattern: re.Pattern[str], data: st.DataObject
) -> None:
    text = data.draw(st.text(max_size=5)) + data.draw(st.from_regex(pattern)) + "@"
    assume(pattern.search(text))
    assert MASK in redact(text)


def test_capital_letters_of_any_alphabet_hide_nothing() -> None:
    assert "hunter22222" not in redact("PA\u017f\u017fWORD=hunter22222")
    assert "hunter22222" not in redact("TO\u212aEN: hunter22222")


@given(st.text())
def test_masking_twice_is_masking_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)
