"""Where the embedded server lives: its directory, its socket, and the two locks that say who is in.

`owner.lock` is held by the process that runs the town, `server.lock` by the server itself, which
inherits it. The kernel lets go of both when their holder dies, however it dies; so neither a pid
that was given to somebody else nor a socket left behind can be taken for a living server.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from tinytown.embedded.problems import EmbeddedError, HomeInUse

# A socket's path may have 107 bytes on Linux and 103 on macOS.
_SOCKET_BYTES: Final = 100


class Quarters:
    """The directory of one embedded server, for its owner only."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.directory = home / "redis"
        self.log = self.directory / "log"
        self.pid_file = self.directory / "pid"
        self._owner_lock = self.directory / "owner.lock"
        self._server_lock = self.directory / "server.lock"

    @property
    def socket(self) -> Path:
        """Where the server listens: in its directory, or in /tmp where that path is too long."""
        socket = self.directory / "redis.sock"
        if len(os.fsencode(socket)) <= _SOCKET_BYTES:
            return socket
        short = sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path("/tmp") / f"tinytown-{os.getuid()}" / short / "redis.sock"  # noqa: S108

    def prepare(self) -> None:
        """Make the directories, readable by their owner only."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.mkdir(mode=0o700, exist_ok=True)
            self.directory.chmod(0o700)
            place = self.socket.parent
            if place != self.directory:
                for folder in (place.parent, place):
                    _own(folder)
        except OSError as error:
            raise EmbeddedError(f"cannot use {self.directory}: {error.strerror}") from error

    def take(self) -> int:
        """Become the owner; the lock lasts until the descriptor is closed or the process ends."""
        lock = os.open(self._owner_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(lock, 32, 0).decode().strip()
            since = datetime.fromtimestamp(os.fstat(lock).st_mtime, UTC)
            os.close(lock)
            holder = f" by process {pid} since {since:%Y-%m-%dT%H:%M:%SZ}" if pid else ""
            raise HomeInUse(f"the town in {self.home} is already run{holder}") from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        return lock

    def leave(self, lock: int) -> None:
        """Stop being the owner."""
        os.ftruncate(lock, 0)
        os.close(lock)

    def claim_for_server(self) -> int | None:
        """Take the server's lock, to be inherited by it; None while a server of ours lives."""
        lock = os.open(self._server_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return None
        return lock

    def sweep(self) -> None:
        """Remove what a dead server left: its socket and its pid. Call with the server's lock."""
        for left in (self.socket, self.pid_file):
            left.unlink(missing_ok=True)

    def server_pid(self) -> int | None:
        """Read the pid the server wrote, if that process is a server on our socket."""
        with suppress(OSError, ValueError):
            pid = int(self.pid_file.read_text())
            if os.fsencode(self.socket) in _command_line(pid):
                return pid
        return None

    def turn_log(self, limit_bytes: int) -> None:
        """Keep one old log and start a new one past the limit; the server reopens it by itself."""
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > limit_bytes:
                self.log.replace(self.log.with_suffix(".1"))


def _own(folder: Path) -> None:
    """Make a directory in a place everybody may write to, and make sure that it is really ours."""
    folder.mkdir(mode=0o700, exist_ok=True)
    facts = folder.lstat()
    if folder.is_symlink() or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise EmbeddedError(f"{folder} belongs to somebody else or is open to others; remove it")


def _command_line(pid: int) -> bytes:
    """Read what a process calls itself; a server's title names its socket."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        asked = ["ps", "-o", "command=", "-p", str(pid)]
        return subprocess.run(asked, capture_output=True, check=False).stdout
