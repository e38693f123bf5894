"""Live events over SSE: no gap, no repeat, filters, ends, and readers that do not keep up."""

from __future__ import annotations

import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from redis.asyncio import Redis

from halls import API_KEY, Hall
from listening import Told, listening
from tinytown.http import live
from tinytown.store import Limits
from towns import ask, hand, open_town, settle, start

Eventually = Callable[..., Awaitable[None]]


async def test_an_event_arrives_as_it_is_stored(hall: Hall, http: httpx.AsyncClient) -> None:
    async with listening(http, "/v1/events") as reader:
        mission = await start(hall.store)
        created, queued = await reader.take(2)
    stored = await hall.store.events.after("0-0", limit=10)
    assert [created.id, queued.id] == [event.stream_id for event in stored]
    assert created.type == "mission.created"
    assert created.data["id"] == f"evt_{created.id}"
    assert created.data["mission_id"] == mission.id
    assert created.data["town"] == "main"
    assert created.data["timestamp"].endswith("Z")
    assert reader.retry_ms == 2000
    assert reader.response.headers["cache-control"] == "no-store"
    assert reader.response.headers["x-accel-buffering"] == "no"


async def test_a_reader_resumes_anywhere_without_gap_or_repeat(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    for _ in range(3):
        await start(hall.store)
    stored = [event.stream_id for event in await hall.store.events.after("0-0", limit=100)]
    for index, seen in enumerate(stored):
        async with listening(http, "/v1/events", last_id=seen) as reader:
            await start(hall.store)
            expected = [event.stream_id for event in await hall.store.events.after(seen, limit=100)]
            assert [told.id for told in await reader.take(len(expected))] == expected
            assert len(expected) >= len(stored) - index


async def test_many_events_while_history_is_read_come_once_each_in_order(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    for _ in range(250):
        await start(hall.store)
    async with anyio.create_task_group() as group:

        async def more() -> None:
            for _ in range(100):
                await start(hall.store)

        group.start_soon(more)
        async with listening(http, "/v1/events", after="0-0") as reader:
            told = await reader.take(700)
    stored = [event.stream_id for event in await hall.store.events.after("0-0", limit=10_000)]
    assert [each.id for each in told] == stored


async def test_the_position_can_ride_in_the_query_and_the_header_wins(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    await start(hall.store)
    first, second = [e.stream_id for e in await hall.store.events.after("0-0", limit=2)]
    async with listening(http, "/v1/events", after="0") as reader:
        assert [told.id for told in await reader.take(2)] == [first, second]
    async with listening(http, "/v1/events", last_id=first, after="0") as reader:
        assert (await reader.take(1))[0].id == second
    async with listening(http, "/v1/events", last_id=f"evt_{first}") as reader:
        assert (await reader.take(1))[0].id == second


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ("question.asked", ["question.asked"]),
        ("question.*, mission.blocked", ["question.asked", "mission.blocked"]),
        ("mission.*", ["mission.created", "mission.started", "mission.blocked"]),
        ("*", None),
    ],
)
async def test_only_the_types_asked_for_come(
    hall: Hall, http: httpx.AsyncClient, types: str, expected: list[str] | None
) -> None:
    await start(hall.store)
    await ask(hall.store, await (await hand(hall.store)).take())
    stored = [event.type for event in await hall.store.events.after("0-0", limit=100)]
    wanted = stored if expected is None else [kind for kind in stored if kind in expected]
    async with listening(http, "/v1/events", after="0", types=types) as reader:
        assert [told.type for told in await reader.take(len(wanted))] == wanted


async def test_times_are_written_for_everyone_and_never_in_milliseconds(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    await start(hall.store, not_before_ms=2_000_000_000_000)
    await start(hall.store)
    claim = await (await hand(hall.store)).take()
    await ask(hall.store, claim, deadline_seconds=60)
    told = {event.type: event.data for event in await hall.store.events.after("0-0", limit=99)}
    assert told["mission.created"].keys() >= {"title", "state"}
    assert told["task.started"]["lease_seconds"] == 30
    question = (await http.get("/v1/questions")).json()["items"][0]
    assert told["question.asked"]["expires_at"] == question["expires_at"]
    waiting = [
        event["data"].get("not_before")
        for event in (await http.get(f"/v1/missions/{claim.mission_id}/events")).json()["items"]
    ]
    assert set(waiting) == {None}
    async with listening(http, "/v1/events", after="0") as reader:
        first = (await reader.take(1))[0].data["data"]
    assert first["not_before"] == "2033-05-18T03:33:20.000Z"
    assert not [name for data in told.values() for name in data if name.endswith("_ms")]


async def test_a_reader_that_comes_too_late_is_told_that_something_is_missing(
    hall: Hall, http: httpx.AsyncClient, redis_url: str
) -> None:
    await start(hall.store)
    first = (await hall.store.events.after("0-0", limit=1))[0].stream_id
    async with open_town(redis_url, limits=Limits(events=5)) as small:
        for _ in range(200):
            await start(small)
    async with listening(http, "/v1/events", last_id=first) as reader:
        assert (await reader.take(1))[0].type == "gap"
        oldest = await hall.store.events.first_id()
        assert (await reader.take(1))[0].id == oldest
    async with listening(http, "/v1/events", last_id=oldest) as reader:
        assert (await reader.take(1))[0].type != "gap"


async def test_a_missions_stream_tells_its_whole_life_and_ends_with_it(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    mission = await start(hall.store)
    other = await start(hall.store)
    path = f"/v1/missions/{mission.id}/events"
    async with listening(http, path) as reader:
        before = await reader.take(2)
        worker = await hand(hall.store)
        claim = await worker.take()
        await settle(hall.store, claim)
        after = await reader.rest()
    types = [told.type for told in (*before, *after)]
    assert types == [
        "mission.created",
        "task.queued",
        "task.started",
        "mission.started",
        "task.completed",
        "mission.completed",
        "bye",
    ]
    assert all(told.data["mission_id"] == mission.id for told in (*before, *after[:-1]))
    assert other.id not in str(after)
    async with listening(http, path) as reader:
        assert [told.type for told in await reader.rest()] == types
    last = after[-2].id
    reply = await http.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": last})
    assert reply.status_code == 204, "an EventSource would come back for ever"


async def test_a_retried_mission_is_told_beyond_its_first_end(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    mission = await start(hall.store)
    worker = await hand(hall.store)
    await settle(hall.store, await worker.take(), completed=False)
    await http.post(f"/v1/missions/{mission.id}/retry")
    async with listening(http, f"/v1/missions/{mission.id}/events") as reader:
        await settle(hall.store, await worker.take())
        types = [told.type for told in await reader.rest()]
    assert types[-2:] == ["mission.completed", "bye"]
    assert "mission.failed" in types


def lines_of(told: list[Told]) -> list[Any]:
    """Take the log's entries out of what was told."""
    return [each.data["entry"] for each in told if each.type == "log"]


async def test_a_log_is_followed_live_from_anywhere_to_its_end(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    mission = await start(hall.store)
    claim = await (await hand(hall.store)).take()
    path = f"/v1/missions/{mission.id}/log"
    docket = hall.store.docket
    await docket.append_log(claim.task_id, claim.attempt, first=0, lines=[b"0", b"1"])
    async with listening(http, path) as early:
        assert lines_of(await early.take(2)) == [0, 1]
        await docket.append_log(claim.task_id, claim.attempt, first=2, lines=[b"2"])
        (second,) = await early.take(1)
        async with listening(http, path, last_id=second.id) as late:
            await docket.append_log(claim.task_id, claim.attempt, first=3, lines=[b"3"])
            assert lines_of(await early.take(1)) == lines_of(await late.take(1)) == [3]
        await docket.append_log(claim.task_id, claim.attempt, first=4, lines=[b"4"])
        await settle(hall.store, claim)
        assert lines_of(await early.rest()) == [4]
    async with listening(http, path) as after:
        told = await after.rest()
    assert lines_of(told) == [0, 1, 2, 3, 4]
    reply = await http.get(
        path, headers={"Accept": "text/event-stream", "Last-Event-ID": told[-2].id}
    )
    assert reply.status_code == 204


async def test_any_number_of_logs_are_watched_over_one_connection(
    hall: Hall, http: httpx.AsyncClient, eventually: Eventually, redis: Redis
) -> None:
    claims = []
    for _ in range(6):
        await start(hall.store)
        claims.append(await (await hand(hall.store)).take())

    async def watch(index: int, ready: list[int], found: dict[int, list[Any]]) -> None:
        path = f"/v1/missions/{claims[index % 6].mission_id}/log"
        async with listening(http, path) as reader:
            ready.append(index)
            found[index] = lines_of(await reader.rest())

    ready: list[int] = []
    found: dict[int, list[Any]] = {}
    async with anyio.create_task_group() as group:
        for index in range(18):
            group.start_soon(watch, index, ready, found)
            claim = claims[index % 6]
            await hall.store.docket.append_log(
                claim.task_id, claim.attempt, first=index // 6, lines=[b"%d" % index]
            )
        await eventually(lambda: len(ready) == 18, "all watch")
        names = [client["name"] for client in await redis.client_list()]
        assert names.count("tt:test:logs") == 1
        for claim in claims:
            await hall.store.docket.append_log(
                claim.task_id, claim.attempt, first=3, lines=[b'"last"']
            )
            await settle(hall.store, claim)
    for index in range(18):
        assert found[index] == [index % 6, index % 6 + 6, index % 6 + 12, "last"]


async def test_silence_is_filled_with_comments(
    hall: Hall, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.12)
    async with listening(http, "/v1/events") as reader:
        with pytest.raises(TimeoutError):
            await reader.next(within_seconds=0.6)
        assert reader.comments >= 3


async def test_a_reader_that_never_reads_is_dropped_and_hurts_nobody(
    hall: Hall,
    http: httpx.AsyncClient,
    redis: Redis,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "SEND_SECONDS", 0.3)
    host, _, port = hall.address.removeprefix("http://").rpartition(":")
    head = f"GET /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    large: dict[Any, Any] = {"type": "task.progressed", "at": 1, "mission": "", "task": ""}
    large["data"] = json.dumps({"text": "x" * 100_000})
    with socket.create_connection((host, int(port))) as deaf:
        deaf.sendall(head.encode())
        await eventually(lambda: len(hall.door.streams) == 1, "the deaf reader is there")
        async with listening(http, "/v1/events") as reader:
            sent = 0
            while len(hall.door.streams) == 2:
                await redis.xadd(hall.store.events.stream, large)
                assert len(await reader.take(1)) == 1
                sent += 1
                assert sent < 500, "nobody noticed that the other reader is deaf"
            await start(hall.store)
            assert [told.type for told in await reader.take(2)] == [
                "mission.created",
                "task.queued",
            ]


async def test_a_reader_who_leaves_is_forgotten_at_once(
    hall: Hall, http: httpx.AsyncClient, eventually: Eventually
) -> None:
    async with listening(http, "/v1/events"):
        await eventually(lambda: len(hall.door.streams) == 1, "the reader is there")
    await eventually(lambda: len(hall.door.streams) == 0, "the reader is gone")


async def test_streams_say_goodbye_when_the_town_closes(
    hall: Hall, http: httpx.AsyncClient
) -> None:
    async with listening(http, "/v1/events") as reader, anyio.create_task_group() as group:
        held: list[httpx.Response] = []

        async def hold() -> None:
            seq = (await http.get("/api/scaling")).json()["seq"]
            held.append(await http.get("/api/scaling", params={"wait": 30, "seq": seq}))

        group.start_soon(hold)
        while len(hall.door.streams) < 2:
            await anyio.lowlevel.checkpoint()
        hall.door.close()
        assert [told.type for told in await reader.rest()] == ["bye"]
    assert held[0].status_code == 200
    reply = await http.get("/ready")
    assert (reply.status_code, reply.json()["status"]) == (503, "stopping")
