"""Runs one child program under watch: bounded output, clocks, and nothing left behind.

The child leads its own session and process group. It ends by itself, by a clock, by `Pulse.stop`
or by cancellation; then its whole group, and whatever left the group but still carries the
child's cookie in its environment, is asked to leave (TERM) and after a grace made to (KILL).
If the worker itself is killed, a leash (a shell that waits on a pipe) kills the group.
"""

from __future__ import annotations

import math
import os
import secrets
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

import anyio
import msgspec

from tinytown_workers.lines import Line, LineSplitter, Spillway
from tinytown_workers.stragglers import COOKIE, Stragglers, leash

Stream: TypeAlias = Literal["stdout", "stderr"]
Why: TypeAlias = Literal["exited", "lingered", "idle", "overtime", "flooded", "budget", "stopped"]
OnLine: TypeAlias = Callable[[Stream, Line], Awaitable[None]]

_CHUNK: Final = 1 << 16  # what a Linux pipe holds


class CannotStart(Exception):
    """The program could not be started at all; the text says which and why."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A program, ready to start. `env` is its whole environment; nothing is inherited.

    `stdin` is what it can read there before the end of file; None means nothing at all.
    `secrets` are the values to mask wherever the program's words are shown.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stdin: bytes | None = None
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Show names, never values: the environment holds the vendor's keys."""
        return f"Launch(program={self.argv[0]!r}, cwd={str(self.cwd)!r}, env={sorted(self.env)})"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything one child may have; each default with its reason."""

    idle_seconds: float = 900.0
    """No sign of life: a long build or a long thought prints nothing for minutes."""
    wall_seconds: float = math.inf
    """In all, waiting for people not counted; the mission's time limit goes here."""
    grace_seconds: float = 10.0
    """Between TERM and KILL: CLIs save their session on TERM in a second or two."""
    linger_seconds: float = 15.0
    """To leave after the last word; some CLIs wait for background jobs that never end."""
    drain_seconds: float = 1.0
    """For the pipes to close after the exit; longer means that a child holds them open."""
    output_bytes: int = 1 << 30
    """Of output in all; past it nobody is reading any more."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How the child ended: `code` is negative for a signal, None if it never said."""

    why: Why
    code: int | None
    seconds: float
    lines_dropped: int = 0
    stdout_tail: bytes = b""
    stderr_tail: bytes = b""


class Pulse:
    """What the supervisor is told while the child runs: life, waiting for a person, stop.

    Both clocks stand still while a question is open; silence starts anew when it closes.
    """

    def __init__(self) -> None:
        """Start no clock yet; `start` does."""
        self._now: Callable[[], float] = anyio.current_time
        self._started = self._beaten = 0.0
        self._held_since = 0.0
        self._held_total = 0.0
        self._worked_before = 0.0
        self._running = False
        self._holders = 0
        self._last_word_by = math.inf
        self._why: Why | None = None
        self._changed = anyio.Event()

    def start(self) -> None:
        """Begin with a new child: both clocks at zero, nothing known of an earlier one.

        A question that is open already goes on holding the clocks.
        """
        self._started = self._beaten = self._held_since = self._now()
        self._held_total = 0.0
        self._last_word_by = math.inf
        self._why = None
        self._running = True

    def end(self) -> None:
        """Stop counting: the child is gone."""
        self._worked_before = self.worked_seconds
        self._running = False

    @property
    def worked_seconds(self) -> float:
        """How long all its children have run so far, waiting for people not counted."""
        return self._worked_before + (self._running_seconds() if self._running else 0.0)

    def beat(self) -> None:
        """Tell that the child lives: it said something, or its tools report progress."""
        self._beaten = self._now()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the clocks while a person is asked; may be entered more than once at a time."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def hold(self) -> None:
        """Stop the clocks; each `hold` needs its `release`."""
        if self._holders == 0:
            self._held_since = self._now()
        self._holders += 1
        self._wake()

    def release(self) -> None:
        """Let the clocks go on, with silence counted from now."""
        self._holders -= 1
        if self._holders == 0:
            self._held_total += self._now() - self._held_since
            self.beat()
        self._wake()

    def last_word(self, linger_seconds: float) -> None:
        """Expect the exit within this time: the child said that it is done."""
        self._last_word_by = self._now() + linger_seconds
        self._wake()

    def carry_on(self) -> None:
        """Take `last_word` back: the child went on after all."""
        if self._last_word_by != math.inf:
            self._last_word_by = math.inf
            self._wake()

    def stop(self, why: Why) -> None:
        """End the child now; the first reason stays."""
        self._why = self._why or why
        self._wake()

    def due(self, limits: Limits) -> tuple[float, Why]:
        """Say in how many seconds which clock ends the child; 0 or less means now."""
        if self._why is not None:
            return 0.0, self._why
        now = self._now()
        clocks: list[tuple[float, Why]] = [(self._last_word_by - now, "lingered")]
        if self._holders == 0:
            clocks += [
                (self._beaten + limits.idle_seconds - now, "idle"),
                (limits.wall_seconds - self._running_seconds(), "overtime"),
            ]
        return min(clocks)

    async def run_out(self, limits: Limits) -> Why:
        """Wait until a clock ends the child, and say which."""
        while True:
            seconds, why = self.due(limits)
            if seconds <= 0:
                return why
            self._changed = anyio.Event()
            with anyio.move_on_after(seconds):
                await self._changed.wait()

    def _running_seconds(self) -> float:
        until = self._held_since if self._holders else self._now()
        return until - self._started - self._held_total

    def _wake(self) -> None:
        self._changed.set()


