"""Reads server-sent events: the format of the HTML standard, and nothing about HTTP (pure).

Our own few lines instead of a package: what a reader must get right is resuming, and that belongs
to the client that reconnects. It has a pause of its own, so `retry:` is not read.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class ServerSent(msgspec.Struct, frozen=True):
    """One event as it came: its id (for resuming), its name and its data."""

    id: str
    event: str
    data: str


class Parser:
    """Takes the stream line by line; an event is complete at an empty line."""

    def __init__(self) -> None:
        self._id = ""
        self._event = ""
        self._data: list[str] = []

    def feed(self, line: str) -> ServerSent | None:
        """Take one line without its end; returns the event that it completes, if any."""
        if not line:
            return self._complete()
        if line.startswith(":"):  # a heartbeat
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case _:
                pass  # unknown fields are to be ignored
        return None

    def _complete(self) -> ServerSent | None:
        event, data = self._event or "message", self._data
        self._event, self._data = "", []
        return ServerSent(self._id, event, "\n".join(data)) if data else None


class Lines:
    """Cuts chunks of bytes into lines at CRLF, LF or CR, keeping what is not whole yet."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        """Take a chunk; yields the lines it completes."""
        data = self._rest + chunk
        # A CR at the very end may be half of a CRLF: wait for what follows.
        held = data.endswith(b"\r")
        text = (data[:-1] if held else data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + b"\r" if held else rest
        for line in lines:
            yield line.decode("utf-8", "replace")
