"""A container engine: the one that answers, or one of our own where this machine can run one."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tools.containers.ground import Failed, run, say, until, works

BASE: Final = "python:3.11-slim-bookworm"
BASES: Final = (BASE, "redis:8-alpine")
ENGINE_SECONDS: Final = 60
# Debian's engine and what its networks are made with; asked for only where they are missing.
PROGRAMS: Final = {"docker": "docker.io", "dockerd": "docker.io", "iptables": "iptables"}
# What a container is made of. A machine that refuses these (an unprivileged container, most often)
# runs none, whatever is installed.
NAMESPACES: Final = ("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork")
SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"  # where Debian puts them; not on every PATH


class CannotHere(Exception):
    """This machine cannot run containers, whatever is installed; one line that says why."""


@contextmanager
def engine() -> Iterator[None]:
    """Use the engine that answers, or run one of our own; raises CannotHere or Failed."""
    if works("docker", "version"):
        yield
        return
    if os.environ.get("START_ENGINE") != "1":
        raise Failed("no docker engine answers; START_ENGINE=1 runs one (as root)")
    os.environ["PATH"] += f":{SBIN}"
    _probe()
    _install()
    home = Path(os.environ.get("ENGINE_HOME") or "/var/lib/tinytown-engine")
    home.mkdir(parents=True, exist_ok=True)
    address = f"unix://{home}/docker.sock"
    with (home / "log").open("w") as log:
        command = ["dockerd", f"--host={address}"]
        command += [f"--{name}={home}/{name}" for name in ("data-root", "exec-root", "pidfile")]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    os.environ["DOCKER_HOST"] = address
    try:
        until(
            lambda: works("docker", "version") or process.poll() is not None,
            "dockerd does not answer",
            ENGINE_SECONDS,
        )
        if process.poll() is not None:
            last = "\n".join((home / "log").read_text().splitlines()[-20:])
            raise Failed(f"dockerd ended ({process.returncode}):\n{last}")
        say("an engine of our own runs")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=ENGINE_SECONDS)


def _probe() -> None:
    """Find out whether the kernel lets us run containers; raises CannotHere."""
    if os.geteuid() != 0:
        raise CannotHere("no docker engine answers, and only root can run one")
    for what, test in (
        ("make namespaces", ("true",)),
        ("mount anything", ("mount", "-t", "tmpfs", "none", "/tmp")),
        ("make a bridge", ("ip", "link", "add", "tinytown", "type", "bridge")),
    ):
        # Without the programs nobody knows: then dockerd tells.
        if shutil.which("unshare") and shutil.which(test[0]) and not works(*NAMESPACES, *test):
            raise CannotHere(f"root may not {what} on this machine")
    groups = Path("/sys/fs/cgroup")
    if not any(os.access(groups / each, os.W_OK) for each in ("cgroup.procs", "memory/tasks")):
        raise CannotHere("root may not limit memory on this machine (no control groups to write)")


def _install() -> None:
    """Have Debian's engine, without it starting anything itself."""
    missing = {package for name, package in PROGRAMS.items() if not shutil.which(name)}
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise Failed(f"install these first: {', '.join(sorted(missing))}")
    say(f"installing {', '.join(sorted(missing))}")
    run("apt-get", "update", "-q")
    # As on a machine that is starting: nobody asked for a service.
    quiet = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    run("apt-get", "install", "-q", "-y", "--no-install-recommends", *sorted(missing), env=quiet)


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
