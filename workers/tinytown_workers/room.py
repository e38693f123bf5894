"""One directory per task: made empty, owned by one attempt, gone afterwards.

It stands at `<root>/<task_id>`, the same absolute path on every worker, because coding CLIs
file their sessions under the path they worked in (anchors: agents, 2.3).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from tinytown_workers import tool

_log = logging.getLogger(__name__)
_TASK: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_OWNER: Final = ".tinytown-owner"  # holds the owner's token, locked while the owner lives
_TRASH: Final = ".tinytown-trash-"
_REMOVE_SECONDS: Final = 120.0  # a node_modules on a slow disk takes a while
_REMOVE_TRIES: Final = 3  # a straggler may still be writing


class Room:
    """Where everything of one task lies; the agent only ever works in `work`."""

    def __init__(self, root: Path, task_id: str) -> None:
        """Name the room of a task; nothing is touched yet."""
        if not _TASK.fullmatch(task_id):
            message = f"{task_id!r} cannot name a directory"
            raise ValueError(message)
        self.path: Final = root / task_id
        self.task_id: Final = task_id
        self.work: Final = self.path / "work"  # the agent's repository and working directory
        self.keep: Final = self.path / "keep.git"  # the worker's own repository
        self.home: Final = self.path / "home"  # HOME of the agent
        self.tmp: Final = self.path / "tmp"  # TMPDIR of the agent
        self.bin: Final = self.path / "bin"  # first on the agent's PATH
        self.desk: Final = self.path / "desk"  # the socket it asks through
        self.goal: Final = self.path / "goal"  # the goal, byte for byte


@asynccontextmanager
async def open_room(root: Path, task_id: str) -> AsyncIterator[Room]:
    """Make the room of a task and remove it afterwards, whatever happened inside.

    What a killed attempt left is cleared first. A ghost (an attempt that lost its lease but
    still lives on this machine) keeps its files until it ends, but never this room's.
    """
    room = Room(root, task_id)
    await sweep(root)
    await _discard(room.path)
    token = secrets.token_hex(16)
    owner = _move_in(room, token)
    try:
        yield room
    finally:
        os.close(owner)
        with anyio.CancelScope(shield=True):
            if _owner_of(room.path) == token:
                await _discard(room.path)


async def sweep(root: Path) -> int:
    """Remove rooms under `root` whose worker is gone; returns how many."""
    abandoned = _abandoned(root)
    for path in abandoned:
        await _discard(path)
    return len(abandoned)


def _move_in(room: Room, token: str) -> int:
    """Make the directories and return the handle whose lock says that the owner lives."""
    room.path.mkdir(parents=True, mode=0o700)
    owner = os.open(room.path / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(owner, token.encode())
    for part in (room.home, room.tmp, room.bin):
        part.mkdir(mode=0o700)
    return owner


def _abandoned(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [
        path
        for path in sorted(root.iterdir())
        if path.name.startswith(_TRASH) or _is_abandoned(path)
    ]


def _is_abandoned(path: Path) -> bool:
    try:
        handle = os.open(path / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # not a room of ours: never touch it
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False  # its worker lives
    finally:
        os.close(handle)
    return True


def _owner_of(path: Path) -> str:
    try:
        with (path / _OWNER).open("rb") as file:
            return file.read(64).decode("ascii", "replace")
    except OSError:
        return ""


async def _discard(path: Path) -> None:
    """Move a directory out of the way at once, then delete it; links are never followed."""
    trash = path
    if not path.name.startswith(_TRASH):
        trash = path.with_name(f"{_TRASH}{secrets.token_hex(6)}")
        try:
            os.rename(path, trash)  # noqa: PTH104 - one system call, at once
        except FileNotFoundError:
            return
    env = {"PATH": os.defpath, "LC_ALL": "C"}
    for _ in range(_REMOVE_TRIES):
        # chmod first: an agent may leave directories that nobody may enter. Neither program
        # follows links that it meets on the way. Programs, because a tree made by an agent may
        # be deeper than Python's recursion limit.
        with contextlib.suppress(tool.TooSlow, OSError):
            await tool.run(
                ["chmod", "-R", "u+rwX", "--", trash], env=env, timeout_seconds=_REMOVE_SECONDS
            )
            await tool.run(["rm", "-rf", "--", trash], env=env, timeout_seconds=_REMOVE_SECONDS)
        if not await anyio.to_thread.run_sync(os.path.lexists, trash):
            return
    _log.warning("room.left_behind", extra={"facts": {"path": str(trash)}})
