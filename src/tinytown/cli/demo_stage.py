"""Where `tt demo` happens: a temporary home, a real git repository, and nothing of either after."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import anyio

from tinytown.cli import demo_agent
from tinytown.cli.failures import FAILED, Failure

IDLE_SECONDS: Final = 1
"""A worker without a task stays this long: enough to be seen, too short to be waited for."""
# What the demo's processes may know of the machine; all else is its own.
_KEPT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TERM", "USER", "LOGNAME")


class Stage:
    """The directory of one demo."""

    def __init__(self, directory: Path) -> None:
        """Lay out the places; nothing is there yet."""
        self.directory = directory
        self.home = directory / "home"
        self.origin = directory / "origin.git"
        self.log = directory / "log"
        self._seed = directory / "seed"

    def environ(self, surroundings: Mapping[str, str]) -> dict[str, str]:
        """Make the environment of the town and its workers: this stage's, whatever is set here."""
        agent = shlex.join([sys.executable, "-m", demo_agent.__name__])
        kept = {name: surroundings[name] for name in _KEPT if name in surroundings}
        return kept | {
            "TINYTOWN_HOME": str(self.home),
            "TINYTOWN_PORT": "0",
            "TINYTOWN_AGENT": "command",
            "TINYTOWN_AGENT_COMMAND": agent,
            "TINYTOWN_IDLE_SECONDS": str(IDLE_SECONDS),
            "TINYTOWN_DRAIN_SECONDS": "2",
            "TINYTOWN_LOG": "json",
            "TINYTOWN_EGRESS_ALLOW": "127.0.0.1",  # where the stand-in for a phone lives
        }

    async def found_repository(self) -> None:
        """Make a bare repository with one commit: a program, and a check that it fails."""
        await self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.origin))
        await self.git("clone", "--quiet", str(self.origin), str(self._seed))
        (self._seed / demo_agent.FILE).write_text(demo_agent.BEFORE)
        (self._seed / demo_agent.CHECK).write_text(demo_agent.CHECKING)
        seed = ("-C", str(self._seed))
        await self.git(*seed, "checkout", "--quiet", "-B", "main")
        await self.git(*seed, "add", "--all")
        await self.git(*seed, "commit", "--quiet", "--message", "Greet people")
        await self.git(*seed, "push", "--quiet", "origin", "main")

    async def read_branch(self, branch: str) -> tuple[str, str, str]:
        """Read a branch of the bare repository: its commit, that commit's subject, the program.

        Raises Failure when it is not there, or is not one commit after `main`.
        """
        origin = ("--git-dir", str(self.origin))
        commit, subject = (
            await self.git(*origin, "log", "-1", "--format=%H%n%s", f"refs/heads/{branch}")
        ).splitlines()
        count = await self.git(*origin, "rev-list", "--count", f"main..{commit}")
        if count.strip() != "1":
            raise Failure(f"{branch} has {count.strip()} commits of its own, not 1")
        program = await self.git(*origin, "show", f"{commit}:{demo_agent.FILE}")
        return commit, subject, program

    async def check_patch(self, patch: str) -> None:
        """Make sure that a patch applies to `main`; raises Failure."""
        file = self.directory / "patch"
        file.write_text(patch)
        await self.git("-C", str(self._seed), "apply", "--check", "--index", str(file))

    async def git(self, *arguments: str) -> str:
        """Run git with nobody's configuration; raises Failure with its last words."""
        who = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", "tt demo"), ("EMAIL", "demo@tinytown.invalid"))
        }
        env = who | {
            "PATH": os.defpath,
            "HOME": str(self.directory),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
        }
        done = await anyio.run_process([_git(), *arguments], env=env, check=False)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip() or "no reason"
            raise Failure(f"git {arguments[0]} failed: {said}")
        return done.stdout.decode()

    def last_lines(self, count: int) -> list[str]:
        """Read the end of the log of town and workers."""
        with suppress(OSError):
            return self.log.read_text(errors="replace").splitlines()[-count:]
        return []


@contextmanager
def stage(*, keep: bool) -> Iterator[Stage]:
    """Make a stage, and remove it whatever happened on it (unless it is to be kept)."""
    # Not under TMPDIR where that is long: a socket's path may have 100 bytes.
    directory = Path(tempfile.mkdtemp(prefix="tt-demo-"))
    try:
        yield Stage(directory)
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def _git() -> str:
    found = shutil.which("git")
    if found is None:
        raise Failure("git is not installed: the demo works in a real repository", FAILED)
    return found
