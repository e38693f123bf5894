"""Readers of server-sent events for tests, to the letter of the HTML standard's parser."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx


@dataclass(frozen=True)
class Told:
    """One event as an EventSource dispatches it."""

    id: str
    type: str
    data: Any


@dataclass
class Reader:
    """An open stream."""

    response: httpx.Response
    last_id: str = ""
    comments: int = 0
    retry_ms: int | None = None
    _fields: dict[str, str] = field(default_factory=dict)
    _lines: AsyncIterator[str] | None = None

    async def next(self, *, within_seconds: float = 10) -> Told | None:
        """Wait for the next event; None at the end of the stream."""
        if self._lines is None:
            self._lines = self.response.aiter_lines()
        with anyio.fail_after(within_seconds):
            async for line in self._lines:
                told = self._read(line)
                if told is not None:
                    return told
        return None

    async def take(self, count: int) -> list[Told]:
        """Read exactly so many events."""
        found: list[Told] = []
        for _ in range(count):
            told = await self.next()
            assert told is not None, f"the stream ended after {len(found)} of {count} events"
            found.append(told)
        return found

    async def rest(self) -> list[Told]:
        """Read until the stream ends."""
        found = []
        while (told := await self.next()) is not None:
            found.append(told)
        return found

    def _read(self, line: str) -> Told | None:
        if line.startswith(":"):
            self.comments += 1
            return None
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            assert name in {"id", "event", "data", "retry"}, line
            if name == "retry":
                self.retry_ms = int(value)
            elif name == "id":
                self.last_id = value
            else:
                self._fields[name] = value
            return None
        fields, self._fields = self._fields, {}
        if "data" not in fields:
            return None
        return Told(self.last_id, fields.get("event", "message"), json.loads(fields["data"]))


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, path: str, *, last_id: str | None = None, **query: str
) -> AsyncIterator[Reader]:
    """Open a stream of events."""
    headers = {"Accept": "text/event-stream"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    async with client.stream("GET", path, headers=headers, params=query) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Reader(response)
