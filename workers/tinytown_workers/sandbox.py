"""What surrounds an agent: a private home, a `tt` of its own, and an environment without secrets.

Nothing is inherited: the environment is written from a list. The agent never sees REDIS_URL, a key
of the town or of the cloud; those stay in the worker, whose memory and environment are closed by
`hardening.close_process`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from tinytown_workers.room import Room

_SHIM: Final = """\
#!/bin/sh
# Made by the worker. Isolated mode: modules in the workspace are not taken for Python's own.
exec {python} -I -m tinytown_workers.ask "$@"
"""
# `bash -lc` (codex) and friends read /etc/profile, which forgets PATH; these bring it back.
_PROFILES: Final = (".profile", ".bash_profile", ".zprofile")
_GIT_CONFIG: Final = """\
[user]
\tname = tinytown agent
\temail = agent@localhost
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
[commit]
\tgpgSign = false
"""
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OURS: Final = re.compile(r"TINYTOWN_.*|REDIS_URL|FLY_.*|LD_.*|PYTHON.*", re.IGNORECASE)
_STEADY: Final = ("PATH", "HOME", "TMPDIR", "SHELL", "ENV", "BASH_ENV")


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """Which task the agent works on; `desk` is the card of its desk, if one is open."""

    mission_id: str
    task_id: str
    attempt: int
    goal: bytes
    desk: Path | None = None


class Sandbox:
    """The agent's surroundings in the room of one task; they go when the room goes."""

    def __init__(self, room: Room, *, path: str, python: str = sys.executable) -> None:
        """Plan them; `path` is the PATH of the worker, `python` the interpreter of the shim."""
        self._room = room
        self._python = python
        self.path: Final = f"{room.bin}:{path}"

    def build(self, errand: Errand) -> dict[str, str]:
        """Write the home, the shim and the goal; returns the TINYTOWN_* variables."""
        shim = self._room.bin / "tt"
        shim.write_text(_SHIM.format(python=shlex.quote(self._python)))
        shim.chmod(0o755)
        for profile in _PROFILES:
            (self._room.home / profile).write_text(f"export PATH={shlex.quote(self.path)}\n")
        (self._room.home / ".gitconfig").write_text(_GIT_CONFIG)
        self._room.goal.write_bytes(errand.goal)
        return {
            "TINYTOWN_MISSION_ID": errand.mission_id,
            "TINYTOWN_TASK_ID": errand.task_id,
            "TINYTOWN_ATTEMPT": str(errand.attempt),
            "TINYTOWN_GOAL_FILE": str(self._room.goal),
        } | ({"TINYTOWN_DESK": str(errand.desk)} if errand.desk is not None else {})

    def environment(
        self, session: Mapping[str, str], vendor: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Write the agent's whole environment.

        `session` is what `build` returned, `vendor` what the adapter chose for its CLI (its API
        key, its switches). Raises ValueError for a vendor's name that is ours or changes what
        stands above.
        """
        for name, value in (vendor or {}).items():
            if not _NAME.fullmatch(name) or _OURS.fullmatch(name) or name in _STEADY:
                raise ValueError(f"an adapter may not set {name} for its agent")
            if "\0" in value:
                raise ValueError(f"the value of {name} cannot be in an environment")
        return {
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            **(vendor or {}),
            "PATH": self.path,
            "HOME": str(self._room.home),
            "TMPDIR": str(self._room.tmp),
            "SHELL": "/bin/sh",
            **session,
        }
