"""The stream's format: events come out the same however the bytes were cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tinytown.cli.sse import Lines, Parser, ServerSent


def heard(*chunks: bytes) -> list[ServerSent]:
    lines, parser = Lines(), Parser()
    found = (parser.feed(line) for chunk in chunks for line in lines.feed(chunk))
    return [event for event in found if event is not None]


def test_an_event_has_an_id_a_name_and_data() -> None:
    assert heard(b"id: 7-1\nevent: task.queued\ndata: {}\n\n") == [
        ServerSent("7-1", "task.queued", "{}")
    ]


def test_data_of_several_lines_is_one_text() -> None:
    assert heard(b"data: a\ndata:b\ndata:  c\n\n") == [ServerSent("", "message", "a\nb\n c")]


def test_comments_unknown_fields_and_empty_events_are_nothing() -> None:
    assert heard(b":\n\nretry: 5\nwhat: x\n\nid: 3\n\n") == []


def test_an_id_stays_until_the_next_one() -> None:
    assert [event.id for event in heard(b"id: 1\ndata: a\n\ndata: b\n\n")] == ["1", "1"]


def test_an_id_with_a_null_is_no_id() -> None:
    assert heard(b"id: a\0b\ndata: x\n\n") == [ServerSent("", "message", "x")]


def test_what_is_cut_off_is_not_an_event() -> None:
    assert heard(b"data: a\n\ndata: half") == [ServerSent("", "message", "a")]


TEXT = (
    "id: 1-0\r\nevent: é\r\ndata: ünï✓\r\ndata: two\r\n\r\n:beat\r\rdata: three\n\ndata: 4\r\n\r\n"
)


@given(st.lists(st.integers(min_value=0, max_value=len(TEXT.encode())), max_size=12))
def test_where_the_bytes_are_cut_makes_no_difference(cuts: list[int]) -> None:
    raw = TEXT.encode()
    places = [0, *sorted(cuts), len(raw)]
    chunks = [raw[a:b] for a, b in pairwise(places)]
    assert heard(*chunks) == [
        ServerSent("1-0", "é", "ünï✓\ntwo"),
        ServerSent("1-0", "message", "three"),
        ServerSent("1-0", "message", "4"),
    ]
