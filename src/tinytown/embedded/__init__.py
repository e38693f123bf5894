"""A Redis of one's own: found, started, kept alive, adopted after a crash, stopped in order."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from contextlib import suppress
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import anyio

from tinytown.embedded.problems import EmbeddedError, HomeInUse, NoServer, ServerFailed
from tinytown.embedded.programs import Program, bundled_server, find_program
from tinytown.embedded.quarters import Quarters

__all__ = [
    "EmbeddedError",
    "EmbeddedServer",
    "HomeInUse",
    "NoServer",
    "Program",
    "Quarters",
    "ServerFailed",
    "bundled_server",
    "find_program",
]

_log = logging.getLogger(__name__)

# A start takes 0.07 s; a slow disk and a busy machine may need longer. Loading is not counted.
_START_SECONDS: Final = 15.0
# A server that was left behind by a crash answers at once or is frozen.
_ANSWER_SECONDS: Final = 3.0
# Stopping takes 0.13 s plus the last fsync.
_STOP_SECONDS: Final = 10.0
# How soon a dead server is noticed; one cheap system call each time.
_LOOK_SECONDS: Final = 0.25
# How often in a row it may die before the town gives up.
_DEATHS: Final = 5
_LOG_BYTES: Final = 1_000_000

# What the server's own log says when it cannot start, and what a person can do about it.
_ADVICE: Final = {
    "No space left on device": "the disk is full",
    "Bad file format reading the append only file": (
        "the append-only file is damaged: `redis-check-aof --fix` (or valkey-check-aof) on the"
        " .aof.manifest repairs it"
    ),
    "Permission denied": "the directory is not writable",
}


class EmbeddedServer:
    """The server of one home, as an async context manager; `run` keeps it alive meanwhile.

    It listens on a unix socket that only its owner may open, keeps an append-only file that is
    written to disk every second, and runs in a session of its own: a Ctrl-C in the terminal stops
    the town first and the server after it.
    """

    name = "redis"

    def __init__(self, quarters: Quarters, *, search_path: str | None = None) -> None:
        """Bind it to its quarters; `search_path` replaces PATH when looking for a program."""
        self._quarters = quarters
        self._search_path = search_path
        self._owner_lock: int | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self.program: Program | None = None
        self.adopted = False

    @property
    def url(self) -> str:
        """What REDIS_URL is for everybody on this machine."""
        return f"unix://{quote(str(self._quarters.socket))}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None when it is not running."""
        if self._child and self._child.poll() is None:
            return self._child.pid
        return self._quarters.server_pid()

    async def __aenter__(self) -> Self:
        self._quarters.prepare()
        self._owner_lock = self._quarters.take()
        try:
            await self._open()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def run(self) -> None:
        """Start the server again whenever it dies; `ServerFailed` after five deaths in a row."""
        log = self._quarters.log
        deaths = 0
        calm = 0.0
        while True:
            await anyio.sleep(_LOOK_SECONDS)
            lock = self._quarters.claim_for_server()
            if lock is None:
                calm += _LOOK_SECONDS
                deaths = 0 if calm > _STOP_SECONDS else deaths
                self._quarters.turn_log(_LOG_BYTES)
                continue
            deaths += 1
            calm = 0.0
            code = self._child.poll() if self._child else None
            _log.error("redis.died", extra={"facts": {"exit_code": code, "deaths": deaths}})
            try:
                await self._start(lock)
            except ServerFailed as failed:
                _log.error("redis.failed", extra={"facts": {"reason": str(failed)}})
            if deaths >= _DEATHS:
                raise ServerFailed(f"the server died {deaths} times; its log is {log}")
            await anyio.sleep(deaths - 1)

    async def stop(self) -> None:
        """End the server in order, and with it the right to these quarters."""
        if self._owner_lock is None:
            return
        with anyio.CancelScope(shield=True):
            await self._end()
        self._quarters.leave(self._owner_lock)
        self._owner_lock = None

    async def _open(self) -> None:
        """Adopt the server a crash left behind, or start one."""
        give_up_at = anyio.current_time() + _ANSWER_SECONDS
        while (lock := self._quarters.claim_for_server()) is None:
            if await self._answers(0.1):
                self.adopted = True
                _log.info("redis.adopted", extra={"facts": {"pid": self.pid}})
                return
            if anyio.current_time() > give_up_at:
                break
        if lock is None:
            _log.warning("redis.silent", extra={"facts": {"pid": self.pid}})
            await self._end()
            lock = self._quarters.claim_for_server()
        if lock is None:
            raise ServerFailed(
                f"a server of {self._quarters.directory} neither answers nor ends; end it by hand"
            )
        await self._start(lock)

    async def _start(self, lock: int) -> None:
        """Start the server with its lock and wait until it has loaded its data."""
        self.adopted = False
        try:
            self._quarters.sweep()
            self._quarters.turn_log(_LOG_BYTES)
            said_before = self._log_size()
            self._child = self._spawn(lock)
        except OSError as error:
            raise ServerFailed(f"the server does not start: {error}") from error
        finally:
            os.close(lock)
        if not await self._answers(_START_SECONDS):
            self._child.kill()
            self._child.wait()
            raise ServerFailed(self._reason(said_before))

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        """Run the program; it inherits its lock, and nothing of our environment."""
        quarters = self._quarters
        self.program = find_program(self._search_path)
        options = {
            "port": "0",
            "unixsocket": str(quarters.socket),
            "unixsocketperm": "700",
            "dir": str(quarters.directory),
            "pidfile": str(quarters.pid_file),
            "logfile": str(quarters.log),
            "daemonize": "no",
            # Every change is in the kernel at once and on the disk within a second: a crash of
            # any process loses nothing, a power failure at most that second.
            "appendonly": "yes",
            "appendfsync": "everysec",
            # A tail that a power failure cut off is dropped, not a reason to refuse to start.
            "aof-load-truncated": "yes",
            # Commands only: whatever server is found next time can read them. The binary preamble
            # of a Valkey is "bad file format" to a Redis, and that of a newer Redis to an older.
            "aof-use-rdb-preamble": "no",
            "auto-aof-rewrite-min-size": "16mb",
            "save": "",
            # Never forget a mission to make room for another.
            "maxmemory-policy": "noeviction",
        }
        flat = [part for name, value in options.items() for part in (f"--{name}", value)]
        quarters.log.touch(mode=0o600)
        with quarters.log.open("ab") as log:
            return subprocess.Popen(
                [self.program.path, *flat],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},
                pass_fds=(lock,),
                start_new_session=True,
                umask=0o077,
            )

    async def _answers(self, seconds: float) -> bool:
        """Wait so long for a PONG; as long as it takes from a server that says it is loading."""
        deadline = anyio.current_time() + seconds
        while anyio.current_time() < deadline:
            if self._child and self._child.poll() is not None:
                return False
            said = await self._ping(deadline - anyio.current_time())
            if said.startswith(b"+PONG"):
                return True
            if said.startswith(b"-LOADING"):
                deadline = anyio.current_time() + seconds
            await anyio.sleep(0.01)
        return False

    async def _ping(self, seconds: float) -> bytes:
        """Send PING; empty when nobody answers."""
        with anyio.move_on_after(seconds):
            try:
                async with await anyio.connect_unix(self._quarters.socket) as stream:
                    await stream.send(b"PING\r\n")
                    return await stream.receive(64)
            except (OSError, anyio.BrokenResourceError, anyio.EndOfStream):
                return b""
        return b""

    async def _end(self) -> None:
        """Ask the server to end, wait, and insist."""
        for request, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, 5.0)):
            pid = self.pid
            if pid is None:
                break
            with suppress(ProcessLookupError):
                # A frozen process takes no request before it is woken.
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, request)
            if await self._gone(seconds):
                break
            _log.warning("redis.unwilling", extra={"facts": {"pid": pid, "signal": request.name}})
        if self._child:
            self._child.poll()

    async def _gone(self, seconds: float) -> bool:
        """Wait so long for the server to let go of its lock."""
        deadline = anyio.current_time() + seconds
        while anyio.current_time() < deadline:
            if self._child:
                self._child.poll()
            lock = self._quarters.claim_for_server()
            if lock is not None:
                self._quarters.sweep()
                os.close(lock)
                return True
            await anyio.sleep(0.01)
        return False

    def _log_size(self) -> int:
        """Measure the server's log."""
        return self._quarters.log.stat().st_size if self._quarters.log.exists() else 0

    def _reason(self, said_before: int) -> str:
        """Find in what the server logged since why it does not start, and what helps."""
        with self._quarters.log.open("rb") as log:
            log.seek(said_before)
            lines = log.read().decode(errors="replace").splitlines()
        warnings = [line.partition(" # ")[2] for line in lines if " # " in line]
        said = (warnings or lines or ["it said nothing"])[-1].strip()
        advice = next((text for sign, text in _ADVICE.items() if sign in "\n".join(lines)), None)
        hint = f" ({advice})" if advice else ""
        return f"the server does not start: {said}{hint}; its log is {self._quarters.log}"
