"""One attempt at a task: workspace, agent, answers, harvest, verdict.

The session judges and the worker settles: `run` returns what became of the attempt, or raises
LeaseLost when the task is somebody else's by now.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
import msgspec

from tinytown.errors import Invalid
from tinytown.models.task import Claim
from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_workers import prompts
from tinytown_workers.agents import (
    RULES,
    AgentCli,
    AgentEvent,
    McpServer,
    Permissions,
    SessionStarted,
    Turn,
    Usage,
    Verdict,
    agent_named,
    run_turn,
)
from tinytown_workers.asking import Asking
from tinytown_workers.checkpoint import Checkpoint, Unreadable, write_files
from tinytown_workers.desk import Desk, open_desk
from tinytown_workers.git import Git
from tinytown_workers.lease import Lease
from tinytown_workers.logbook import Logbook
from tinytown_workers.outcome import Attempt, collect, short
from tinytown_workers.parking import Parking
from tinytown_workers.process import Limits, Pulse
from tinytown_workers.room import Room, open_room
from tinytown_workers.sandbox import Errand, Sandbox
from tinytown_workers.workspace import Plan, Workspace, WorkspaceFailed

_log = logging.getLogger(__name__)

TURNS: Final = 20
"""Most turns of one attempt: each message or late answer may need one."""


_NETWORK: Final = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
)  # fmt: skip


class SessionRules(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator decided about sessions (settings.py)."""

    work_dir: Path
    agent: str = "claude"
    agent_command: str | None = None
    model: str | None = None
    permissions: Permissions = "ask"
    budget_usd: float | None = None
    task_seconds: float = 14_400
    silence_seconds: float = 900
    hold_seconds: float = 120
    git_token: str = ""
    login_home: Path | None = None


STOPPED: Final = "its worker was stopped"
RESTOP_SECONDS: Final = 0.2
"""How soon a stop is repeated to a child that was starting when it came."""
PARKED_SECONDS: Final = 30.0
"""How long an agent may take to end its turn once it was told that nobody has answered."""


