"""What a town in containers must live through, one scene after another."""

from __future__ import annotations

import socket
import time
from typing import Final

from tools.containers.crowd import PER_SECOND, WATCHERS, Crowd
from tools.containers.ground import Failed, inspected, run, say, until, works
from tools.containers.town import KEY, MEGABYTES, Town

LOST_SECONDS: Final = 60
"""A worker that says nothing is given up when its lease ends, after 30 s; and the task takes 6."""
CROWD_MB: Final = 160
"""What 200 watchers and 50 requests a second may make of the townhall's 256 MB."""
CROWD_SECONDS: Final = 60


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
        "memory": limits["Memory"] == MEGABYTES * 1024 * 1024,
        "read-only root": limits["ReadonlyRootfs"],
        "no capabilities": limits["CapDrop"] == ["ALL"],
        "no new privileges": "no-new-privileges" in limits["SecurityOpt"][0],
        "room in memory only": {"/tmp", "/home/town"} <= set(limits["Tmpfs"]),
        "an init": found["Config"]["Entrypoint"] == ["tini", "--"],
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


def a_crowd(town: Town) -> None:
    """Let many watch and ask at once: the townhall keeps its memory, and serves everybody."""
    before = town.used_mb("townhall")
    most = 0.0
    with Crowd(town.port, KEY) as crowd:
        ends = time.monotonic() + CROWD_SECONDS
        while time.monotonic() < ends:
            most = max(most, town.used_mb("townhall"))
        rate = crowd.rate()
        until(crowd.caught_up, "not every watcher saw every mission")
        crowd.check()
    say(
        f"{WATCHERS} watchers and {rate:.0f} requests/s: the townhall used {most:.0f} MB "
        f"at most ({before:.0f} MB before), every watcher saw all {crowd.created} missions"
    )
    if most >= CROWD_MB:
        raise Failed(f"the townhall used {most:.0f} MB, of {CROWD_MB}")
    if rate < 0.95 * PER_SECOND:
        raise Failed(f"the townhall answered {rate:.1f} requests/s, of {PER_SECOND}")


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
            a_crowd(town)
            a_killed_worker(town)
        a_stopped_worker(town)
        if not short:
            a_lost_townhall_and_redis(town)
        a_worker_of_ones_own(town)
        say(f"the townhall uses {town.used_mb('townhall'):.0f} MB")
    except Failed:
        print(town.compose("logs", "--no-color", "--tail", "25"))
        raise
    finally:
        for worker in town.workers():
            works("docker", "rm", "--force", "--volumes", worker)
        town.compose("down", "--volumes", "--timeout", "5")
