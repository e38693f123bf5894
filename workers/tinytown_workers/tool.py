"""Our own helper programs (git, rm) run here: bounded in time and output, killed as a group."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import anyio
import msgspec
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

_STDERR_TAIL: Final = 16 * 1024  # enough for git's last words, too little to hurt


class Finished(msgspec.Struct, frozen=True):
    """What a helper program left behind; `truncated` when it said more than was kept."""

    code: int
    stdout: bytes
    stderr: bytes
    truncated: bool = False


class TooSlow(Exception):
    """The program did not end in its time and was killed with all its children."""


async def run(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    stdin: bytes = b"",
    timeout_seconds: float,
    limit_bytes: int = 16 * 1024 * 1024,
) -> Finished:
    """Run a program to its end; past `limit_bytes` of output it is stopped and cut.

    Raises `TooSlow` after `timeout_seconds`, and OSError when it cannot be started.
    """
    process = await anyio.open_process(
        [os.fspath(part) for part in argv],
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(env),
        cwd=cwd,
        # Its own group: git starts transports (ssh, git-remote-https) that must die with it.
        start_new_session=True,
    )
    out = _Kept(limit_bytes, tail=False)
    err = _Kept(_STDERR_TAIL, tail=True)
    try:
        with anyio.fail_after(timeout_seconds):
            async with anyio.create_task_group() as group:
                if process.stdin is not None:
                    group.start_soon(_feed, process.stdin, stdin)
                if process.stderr is not None:
                    group.start_soon(err.drain, process.stderr, None)
                if process.stdout is not None:
                    group.start_soon(out.drain, process.stdout, process)
            code = await process.wait()
    except TimeoutError:
        message = f"{Path(argv[0]).name} took longer than {timeout_seconds:g} s"
        raise TooSlow(message) from None
    finally:
        _kill_group(process)
        with anyio.CancelScope(shield=True):
            await process.wait()
            await process.aclose()
    return Finished(code, bytes(out.data), bytes(err.data), out.truncated)


class _Kept:
    """The part of a stream that is kept: its first or its last `limit` bytes."""

    def __init__(self, limit: int, *, tail: bool) -> None:
        self.data = bytearray()
        self.truncated = False
        self._limit = limit
        self._tail = tail

    async def drain(self, stream: ByteReceiveStream, stop: Process | None) -> None:
        """Read to the end; stop `stop` when more came than is kept."""
        with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                self.data += await stream.receive()
                if len(self.data) <= self._limit:
                    continue
                self.truncated = True
                if self._tail:
                    del self.data[: -self._limit]
                else:
                    del self.data[self._limit :]
                    if stop is not None:
                        _kill_group(stop)
                        return


async def _feed(stream: ByteSendStream, data: bytes) -> None:
    # A program that ends without reading all its input says why by its exit code.
    with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(data)
    with contextlib.suppress(anyio.BrokenResourceError, OSError):
        await stream.aclose()


def _kill_group(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
