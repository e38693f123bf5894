"""Any command at all as an agent: the goal goes in, text comes out, the exit code decides."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tinytown.errors import Invalid
from tinytown_workers.agents import home
from tinytown_workers.agents.contract import Turn, Verdict
from tinytown_workers.agents.events import AgentEvent, Message
from tinytown_workers.agents.text import clean, clean_end
from tinytown_workers.agents.verdict import REASON_CHARS, describe_exit, stopped
from tinytown_workers.lines import Line
from tinytown_workers.process import Exit, Launch

_SUMMARY_CHARS: Final = 4_000  # the end of the output: where programs say what came of it


class Command:
    """The command line of TINYTOWN_AGENT_COMMAND, run in the workspace."""

    name = "command"
    lists_tools = False

    def __init__(self, line: str | None) -> None:
        """Take the command line, split as a shell would; raises Invalid if there is none."""
        if not line or not line.strip():
            raise Invalid("the agent `command` needs TINYTOWN_AGENT_COMMAND on its worker")
        try:
            self._argv = tuple(shlex.split(line))
        except ValueError as error:
            raise Invalid(f"TINYTOWN_AGENT_COMMAND cannot be split: {error}") from None
        if not self._argv or not self._argv[0]:
            raise Invalid("TINYTOWN_AGENT_COMMAND names no program")

    def launch(self, turn: Turn) -> Launch:
        """Say how to start it; the goal's bytes go in (TINYTOWN_GOAL_FILE is the sandbox's)."""
        env = home.environment(turn, (), {})
        # A path with a slash is meant from the workspace; a bare name is looked up on PATH.
        first = self._argv[0]
        program = first if "/" in first else home.program(first, env)
        return Launch(
            argv=(program, *self._argv[1:]),
            env=env,
            cwd=turn.workspace,
            stdin=turn.prompt.encode(),
        )

    def reader(self, turn: Turn) -> CommandReader:  # noqa: ARG002 - contract
        """Begin to read one run."""
        return CommandReader()

    def session_files(self, turn: Turn, session_id: str) -> Sequence[Path]:  # noqa: ARG002 - contract
        """Find nothing: a command remembers nothing that we know of."""
        return ()


class CommandReader:
    """Shows every line as it comes; both streams, as a terminal would."""

    def stdout(self, line: Line) -> Sequence[AgentEvent]:
        """Show one line."""
        text = clean(line.data.decode(errors="replace"))
        return (Message(text=text),) if text else ()

    def stderr(self, line: Line) -> Sequence[AgentEvent]:
        """Show one line."""
        return self.stdout(line)

    def rest(self) -> Sequence[AgentEvent]:
        """Hold nothing back."""
        return ()

    def verdict(self, ended: Exit) -> Verdict:
        """Believe the exit code: a command has no other way to say how it went."""
        reason = stopped("the command", ended)
        if not reason and ended.code != 0:
            words = clean_end(ended.stderr_tail, REASON_CHARS)
            reason = words or f"the command ended {describe_exit(ended)}"
        return Verdict(
            ok=not reason,
            summary=clean_end(ended.stdout_tail, _SUMMARY_CHARS),
            reason=reason,
            exit=ended,
        )
