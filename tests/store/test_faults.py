"""Redis goes away in every way it can; the town says so, waits, writes nothing by half, goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest
from redis import exceptions as redis_errors
from redis.asyncio import Redis

from servers import RedisServer
from tinytown.errors import StoreUnavailable
from tinytown.store.client import COMMAND_SECONDS, Script, connect
from tinytown.store.faults import outage, store_errors

Servers = Callable[..., RedisServer]

# A change of state as the town makes it: safe to run twice, several keys, one event.
MOVE = Script(
    """
    if redis.call('HGET', KEYS[1], 'state') == ARGV[1] then return 0 end
    redis.call('HSET', KEYS[1], 'state', ARGV[1], 'payload', ARGV[2])
    redis.call('XADD', KEYS[2], '*', 'to', ARGV[1])
    redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
    return 1
    """,
    name="move",
)
MOVED = ("record", "events", "counters")


async def move(redis: Redis, state: str, payload: str = "") -> object:
    """Make the change."""
    return await MOVE.run(redis, MOVED, [state, payload])


async def unavailable(redis: Redis) -> StoreUnavailable:
    """Make a change that must be refused for now; give the refusal."""
    with pytest.raises(StoreUnavailable) as caught:
        await move(redis, "never")
    assert caught.value.extra["retry_after_seconds"] > 0
    return caught.value


# -- what an error means --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (redis_errors.BusyLoadingError("x", status_code="LOADING"), "Redis is loading its data"),
        (redis_errors.ResponseError("MISCONF Redis is configured to save"), "cannot save"),
        (redis_errors.ResponseError("NOREPLICAS Not enough good replicas"), "too few replicas"),
        (redis_errors.ResponseError("UNBLOCKED force unblock"), "ended a blocking read"),
        (redis_errors.ResponseError("BUSY Redis is busy running a script"), "busy"),
        (redis_errors.ConnectionError("max number of clients reached"), "no free connections"),
        (redis_errors.ConnectionError("No connection available."), "are busy"),
        (redis_errors.TimeoutError("Timeout reading"), "does not answer in time"),
        (redis_errors.ConnectionError("redis://:hunter2hunter2@h gone"), "redis://•••@h gone"),
    ],
)
def test_what_means_not_now_is_said_in_our_words(error: Exception, said: str) -> None:
    found = outage(error)
    assert found is not None
    assert said in found.detail


@pytest.mark.parametrize(
    "error",
    [
        redis_errors.ResponseError("WRONGTYPE Operation against a key"),
        redis_errors.ResponseError("user_script:1: attempt to index a nil value script: abc"),
        redis_errors.DataError("Invalid input of type: 'dict'"),
        redis_errors.MaxConnectionsError("Too many connections"),
        redis_errors.ResponseError("NOGROUP No such key 'docket'"),
        ValueError("a mistake"),
    ],
)
def test_a_mistake_of_ours_is_not_called_an_outage(error: Exception) -> None:
    assert outage(error) is None
    with pytest.raises(type(error)), store_errors():
        raise error


# -- faults of a real server ----------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_work_goes_on_by_itself_after_a_restart(
    redis_server: Servers, how: signal.Signals
) -> None:
    server = redis_server(persist=True, appendfsync="always")
    async with connect(server.url, name="tt:test") as town:
        assert await move(town.commands, "running") == 1
        await anyio.to_thread.run_sync(server.stop, how)
        started = time.monotonic()
        refusal = await unavailable(town.commands)
        assert "cannot be reached" in refusal.detail
        assert time.monotonic() - started < 2
        await anyio.to_thread.run_sync(server.start)
        waited = await town.patience.keep_trying("test", lambda: move(town.commands, "completed"))
        assert waited == 1
        assert await town.commands.hgetall("counters") == {"running": "1", "completed": "1"}
        assert await town.commands.xlen("events") == 2


async def test_a_frozen_server_costs_one_bounded_wait_and_no_second_write(
    redis_server: Servers,
) -> None:
    server = redis_server()
    async with connect(server.url, name="tt:test", max_connections=4) as town:
        await move(town.commands, "queued")
        server.freeze()
        started = time.monotonic()
        refusals = []

        async def meet() -> None:
            refusals.append(await unavailable(town.commands))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(meet)
        assert COMMAND_SECONDS - 0.5 < time.monotonic() - started < 2 * COMMAND_SECONDS
        assert {refusal.detail for refusal in refusals} == {"Redis does not answer in time"}
        server.thaw()
        assert await town.patience.keep_trying("t", lambda: move(town.commands, "running")) == 1
        # What was sent before the freeze may have been carried out after it, but at most once.
        counters = await town.commands.hgetall("counters")
        assert counters.get("never", "1") == "1"


async def test_a_short_freeze_is_only_a_delay(redis_server: Servers) -> None:
    server = redis_server()
    async with connect(server.url, name="tt:test") as town:
        await move(town.commands, "queued")
        server.freeze()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(move, town.commands, "running")
            await anyio.sleep(0.5)  # how long the freeze lasts
            server.thaw()
        assert await town.commands.hget("counters", "running") == "1"


async def test_after_flushall_scripts_and_data_start_anew(redis_server: Servers) -> None:
    server = redis_server()
    async with connect(server.url, name="tt:test") as town:
        await move(town.commands, "running")
        server.send("FLUSHALL")
        server.send("SCRIPT", "FLUSH")
        assert await move(town.commands, "running") == 1
        assert await town.commands.xlen("events") == 1


async def test_a_read_only_server_refuses_and_nothing_is_written(redis_server: Servers) -> None:
    primary, server = redis_server(tcp=True), redis_server()
    async with connect(server.url, name="tt:test") as town:
        await move(town.commands, "queued")
        primary.send("SET", "seen", "1")
        await town.commands.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))  # type: ignore[no-untyped-call]
        refusal = await unavailable(town.commands)
        assert "read-only" in refusal.detail or "lost its primary" in refusal.detail
        await town.commands.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
        assert not await town.commands.hexists("counters", "never")
        assert await town.patience.keep_trying("t", lambda: move(town.commands, "running")) == 1


async def test_a_replica_without_its_primary_refuses(redis_server: Servers) -> None:
    server = redis_server(replica_serve_stale_data="no")
    async with connect(server.url, name="tt:test") as town:
        await town.commands.execute_command("REPLICAOF", "127.0.0.1", "1")  # type: ignore[no-untyped-call]
        assert "lost its primary" in (await unavailable(town.commands)).detail


async def test_a_full_server_refuses_before_the_first_write(redis_server: Servers) -> None:
    server = redis_server(maxmemory_policy="noeviction")
    async with connect(server.url, name="tt:test") as town:
        await move(town.commands, "queued")
        before = await town.commands.hgetall("record"), await town.commands.xlen("events")
        server.send("CONFIG", "SET", "maxmemory", "1")
        refusal = await unavailable(town.commands)
        assert refusal.detail == "Redis is out of memory (maxmemory)"
        after = await town.commands.hgetall("record"), await town.commands.xlen("events")
        assert after == before
        server.send("CONFIG", "SET", "maxmemory", "0")
        assert await move(town.commands, "running") == 1


async def test_a_server_that_fills_up_inside_a_script_still_finishes_it(
    redis_server: Servers,
) -> None:
    server = redis_server(maxmemory_policy="noeviction")
    async with connect(server.url, name="tt:test") as town:
        used = (await town.commands.info("memory"))["used_memory"]
        server.send("CONFIG", "SET", "maxmemory", str(used + 2_000_000))
        payload = "x" * 200_000
        states = 0
        with suppress(StoreUnavailable):
            while states < 20:
                keys = [f"record{states}", *MOVED[1:]]
                await MOVE.run(town.commands, keys, [f"s{states}", payload])
                states += 1
        assert 0 < states < 20
        # Every record that exists has its event and its count: nothing was written by half.
        assert await town.commands.exists(*(f"record{number}" for number in range(20))) == states
        assert await town.commands.xlen("events") == states
        assert await town.commands.hlen("counters") == states


async def test_a_full_server_still_lets_go_of_things(redis_server: Servers) -> None:
    server = redis_server(maxmemory_policy="noeviction")
    release = Script("redis.call('DEL', KEYS[1]) redis.call('HINCRBY', KEYS[2], 'gone', 1)")
    async with connect(server.url, name="tt:test") as town:
        await move(town.commands, "queued")
        server.send("CONFIG", "SET", "maxmemory", "1")
        await release.run(town.commands, ["record", "counters"], [])
        assert await town.commands.hget("counters", "gone") == "1"


async def test_a_password_that_changes_is_an_outage_without_the_password(
    redis_server: Servers,
) -> None:
    server = redis_server(tcp=True, requirepass="first-password")
    url = f"redis://:first-password@127.0.0.1:{server.port}"
    async with connect(url, name="tt:test") as town:
        await move(town.commands, "queued")
        async with Redis.from_url(url, protocol=2) as operator:
            await operator.config_set("requirepass", "other-password")
            await operator.client_kill_filter(_type="normal", skipme=True)
        refusal = await unavailable(town.commands)
        assert refusal.detail == "Redis refuses our password"
        assert "password" not in str(refusal.extra)


async def test_a_command_the_acl_denies_is_an_outage_that_names_the_cause(
    redis_server: Servers,
) -> None:
    server = redis_server(tcp=True)
    server.send("ACL", "SETUSER", "town", "on", ">pw", "~*", "&*", "+@all", "-hset")
    async with connect(f"redis://town:pw@127.0.0.1:{server.port}", name="tt:test") as town:
        refusal = await unavailable(town.commands)
        assert refusal.detail == "Redis does not allow our user this command"


async def test_too_many_clients_is_an_outage(redis_server: Servers) -> None:
    server = redis_server(maxclients=4)
    async with (
        connect(server.url, name="tt:test") as town,
        Redis.from_url(server.url, protocol=2) as one,
        Redis.from_url(server.url, protocol=2) as two,
        Redis.from_url(server.url, protocol=2) as three,
        Redis.from_url(server.url, protocol=2) as four,
    ):
        for other in (one, two, three, four):
            await other.ping()
        refusal = await unavailable(town.commands)
        assert "no free connections" in refusal.detail or "cannot be reached" in refusal.detail


async def test_a_server_that_is_loading_is_waited_for(redis_server: Servers) -> None:
    server = redis_server(persist=True, aof_use_rdb_preamble="no")
    async with Redis.from_url(server.url, protocol=2) as filler:
        for start in range(0, 6000, 1000):
            pipe = filler.pipeline(transaction=False)
            for number in range(start, start + 1000):
                pipe.set(f"k{number}", "x" * 200)
            await pipe.execute()
    server.stop()
    # 6000 keys at half a millisecond each: three seconds of loading.
    server.options["key-load-delay"] = "500"
    server.options["loading-process-events-interval-bytes"] = "2048"
    server.start()
    assert server.send("PING").startswith("-LOADING")
    async with connect(server.url, name="tt:test", wait_seconds=20) as town:
        assert await town.commands.dbsize() == 6000


async def test_a_blocking_read_notices_a_frozen_server(redis_server: Servers) -> None:
    server = redis_server()
    async with (
        connect(server.url, name="tt:test") as town,
        town.blocking("events", block_seconds=0.2) as reader,
    ):
        assert not await reader.xread({"events": "$"}, block=200)
        server.freeze()
        started = time.monotonic()
        with pytest.raises(StoreUnavailable), store_errors():
            await reader.xread({"events": "$"}, block=200)
        assert time.monotonic() - started < COMMAND_SECONDS + 1.5
        server.thaw()
        await move(town.commands, "running")
        heard = await reader.xread({"events": "0"}, block=200)
        assert "running" in str(heard)
