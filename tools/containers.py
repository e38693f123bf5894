"""Builds the images and proves them: within their budgets, and a mission in containers that die.

    python3 tools/containers.py images           build both, weigh them
    python3 tools/containers.py test             the town in containers of 256 MB, things killed
    python3 tools/containers.py test --short     the mission and the way home only

Needs docker with compose. Two variables help where one of them is missing:

    START_ENGINE=1     as root: run a dockerd of our own in $ENGINE_HOME (kept, default
                       /var/lib/tinytown-engine) and end it afterwards
    BASE_IMAGES=CMD    a command that makes stand-ins of base images that cannot be pulled
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
BASE: Final = "python:3.11-slim-bookworm"
BASES: Final = (BASE, "redis:8-alpine")
MB: Final = 1_000_000
# What an image may weigh above what it stands on. A worker stands on git as well: Debian's, with
# all that it needs, is 37 MB and more, and no worker can do without.
BUDGETS: Final = {"townhall": (BASE, 100 * MB), "worker": ("tinytown-ground", 15 * MB)}
KEY: Final = "tt_the-key-of-the-container-test"
MEMORY: Final = 256 * 1024 * 1024
ENGINE_SECONDS: Final = 60
USED: Final = ("--format", "{{.MemUsage}}")
WAIT_SECONDS: Final = 120
LOST_SECONDS: Final = 200  # a worker that says nothing is given up after 150 at the latest


STARTED: Final = time.monotonic()


class Failed(Exception):
    """Something is not as it must be; one line."""


def say(text: str) -> None:
    """Tell what happens, with the seconds since the start."""
    print(f"{time.monotonic() - STARTED:7.1f} s  {text}", flush=True)


def run(*command: str, env: dict[str, str] | None = None) -> str:
    """Run a program; its output, or Failed with its last lines."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-20:])
        raise Failed(f"`{shlex.join(command)}` failed ({done.returncode}):\n{tail}")
    return done.stdout.strip()


def works(*command: str) -> bool:
    """Tell whether a program is there and succeeds."""
    found = shutil.which(command[0])
    return bool(found) and not subprocess.run(command, capture_output=True, check=False).returncode


@contextmanager
def engine() -> Iterator[None]:
    """Use the engine that answers, or run one of our own."""
    if works("docker", "version"):
        yield
        return
    if os.environ.get("START_ENGINE") != "1":
        raise Failed("no docker engine answers; START_ENGINE=1 runs one (as root, with dockerd)")
    home = Path(os.environ.get("ENGINE_HOME") or "/var/lib/tinytown-engine")
    home.mkdir(parents=True, exist_ok=True)
    address = f"unix://{home}/docker.sock"
    with (home / "log").open("w") as log:
        command = ["dockerd", f"--host={address}"]
        command += [f"--{name}={home}/{name}" for name in ("data-root", "exec-root", "pidfile")]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    os.environ["DOCKER_HOST"] = address
    try:
        until(lambda: works("docker", "version"), "dockerd does not answer", ENGINE_SECONDS)
        say("an engine of our own runs")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=ENGINE_SECONDS)


def bases() -> None:
    """Have the base images: present, pulled, or made by $BASE_IMAGES."""
    missing = [name for name in BASES if not works("docker", "image", "inspect", name)]
    missing = [name for name in missing if not works("docker", "pull", "--quiet", name)]
    if not missing:
        return
    maker = os.environ.get("BASE_IMAGES")
    if not maker:
        raise Failed(
            f"cannot pull {' and '.join(missing)}; BASE_IMAGES may name a stand-in's maker"
        )
    say(f"making stand-ins for {' and '.join(missing)}")
    run(*shlex.split(maker))


def build() -> None:
    """Build what compose needs, and what the worker stands on."""
    classic = {} if works("docker", "buildx", "version") else {"DOCKER_BUILDKIT": "0"}
    for name, file, target in (
        ("tinytown-townhall", "townhall", ""),
        ("tinytown-ground", "worker", "ground"),
        ("tinytown-worker", "worker", "worker"),
    ):
        stage = ["--target", target] if target else []
        source = ["--file", f"docker/{file}.Dockerfile", *stage]
        run("docker", "build", "--quiet", "--tag", name, *source, ".", env=classic)
        say(f"{name} is built")


def weigh() -> None:
    """Hold every image to its budget."""
    over = []
    for name, (ground, budget) in BUDGETS.items():
        image = inspected("image", f"tinytown-{name}")
        own = image["Size"] - inspected("image", ground)["Size"]
        whole = image["Size"] - inspected("image", BASE)["Size"]
        say(
            f"{name}: {own / MB:.1f} MB above {ground}, of {budget / MB:.0f} "
            f"({whole / MB:.1f} MB above {BASE}, {image['Size'] / MB:.0f} MB in all)"
        )
        if own > budget:
            over.append(name)
        if image["Config"]["User"] != "10001:10001":
            raise Failed(f"{name} does not run as 10001")
    if over:
        raise Failed(f"over the budget: {', '.join(over)}")


def inspected(kind: str, name: str) -> Any:
    """Read what the engine knows of an image or a container."""
    return json.loads(run("docker", kind, "inspect", name))[0]


