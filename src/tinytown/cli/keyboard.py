"""Reads a terminal key by key, so that an answer can be typed below a picture that keeps moving."""

from __future__ import annotations

import codecs
import os
import re
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

_BACKSPACE: Final = {"\x7f", "\b"}
_ENTER: Final = {"\r", "\n"}
_ERASE_LINE: Final = "\x15"  # Ctrl-U
_ERASE_WORD: Final = "\x17"  # Ctrl-W
_END: Final = "\x04"  # Ctrl-D
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
_LONGEST: Final = 8_000  # an answer has at most 8 KB


class Line:
    """A line that is being typed."""

    def __init__(self) -> None:
        self.text = ""

    def press(self, keys: str) -> Iterator[str | None]:
        """Take what was typed or pasted; yields each finished line, and None for Ctrl-D."""
        for key in _ESCAPES.sub("", keys):
            if key in _ENTER:
                finished, self.text = self.text, ""
                yield finished
            elif key == _END:
                yield None
            elif key in _BACKSPACE:
                self.text = self.text[:-1]
            elif key == _ERASE_LINE:
                self.text = ""
            elif key == _ERASE_WORD:
                self.text = self.text.rstrip().rpartition(" ")[0]
            elif key.isprintable() and len(self.text) < _LONGEST:
                self.text += key


@contextmanager
def key_by_key(fd: int) -> Iterator[None]:
    """Switch a terminal to hand over every key unechoed; Ctrl-C stays Ctrl-C. Put back after."""
    before = termios.tcgetattr(fd)
    raw = termios.tcgetattr(fd)
    raw[3] &= ~(termios.ICANON | termios.ECHO)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, raw)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


async def keys(fd: int) -> AsyncIterator[str]:
    """Yield what is typed, as it is typed; ends when the terminal goes away."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        await anyio.wait_readable(fd)
        try:
            raw = os.read(fd, 4096)
        except OSError:
            return
        if not raw:
            return
        if text := decoder.decode(raw):
            yield text
