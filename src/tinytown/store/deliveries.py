"""The deliveries' shelf: file them, lease what is due, record attempts, replay the dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from tinytown.errors import DeliveryNotFound, EndpointNotFound, ReplayNotFound
from tinytown.models.delivery import Attempt, Delivery, DueDelivery, Replay
from tinytown.models.event import Event
from tinytown.store import records
from tinytown.store.faults import store_errors
from tinytown.store.keys import Keyring
from tinytown.store.pages import Index, page_of
from tinytown.store.replies import DONE, MISSING, NOT_YOURS, refuse
from tinytown.store.scripts import Scripts
from tinytown.store.wire import Client

Outcome: TypeAlias = Literal["delivered", "retry", "dead", "obsolete"]
Effect: TypeAlias = Literal["", "throttle", "disable", "spare"]

_ROW = 7
_RECORDED: Final = {DONE: True, NOT_YOURS: False, MISSING: None}


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What a notifier leased, and when something is due next (0 = nothing is filed)."""

    deliveries: list[DueDelivery]
    next_due_ms: int
    now_ms: int
    version: int = 0
    """That of the set of endpoints, where something was leased."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt went, and what follows for its endpoint."""

    delivery: str
    tried: Attempt
    outcome: Outcome
    delay_ms: int = 0
    """How long it waits for its next attempt."""
    reason: str = ""
    effect: Effect = ""
    """`throttle` slows the endpoint down, `disable` stops it; `spare`: it is not at fault."""
    hold_ms: int = 0
    """How long the endpoint asked not to be sent anything."""


