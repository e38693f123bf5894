"""Deliveries: what was sent to whom, what could not be, and another try for one or for many."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from tinytown import clock, ids
from tinytown.errors import DeliveryNotFound, EndpointNotFound, IllegalMove, Invalid, ReplayNotFound
from tinytown.models.delivery import Delivery, NewReplay, Recovery, Replay, ReplayCount
from tinytown.models.endpoint import EndpointRecord, EndpointState, wants
from tinytown.models.event import Event
from tinytown.models.key import Actor
from tinytown.store import Store

_ID: Final = re.compile(r"dlv_\d{1,20}-\d{1,20}_[0-9a-z]{26}")
_COUNTED: Final = 500
"""Events looked at in one breath where the missing are counted."""


class DeliveryDesk:
    """What can be done with deliveries."""

    def __init__(self, store: Store) -> None:
        """Work on one town's deliveries."""
        self._store = store

    async def of_endpoint(
        self, endpoint_id: str, *, cursor: str | None, limit: int
    ) -> tuple[list[Delivery], str | None]:
        """List an endpoint's latest deliveries, newest first; raises EndpointNotFound."""
        await self._endpoint(endpoint_id)
        _check_cursor(cursor)
        return await self._store.deliveries.of_endpoint(endpoint_id, cursor=cursor, limit=limit)

    async def dead(
        self, *, cursor: str | None, limit: int, endpoint_id: str | None = None
    ) -> tuple[list[Delivery], str | None]:
        """List the dead letters, the latest first; of all endpoints or of one."""
        if endpoint_id is not None:
            await self._endpoint(endpoint_id)
        _check_cursor(cursor)
        return await self._store.deliveries.dead(
            cursor=cursor, limit=limit, endpoint_id=endpoint_id
        )

    async def read(self, delivery_id: str) -> Delivery:
        """Read a delivery with its attempts; raises DeliveryNotFound."""
        _check_id(delivery_id)
        return await self._store.deliveries.read(delivery_id)

    async def replay(self, delivery_id: str) -> Delivery:
        """Make a dead letter due again, or send again what was delivered.

        Raises DeliveryNotFound or IllegalMove.
        """
        _check_id(delivery_id)
        return await self._store.deliveries.replay(delivery_id)

    # -- many at once ---------------------------------------------------------------------------

    async def count(self, wish: NewReplay) -> ReplayCount:
        """Say what a replay would make due now; raises as `replay_many`."""
        since_ms, until_ms, record = await self._understood(wish)
        dead = await self._store.deliveries.count_dead(
            endpoint_id=wish.endpoint_id or "", since_ms=since_ms, until_ms=until_ms
        )
        if not wish.missing or record is None:
            return ReplayCount(dead=dead)
        # As file_missing: whether an older event was filed nobody knows any more.
        known_ms = round((clock.unix_seconds() - self._store.limits.delivery_ttl) * 1000)
        missing = await self._missing(record, max(since_ms, known_ms), until_ms)
        return ReplayCount(dead=dead, missing=missing)

    async def replay_many(
        self, wish: NewReplay, actor: Actor, *, replay_id: str | None = None
    ) -> Replay:
        """Begin to make many deliveries due again; with an id given again, it is the same replay.

        Raises Invalid, EndpointNotFound, and IllegalMove for an endpoint that is disabled.
        """
        since_ms, until_ms, _ = await self._understood(wish)
        replay_id = replay_id or ids.new("replay")
        await self._store.deliveries.start_replay(
            replay_id,
            endpoint_id=wish.endpoint_id or "",
            since_ms=since_ms,
            until_ms=until_ms,
            missing=wish.missing,
            by=actor.name,
        )
        return await self._store.deliveries.read_replay(replay_id)

    async def read_replay(self, replay_id: str) -> Replay:
        """Read how far a replay is; raises ReplayNotFound."""
        if not ids.is_id("replay", replay_id):
            raise ReplayNotFound("there is no replay with this id")
        return await self._store.deliveries.read_replay(replay_id)

    async def replays(self) -> list[Replay]:
        """List the latest replays, newest first."""
        return await self._store.deliveries.replays(limit=100)

    async def _understood(self, wish: NewReplay) -> tuple[int, int | None, EndpointRecord | None]:
        since_ms = 0 if wish.since is None else moment(wish.since, "since")
        until_ms = None if wish.until is None else moment(wish.until, "until")
        if until_ms is not None and since_ms > until_ms:
            raise Invalid("since is later than until")
        if wish.endpoint_id is None:
            if wish.missing:
                raise Invalid("missing takes an endpoint_id: what it missed is its own matter")
            return since_ms, until_ms, None
        record = await self._endpoint(wish.endpoint_id)
        [health] = await self._store.endpoints.health([record.id])
        if health.state is EndpointState.DISABLED:
            detail = "nothing is sent to an endpoint that is disabled: resume it first"
            raise IllegalMove(detail, state=health.state.value)
        return since_ms, until_ms, record

    async def _missing(self, record: EndpointRecord, since_ms: int, until_ms: int | None) -> int:
        """Count the events that were never filed for an endpoint, as far as events are kept."""
        labels: dict[str, dict[str, str]] = {}
        missing = 0
        # The last id of the millisecond before: what happened at `since` counts.
        cursor = f"{since_ms - 1}-18446744073709551615" if since_ms else "0-0"
        while True:
            page = await self._store.events.after(cursor, limit=_COUNTED)
            inside = [each for each in page if until_ms is None or _at(each) <= until_ms]
            for event in inside:
                mission_id = event.mission_id
                if record.filter.labels and mission_id and mission_id not in labels:
                    labels[mission_id] = await self._store.missions.labels(mission_id)
            wanted = [
                event.stream_id
                for event in inside
                if wants(record, event, labels.get(event.mission_id or "", {}))
            ]
            filed = await self._store.deliveries.filed(wanted, record.id)
            missing += filed.count(False)
            if len(inside) < _COUNTED:
                return missing
            cursor = page[-1].stream_id

    async def _endpoint(self, endpoint_id: str) -> EndpointRecord:
        if not ids.is_id("endpoint", endpoint_id):
            raise EndpointNotFound("there is no endpoint with this id")
        return await self._store.endpoints.read(endpoint_id)


def replay_of(endpoint_id: str, recovery: Recovery) -> NewReplay:
    """Say the same as a recovery of one endpoint does."""
    return NewReplay(
        since=recovery.since,
        until=recovery.until,
        endpoint_id=endpoint_id,
        missing=recovery.missing,
        dry_run=recovery.dry_run,
    )


def moment(text: str, name: str) -> int:
    """Read an RFC 3339 time as milliseconds since 1970; raises Invalid naming the field."""
    try:
        read = datetime.fromisoformat(text)
        if read.tzinfo is None:
            raise Invalid(f"{name} needs a time zone, such as 2026-11-22T21:00:00Z")
        return max(0, int(read.astimezone(UTC).timestamp() * 1000))
    except (ValueError, OverflowError):
        detail = f"{name} is not an RFC 3339 time such as 2026-11-22T21:00:00Z"
        raise Invalid(detail) from None


def _at(event: Event) -> int:
    return int(event.stream_id.partition("-")[0])


def _check_id(delivery_id: str) -> None:
    if not _ID.fullmatch(delivery_id):
        raise DeliveryNotFound("there is no delivery with this id")


def _check_cursor(cursor: str | None) -> None:
    if cursor is not None and not _ID.fullmatch(cursor):
        raise Invalid("the cursor is not one this list gave")
