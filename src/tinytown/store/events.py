"""The events' shelf: read history, tail the town, consume by group. Only scripts append."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from redis import exceptions as redis_errors

from tinytown.models.event import Event
from tinytown.store import records
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.wire import Client

GROUP: Final = "notifiers"
_STREAM_ID: Final = re.compile(r"^\d{1,20}(-\d{1,20})?$")

Entry = tuple[str, dict[str, str]]


def is_stream_id(text: str) -> bool:
    """Tell whether a text has the form of a stream id (`1763845200123-0`)."""
    return bool(_STREAM_ID.match(text))


def entries(reply: Any) -> list[tuple[str, list[Entry]]]:
    """Make (stream, [(id, fields)]) of a reply of XREAD, whatever shape the client gives it."""
    if not reply:
        return []
    rows = reply.items() if isinstance(reply, dict) else reply
    found = []
    for name, listed in rows:
        nested = bool(listed) and isinstance(listed[0], list)
        flat = listed[0] if nested else listed
        found.append((name, [(id_, records.pairs(fields or {})) for id_, fields in flat]))
    return found


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a mission's log: what its agent said or did."""

    id: str
    at: str
    task_id: str
    attempt: int
    entry: msgspec.Raw


class Events:
    """Reads the town's stream, a mission's history and its log."""

    def __init__(self, client: Client, keys: Keyring) -> None:
        """Work on one town's events."""
        self._client = client
        self._keys = keys
        self.stream = keys("events")

    async def last_id(self) -> str:
        """Say where the town's stream ends now; `0-0` for a town where nothing happened."""
        with store_errors():
            rows = await self._client.xrevrange(self.stream, count=1)
        return rows[0][0] if rows else "0-0"

    async def first_id(self) -> str:
        """Say where the town's stream begins (older events are no longer kept)."""
        with store_errors():
            rows = await self._client.xrange(self.stream, count=1)
        return rows[0][0] if rows else "0-0"

    async def after(self, stream_id: str, *, limit: int) -> list[Event]:
        """Read the town's events after an id, oldest first."""
        with store_errors():
            rows = await self._client.xrange(self.stream, min=f"({stream_id}", count=limit)
        return [records.event(self._keys.town, id_, records.pairs(f)) for id_, f in rows]

    async def tail(self, client: Client, stream_id: str, *, block_ms: int) -> list[Event]:
        """Block for the town's events after an id, with a connection of the caller's own."""
        with store_errors():
            reply = await client.xread({self.stream: stream_id}, block=block_ms, count=500)
        return [
            records.event(self._keys.town, id_, fields)
            for _, listed in entries(reply)
            for id_, fields in listed
        ]

    async def of_mission(self, mission_id: str, *, after: str, limit: int) -> list[Event]:
        """Read a mission's history after an id, oldest first."""
        stream = self._keys("mission_events", mission_id)
        with store_errors():
            rows = await self._client.xrange(stream, min=f"({after}", count=limit)
        return [
            records.event(self._keys.town, id_, records.pairs(fields), mission_id)
            for id_, fields in rows
        ]

    async def log_of(self, mission_id: str, *, after: str, limit: int) -> list[LogLine]:
        """Read a mission's log after an id, oldest first."""
        with store_errors():
            rows = await self._client.xrange(
                self._keys("mission_log", mission_id), min=f"({after}", count=limit
            )
        return [self._line(id_, records.pairs(fields)) for id_, fields in rows]

    async def tail_logs(
        self, client: Client, positions: Mapping[str, str], *, block_ms: int
    ) -> list[tuple[str, LogLine]]:
        """Block for the logs of several missions (id -> last seen line); says whose a line is."""
        missions = {self._keys("mission_log", mission): mission for mission in positions}
        streams = {self._keys("mission_log", mission): id_ for mission, id_ in positions.items()}
        with store_errors():
            reply = await client.xread(streams, block=block_ms, count=500)
        return [
            (missions[name], self._line(id_, fields))
            for name, listed in entries(reply)
            for id_, fields in listed
        ]

    async def ensure_group(self) -> None:
        """Create the notifiers' group, unless it is there: where the last one was, or at 0-0.

        Somebody who loses it must not have a phone ring for all that the stream still holds.
        """
        try:
            with store_errors():
                begin = await self._client.get(self._keys("planned")) or "0-0"
                await self._client.xgroup_create(self.stream, GROUP, id=begin, mkstream=True)
        except redis_errors.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def consume(
        self, client: Client, consumer: str, *, block_ms: int, limit: int
    ) -> list[Event]:
        """Block for events no notifier has seen; heals a lost group (after FLUSHALL)."""
        try:
            with store_errors():
                reply = await client.xreadgroup(
                    GROUP, consumer, {self.stream: ">"}, count=limit, block=block_ms
                )
        except redis_errors.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_group()
            return []
        return [
            records.event(self._keys.town, id_, fields)
            for _, listed in entries(reply)
            for id_, fields in listed
        ]

    async def reclaim(self, consumer: str, *, idle_ms: int, limit: int) -> list[Event]:
        """Take over events whose notifier died between reading and planning."""
        try:
            with store_errors():
                reply = await self._client.xautoclaim(
                    self.stream, GROUP, consumer, idle_ms, start_id="0-0", count=limit
                )
        except redis_errors.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            await self.ensure_group()
            return []
        return [
            records.event(self._keys.town, id_, records.pairs(fields))
            for id_, fields in reply[1]
            if fields
        ]

    def _line(self, id_: str, fields: dict[str, str]) -> LogLine:
        return LogLine(
            id=id_,
            at=records.must(fields["at"]),
            task_id=fields["task"],
            attempt=int(fields["attempt"]),
            entry=msgspec.Raw(fields["line"].encode("utf-8", "replace")),
        )
