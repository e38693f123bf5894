"""A terminal for tests: what a program shows can be waited for, and keys can be pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import Process

from laptop import Laptop

_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Screen:
    """The near end of a pseudo terminal, and the program at its far end."""

    def __init__(self, fd: int, process: Process) -> None:
        self._fd = fd
        self._raw = b""
        self.process = process

    @property
    def raw(self) -> str:
        """All that was ever written, as it came."""
        return self._raw.decode("utf-8", "replace")

    @property
    def text(self) -> str:
        """All that was ever shown, without colours and cursor moves."""
        return _ESCAPES.sub("", self.raw)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._fd, keys.encode())

    async def shows(self, words: str, *, within_seconds: float = 15) -> None:
        """Wait until the words were on the screen."""
        with anyio.move_on_after(within_seconds):
            while words not in self.text and await self._more():
                pass
        assert words in self.text, f"{words!r} never came on the screen:\n{self.text[-3000:]}"

    async def end(self, *, within_seconds: float = 15) -> int:
        """Wait for the program's end; gives its exit code."""
        with anyio.fail_after(within_seconds):
            while await self._more():
                pass
            return await self.process.wait()

    async def interrupt(self) -> int:
        """Press Ctrl-C; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        return await self.end()

    async def _more(self) -> bool:
        """Read what is there next; False when the far end is closed."""
        await anyio.wait_readable(self._fd)
        try:
            chunk = os.read(self._fd, 65536)
        except OSError:  # Linux says EIO when the program has closed its terminal
            return False
        self._raw += chunk
        return bool(chunk)


@asynccontextmanager
async def screen(laptop: Laptop, *arguments: str, rows: int = 24) -> AsyncIterator[Screen]:
    """Run a command of `tt` at a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    try:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, 100, 0, 0))
        async with await anyio.open_process(
            [str(laptop.program), *arguments],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=laptop.environ | {"TERM": "xterm-256color"},
            start_new_session=True,
        ) as process:
            os.close(theirs)
            theirs = -1
            try:
                yield Screen(ours, process)
            finally:
                if process.returncode is None:
                    process.kill()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