def until(
    holds: Callable[[], object], missed: str, seconds: float = WAIT_SECONDS, pause: float = 0.2
) -> None:
    """Wait for something to hold."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{missed} (not within {seconds:.0f} s)")
        time.sleep(pause)


class Town:
    """A compose project of our own, and its API."""

    def __init__(self, port: int) -> None:
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
            "TINYTOWN_WORKER_MEMORY_MB": "256",
        }

    def compose(self, *command: str) -> str:
        """Run docker compose on the project."""
        return run("docker", "compose", *command, env=self.env)

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

    def crash(self, service: str) -> None:
        """Kill a container without a word; where it has an init, from inside, as a crash would."""
        if service == "redis":
            run("docker", "kill", self.name(service))
            run("docker", "start", self.name(service))
        else:  # -1: all but the init; and the shell that asks for it, hence no look at the result
            works("docker", "exec", self.name(service), "sh", "-c", "kill -9 -1")


def a_question_and_the_way_home(town: Town) -> None:
    """Take a mission from the door to a container, a question, an answer, and back to zero."""
    mission = town.start("ask me")
    until(town.workers, "no worker is started")
    (worker,) = town.workers()
    for name in (town.name("townhall"), worker):
        walls(name)
    town.answers(mission, "blue")
    if "blue" not in town.completes(mission)["summary"]:
        raise Failed("the agent did not hear the answer")
    say("a worker in a container asked, heard the answer and completed the mission")
    until(lambda: not town.workers(), "the worker's container stays")
    say("its container is gone")


def walls(container: str) -> None:
    """See that a container has the limits that compose.yml and the gate give it."""
    limits = (found := inspected("container", container))["HostConfig"]
    told = {
        "memory": limits["Memory"] == MEMORY,
        "read-only root": limits["ReadonlyRootfs"],
        "no capabilities": limits["CapDrop"] == ["ALL"],
        "no new privileges": "no-new-privileges" in limits["SecurityOpt"][0],
        "not root": found["Config"]["User"] == "10001:10001",
    }
    if not all(told.values()):
        raise Failed(f"{container} lacks: {[name for name, holds in told.items() if not holds]}")


def a_killed_worker(town: Town) -> None:
    """Lose a worker in the middle: another does its task again."""
    mission = town.start("sleep 6")
    run("docker", "kill", town.runs(mission))
    attempt = town.completes(mission, LOST_SECONDS)["attempt"]
    if attempt != 2:  # the first was lost with its worker
        raise Failed(f"the task took {attempt} attempts, not 2")
    say("a worker was killed, another did its task")


def a_stopped_worker(town: Town) -> None:
    """Stop a worker as platforms do: it hands its task back, and another goes on."""
    mission = town.start("sleep 6")
    begun = time.monotonic()
    run("docker", "stop", "--time", "30", town.runs(mission))
    if time.monotonic() - begun > 30:
        raise Failed("the worker had to be killed")
    town.completes(mission)
    say("a worker was told to stop, handed its task back, and another did it")


def a_lost_townhall_and_redis(town: Town) -> None:
    """Kill what keeps the town while a person is asked; it comes back and forgets nothing."""
    mission = town.start("ask again")
    until(lambda: town.mission(mission)["question"], "nothing is asked")
    for service in ("townhall", "redis"):
        before = town.state(service)["StartedAt"]
        town.crash(service)
        until(lambda: town.state(service)["StartedAt"] > before, f"{service} stays down")  # noqa: B023
        until(town.ready, f"the town does not come back from {service}'s crash")
    town.answers(mission, "red")
    town.completes(mission)
    say("townhall and Redis were killed in turn; both came back, and the answer arrived")


def a_worker_of_ones_own(town: Town) -> None:
    """Without a launcher: a worker that goes home stays stopped, until a crontab wakes it."""
    until(lambda: not town.workers(), "the launcher's workers stay")
    town.env["TINYTOWN_LAUNCHER"] = "none"
    town.compose("up", "-d", "--no-build", "--scale", "worker=1", "--wait", "townhall", "worker")
    until(lambda: town.state("worker")["Status"] == "exited", "the worker does not go home")
    time.sleep(2)  # a restart would have happened
    state = town.state("worker")
    if (found := (state["Status"], state["ExitCode"])) != ("exited", 0):
        raise Failed(f"the worker should rest: {found}")
    say("without a launcher, the worker that went home (exit 0) stays stopped")
    mission = town.start("wake up")
    start = f"docker start {town.name('worker')}"
    run("deploy/poll.sh", "once", env={"TOWN": town.address, "START": start})
    town.completes(mission)
    say("deploy/poll.sh woke it for the next mission")
    before = town.state("worker")["StartedAt"]
    mission = town.start("sleep 6")
    until(lambda: town.mission(mission)["state"] == "running", "the worker takes no task")
    town.crash("worker")
    until(lambda: town.state("worker")["StartedAt"] > before, "a crash starts nothing again")
    town.ask(f"/v1/missions/{mission}/cancel", {})
    say("it crashed, and its container came back by itself")


def test(*, short: bool) -> None:
    """Bring a town up in containers, hurt it, and take it down."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    town = Town(port)
    try:
        town.compose("up", "-d", "--no-build", "--wait")
        say("Redis, gate and townhall are up, in order and healthy")
        a_question_and_the_way_home(town)
        if not short:
            a_killed_worker(town)
            a_stopped_worker(town)
            a_lost_townhall_and_redis(town)
            a_worker_of_ones_own(town)
        say("the townhall used " + town.compose("stats", "--no-stream", *USED, "townhall"))
    except Failed:
        print(town.compose("logs", "--no-color", "--tail", "25"))
        raise
    finally:
        for worker in town.workers():
            works("docker", "rm", "--force", "--volumes", worker)
        town.compose("down", "--volumes", "--timeout", "5")


def main() -> int:
    """Do what was asked for; 0 if all is well."""
    parser = argparse.ArgumentParser(description="Build the images and prove them.")
    parser.add_argument("what", choices=("images", "test"))
    parser.add_argument("--short", action="store_true", help="the mission and the way home only")
    asked = parser.parse_args()
    try:
        with engine():
            bases()
            build()
            weigh() if asked.what == "images" else test(short=asked.short)
    except Failed as failure:
        print(f"containers: {failure}", file=sys.stderr)
        return 1
    say("all is well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