class Session:
    """Runs one claim."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        lease: Lease,
        *,
        rules: SessionRules,
        environ: Mapping[str, str],
        vault: Vault,
    ) -> None:
        """Prepare a session; `environ` is the worker's environment, filtered by each adapter."""
        self._store = store
        self._claim = claim
        self._lease = lease
        self._rules = rules
        self._environ = environ
        self._pulse = Pulse()
        self._parking = Parking(store, claim, lease, vault)
        self.asking: Final = Asking(store, claim, self._pulse, hold_seconds=rules.hold_seconds)
        self._logbook = Logbook(store, claim.task_id, claim.attempt)
        self._session_id: str | None = None
        self._usage = Usage()  # of the task
        self._spent = Usage()  # of the CLI's session
        self._answers_told: list[str] = []
        self._drain = anyio.Event()
        self._waiting: anyio.CancelScope | None = None

    def drain(self) -> None:
        """End the agent's turn, save the session and come back (the worker must stop)."""
        self._drain.set()
        if self._waiting is not None:
            self._waiting.cancel()

    async def run(self) -> Attempt:
        """Run the attempt to its end; raises LeaseLost."""
        try:
            agent = agent_named(
                self._claim.agent or self._rules.agent, command=self._rules.agent_command
            )
        except Invalid as unknown:
            return Attempt(reason=unknown.detail)
        saved = await self._parking.restore()
        if saved is not None:
            try:
                return await self._attempt(agent, saved)
            except (WorkspaceFailed, Unreadable) as failed:
                await self._parking.tell(
                    f"the checkpoint cannot be restored, starting over: {failed}"
                )
        try:
            return await self._attempt(agent, None, lost=saved)
        except WorkspaceFailed as failed:
            return Attempt(reason=short(str(failed)))

    async def _attempt(
        self, agent: AgentCli, saved: Checkpoint | None, *, lost: Checkpoint | None = None
    ) -> Attempt:
        """Work in a fresh room, from a checkpoint if there is one; raises WorkspaceFailed."""
        async with open_room(self._rules.work_dir, self._claim.task_id) as room:
            workspace = await self._workspace(room, saved)
            if not await self._prepare(workspace):
                return Attempt(again=STOPPED)
            prompt = await self._first_prompt(agent, room, saved, lost)
            async with anyio.create_task_group() as group:
                group.start_soon(self._logbook.run)
                found = await self._turns(agent, room, workspace, prompt)
                group.cancel_scope.cancel()
            await self._logbook.close()
            if isinstance(found, Attempt):
                return found
            return await collect(
                workspace, found, self._claim, self._usage, before_push=self._still_ours
            )

    async def _prepare(self, workspace: Workspace) -> bool:
        """Prepare the workspace; False when the worker was told to stop meanwhile."""
        with anyio.CancelScope() as self._waiting:
            if not self._drain.is_set():
                ready = await workspace.prepare()
                for note in ready.notes:
                    _log.info("workspace.note", extra={"facts": {"note": note}})
        self._waiting = None
        return not self._drain.is_set()

    async def _first_prompt(
        self, agent: AgentCli, room: Room, saved: Checkpoint | None, lost: Checkpoint | None
    ) -> str:
        """Write the first prompt: the goal, or how to go on; empty while a question is open."""
        earlier = saved or lost
        if earlier is None:
            return prompts.opening(self._claim)
        answers = await self._parking.answers(earlier, self.asking)
        self._answers_told = list(answers)
        self._usage = earlier.usage
        if agent.name == "command":
            return prompts.opening(self._claim)  # it asks again, and has its answer at once
        if saved is None or saved.session_id is None or saved.agent != agent.name:
            return prompts.anew(self._claim, answers, work=saved is not None)
        write_files(room.home, saved.files)
        self._session_id, self._spent = saved.session_id, saved.spent
        self.asking.catch_up(saved.told)
        return "" if self.asking.left_open else self._going_on(answers)

    def _going_on(self, answers: list[str]) -> str:
        """Write the prompt that resumes the session."""
        return prompts.going_on(answers=answers, messages=self.asking.unheard())

    async def _workspace(self, room: Room, saved: Checkpoint | None) -> Workspace:
        bundles: list[bytes] = []
        if saved is not None:
            # It holds the earlier tasks' work too.
            bundles = [saved.bundle] if saved.bundle else []
        elif self._claim.repo is None:
            bundles = await self._store.patience.keep_trying(
                "bundles", lambda: self._store.missions.bundles(self._claim.earlier)
            )
        plan = Plan(
            mission_id=self._claim.mission_id,
            repo=self._claim.repo,
            ref=self._claim.ref,
            bundles=tuple(bundles),
            base=saved.base if saved is not None else None,
        )
        path = self._environ.get("PATH", os.defpath)
        git = Git(room.keep, path=path, network=_network(self._environ))
        return Workspace(room, plan, git=git, token=self._rules.git_token)

    # Turns ------------------------------------------------------------------------------------

    async def _turns(
        self, agent: AgentCli, room: Room, workspace: Workspace, prompt: str
    ) -> Verdict | Attempt:
        """Run turns until the agent is done and nobody has anything to say to it."""
        verdict = Verdict(ok=False, reason=f"more than {TURNS} turns")
        async with open_desk(room.desk, self.asking) as desk:
            for _ in range(TURNS):
                if prompt:
                    verdict = await self._speak(agent, room, desk, prompt)
                    self._session_id = verdict.session_id or self._session_id
                if self._drain.is_set() and not (prompt and verdict.ok):
                    await self._save(agent, room, desk, workspace)
                    return Attempt(again=STOPPED)
                waits = bool(self.asking.left_open) and (
                    not prompt or verdict.ok or self.asking.parked.is_set()
                )
                resumable = self._session_id is not None and agent.name != "command"
                prompt = ""
                if waits:
                    answers = await self._answers(agent, room, desk, workspace)
                    if isinstance(answers, Attempt):
                        return answers
                    if not resumable:
                        return Attempt(again="the answer is there: the agent starts over with it")
                    self._answers_told += answers
                    prompt = self._going_on(answers)
                elif verdict.ok and resumable and (messages := self.asking.unheard()):
                    prompt = prompts.follow_up(messages)
                if not prompt:
                    return verdict
        return verdict

    async def _answers(
        self, agent: AgentCli, room: Room, desk: Desk, workspace: Workspace
    ) -> list[str] | Attempt:
        """Wait for the answers to what was left open; park when they do not come."""
        hold = 0.0 if self.asking.parked.is_set() else self._rules.hold_seconds
        answers = await self._late_answers(hold)
        if answers is not None:
            return answers
        saved = await self._save(agent, room, desk, workspace) and not self._drain.is_set()
        if saved and await self._parking.park():
            return Attempt(parked=True)
        answers = await self._late_answers(float("inf"))
        return Attempt(again=STOPPED) if answers is None else answers

    async def _late_answers(self, seconds: float) -> list[str] | None:
        """Wait for all answers; None when the time is over, or the worker must stop."""
        if self._drain.is_set():
            return None
        answers: list[str] | None = None
        with anyio.move_on_after(seconds) as self._waiting:
            answers = [
                prompts.late_answer(asked.ask, await self.asking.outcome(asked.question_id))
                for asked in self.asking.left_open
            ]
        self._waiting = None
        return answers

    async def _save(self, agent: AgentCli, room: Room, desk: Desk, workspace: Workspace) -> bool:
        """Save the attempt for another worker."""
        files = (
            agent.session_files(self._turn_of(agent, room, desk, ""), self._session_id)
            if self._session_id is not None
            else ()
        )
        return await self._parking.save(
            agent=agent.name,
            home=room.home,
            session_id=self._session_id,
            files=files,
            workspace=workspace,
            asking=self.asking,
            usage=self._usage,
            spent=self._spent,
        )

    async def _speak(self, agent: AgentCli, room: Room, desk: Desk, prompt: str) -> Verdict:
        """Run one turn; in a new session where the CLI cannot open the one to go on with."""
        verdict = await self._turn(agent, room, desk, prompt)
        left_by_itself = verdict.exit is not None and verdict.exit.why == "exited"
        if verdict.ok or verdict.session_id or not left_by_itself or self._session_id is None:
            return verdict
        await self._parking.tell(
            f"{agent.name} cannot go on with its session, starting over: {short(verdict.reason)}"
        )
        self._session_id, self._spent = None, Usage()
        prompt = prompts.anew(self._claim, self._answers_told, work=True)
        return await self._turn(agent, room, desk, prompt)

    async def _turn(self, agent: AgentCli, room: Room, desk: Desk, prompt: str) -> Verdict:
        """Run one turn of the agent."""
        self.asking.begin_turn()
        # The limits are the attempt's; what its earlier turns took is gone.
        allowed = self._claim.time_limit_seconds or self._rules.task_seconds
        limits = Limits(
            idle_seconds=self._rules.silence_seconds,
            wall_seconds=max(0.0, allowed - self._pulse.worked_seconds),
        )
        turn = self._turn_of(agent, room, desk, prompt)
        async with anyio.create_task_group() as group:
            group.start_soon(self._end_after_parking)
            group.start_soon(self._end_when_draining)
            verdict = await run_turn(agent, turn, self._hear, limits=limits, pulse=self._pulse)
            group.cancel_scope.cancel()
        self._count(verdict.usage)
        return verdict

    async def _end_after_parking(self) -> None:
        """End an agent that goes on although it was told that nobody is there to answer."""
        parked = None
        while parked is not self.asking.parked:  # another one: answered meanwhile
            parked = self.asking.parked
            await parked.wait()
            await anyio.sleep(PARKED_SECONDS)
        self._pulse.stop("stopped")

    async def _end_when_draining(self) -> None:
        """End the turn when the worker must stop; again, if the child was only just starting."""
        await self._drain.wait()
        while True:
            self._pulse.stop("stopped")
            await anyio.sleep(RESTOP_SECONDS)

    def _turn_of(self, agent: AgentCli, room: Room, desk: Desk, prompt: str) -> Turn:
        """Describe a turn for the adapter."""
        sandbox = Sandbox(room, path=self._environ.get("PATH", os.defpath))
        session = sandbox.build(
            Errand(
                mission_id=self._claim.mission_id,
                task_id=self._claim.task_id,
                attempt=self._claim.attempt,
                goal=prompts.opening(self._claim).encode(),
                desk=desk.card,
            )
        )
        approvals = self._rules.permissions == "ask" and agent.name == "claude"
        return Turn(
            prompt=prompt,
            workspace=room.work,
            home=room.home,
            env=sandbox.environment(session),
            inherited=self._environ,
            mcp=McpServer(command=desk.bridge_command(approvals=approvals)),
            resume=self._session_id,
            model=self._rules.model,
            budget_usd=self._budget_left(),
            spent=self._spent,
            permissions=self._rules.permissions,
            rules=RULES,
            login_home=self._rules.login_home,
        )

    async def _hear(self, event: AgentEvent) -> None:
        if isinstance(event, SessionStarted):
            self._session_id = event.session_id
        self._logbook.write(event)

    def _budget_left(self) -> float | None:
        if self._rules.budget_usd is None:
            return None
        return max(0.0, self._rules.budget_usd - (self._usage.cost_usd or 0.0))

    def _count(self, usage: Usage) -> None:
        """Add a turn's usage to the task's and to the session's."""
        self._usage, self._spent = _sum(self._usage, usage), _sum(self._spent, usage)

    async def _still_ours(self) -> None:
        """Make sure of the lease; raises LeaseLost."""
        await self._store.patience.keep_trying("renew", self._lease.renew)


def _sum(one: Usage, other: Usage) -> Usage:
    costs = [cost for cost in (one.cost_usd, other.cost_usd) if cost is not None]
    return Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost_usd=sum(costs) if costs else None,
    )


def _network(environ: Mapping[str, str]) -> dict[str, str]:
    """Pick what the way to a git remote needs out of the worker's environment."""
    return {name: environ[name] for name in _NETWORK if name in environ}
