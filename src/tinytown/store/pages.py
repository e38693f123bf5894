"""Walks an index page by page; a cursor that has left the index meanwhile still knows its place."""

from __future__ import annotations

import msgspec

from tinytown.store.faults import store_errors
from tinytown.store.wire import Client


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """A sorted set of ids by time, and where each record keeps that time."""

    key: str
    field: str
    newest_first: bool


async def page_of(
    client: Client, index: Index, *, cursor: str | None, record: str, limit: int
) -> tuple[list[str], bool]:
    """Take the next ids after the cursor, and tell whether more follow.

    `record` is the key of the cursor's own record: when it has left the index (answered, moved to
    another state), the page goes on behind the time it had; when it is gone too, the list ends.
    """
    with store_errors():
        if cursor is None:
            return await _from_rank(client, index, 0, limit)
        rank = await (client.zrevrank if index.newest_first else client.zrank)(index.key, cursor)
        if rank is not None:
            return await _from_rank(client, index, int(rank) + 1, limit)
        score = await client.hget(record, index.field)
        if not score:
            return [], False
        return await _from_score(client, index, cursor, float(score), limit)


async def _from_rank(client: Client, index: Index, rank: int, limit: int) -> tuple[list[str], bool]:
    walk = client.zrevrange if index.newest_first else client.zrange
    ids = await walk(index.key, rank, rank + limit)
    return list(ids[:limit]), len(ids) > limit


async def _from_score(
    client: Client, index: Index, cursor: str, score: float, limit: int
) -> tuple[list[str], bool]:
    """Go on behind a score; among those of the same millisecond the ids decide."""
    found: list[str] = []
    start = 0
    while True:
        if index.newest_first:
            rows = await client.zrevrangebyscore(
                index.key, score, "-inf", start=start, num=limit + 1, withscores=True
            )
        else:
            rows = await client.zrangebyscore(
                index.key, score, "+inf", start=start, num=limit + 1, withscores=True
            )
        found += [
            id_
            for id_, each in rows
            if each != score or (id_ < cursor if index.newest_first else id_ > cursor)
        ]
        if len(found) > limit or len(rows) <= limit:
            return found[:limit], len(found) > limit
        start += len(rows)
