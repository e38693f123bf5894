"""What the kernel can do to keep an agent from its worker, and to bring home its lost children."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

import anyio

_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_REAP_EVERY_SECONDS: Final = 15.0
# The supervisor keeps a dead leader unreaped while it sees off its group; nobody needs as long.
_PATIENCE_SECONDS: Final = 60.0


def close_process() -> bool:
    """Close this process's memory, environment and open files to others of the same user.

    The agent runs under the worker's user; without this it could read /proc/<worker>/environ.
    Does not hold against root. Children are not affected. Returns whether it worked: only Linux
    knows it.
    """
    return _prctl(_PR_SET_DUMPABLE, 0)


def become_subreaper() -> bool:
    """Adopt orphans of our descendants, so that none outlives its task unseen (Linux only)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Reaper:
    """Buries adopted children: zombies that nobody here has waited for in a minute.

    A process that calls `become_subreaper` needs one, unless it runs under an init of its own.
    """

    def __init__(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self._seen: dict[int, float] = {}

    async def run(self) -> None:
        """Look every quarter of a minute until cancelled."""
        while True:
            self.look()
            await anyio.sleep(_REAP_EVERY_SECONDS)

    def look(self) -> list[int]:
        """Bury whoever waited long enough; returns their ids."""
        now = anyio.current_time()
        zombies = _zombie_children()
        self._seen = {pid: self._seen.get(pid, now) for pid in zombies}
        due = [pid for pid, since in self._seen.items() if now - since >= self._patience_seconds]
        for pid in due:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue  # somebody waited for it after all
        return due


def _prctl(option: int, value: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def _zombie_children() -> list[int]:
    """List our children that have ended and were not waited for (empty without /proc)."""
    found = []
    for children in Path("/proc/self/task").glob("*/children"):
        try:
            pids = [int(pid) for pid in children.read_text().split()]
        except OSError:
            continue
        for pid in pids:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            except OSError:
                continue
            if stat[stat.rindex(")") + 2] == "Z":
                found.append(pid)
    return found
