"""The coding CLIs a worker can run, each behind the same contract (see contract.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tinytown.errors import Invalid
from tinytown_workers.agents.claude import Claude
from tinytown_workers.agents.codex import Codex
from tinytown_workers.agents.command import Command
from tinytown_workers.agents.contract import (
    AgentCli,
    AgentMissing,
    McpServer,
    Permissions,
    Reader,
    Turn,
    Verdict,
)
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
from tinytown_workers.agents.gemini import Gemini
from tinytown_workers.agents.opencode import Opencode
from tinytown_workers.agents.rules import RULES
from tinytown_workers.agents.turns import run_turn

__all__ = [
    "AGENTS",
    "RULES",
    "AgentCli",
    "AgentEvent",
    "AgentMissing",
    "McpServer",
    "Message",
    "Notice",
    "Permissions",
    "Reader",
    "SessionStarted",
    "ToolEnded",
    "ToolStarted",
    "Turn",
    "TurnEnded",
    "Usage",
    "Verdict",
    "agent_named",
    "run_turn",
]

_CLIS: Final[dict[str, Callable[[], AgentCli]]] = {
    "claude": Claude,
    "codex": Codex,
    "opencode": Opencode,
    "gemini": Gemini,
}
AGENTS: Final = (*_CLIS, "command")
"""The names missions may use."""


def agent_named(name: str, *, command: str | None = None) -> AgentCli:
    """Make the agent of that name; `command` is TINYTOWN_AGENT_COMMAND. Raises Invalid."""
    if name == "command":
        return Command(command)
    if name not in _CLIS:
        raise Invalid(f"no agent is called {name!r}; there are {', '.join(AGENTS)}")
    return _CLIS[name]()
