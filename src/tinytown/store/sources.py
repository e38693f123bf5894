"""The sources' shelf: whose hooks the town takes, each changed only as its caller saw it."""

from __future__ import annotations

import hashlib

import msgspec

from tinytown.errors import SourceNotFound, Stale, TooMany
from tinytown.models.source import SourceRecord
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.replies import DONE, REFUSED, TOO_MANY, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client


class Versioned(msgspec.Struct, frozen=True, kw_only=True):
    """A source as it was at one moment; `digest` tells it from every other moment."""

    record: SourceRecord
    digest: str


class Sources:
    """Reads and writes sources."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's sources."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def put(self, record: SourceRecord, *, expected: str = "") -> str:
        """Add a source, or replace the one with this digest; gives the new digest.

        Raises Stale when it is another by now, SourceNotFound, TooMany.
        """
        text = msgspec.json.encode(record)
        reply = await self._scripts.run(
            "put_source", source=record.id, record=text, expected=expected
        )
        if reply[0] == TOO_MANY:
            raise TooMany("a town takes hooks from at most 100 sources")
        self._settled(reply, "change")
        return _digest(text)

    async def drop(self, source_id: str, *, expected: str = "") -> None:
        """Remove a source with its hooks; those that wait are let go when their turn comes."""
        reply = await self._scripts.run("drop_source", source=source_id, expected=expected)
        self._settled(reply, "remove")

    async def all(self) -> tuple[str, list[SourceRecord]]:
        """Read every source and the version of the set."""
        with store_errors():
            rows = await self._client.hgetall(self._keys("sources"))
        version = rows.pop("version", "0")
        found = [msgspec.json.decode(text, type=SourceRecord) for text in rows.values()]
        return version, sorted(found, key=lambda record: record.id)

    async def read(self, source_id: str) -> Versioned:
        """Read one source; raises SourceNotFound."""
        with store_errors():
            text = await self._client.hget(self._keys("sources"), source_id)
        if text is None or source_id == "version":
            raise SourceNotFound("there is no source with this id")
        record = msgspec.json.decode(text, type=SourceRecord)
        return Versioned(record=record, digest=_digest(text.encode("utf-8", "surrogateescape")))

    def _settled(self, reply: list[int | str], move: str) -> None:
        if reply[0] == REFUSED:
            raise Stale("the source was changed meanwhile: read it again")
        if reply[0] != DONE:
            refuse(reply, SourceNotFound, "source", move)


def _digest(text: bytes) -> str:
    """Name a record by its bytes, as the scripts do; collisions would have to be one's own."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()
