"""What the worker needs from a coding CLI: how to start a turn, and what its output means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import msgspec

from tinytown_workers.agents.events import AgentEvent, Usage
from tinytown_workers.lines import Line
from tinytown_workers.process import Exit, Launch

Permissions: TypeAlias = Literal["bypass", "ask"]
"""`bypass`: the workspace is the sandbox, edits and shell need no leave. `ask`: a person decides
where the CLI can ask one (claude); elsewhere the CLI itself refuses (docs/agents.md)."""


class AgentMissing(Exception):
    """The CLI is not on this worker; the text names it."""


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    """The stdio server through which the agent asks people; the CLI starts and stops it.

    `env` is all the server gets beside the CLI's own choice, so it must be complete and must
    hold no secret of the town: the agent can read it.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = {}
    name: str = "town"


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt for one session: everything an adapter may use to start its CLI."""

    prompt: str
    """What the CLI is asked to do, unchanged: it travels on standard input."""
    workspace: Path
    """Where it works; sessions are filed under this path, so it is the same on every worker."""
    home: Path
    """Private to the task; lives as long as its session."""
    env: Mapping[str, str]
    """The surroundings the sandbox made: PATH, HOME, TMPDIR, the session's ids. All of it."""
    inherited: Mapping[str, str]
    """The worker's environment, from which only the network's and the vendor's names pass."""
    mcp: McpServer | None = None
    resume: str | None = None
    """The session to go on with: the id an earlier turn's `SessionStarted` named."""
    model: str | None = None
    budget_usd: float | None = None
    """The most this turn may cost."""
    spent: Usage = Usage()
    """What the session's earlier turns used, added up: some CLIs only tell totals of a session."""
    permissions: Permissions = "bypass"
    rules: str = ""
    """Standing orders beside the prompt, given where the CLI keeps such things."""
    login_home: Path | None = None
    """The home of the person whose machine this is, whose login the CLI may use."""

    def __repr__(self) -> str:
        """Show which turn it is, never the environments: they hold keys."""
        return f"Turn(workspace={str(self.workspace)!r}, resume={self.resume!r})"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the turn ended, judged by the CLI's last event, its exit and the worker's clocks."""

    ok: bool
    summary: str = ""
    """The agent's own last words, for people."""
    reason: str = ""
    """Why it failed; empty when `ok`."""
    session_id: str | None = None
    usage: Usage = Usage()
    """Of this turn alone."""
    exit: Exit | None = None
    """None when the CLI could not be started at all."""


class Reader(Protocol):
    """Reads one turn's output, line by line; never raises, whatever the bytes are."""

    def stdout(self, line: Line) -> Sequence[AgentEvent]:
        """Translate one line of standard output."""

    def stderr(self, line: Line) -> Sequence[AgentEvent]:
        """Translate one line of standard error."""

    def rest(self) -> Sequence[AgentEvent]:
        """Give out what was held back, after the last line."""

    def verdict(self, ended: Exit) -> Verdict:
        """Judge the whole turn, after `rest`."""


class AgentCli(Protocol):
    """One coding CLI. Adapters hold no state: a turn's state lives in its reader."""

    @property
    def name(self) -> str:
        """The name missions use, as in TINYTOWN_AGENT."""

    @property
    def lists_tools(self) -> bool:
        """Whether `SessionStarted.tools` is the full list, so that a missing tool can be seen."""

    def launch(self, turn: Turn) -> Launch:
        """Write what the CLI reads into `turn.home` and say how to start it.

        Raises AgentMissing when the CLI is not on the PATH of this worker.
        """

    def reader(self, turn: Turn) -> Reader:
        """Begin to read one turn."""

    def session_files(self, turn: Turn, session_id: str) -> Sequence[Path]:
        """Find the files that carry a session, all below `turn.home`; empty if it has none."""
