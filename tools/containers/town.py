"""A town in containers: a compose project of its own, and its API."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from typing import Any, Final

from tools.containers.ground import WAIT_SECONDS, Failed, inspected, run, until, works

KEY: Final = "tt_the-key-of-the-container-test"
MEGABYTES: Final = 256
"""What each container of the town may use."""


class Town:
    """A compose project of our own, and its API."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.address = f"http://127.0.0.1:{port}"
        self.project = f"tinytown-test-{port}"
        # The agent works, asks a person where its goal says so, and tells what it heard.
        agent = (
            'sh -c \'read goal; echo "goal: $goal"; case $goal in ask*) tt ask Which? '
            "--option red --option blue;; sleep*) sleep ${goal#sleep };; esac'"
        )
        host = os.environ.get("DOCKER_HOST", "")
        self.env = {
            "DOCKER_SOCKET": host.removeprefix("unix://") or "/var/run/docker.sock",
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": "docker/compose.yml",
            "TINYTOWN_API_KEY": KEY,
            "TINYTOWN_PORT": str(port),
            "TINYTOWN_AGENT": "command",
            "TINYTOWN_AGENT_COMMAND": agent,
            "TINYTOWN_IDLE_SECONDS": "5",
            "TINYTOWN_WORKER_MEMORY_MB": str(MEGABYTES),
        }

    def compose(self, *command: str) -> str:
        """Run docker compose on the project."""
        plugin = works("docker", "compose", "version")
        program = ("docker", "compose") if plugin else ("docker-compose",)
        return run(*program, *command, env=self.env)

    def name(self, service: str) -> str:
        """Name the container of a service."""
        return f"{self.project}-{service}-1"

    def state(self, service: str) -> Any:
        """Read the state of a container."""
        return inspected("container", self.name(service))["State"]

    def ask(self, path: str, body: Any = None) -> Any:
        """Send a request to the town."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.address + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - loopback
            return json.load(reply)

    def ready(self) -> bool:
        """Tell whether the townhall is."""
        try:
            return bool(self.ask("/ready")["status"] == "ok")
        except (OSError, urllib.error.HTTPError):
            return False

    def start(self, goal: str) -> str:
        """Start a mission; its id."""
        return str(self.ask("/v1/missions", {"goal": goal})["id"])

    def mission(self, mission: str) -> Any:
        """Read a mission."""
        return self.ask(f"/v1/missions/{mission}")

    def completes(self, mission: str, seconds: float = WAIT_SECONDS) -> Any:
        """Wait for a mission to complete; its only task."""
        ended = {"completed", "failed"}
        until(lambda: self.mission(mission)["state"] in ended, f"{mission} does not end", seconds)
        found = self.mission(mission)
        if found["state"] != "completed":
            raise Failed(f"{mission} ended as {found['state']}: {found['tasks'][0]['reason']}")
        return found["tasks"][0]

    def runs(self, mission: str) -> str:
        """Wait for a mission's task to be worked on; the container of its worker."""
        until(lambda: self.mission(mission)["state"] == "running", f"{mission} does not run")
        return self.workers()[0]

    def workers(self) -> list[str]:
        """List the containers that the launcher started and that are still there."""
        ours = ["--filter", f"network={self.project}", "--filter", "label=tinytown.town"]
        return run("docker", "ps", "--all", "--quiet", *ours).split()

    def answers(self, mission: str, answer: str) -> None:
        """Wait for a mission's question, and answer it."""
        until(lambda: self.mission(mission)["question"], f"{mission} asks nothing")
        question = self.mission(mission)["question"]["id"]
        self.ask(f"/v1/questions/{question}/answer", {"answer": answer})

    def used_mb(self, service: str) -> float:
        """Read how much memory a container uses, in MB of a million bytes."""
        said = run(
            "docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", self.name(service)
        )
        found = re.match(r"([\d.]+)([KMG])iB /", said)
        if found is None:
            raise Failed(f"docker stats says {said!r}")
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[found[2]]
        return float(found[1]) * unit / 1_000_000

    def crash(self, service: str) -> None:
        """Kill a container without a word; where it has an init, from inside, as a crash would."""
        if service == "redis":
            run("docker", "kill", self.name(service))
            run("docker", "start", self.name(service))
        else:  # -1: all but the init; and the shell that asks for it, hence no look at the result
            works("docker", "exec", self.name(service), "sh", "-c", "kill -9 -1")