async def supervise(
    launch: Launch, on_line: OnLine, *, limits: Limits | None = None, pulse: Pulse | None = None
) -> Exit:
    """Run the child to its end and hand every line (see Spillway for floods) to `on_line`.

    `on_line` must call `pulse.beat()` for lines that are signs of life. Raises CannotStart;
    what `on_line` raises, and cancellation, come out after the child is gone.
    """
    return await _Supervision(launch, on_line, limits or Limits(), pulse or Pulse()).run()


class _Supervision:
    """One child's life, from spawn to sweep."""

    def __init__(self, launch: Launch, on_line: OnLine, limits: Limits, pulse: Pulse) -> None:
        self._launch = launch
        self._on_line = on_line
        self._limits = limits
        self._pulse = pulse
        self._cookie = secrets.token_hex(8)
        self._output_bytes = 0
        self._spillways: dict[Stream, Spillway] = {"stdout": Spillway(), "stderr": Spillway()}
        self._waiting_for: dict[Stream, anyio.CancelScope] = {}
        self._open_streams = 2
        self._abandoned = False
        self._closed = anyio.Event()

    async def run(self) -> Exit:
        """Start it, watch it, and come back only when nothing of it is left."""
        with ExitStack() as stack:
            child = self._spawn(stack)
            stragglers = Stragglers(child.pid, self._cookie)
            started = anyio.current_time()
            self._pulse.start()
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._pump, "stdout", child.stdout)
                    group.start_soon(self._pump, "stderr", child.stderr)
                    why = await self._watch(child)
                    if why == "exited":
                        # What it started gets a moment: servers leave when their input closes.
                        await stragglers.gone(self._limits.drain_seconds)
                    await stragglers.end(self._limits.grace_seconds)
                    child.poll()  # seen off, so its id may go; its last lines may take longer
                    with anyio.move_on_after(self._limits.drain_seconds):
                        await self._closed.wait()
                    self._abandon()
            except BaseExceptionGroup as several:
                if len(several.exceptions) > 1:
                    raise
                raise several.exceptions[0] from None
            finally:
                self._pulse.end()
                if child.returncode is None:
                    with anyio.CancelScope(shield=True):
                        await stragglers.end(self._limits.grace_seconds)
                    child.poll()
            return Exit(
                why=why,
                code=child.returncode,
                seconds=anyio.current_time() - started,
                lines_dropped=sum(way.dropped for way in self._spillways.values()),
                stdout_tail=self._spillways["stdout"].tail,
                stderr_tail=self._spillways["stderr"].tail,
            )

    def _spawn(self, stack: ExitStack) -> subprocess.Popen[bytes]:
        stdin: int | IO[bytes] = subprocess.DEVNULL
        if self._launch.stdin is not None:
            # A file, not a pipe: no writer to wait for, and the end of file is always there.
            spool = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - it has one
            spool.write(self._launch.stdin)
            spool.seek(0)
            stdin = spool
        try:
            child = subprocess.Popen(
                self._launch.argv,
                env={**self._launch.env, COOKIE: self._cookie},
                cwd=self._launch.cwd,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                bufsize=0,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            message = f"cannot start {self._launch.argv[0]}: {reason}"
            raise CannotStart(message) from None
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                stack.enter_context(pipe)
                os.set_blocking(pipe.fileno(), False)
        stack.enter_context(leash(child.pid))
        return child

    async def _pump(self, stream: Stream, pipe: IO[bytes] | None) -> None:
        assert pipe is not None  # noqa: S101 - Popen was told to make both
        splitter, spillway = LineSplitter(), self._spillways[stream]
        while chunk := await self._read(stream, pipe.fileno()):
            self._output_bytes += len(chunk)
            if self._output_bytes > self._limits.output_bytes:
                self._pulse.stop("flooded")
            for line in spillway.pour(splitter.feed(chunk), anyio.current_time()):
                await self._on_line(stream, line)
            # Also without a brake: a steady stream never blocks, and others must get their turn.
            await anyio.sleep(spillway.brake_seconds(len(chunk)))
        for line in (*spillway.pour(splitter.rest(), anyio.current_time()), *spillway.rest()):
            await self._on_line(stream, line)

    async def _read(self, stream: Stream, pipe: int) -> bytes:
        chunk = b""
        with anyio.CancelScope() as scope:
            self._waiting_for[stream] = scope
            while not self._abandoned:
                try:
                    chunk = os.read(pipe, _CHUNK)
                except BlockingIOError:
                    await anyio.wait_readable(pipe)
                    continue
                break
        if not chunk:
            self._open_streams -= 1
            if self._open_streams == 0:
                self._closed.set()
        return chunk

    def _abandon(self) -> None:
        """Read no further: whoever still holds a pipe now is not ours to wait for."""
        self._abandoned = True
        for scope in self._waiting_for.values():
            scope.cancel()

    async def _watch(self, child: subprocess.Popen[bytes]) -> Why:
        why: Why = "exited"
        async with anyio.create_task_group() as group:

            async def clocks() -> None:
                nonlocal why
                why = await self._pulse.run_out(self._limits)
                group.cancel_scope.cancel()

            group.start_soon(clocks)
            await _exited(child)
            group.cancel_scope.cancel()
        return why


async def _exited(child: subprocess.Popen[bytes]) -> None:
    """Wait for the exit without reaping where the system can; elsewhere look often."""
    try:
        handle = os.pidfd_open(child.pid)
    except (AttributeError, OSError):
        while child.poll() is None:  # noqa: ASYNC110 - nothing here tells when a child ends
            await anyio.sleep(0.05)
        return
    try:
        await anyio.wait_readable(handle)
    finally:
        os.close(handle)
