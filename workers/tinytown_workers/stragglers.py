"""Finds and ends what a child program left behind: its group, its cookie's bearers, its orphans."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio

COOKIE: Final = "TINYTOWN_TURN"
"""The environment name that marks every process of one turn; its value is no secret."""

_LOOK_SECONDS: Final = 0.02  # a look at /proc costs a few milliseconds
_KILL_SECONDS: Final = 5.0  # a process in an uninterruptible wait may take its time to die
_LEASH: Final = 'read -r _ || kill -s KILL -- "-$1"'


class Stragglers:
    """Everybody of one turn, found by the leader's process group and by the turn's cookie."""

    def __init__(self, leader: int, cookie: str) -> None:
        """Watch over the group that `leader` leads; it must not be reaped before the end."""
        self._leader = leader
        self._mark = f"{COOKIE}={cookie}".encode()

    def present(self) -> list[int]:
        """List the living ones; a leader that has exited but is not reaped is not living."""
        try:
            entries = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        except OSError:
            return self._group_present()
        return [int(entry) for entry in entries if self._is_one(Path("/proc", entry))]

    async def gone(self, seconds: float) -> bool:
        """Wait so long for all of them to leave, and say whether they did."""
        with anyio.move_on_after(seconds):
            while self.present():  # noqa: ASYNC110 - nobody tells when a stranger's process ends
                await anyio.sleep(_LOOK_SECONDS)
            return True
        return False

    async def end(self, grace_seconds: float) -> None:
        """Ask all of them to leave (TERM, never INT), and after the grace make them (KILL)."""
        for name, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, _KILL_SECONDS)):
            if not (left := self.present()):
                return
            self._send(left, name)
            if await self.gone(seconds):
                return

    def _is_one(self, process: Path) -> bool:
        try:
            stat = (process / "stat").read_bytes()
            # After the command's name, which may hold anything: state, parent, group.
            state, _, group = stat[stat.rindex(b")") + 2 :].split(b" ", 3)[:3]
            if state in b"ZX":
                return False
            return int(group) == self._leader or self._mark in (process / "environ").read_bytes()
        except (OSError, ValueError):
            return False  # it left while we looked, or belongs to somebody else

    def _group_present(self) -> list[int]:
        """Ask the group itself, where there is no /proc."""
        try:
            os.killpg(self._leader, 0)
        except OSError:
            return []
        return [self._leader]

    def _send(self, members: list[int], name: signal.Signals) -> None:
        for send, target in ((os.killpg, self._leader), *((os.kill, one) for one in members)):
            try:
                send(target, name)
            except OSError:
                continue  # it left by itself


@contextmanager
def leash(leader: int) -> Iterator[None]:
    """Kill the leader's group should this process die without a word.

    A shell waits on a pipe that only we hold: a word on it lets go, its end means that we died.
    """
    guard = subprocess.Popen(
        ("/bin/sh", "-c", _LEASH, "tinytown-leash", str(leader)),
        env={},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate(b"\n")