class Deliveries:
    """Reads and moves deliveries."""

    def __init__(self, client: Client, keys: Keyring, scripts: Scripts) -> None:
        """Work on one town's deliveries."""
        self._client = client
        self._keys = keys
        self._scripts = scripts

    async def plan(self, event: Event, endpoints: Sequence[str], *, version: str) -> int | None:
        """Acknowledge an event and file its deliveries; None when the endpoints have changed."""
        asked = event.type == "question.asked"
        reply = await self._scripts.run(
            "plan_deliveries",
            stream_id=event.stream_id,
            version=version,
            type=event.type,
            at=records.milliseconds(event.timestamp),
            mission=event.mission_id or "",
            task=event.task_id or "",
            data=msgspec.json.encode(event.data),
            question=event.data["question_id"] if asked else "",
            endpoints=endpoints,
        )
        return int(reply[1]) if reply[0] == DONE else None

    async def claim(self, *, lease_ms: int, limit: int, webhooks: int | None = None) -> Due:
        """Lease what is due, of every endpoint as much as it has room for.

        Of the `limit`, no more than `webhooks` go to programs, where that is given.
        """
        reply = await self._scripts.run(
            "claim_deliveries",
            lease_ms=lease_ms,
            limit=limit,
            webhooks=limit if webhooks is None else webhooks,
        )
        _, next_due, now, version, flat, bodies = reply
        rows = [flat[index : index + _ROW] for index in range(0, len(flat), _ROW)]
        events = {
            stream_id: records.delivered_event(self._keys.town, stream_id, records.pairs(body))
            for stream_id, body in zip(bodies[::2], bodies[1::2], strict=True)
        }
        return Due(
            deliveries=[records.due(row, events) for row in rows],
            next_due_ms=next_due,
            now_ms=now,
            version=int(version or 0),
        )

    async def record(
        self,
        delivery_id: str,
        attempt: Attempt,
        *,
        outcome: Outcome,
        delay_ms: int = 0,
        reason: str = "",
        effect: Effect = "",
        hold_ms: int = 0,
    ) -> bool:
        """Write how an attempt went; False when another notifier has taken over meanwhile."""
        ended = Ended(
            delivery=delivery_id,
            tried=attempt,
            outcome=outcome,
            delay_ms=delay_ms,
            reason=reason,
            effect=effect,
            hold_ms=hold_ms,
        )
        [reply] = await self.record_all([ended])
        if reply is None:
            raise DeliveryNotFound("there is no delivery with this id")
        return reply

    async def record_all(self, ended: Sequence[Ended]) -> list[bool | None]:
        """Write how attempts went, in one breath.

        Of each: False when another notifier has taken over meanwhile, None when it is unknown.
        """
        rows = [
            {
                **msgspec.structs.asdict(each),
                "attempt": each.tried.number,
                "duration_ms": round(each.tried.duration_seconds * 1000),
            }
            for each in ended
        ]
        replies = await self._scripts.run("record_attempts", ended=msgspec.json.encode(rows))
        return [_RECORDED[reply] for reply in replies]

    async def replay(self, delivery_id: str) -> Delivery:
        """Make a dead letter due again."""
        reply = await self._scripts.run("replay_delivery", delivery=delivery_id)
        if reply[0] != DONE:
            refuse(reply, DeliveryNotFound, "delivery", "replay")
        return await self.read(delivery_id)

    async def read(self, delivery_id: str) -> Delivery:
        """Read a delivery with its attempts; raises DeliveryNotFound."""
        found = await self._read_many([delivery_id])
        if not found:
            raise DeliveryNotFound("there is no delivery with this id")
        return found[0]

    async def of_endpoint(
        self, endpoint_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Delivery], str | None]:
        """List an endpoint's latest deliveries, newest first."""
        key = self._keys("endpoint_deliveries", endpoint_id)
        return await self._page(key, "created_at", cursor, limit)

    async def dead(
        self, *, cursor: str | None, limit: int, endpoint_id: str | None = None
    ) -> tuple[list[Delivery], str | None]:
        """List the dead letters, the latest first; of one endpoint, by the time of their events."""
        if endpoint_id is not None:
            key = self._keys("endpoint_dead", endpoint_id)
            return await self._page(key, "event_at", cursor, limit)
        return await self._page(self._keys("deliveries_dead"), "finished_at", cursor, limit)

    async def oldest_due_ms(self) -> int | None:
        """Say since when the oldest delivery is due; None when nothing is."""
        with store_errors():
            rows = await self._client.zrange(self._keys("deliveries_due"), 0, 0, withscores=True)
        return int(rows[0][1]) if rows else None

    async def _page(
        self, key: str, field: str, cursor: str | None, limit: int
    ) -> tuple[list[Delivery], str | None]:
        ids, more = await page_of(
            self._client,
            Index(key=key, field=field, newest_first=True),
            cursor=cursor,
            record=self._keys("delivery", cursor or ""),
            limit=limit,
        )
        return await self._read_many(ids), ids[-1] if more else None

    async def start_replay(
        self,
        replay_id: str,
        *,
        endpoint_id: str,
        since_ms: int,
        until_ms: int | None,
        missing: bool,
        by: str,
    ) -> None:
        """Begin to make the dead letters of a time due again; repeated, it is the same replay.

        Without `until_ms` the time ends now.
        """
        reply = await self._scripts.run(
            "start_replay",
            replay=replay_id,
            endpoint=endpoint_id,
            since=since_ms,
            until="" if until_ms is None else until_ms,
            missing=int(missing),
            by=by,
        )
        if reply[0] not in {DONE, 2}:
            refuse(reply, EndpointNotFound, "endpoint", "replay")

    async def count_dead(self, *, endpoint_id: str, since_ms: int, until_ms: int | None) -> int:
        """Count the dead letters that a replay would make due."""
        key = (
            self._keys("endpoint_dead", endpoint_id)
            if endpoint_id
            else self._keys("deliveries_dead")
        )
        with store_errors():
            until = "+inf" if until_ms is None else until_ms
            return int(await self._client.zcount(key, since_ms, until))

    async def filed(self, stream_ids: Sequence[str], endpoint_id: str) -> list[bool]:
        """Tell of each event whether a delivery to an endpoint is known."""
        suffix = endpoint_id.removeprefix("end_")
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for stream_id in stream_ids:
                pipe.exists(self._keys("delivery", f"dlv_{stream_id}_{suffix}"))
            return [bool(found) for found in await pipe.execute()] if stream_ids else []

    async def read_replay(self, replay_id: str) -> Replay:
        """Read how far a replay is; raises ReplayNotFound."""
        with store_errors():
            fields = await self._client.hgetall(self._keys("replay", replay_id))
        if not fields:
            raise ReplayNotFound("there is no replay with this id")
        return records.replay(replay_id, fields)

    async def replays(self, *, limit: int) -> list[Replay]:
        """List the latest replays, newest first."""
        with store_errors():
            ids = await self._client.zrevrange(self._keys("replays"), 0, limit - 1)
            pipe = self._client.pipeline(transaction=False)
            for replay_id in ids:
                pipe.hgetall(self._keys("replay", replay_id))
            rows = await pipe.execute() if ids else []
        return [records.replay(id_, row) for id_, row in zip(ids, rows, strict=True) if row]

    async def _read_many(self, ids: Sequence[str]) -> list[Delivery]:
        if not ids:
            return []
        with store_errors():
            pipe = self._client.pipeline(transaction=False)
            for delivery_id in ids:
                pipe.hgetall(self._keys("delivery", delivery_id))
            rows = {id_: row for id_, row in zip(ids, await pipe.execute(), strict=True) if row}
            events = sorted({row["event"] for row in rows.values()})
            pipe = self._client.pipeline(transaction=False)
            for stream_id in events:
                pipe.hgetall(self._keys("event_body", stream_id))
            bodies = dict(zip(events, await pipe.execute() if events else [], strict=True))
        return [
            records.delivery(self._keys.town, id_, row, bodies[row["event"]])
            for id_, row in rows.items()
        ]
