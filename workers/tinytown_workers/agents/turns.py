"""Runs one turn of an agent from its prompt to its verdict."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import anyio
import msgspec

from tinytown.redact import redact
from tinytown_workers.agents.contract import AgentCli, AgentMissing, Turn, Verdict
from tinytown_workers.agents.events import (
    AgentEvent,
    Notice,
    SessionStarted,
    TurnEnded,
    Usage,
)
from tinytown_workers.lines import Line
from tinytown_workers.process import CannotStart, Limits, Pulse, Stream, supervise

_ASK: Final = "ask_human"
_Struct = TypeVar("_Struct", bound=msgspec.Struct)


async def run_turn(
    agent: AgentCli,
    turn: Turn,
    on_event: Callable[[AgentEvent], Awaitable[None]],
    *,
    limits: Limits | None = None,
    pulse: Pulse | None = None,
) -> Verdict:
    """Start the CLI, hand on what it says (clipped and redacted), and judge how it ended.

    Never raises for what the CLI does or is: a missing one is a failed verdict. What `on_event`
    raises, and cancellation, come out once the CLI and all it started are gone.
    """
    try:
        launch = await anyio.to_thread.run_sync(agent.launch, turn)
    except AgentMissing as missing:
        return Verdict(ok=False, reason=str(missing))
    limits, pulse = limits or Limits(), pulse or Pulse()
    running = _Running(agent, turn, on_event, launch.secrets, limits=limits, pulse=pulse)
    try:
        ended = await supervise(launch, running.hear, limits=limits, pulse=pulse)
    except CannotStart as refusal:
        return Verdict(ok=False, reason=str(refusal))
    await running.tell(running.reader.rest())
    if ended.lines_dropped:
        await running.tell((Notice(text=f"{ended.lines_dropped} lines were too many to keep"),))
    verdict = running.reader.verdict(ended)
    if running.deaf:
        verdict = msgspec.structs.replace(verdict, ok=False, reason=running.deaf)
    # The raw output has done its work; keys in it are not masked.
    ended = msgspec.structs.replace(ended, stdout_tail=b"", stderr_tail=b"")
    return running.masked(msgspec.structs.replace(verdict, exit=ended))


class _Running:
    """What one turn needs while its lines come in."""

    def __init__(
        self,
        agent: AgentCli,
        turn: Turn,
        on_event: Callable[[AgentEvent], Awaitable[None]],
        secrets: tuple[str, ...],
        *,
        limits: Limits,
        pulse: Pulse,
    ) -> None:
        self.agent = agent
        self.turn = turn
        self.limits = limits
        self.pulse = pulse
        self.reader = agent.reader(turn)
        self.deaf = ""
        self._on_event = on_event
        self._secrets = secrets

    async def hear(self, stream: Stream, line: Line) -> None:
        """Take in one line: events out, clocks told."""
        events = self.reader.stdout(line) if stream == "stdout" else self.reader.stderr(line)
        # A line without meaning to us (a heartbeat) is life; a notice (reconnecting) is not.
        if not all(isinstance(event, Notice) for event in events) or (
            stream == "stdout" and not events
        ):
            self.pulse.beat()
        await self.tell(events)

    async def tell(self, events: Sequence[AgentEvent]) -> None:
        """Hand events on, and act on those that concern the run itself."""
        for event in events:
            self._heed(event)
            await self._on_event(self.masked(event))

    def _heed(self, event: AgentEvent) -> None:
        budget = self.turn.budget_usd
        match event:
            case TurnEnded():
                self.pulse.last_word(self.limits.linger_seconds)
            case SessionStarted() if not self._can_ask(event):
                self.deaf = f"{self.agent.name} does not see {_ASK}: its MCP server did not start"
                self.pulse.stop("stopped")
            case Usage() if budget is not None and (event.cost_usd or 0) > budget:
                self.pulse.stop("budget")
            case Notice() | Usage():
                pass
            case _:
                self.pulse.carry_on()

    def _can_ask(self, started: SessionStarted) -> bool:
        if self.turn.mcp is None or not self.agent.lists_tools:
            return True
        # No list at all means that its servers are still starting.
        return not started.tools or any(tool.endswith(_ASK) for tool in started.tools)

    def masked(self, value: _Struct) -> _Struct:
        """Mask keys in every text of an event or a verdict."""
        texts = {
            name: redact(text, self._secrets)
            for name in value.__struct_fields__
            if isinstance(text := getattr(value, name), str)
        }
        return msgspec.structs.replace(value, **texts)
