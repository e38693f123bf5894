"""Turns a child's output into lines without ever holding more of it than fits."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

LINE_BYTES: Final = 1 << 20  # one JSON event with a large file in it still fits
BURST_LINES: Final = 5_000  # a talkative build passes whole
LINES_PER_SECOND: Final = 500  # more than anybody reads, less than the log's writer can take
KEPT_LINES: Final = 500
KEPT_BYTES: Final = 2 << 20
TAIL_BYTES: Final = 8 << 10
FLOOD_BYTES_PER_SECOND: Final = 4 << 20  # costs about a tenth of a core to throw away


class Line(msgspec.Struct, frozen=True, gc=False):
    """One line without its end; `length` counts the bytes it had before it was cut."""

    data: bytes
    length: int

    @property
    def whole(self) -> bool:
        """Whether nothing was cut off."""
        return self.length == len(self.data)


class LineSplitter:
    """Cuts chunks into lines of at most LINE_BYTES; of longer ones it keeps the head."""

    def __init__(self, line_bytes: int = LINE_BYTES) -> None:
        """Start at the beginning of a line."""
        self._line_bytes = line_bytes
        self._open = bytearray()
        self._length = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Yield the lines that this chunk completes."""
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            self._keep(piece)
            yield self._close()
        self._keep(rest)

    def rest(self) -> Iterator[Line]:
        """Yield the last line if it had no end."""
        if self._length:
            yield self._close()

    def _keep(self, piece: bytes) -> None:
        self._length += len(piece)
        self._open += piece[: max(0, self._line_bytes - len(self._open))]

    def _close(self) -> Line:
        line = Line(bytes(self._open), self._length)
        self._open.clear()
        self._length = 0
        return line


class Spillway:
    """Lets a bounded number of lines through and, in a flood, keeps only the newest.

    The head passes at once, the tail passes at the end, and what is lost between is counted.
    """

    def __init__(self) -> None:
        """Start with a full allowance."""
        self.dropped = 0
        self._allowance = float(BURST_LINES)
        self._refilled_at: float | None = None
        self._waiting: deque[Line] = deque()
        self._waiting_bytes = 0
        self._flooding = False
        self._tail = bytearray()

    @property
    def tail(self) -> bytes:
        """The last TAIL_BYTES of all that came, line ends included."""
        return bytes(self._tail[-TAIL_BYTES:])

    def pour(self, lines: Iterable[Line], now: float) -> Iterator[Line]:
        """Take lines in and yield those that may pass now (`now` in seconds, any origin)."""
        if self._refilled_at is not None:
            gained = (now - self._refilled_at) * LINES_PER_SECOND
            self._allowance = min(float(BURST_LINES), self._allowance + gained)
        self._refilled_at = now
        self._flooding = False
        for line in lines:
            self._remember(line)
            self._waiting.append(line)
            self._waiting_bytes += len(line.data)
            while len(self._waiting) > KEPT_LINES or self._waiting_bytes > KEPT_BYTES:
                if self._allowance >= 1:
                    self._allowance -= 1
                    yield self._next()
                else:
                    self._next()
                    self.dropped += 1
                    self._flooding = True
        while self._waiting and self._allowance >= 1:
            self._allowance -= 1
            yield self._next()

    def rest(self) -> Iterator[Line]:
        """Yield the newest lines that were held back, at the end of the stream."""
        while self._waiting:
            yield self._next()

    def brake_seconds(self, size: int) -> float:
        """Say how long to leave the pipe alone after `size` bytes: zero unless in a flood."""
        return size / FLOOD_BYTES_PER_SECOND if self._flooding else 0.0

    def _next(self) -> Line:
        line = self._waiting.popleft()
        self._waiting_bytes -= len(line.data)
        return line

    def _remember(self, line: Line) -> None:
        self._tail += line.data[-TAIL_BYTES:] + b"\n"
        if len(self._tail) > 4 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
