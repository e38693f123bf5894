"""What the readers of all JSON-speaking CLIs share: one line in, events out, nothing raised."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from tinytown_workers.agents.contract import Verdict
from tinytown_workers.agents.events import (
    AgentEvent,
    Message,
    Notice,
    SessionStarted,
    ToolEnded,
    ToolStarted,
    TurnEnded,
    Usage,
)
from tinytown_workers.agents.text import clean, decode, summarise
from tinytown_workers.agents.verdict import judge
from tinytown_workers.lines import Line
from tinytown_workers.process import Exit

_NAME_CHARS: Final = 200


class JsonReader(ABC):
    """Keeps what a verdict needs while a subclass translates one object at a time.

    Subclasses write `translate`; it gets any JSON object at all, so it digs and never indexes.
    """

    def __init__(self, name: str, spent: Usage | None = None) -> None:
        """Begin to read the CLI of that name; `spent` is what its session used before."""
        self.name = name
        self.spent = spent or Usage()
        self.session_id: str | None = None
        self.last_message = ""
        self.usage = Usage()
        self.ended: TurnEnded | None = None

    @abstractmethod
    def translate(self, entry: dict[str, Any]) -> Iterator[AgentEvent]:
        """Turn one object of the CLI's stream into events."""

    def stdout(self, line: Line) -> Sequence[AgentEvent]:
        """Translate one line; what is no JSON object becomes a notice."""
        if not line.whole:
            return (Notice(text=f"{self.name} wrote a line of {line.length} bytes, too long"),)
        entry = decode(line)
        return self.stderr(line) if entry is None else self.noted(self.translate(entry))

    def stderr(self, line: Line) -> Sequence[AgentEvent]:
        """Show what the CLI says beside its stream; it decides nothing."""
        text = clean(line.data.decode(errors="replace"))
        return (Notice(text=text),) if text else ()

    def rest(self) -> Sequence[AgentEvent]:
        """Give out what was held back, at the end of the stream."""
        return ()

    def verdict(self, ended: Exit) -> Verdict:
        """Judge the turn by the last event, the exit and the clocks."""
        return judge(
            self.name,
            ended,
            self.ended,
            summary=self.last_message,
            session_id=self.session_id,
            usage=self.usage,
        )

    def noted(self, events: Iterable[AgentEvent]) -> list[AgentEvent]:
        """Remember what the verdict will need; whatever follows the last word takes it back."""
        seen = list(events)
        for event in seen:
            match event:
                case SessionStarted():
                    self.session_id = event.session_id
                case Message():
                    self.last_message, self.ended = event.text, None
                case ToolStarted():
                    self.ended = None
                case Usage():
                    self.usage = event
                case TurnEnded():
                    self.ended = event
                case _:
                    pass
        return seen


def session_started(session_id: str, tools: Iterable[Any] = (), model: str = "") -> AgentEvent:
    """Make the event of a session that opened."""
    return SessionStarted(
        session_id=clean(session_id, _NAME_CHARS),
        tools=tuple(clean(tool, _NAME_CHARS) for tool in tools if isinstance(tool, str)),
        model=clean(model, _NAME_CHARS),
    )


def message(text: str) -> Iterator[AgentEvent]:
    """Make a message, unless there is nothing to read in it."""
    if text := clean(text):
        yield Message(text=text)


def notice(text: str) -> Iterator[AgentEvent]:
    """Make a notice, unless there is nothing to read in it."""
    if text := clean(text):
        yield Notice(text=text)


def tool_started(tool_id: str, name: str, given: Any) -> AgentEvent:
    """Make the event of a tool call that begins."""
    return ToolStarted(
        id=clean(tool_id, _NAME_CHARS), name=clean(name, _NAME_CHARS), summary=summarise(given)
    )


def tool_ended(tool_id: str, result: Any, *, ok: bool) -> AgentEvent:
    """Make the event of a tool call that ended."""
    return ToolEnded(id=clean(tool_id, _NAME_CHARS), ok=ok, summary=summarise(result))


def turn_ended(*, ok: bool, summary: str = "", reason: str = "") -> AgentEvent:
    """Make the event of the CLI's last word."""
    return TurnEnded(ok=ok, summary=clean(summary), reason=clean(reason))
