"""Typing a line key by key."""

from __future__ import annotations

import os
import pty
import termios

from hypothesis import given
from hypothesis import strategies as st

from tinytown.cli.keyboard import Line, key_by_key


def typed(*keys: str) -> tuple[list[str | None], str]:
    line = Line()
    finished = [each for part in keys for each in line.press(part)]
    return finished, line.text


def test_enter_finishes_a_line() -> None:
    assert typed("yes\r", "no\nmay") == (["yes", "no"], "may")


def test_mistakes_can_be_taken_back() -> None:
    assert typed("yess\x7f") == ([], "yes")
    assert typed("two words\x17") == ([], "two")
    assert typed("all gone\x15") == ([], "")
    assert typed("\x7f\x7fa") == ([], "a")


def test_arrows_and_other_keys_type_nothing() -> None:
    assert typed("a\x1b[Ab\x1b[1;5Cc\x1bOPd\x1b") == ([], "abcd")


def test_ctrl_d_leaves() -> None:
    assert typed("a\x04") == ([None], "a")


@given(st.text())
def test_whatever_is_pasted_a_line_holds_only_what_can_be_seen(text: str) -> None:
    finished, rest = typed(text)
    assert all(line is None or line.isprintable() for line in finished)
    assert rest.isprintable()


def test_the_terminal_is_put_back() -> None:
    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        with key_by_key(theirs):
            during = termios.tcgetattr(theirs)
            assert not during[3] & (termios.ICANON | termios.ECHO)
            assert during[3] & termios.ISIG
        assert termios.tcgetattr(theirs) == before
    finally:
        os.close(ours)
        os.close(theirs)
