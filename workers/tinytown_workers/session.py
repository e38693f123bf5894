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
from tinytown.models.mission import Result
from tinytown.models.task import Claim
from tinytown.redact import redact
from tinytown.store import Store
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
from tinytown_workers.desk import Desk, open_desk
from tinytown_workers.git import Git
from tinytown_workers.lease import Lease
from tinytown_workers.logbook import Logbook
from tinytown_workers.process import Limits, Pulse
from tinytown_workers.room import Room, open_room
from tinytown_workers.sandbox import Errand, Sandbox
from tinytown_workers.workspace import Harvest, Plan, Workspace, WorkspaceFailed

_log = logging.getLogger(__name__)

TURNS: Final = 20
"""Most turns of one attempt: each message or late answer may need one."""
SUMMARY_BYTES: Final = 4_000
"""The longest summary or reason: what a phone shows, and what an event carries."""


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


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an attempt.

    `again` is a reason to put the task back on the docket instead of settling it: the agent ended
    its turn while a person was still to answer, and cannot resume its session.
    """

    completed: bool
    summary: str = ""
    reason: str = ""
    result: Result = Result()
    patch: bytes = b""
    bundle: bytes = b""
    again: str = ""


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
    ) -> None:
        """Prepare a session; `environ` is the worker's environment, filtered by each adapter."""
        self._store = store
        self._claim = claim
        self._lease = lease
        self._rules = rules
        self._environ = environ
        self.pulse: Final = Pulse()
        self.asking: Final = Asking(store, claim, self.pulse, hold_seconds=rules.hold_seconds)
        self._logbook = Logbook(store, claim.task_id, claim.attempt)
        self._session_id: str | None = None
        self._usage = Usage()

    async def run(self) -> Attempt:
        """Run the attempt to its end; raises LeaseLost."""
        try:
            agent = agent_named(
                self._claim.agent or self._rules.agent, command=self._rules.agent_command
            )
        except Invalid as unknown:
            return Attempt(completed=False, reason=unknown.detail)
        async with open_room(self._rules.work_dir, self._claim.task_id) as room:
            workspace = await self._workspace(room)
            try:
                ready = await workspace.prepare()
            except WorkspaceFailed as failed:
                return Attempt(completed=False, reason=_short(str(failed)))
            for note in ready.notes:
                _log.info("workspace.note", extra={"facts": {"note": note}})
            async with anyio.create_task_group() as group:
                group.start_soon(self._logbook.run)
                verdict, again = await self._turns(agent, room)
                group.cancel_scope.cancel()
            await self._logbook.close()
            if again:
                return Attempt(completed=False, again=again)
            return await self._harvest(workspace, verdict)

    async def _workspace(self, room: Room) -> Workspace:
        bundles: list[bytes] = []
        if self._claim.repo is None:
            bundles = await self._store.patience.keep_trying(
                "bundles", lambda: self._store.missions.bundles(self._claim.earlier)
            )
        plan = Plan(
            mission_id=self._claim.mission_id,
            repo=self._claim.repo,
            ref=self._claim.ref,
            bundles=tuple(bundles),
        )
        path = self._environ.get("PATH", os.defpath)
        git = Git(room.keep, path=path, network=_network(self._environ))
        return Workspace(room, plan, git=git, token=self._rules.git_token)

    # Turns ------------------------------------------------------------------------------------

    async def _turns(self, agent: AgentCli, room: Room) -> tuple[Verdict, str]:
        """Run turns until the agent is done and nobody has anything to say to it."""
        goal = prompts.opening(self._claim)
        async with open_desk(room.desk, self.asking) as desk:
            prompt = goal
            for _ in range(TURNS):
                verdict = await self._turn(agent, room, desk, prompt, goal)
                prompt = ""
                if not self._resumable(agent, verdict):
                    break
                if (left := self.asking.left_open) and verdict.ok:
                    outcome = await self.asking.outcome(left[0].question_id)
                    prompt = prompts.late_answer(left[0].text, outcome)
                elif verdict.ok and (messages := self.asking.unheard()):
                    prompt = prompts.follow_up(messages)
                if not prompt:
                    break
            for question in self.asking.left_open:
                # It cannot go on in its session: it starts over when the answer is there, asks
                # the same and hears it at once.
                await self.asking.outcome(question.question_id)
                return verdict, "the answer is there: the agent starts over with it"
            return verdict, ""

    def _resumable(self, agent: AgentCli, verdict: Verdict) -> bool:
        self._session_id = verdict.session_id or self._session_id
        return self._session_id is not None and agent.name != "command"

    async def _turn(
        self, agent: AgentCli, room: Room, desk: Desk, prompt: str, goal: str
    ) -> Verdict:
        sandbox = Sandbox(room, path=self._environ.get("PATH", os.defpath))
        session = sandbox.build(
            Errand(
                mission_id=self._claim.mission_id,
                task_id=self._claim.task_id,
                attempt=self._claim.attempt,
                goal=goal.encode(),
                desk=desk.card,
            )
        )
        approvals = self._rules.permissions == "ask" and agent.name == "claude"
        turn = Turn(
            prompt=prompt,
            workspace=room.work,
            home=room.home,
            env=sandbox.environment(session),
            inherited=self._environ,
            mcp=McpServer(command=desk.bridge_command(approvals=approvals)),
            resume=self._session_id,
            model=self._rules.model,
            budget_usd=self._budget_left(),
            spent=self._usage,
            permissions=self._rules.permissions,
            rules=RULES,
            login_home=self._rules.login_home,
        )
        # The limits are the attempt's; what its earlier turns took is gone.
        allowed = self._claim.time_limit_seconds or self._rules.task_seconds
        limits = Limits(
            idle_seconds=self._rules.silence_seconds,
            wall_seconds=max(0.0, allowed - self.pulse.worked_seconds),
        )
        verdict = await run_turn(agent, turn, self._hear, limits=limits, pulse=self.pulse)
        self._count(verdict.usage)
        return verdict

    async def _hear(self, event: AgentEvent) -> None:
        if isinstance(event, SessionStarted):
            self._session_id = event.session_id
        self._logbook.write(event)

    def _budget_left(self) -> float | None:
        if self._rules.budget_usd is None:
            return None
        return max(0.0, self._rules.budget_usd - (self._usage.cost_usd or 0.0))

    def _count(self, usage: Usage) -> None:
        """Add a turn's usage to the attempt's."""
        costs = [cost for cost in (self._usage.cost_usd, usage.cost_usd) if cost is not None]
        self._usage = Usage(
            input_tokens=self._usage.input_tokens + usage.input_tokens,
            output_tokens=self._usage.output_tokens + usage.output_tokens,
            cost_usd=sum(costs) if costs else None,
        )

    # The end ----------------------------------------------------------------------------------

    async def _harvest(self, workspace: Workspace, verdict: Verdict) -> Attempt:
        """Collect the work, also of a failed attempt: what was done must not be lost."""
        message = f"{self._claim.title or self._claim.name}\n\nMission: {self._claim.mission_id}"
        try:
            harvest = await workspace.harvest(message, before_push=self._still_ours)
        except WorkspaceFailed as failed:
            return Attempt(completed=False, reason=_short(str(failed)), result=self._result(None))
        bundle = None
        if self._claim.leads and self._claim.repo is None:
            bundle = await workspace.bundle()
            if bundle is None and harvest.head != harvest.base:
                reason = "the work is too large to be handed to the next task"
                return Attempt(completed=False, reason=reason, result=self._result(harvest))
        summary = _short(verdict.summary)
        if harvest.push_error:
            summary = _short(f"{summary}\n\n(push: {harvest.push_error})".strip())
        return Attempt(
            completed=verdict.ok,
            summary=summary,
            reason=_short(verdict.reason),
            result=msgspec.structs.replace(self._result(harvest), summary=summary),
            patch=harvest.patch.encode(),
            bundle=bundle or b"",
        )

    async def _still_ours(self) -> None:
        """Make sure of the lease; raises LeaseLost."""
        await self._store.patience.keep_trying("renew", self._lease.renew)

    def _result(self, harvest: Harvest | None) -> Result:
        result = Result(
            cost_usd=self._usage.cost_usd,
            input_tokens=self._usage.input_tokens,
            output_tokens=self._usage.output_tokens,
        )
        if harvest is None:
            return result
        return msgspec.structs.replace(
            result,
            branch=harvest.branch,
            base=harvest.base,
            head=harvest.head,
            pushed=harvest.pushed,
            files_changed=harvest.files_changed,
            patch_truncated=harvest.patch_truncated,
        )


def _network(environ: Mapping[str, str]) -> dict[str, str]:
    """Pick what the way to a git remote needs out of the worker's environment."""
    return {name: environ[name] for name in _NETWORK if name in environ}


def _short(text: str) -> str:
    """Bound a text from an agent, by bytes, at a character."""
    text = redact(text)
    raw = text.encode("utf-8", "replace")
    if len(raw) <= SUMMARY_BYTES:
        return raw.decode()
    return raw[: SUMMARY_BYTES - 4].decode("utf-8", "ignore") + " …"
