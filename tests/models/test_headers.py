"""Headers of an endpoint's own: what may go along, and what never may."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.errors import Invalid
from tinytown.models.headers import BYTES, MOST, check_headers


def test_what_receivers_ask_for_goes_along_as_it_was_written() -> None:
    theirs = {"Authorization": "Bearer a.b-c=", "X-Api-Key": "two words", "x-empty": ""}
    assert check_headers(theirs) == theirs


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "connection",
        "Transfer-Encoding",
        "TE",
        "Upgrade",
        "Proxy-Authorization",
        "Content-Length",
        "content-type",
        "Content-Encoding",
        "webhook-signature",
        "Webhook-Id",
        "svix-signature",
        "User-Agent",
        "Expect",
        "Cookie",
        "X-Forwarded-For",
        "",
        "two words",
        "colon:",
        "caf\u00e9",
        "new\nline",
        "nul\0",
        "x" * 101,
    ],
)
def test_what_is_not_theirs_is_refused_by_name(name: str) -> None:
    with pytest.raises(Invalid):
        check_headers({name: "yes"})


@pytest.mark.parametrize(
    "value",
    ["a\r\nX-Evil: 1", "a\nb", "a\rb", "nul\0", "caf\u00e9", " ahead", "behind ", "\t", "del\x7f"],
)
def test_a_value_cannot_smuggle_and_is_never_shown(value: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_headers({"X-Secret": f"hunter2{value}" if value[0] != " " else value})
    assert "hunter2" not in str(caught.value)
    assert "X-Secret" in str(caught.value)


def test_one_name_is_one_header_however_it_is_written() -> None:
    with pytest.raises(Invalid, match="twice"):
        check_headers({"X-Key": "a", "x-key": "b"})


def test_there_are_not_too_many_and_they_are_not_too_long() -> None:
    assert len(check_headers({f"x-{number}": "1" for number in range(MOST)})) == MOST
    with pytest.raises(Invalid, match="at most 20"):
        check_headers({f"x-{number}": "1" for number in range(MOST + 1)})
    assert check_headers({"x": "y" * (BYTES - 1)})
    with pytest.raises(Invalid, match="4096 bytes"):
        check_headers({"x": "y" * BYTES})


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=60), max_size=25))
def test_what_passes_can_be_written_on_a_wire(headers: dict[str, str]) -> None:
    try:
        passed = check_headers(headers)
    except Invalid:
        return
    for name, value in passed.items():
        line = f"{name}: {value}".encode("ascii")
        assert len(line.splitlines()) == 1
        assert line.split(b":", 1) == [name.encode(), f" {value}".encode()]
