"""One suite for every agent CLI: whatever a CLI calls things, the town hears the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.errors import Invalid
from tinytown_workers.agents import (
    AGENTS,
    AgentEvent,
    Message,
    Notice,
    Reader,
    SessionStarted,
    ToolEnded,
    ToolStarted,
    Turn,
    TurnEnded,
    Usage,
    Verdict,
    agent_named,
)
from tinytown_workers.agents.text import TEXT_CHARS
from tinytown_workers.lines import Line
from tinytown_workers.process import Exit, Why

STREAMS = Path(__file__).parent / "streams"
CLIS = ("claude", "codex", "opencode", "gemini")
NOWHERE = Turn(prompt="", workspace=Path("/town"), home=Path("/town/home"), env={}, inherited={})


def recording(cli: str, scenario: str) -> tuple[list[bytes], int]:
    """Read what the real CLI wrote (record_streams.py), and its exit code."""
    kept = json.loads((STREAMS / f"{cli}-{scenario}.json").read_text())
    return [line.encode() for line in kept["stdout"]], kept["exit"]


def reader_of(cli: str, **turn: Any) -> Reader:
    return agent_named(cli, command="true").reader(msgspec.structs.replace(NOWHERE, **turn))


def read(reader: Reader, lines: list[bytes]) -> list[AgentEvent]:
    events: list[AgentEvent] = []
    for line in lines:
        events += reader.stdout(Line(line, len(line)))
    return [*events, *reader.rest()]


def ended(code: int | None = 0, why: Why = "exited", stderr: bytes = b"") -> Exit:
    return Exit(why=why, code=code, seconds=1.0, stderr_tail=stderr)


def replay(cli: str, scenario: str, **turn: Any) -> tuple[list[AgentEvent], Verdict]:
    lines, code = recording(cli, scenario)
    reader = reader_of(cli, **turn)
    return read(reader, lines), reader.verdict(ended(code))


def plot(events: list[AgentEvent]) -> list[str]:
    """Reduce events to what all CLIs must agree on."""
    told = []
    for event in events:
        match event:
            case ToolEnded():
                told.append("tool worked" if event.ok else "tool failed")
            case TurnEnded():
                told.append("done" if event.ok else "failed")
            case SessionStarted() | ToolStarted() | Message():
                told.append(type(event).__name__)
            case Notice() | Usage():
                pass
    return told


@pytest.mark.parametrize("cli", CLIS)
class TestEveryCli:
    def test_a_good_turn_is_told_in_the_same_words(self, cli: str) -> None:
        events, verdict = replay(cli, "done")
        assert plot(events) == [
            "SessionStarted",
            "ToolStarted",
            "tool worked",
            "ToolStarted",
            "tool worked",
            "Message",
            "done",
        ]
        assert verdict.ok
        assert not verdict.reason
        assert "blue" in verdict.summary

    def test_the_session_can_be_named_for_a_later_turn(self, cli: str) -> None:
        events, verdict = replay(cli, "done")
        assert isinstance(events[-1], TurnEnded)
        session = next(event for event in events if isinstance(event, SessionStarted))
        assert session.session_id == verdict.session_id
        assert re.fullmatch(r"[A-Za-z0-9_-]{20,}", session.session_id)

    def test_tools_say_what_they_were_given_and_what_came_back(self, cli: str) -> None:
        events, _ = replay(cli, "done")
        shell, ask = (event for event in events if isinstance(event, ToolStarted))
        first, second = (event for event in events if isinstance(event, ToolEnded))
        assert "echo one > a.txt" in shell.summary
        assert ask.name.endswith("ask_human")
        assert ask.summary == "Which colour?"
        assert second.summary == "blue"
        assert [first.id, second.id] == [shell.id, ask.id]

    def test_usage_is_counted(self, cli: str) -> None:
        events, verdict = replay(cli, "done")
        last = [event for event in events if isinstance(event, Usage)][-1]
        assert (last.input_tokens, last.output_tokens) == (300, 30)
        assert verdict.usage == last

    def test_a_tool_that_fails_does_not_fail_the_turn(self, cli: str) -> None:
        events, verdict = replay(cli, "stumbled")
        # Gemini calls a command that exited with 3 a success; nothing in its output tells.
        outcome = "tool worked" if cli == "gemini" else "tool failed"
        assert plot(events) == ["SessionStarted", "ToolStarted", outcome, "Message", "done"]
        assert verdict.ok

    def test_a_refusing_model_fails_the_turn_with_its_reason(self, cli: str) -> None:
        events, verdict = replay(cli, "failed")
        assert plot(events)[-1] == "failed"
        assert not verdict.ok
        assert "401" in verdict.reason

    def test_a_turn_that_breaks_off_anywhere_has_failed(self, cli: str) -> None:
        lines, _ = recording(cli, "done")
        for end in range(len(lines)):
            reader = reader_of(cli)
            read(reader, lines[:end])
            verdict = reader.verdict(ended(0, stderr=b"node: out of memory\n"))
            assert not verdict.ok, f"after {end} of {len(lines)} lines"
            assert "in the middle of its turn" in verdict.reason
            assert "out of memory" in verdict.reason

    @pytest.mark.parametrize("code", [1, 143, -9, None])
    def test_the_exit_must_agree_with_the_last_word(self, cli: str, code: int | None) -> None:
        lines, _ = recording(cli, "done")
        reader = reader_of(cli)
        read(reader, lines)
        verdict = reader.verdict(ended(code))
        assert not verdict.ok
        assert "said that it was done" in verdict.reason

    @pytest.mark.parametrize("why", ["idle", "overtime", "flooded", "budget", "stopped"])
    def test_a_turn_that_was_stopped_has_failed_whatever_it_said(self, cli: str, why: Why) -> None:
        lines, _ = recording(cli, "done")
        reader = reader_of(cli)
        read(reader, lines)
        verdict = reader.verdict(ended(0, why))
        assert not verdict.ok
        assert cli in verdict.reason

    def test_one_that_would_not_leave_after_its_last_word_is_forgiven(self, cli: str) -> None:
        lines, _ = recording(cli, "done")
        reader = reader_of(cli)
        read(reader, lines)
        assert reader.verdict(ended(-15, "lingered")).ok

    def test_work_after_the_last_word_takes_it_back(self, cli: str) -> None:
        lines, _ = recording(cli, "done")
        reader = reader_of(cli)
        read(reader, [*lines, *lines[:-1]])
        assert not reader.verdict(ended(0)).ok

    def test_what_is_no_json_is_a_notice_and_nothing_more(self, cli: str) -> None:
        lines, code = recording(cli, "done")
        reader = reader_of(cli)
        noise = [b"Debugger attached.", b"\xff\xfe\x00", b"[1, 2]", b'{"type": ', b"", b"null"]
        events = read(reader, [*noise, *lines[:2], *noise, *lines[2:], *noise])
        clean_events, _ = replay(cli, "done")
        assert plot(events) == plot(clean_events)
        assert reader.verdict(ended(code)).ok
        assert Notice(text="Debugger attached.") in events

    def test_a_line_too_long_to_keep_is_named_not_read(self, cli: str) -> None:
        events = reader_of(cli).stdout(Line(b'{"type":"result"', 5_000_000))
        assert events == (Notice(text=f"{cli} wrote a line of 5000000 bytes, too long"),)

    def test_broken_utf8_inside_an_event_is_replaced(self, cli: str) -> None:
        lines, code = recording(cli, "done")
        reader = reader_of(cli)
        events = read(reader, [line.replace(b"It is", b"It \xff is") for line in lines])
        assert any(
            "It \N{REPLACEMENT CHARACTER} is" in e.text for e in events if isinstance(e, Message)
        )
        assert reader.verdict(ended(code)).ok


def test_an_api_error_in_disguise_is_found_out() -> None:
    lines, _ = recording("claude", "done")
    disguised = lines[-1].replace(b"It is blue", b"[API Error: 429 quota exceeded]")
    reader = reader_of("claude")
    read(reader, [*lines[:-1], disguised])
    verdict = reader.verdict(ended(0))
    assert not verdict.ok
    assert verdict.reason.startswith("[API Error: 429")


def test_totals_of_a_session_become_what_the_turn_used() -> None:
    spent = Usage(input_tokens=200, output_tokens=20, cost_usd=0.0005)
    _, codex = replay("codex", "done", spent=spent)
    assert (codex.usage.input_tokens, codex.usage.output_tokens) == (100, 10)
    _, claude = replay("claude", "done", spent=spent)
    assert claude.usage.cost_usd == pytest.approx(0.0018 - 0.0005)
    assert claude.usage.input_tokens == 300


def test_the_words_of_a_subagent_are_not_the_agents_words() -> None:
    inner = {
        "type": "assistant",
        "parent_tool_use_id": "call_1",
        "message": {"content": [{"type": "text", "text": "inner"}]},
    }
    assert not read(reader_of("claude"), [json.dumps(inner).encode()])


def test_an_answer_in_pieces_is_one_message() -> None:
    pieces = [
        {"type": "message", "role": "assistant", "content": text, "delta": True}
        for text in ("All ", "is ", "well.")
    ]
    events = read(reader_of("gemini"), [json.dumps(piece).encode() for piece in pieces])
    assert events == [Message(text="All is well.")]


def test_an_unknown_agent_is_refused_by_name() -> None:
    with pytest.raises(Invalid, match="no agent is called 'hal'; there are claude, codex"):
        agent_named("hal")


def test_every_name_leads_to_an_agent_of_that_name() -> None:
    assert [agent_named(name, command="true").name for name in AGENTS] == list(AGENTS)


# --- Whatever comes, nothing is raised, and what comes out is fit to store and show -------------

WORDS = sorted(
    {
        word
        for path in STREAMS.glob("*.json")
        for word in re.findall(r'"([A-Za-z_.-]{2,30})"', path.read_text().replace("\\", ""))
    }
)
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_names = st.sampled_from(WORDS) | st.text(max_size=5)
_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
_values = st.recursive(
    _scalars | st.text() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=6),
    max_leaves=30,
)


@st.composite
def _almost_recorded(draw: st.DrawFn) -> bytes:
    """Take a recorded line and change one field of it to anything at all."""
    path = draw(st.sampled_from(sorted(STREAMS.glob("*.json"))))
    entry = json.loads(draw(st.sampled_from(json.loads(path.read_text())["stdout"])))
    place = entry
    while True:
        name = draw(st.sampled_from(sorted(place)))
        inner = place[name]
        if not isinstance(inner, dict) or not inner or draw(st.booleans()):
            place[name] = draw(_values)
            return json.dumps(entry).encode()
        place = inner


_lines = (
    st.binary(max_size=200)
    | st.dictionaries(_names, _values, max_size=8).map(lambda v: json.dumps(v).encode())
    | _almost_recorded()
    | st.integers(1, 3000).map(lambda deep: b'{"a":' * deep)
)


@pytest.mark.parametrize("cli", AGENTS)
@given(lines=st.lists(_lines, max_size=8), cut=st.integers(0, 1), code=st.integers(-64, 255))
def test_no_output_at_all_can_upset_a_reader(
    cli: str, lines: list[bytes], cut: int, code: int
) -> None:
    reader = reader_of(cli)
    events: list[AgentEvent] = []
    for data in lines:
        line = Line(data, len(data) + cut)
        events += [*reader.stdout(line), *reader.stderr(line)]
    events += reader.rest()
    verdict = reader.verdict(ended(code, stderr=b"\n".join(lines)))
    assert verdict.ok or verdict.reason
    texts = [
        text
        for thing in (*events, verdict)
        for name in thing.__struct_fields__
        if isinstance(text := getattr(thing, name), str)
    ]
    for text in texts:
        assert len(text) <= TEXT_CHARS
        assert not UNSEEN.search(text)
    msgspec.json.encode(events)
