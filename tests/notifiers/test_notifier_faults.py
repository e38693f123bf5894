"""When phones hang, notifiers die and Redis goes away: nothing is lost and nobody waits."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import anyio
import msgspec
import pytest
from redis.asyncio import Redis

import fakes.notifier_process
from conftest import Eventually
from fakes.errand import add_endpoint, start_errand
from fakes.letters import LOOPBACK
from fakes.notifying import QUICK, deliveries, notifier_of, only, running
from fakes.ntfy import Fault, NtfyServer
from servers import RedisServer
from tinytown.models.delivery import DeliveryState
from tinytown.store import Store, open_store
from tinytown.vault import Vault
from tinytown_notifiers import Rules
from tinytown_notifiers.sinks.push import PushSink


async def test_one_hanging_phone_delays_no_other(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    for number in range(12):
        ntfy.fault(f"dead{number}", Fault(hang=True), forever=True)
        await add_endpoint(store, ntfy.endpoint(f"dead{number}"))
    await add_endpoint(store, ntfy.endpoint("phone"))
    async with running(notifier_of(store, sink)):
        await (await start_errand(store, title="First")).ask()
        await eventually(lambda: len(ntfy.requests) == 13)
        asked_at = time.monotonic()
        await (await start_errand(store, title="Second")).ask()
        await eventually(lambda: len(ntfy.on("phone")) == 2)

        # Each of the others takes five seconds to be given up: nobody waited for even one of them.
        assert ntfy.on("phone")[1].at - asked_at < 4


async def test_a_hanging_phone_holds_one_place_however_much_waits_for_it(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    ntfy.fault("dead", Fault(hang=True), forever=True)
    dead = await add_endpoint(store, ntfy.endpoint("dead"), ("mission.*",))
    await add_endpoint(store, ntfy.endpoint("phone"))
    rules = msgspec.structs.replace(QUICK, places=3)
    async with running(notifier_of(store, sink, rules)):
        for number in range(6):
            await (await start_errand(store, title=f"Number {number}")).finish()
        await eventually(lambda: len(ntfy.on("phone")) == 6, within_seconds=4)
        leased = [one for one in await deliveries(store, dead) if one.attempt > 0]
        assert len(leased) == 1, "the others would lose their leases in its queue"


async def test_two_notifiers_deliver_each_event_once(
    store: Store, ntfy: NtfyServer, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("phone"))
    sinks = [PushSink(LOOPBACK), PushSink(LOOPBACK)]
    async with running(*(notifier_of(store, sink) for sink in sinks)):
        for number in range(10):
            await (await start_errand(store, title=f"Number {number}")).finish()
        await eventually(lambda: len(ntfy.on("phone")) >= 10)
        await anyio.sleep(0.2)  # room for a second copy to come
    assert sorted(got.title for got in ntfy.on("phone")) == [
        f"Done: Number {number}" for number in range(10)
    ]
    for sink in sinks:
        sink.close()


async def test_a_push_that_was_accepted_before_the_kill_is_sent_again_and_none_is_lost(
    store: Store, redis_url: str, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(hang=True, after=True))
    doomed = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
        [sys.executable, str(fakes.notifier_process.__file__), redis_url]
    )
    try:
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.on("phone"), "accepted, but the sender does not know yet")
    finally:
        doomed.kill()
        doomed.wait()

    async with running(notifier_of(store, sink)):

        async def delivered() -> bool:
            return (await only(store, endpoint)).state is DeliveryState.DELIVERED

        await eventually(delivered)
    assert len(ntfy.on("phone")) == 2
    assert (await only(store, endpoint)).attempt == 2


async def test_an_event_that_was_read_but_not_planned_is_found_again(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("phone"))
    await store.events.ensure_group()
    await (await start_errand(store)).ask()
    async with store.blocking("test", block_seconds=1) as client:
        lost = await store.events.consume(client, "notifier", block_ms=100, limit=100)
    assert "question.asked" in [event.type for event in lost]

    async with running(notifier_of(store, sink)):
        await eventually(lambda: ntfy.on("phone"))


async def test_after_flushall_the_notifier_heals_by_itself(
    store: Store, redis: Redis, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("before"))
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.on("before"))
        await redis.flushall()
        # The same number of endpoints as before, and so the same version: but another one.
        await add_endpoint(store, ntfy.endpoint("after"))
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.on("after"))
    assert len(ntfy.on("before")) == 1


async def test_while_redis_is_away_nothing_is_lost_and_little_is_said(
    redis_server: Callable[..., RedisServer],
    ntfy: NtfyServer,
    sink: PushSink,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = redis_server(persist=True, appendfsync="always")
    async with open_store(server.url, town="main", name="test") as store:
        await add_endpoint(store, ntfy.endpoint("phone"))
        ntfy.fault("phone", Fault(status=503))
        async with running(notifier_of(store, sink)):
            await (await start_errand(store)).ask()
            await eventually(lambda: ntfy.requests)
            server.stop()
            away_at = time.monotonic()
            await anyio.sleep(2)  # the outage
            server.start()
            back_at = time.monotonic()
            await eventually(lambda: ntfy.on("phone"), "the retry that was due")
            assert ntfy.on("phone")[0].at - back_at < 4
    lines = [record for record in caplog.records if record.getMessage() == "redis.away"]
    assert 1 <= len(lines) <= 2 + (back_at - away_at)


async def test_told_to_stop_it_finishes_what_is_on_its_way(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    slow = PushSink(LOOPBACK, send_seconds=1)
    ntfy.fault("phone", Fault(hang=True), forever=True)
    async with running(notifier_of(store, slow, Rules())):
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.requests)
    (attempt,) = (await only(store, endpoint)).attempts
    assert attempt.outcome == "retry"
    assert attempt.error in {"no answer within 1 seconds", "no reply in time"}, "whoever was first"
    slow.close()


async def test_with_another_secret_key_nothing_is_sent_and_the_reason_is_told(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    sealed = Vault("the operator's secret key", "main").seal(ntfy.endpoint("phone"))
    endpoint = await add_endpoint(store, sealed)
    async with running(notifier_of(store, sink, vault=Vault("another secret key", "main"))):
        await (await start_errand(store)).finish()

        async def told() -> bool:
            found = await deliveries(store, endpoint)
            return bool(found) and bool(found[0].attempts)

        await eventually(told)
    assert "TINYTOWN_SECRET_KEY" in str((await only(store, endpoint)).attempts[0].error)
    assert ntfy.requests == []


async def test_a_fault_of_ours_counts_as_an_attempt_and_so_comes_to_an_end(
    store: Store, sink: PushSink, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sink, "send", send)
    endpoint = await add_endpoint(store, "ntfy://127.0.0.1:1/phone")
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).finish()

        async def dead() -> bool:
            found = await deliveries(store, endpoint)
            return bool(found) and found[0].state is DeliveryState.DEAD

        await eventually(dead)
    assert "a fault of the notifier: ZeroDivisionError" in str((await only(store, endpoint)).reason)


async def test_the_process_runs_and_stops_in_order(
    store: Store, redis_url: str, ntfy: NtfyServer, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("phone"))
    process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
        [sys.executable, "-m", "tinytown_notifiers"],
        env={
            "REDIS_URL": redis_url,
            "TINYTOWN_LOG": "json",
            "TINYTOWN_EGRESS_ALLOW": "127.0.0.1",
            "PATH": "/usr/bin:/bin",
        },
        stderr=subprocess.PIPE,
    )
    try:
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.on("phone"))
        assert ntfy.on("phone")[0].actions[0].url.startswith("http://127.0.0.1:8080/a/")
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert b'"delivery.attempt"' in said
    assert b"Traceback" not in said
