"""Everything to drive a real agent CLI through its adapter: rooms, environments, a fake person.

    rig = Rig(tmp_path, model, path=installed_agents())
    turn = rig.turn("claude", "Please: " + script({"shell": "echo hi > a.txt"}))
    ran = await rig.run("claude", turn)
    assert ran.verdict.ok

The CLI runs as a worker would run it: an environment from the sandbox, a private home, a process
group of its own. Only the model (model_server.py) and the person (fakes/mcp_person.py) are ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.model_server import ModelServer
from tinytown_workers.agents import (
    AgentEvent,
    McpServer,
    Permissions,
    Turn,
    Verdict,
    agent_named,
    run_turn,
)
from tinytown_workers.process import Limits, Pulse
from tinytown_workers.room import Room
from tinytown_workers.sandbox import Errand, Sandbox

ROOT = Path(__file__).resolve().parent.parent.parent
PERSON = ROOT / "tests" / "fakes" / "mcp_person.py"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

NOBODY = "http://127.0.0.1:9"  # the discard port: nobody listens

# Long enough that masking them cannot hit an innocent text, and good for nothing.
KEYS = {
    "ANTHROPIC_API_KEY": "sk-ant-scripted-0123456789abcdef0123456789",
    "OPENAI_API_KEY": "sk-scripted-0123456789abcdef0123456789abcdef",
    "GEMINI_API_KEY": "scripted-gemini-0123456789abcdef0123456789",
}
# What a worker holds and no agent may ever see.
TOWN_SECRETS = {
    "REDIS_URL": "redis://town:do-not-show-me@127.0.0.1:6379/0",
    "TINYTOWN_API_KEY": "tt_do_not_show_me_0123456789abcdef",
    "TINYTOWN_SECRET_KEY": "do-not-show-me-either-0123456789",
    "FLY_API_TOKEN": "fm2_do_not_show_me_0123456789",
}
# Models the CLIs know, where they insist on knowing one.
MODELS = {"codex": "scripted", "opencode": "scripted", "gemini": "gemini-2.5-pro"}


def installed_agents() -> str:
    """Install the pinned CLIs if they are missing; returns the PATH entries that find them."""
    installer = [sys.executable, str(ROOT / "tools" / "install_agents.py"), "--path"]
    return subprocess.run(installer, check=True, capture_output=True, text=True).stdout.strip()


def model_keys(url: str, base: str = "") -> dict[str, str]:
    """Point every vendor's variables at a model server; `base` as in `/err/500`."""
    return {
        **KEYS,
        "ANTHROPIC_BASE_URL": url + base,
        "OPENAI_BASE_URL": f"{url}{base}/v1",
        "GOOGLE_GEMINI_BASE_URL": url + base,
        "CLAUDE_CODE_MAX_RETRIES": "1",  # of ten, with minutes between them
    }


@dataclass
class Ran:
    """One turn, over: what it came to and what was heard on the way."""

    verdict: Verdict
    events: list[AgentEvent] = field(default_factory=list)

    def of(self, kind: type[AgentEvent]) -> list[Any]:
        """Pick the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Rig:
    """Runs turns of real CLIs in rooms below `root`."""

    def __init__(self, root: Path, model: ModelServer | None, *, path: str) -> None:
        self.url = model.url if model else NOBODY
        self.room = Room(root, "tsk-rig")
        self._path = f"{path}:{SYSTEM_PATH}"
        for folder in (self.room.work, self.room.home, self.room.tmp, self.room.bin):
            folder.mkdir(parents=True)
        subprocess.run(["git", "init", "-q", self.room.work], check=True)

    def turn(
        self,
        cli: str,
        prompt: str,
        *,
        base: str = "",
        resume: str | None = None,
        permissions: Permissions = "bypass",
        person: dict[str, str] | None = None,
        **more: Any,
    ) -> Turn:
        """Prepare a turn; `person` sets how the fake person behaves (PERSON_*)."""
        sandbox = Sandbox(self.room, path=self._path)
        errand = Errand(mission_id="mis_1", task_id="tsk_1", attempt=1, goal=prompt.encode())
        talk = {"PERSON_LOG": str(self.person_log), "PERSON_ANSWER": "blue", **(person or {})}
        turn: dict[str, Any] = {
            "prompt": prompt,
            "workspace": self.room.work,
            "home": self.room.home,
            "env": sandbox.environment(sandbox.build(errand)),
            "inherited": {**TOWN_SECRETS, **model_keys(self.url, base)},
            "mcp": McpServer(command=(sys.executable, str(PERSON)), env=talk),
            "resume": resume,
            "model": MODELS.get(cli),
            "permissions": permissions,
        }
        return Turn(**{**turn, **more})

    async def run(
        self, cli: str, turn: Turn, *, pulse: Pulse | None = None, limits: Limits | None = None
    ) -> Ran:
        """Run it to its verdict."""
        heard: list[AgentEvent] = []

        async def hear(event: AgentEvent) -> None:
            heard.append(event)

        agent = agent_named(cli)
        verdict = await run_turn(agent, turn, hear, limits=limits, pulse=pulse)
        return Ran(verdict, heard)

    @property
    def person_log(self) -> Path:
        """Where the person writes down what it was asked."""
        return self.room.path / "person.log"

    def asked(self) -> list[dict[str, Any]]:
        """List what the person was asked, oldest first."""
        if not self.person_log.exists():
            return []
        return [json.loads(line) for line in self.person_log.read_text().splitlines()]

    def wrote(self, name: str) -> str | None:
        """Read a file of the workspace; None if it is not there."""
        path = self.room.work / name
        return path.read_text() if path.exists() else None
