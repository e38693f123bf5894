"""What an agent says while it works, in one vocabulary for every CLI."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """The common shape: `kind` tells them apart in the mission's log."""


class SessionStarted(_Event, frozen=True, tag="session_started"):
    """The CLI opened (or reopened) a session; `tools` is empty where the CLI does not list them."""

    session_id: str
    tools: tuple[str, ...] = ()
    model: str = ""


class Message(_Event, frozen=True, tag="message"):
    """The agent, or a plain command, said something to the reader."""

    text: str


class Notice(_Event, frozen=True, tag="notice"):
    """The CLI speaks about itself: a retry, a warning, a line we could not read.

    Notices are no sign of life: a CLI that only reconnects for ever is a silent one.
    """

    text: str


class ToolStarted(_Event, frozen=True, tag="tool_started"):
    """The agent began to use a tool; `summary` is its command, path or question, clipped."""

    id: str
    name: str
    summary: str = ""


class ToolEnded(_Event, frozen=True, tag="tool_ended"):
    """The tool came back; `ok` is false when it failed or was refused."""

    id: str
    ok: bool
    summary: str = ""


class Usage(_Event, frozen=True, tag="usage"):
    """What this turn has used so far, not since the last event; `cost_usd` where the CLI tells."""

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


class TurnEnded(_Event, frozen=True, tag="turn_ended"):
    """The CLI's own last word on the turn; the worker judges it together with the exit."""

    ok: bool
    summary: str = ""
    reason: str = ""


AgentEvent: TypeAlias = (
    SessionStarted | Message | Notice | ToolStarted | ToolEnded | Usage | TurnEnded
)
