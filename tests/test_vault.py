"""Secrets at rest: sealed with the operator's key, opened with no other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.errors import Unavailable
from tinytown.vault import Vault

KEY = "a secret key of some length"


@given(st.binary(max_size=200), st.text(max_size=200).filter(lambda t: not t.startswith("sealed:")))
def test_what_is_sealed_can_be_opened_and_shows_nothing(raw: bytes, text: str) -> None:
    vault = Vault(KEY, "main")
    assert vault.open_bytes(vault.seal_bytes(raw)) == raw
    assert vault.open(vault.seal(text)) == text
    assert len(raw) < 4 or raw not in vault.seal_bytes(raw)


def test_the_same_text_never_looks_the_same() -> None:
    vault = Vault(KEY, "main")
    assert vault.seal("x") != vault.seal("x")


@pytest.mark.parametrize("other", [Vault("another secret key", "main"), Vault(KEY, "elsewhere")])
def test_another_key_or_another_town_opens_nothing(other: Vault) -> None:
    vault = Vault(KEY, "main")
    with pytest.raises(Unavailable, match="another TINYTOWN_SECRET_KEY"):
        other.open(vault.seal("x"))


@given(st.data())
def test_a_single_changed_bit_is_noticed(data: st.DataObject) -> None:
    vault = Vault(KEY, "main")
    sealed = bytearray(vault.seal_bytes(b"hello"))
    place = data.draw(st.integers(len(b"sealed:"), len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Unavailable):
        vault.open_bytes(bytes(sealed))


def test_without_a_key_nothing_is_sealed_and_sealed_things_say_what_is_missing() -> None:
    bare = Vault(None, "main")
    assert bare.seal("x") == "x"
    assert bare.seal_bytes(b"x") == b"x"
    with pytest.raises(Unavailable, match="is not set"):
        bare.open(Vault(KEY, "main").seal("x"))
    # A key introduced later still reads what was stored before.
    assert Vault(KEY, "main").open("ntfy://topic") == "ntfy://topic"
