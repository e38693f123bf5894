"""Two kinds of connections to Redis: short commands from a pool, blocking reads of their own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import pytest
from redis.asyncio import Redis

from servers import RedisServer
from tinytown.store.client import (
    COMMAND_SECONDS,
    Script,
    connect,
)

Servers = Callable[..., RedisServer]
Eventually = Callable[..., Awaitable[None]]


@pytest.fixture(
    scope="module",
    params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """Run these on both loops: the worker's and the townhall's."""
    return request.param


async def calls(redis: Redis, command: str) -> int:
    """Count how often the server has run a command."""
    stats = await redis.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def ping(client: Redis) -> None:
    """Send the smallest command."""
    assert await client.ping() is True


async def clients(redis: Redis, name: str) -> int:
    """Count the server's connections that carry a name."""
    return sum(client["name"] == name for client in await redis.client_list())


# -- commands -------------------------------------------------------------------------------------


async def test_replies_are_text_and_foreign_bytes_come_back_unchanged(redis_url: str) -> None:
    async with connect(redis_url, name="tt:test") as town:
        await town.commands.set("k", b"caf\xc3\xa9 \xff\x00")
        read = await town.commands.get("k")
        assert read == "café \udcff\x00"
        await town.commands.set("k2", read)
        async with Redis.from_url(redis_url, protocol=2) as raw:
            assert await raw.get("k2") == b"caf\xc3\xa9 \xff\x00"


async def test_connections_carry_their_name_and_are_gone_afterwards(
    redis_url: str, redis: Redis
) -> None:
    async with connect(redis_url, name="tt:test") as town:
        await town.commands.ping()
        async with town.blocking("events", block_seconds=1) as reader:
            await reader.ping()
            assert await clients(redis, "tt:test") == 1
            assert await clients(redis, "tt:test:events") == 1
    assert await clients(redis, "tt:test") == 0
    assert await clients(redis, "tt:test:events") == 0


async def test_the_pool_is_bounded_and_a_crowd_takes_turns(redis_url: str, redis: Redis) -> None:
    async with connect(redis_url, name="tt:test", max_connections=3) as town:
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(ping, town.commands)
        assert await clients(redis, "tt:test") <= 3


async def test_commands_go_on_after_every_connection_was_killed(
    redis_url: str, redis: Redis
) -> None:
    async with connect(redis_url, name="tt:test", max_connections=4) as town:
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ping, town.commands)
        await redis.client_kill_filter(_type="normal", skipme=True)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(ping, town.commands)
        assert await town.commands.ping() is True


async def test_an_idle_connection_sends_nothing(redis_url: str, redis: Redis) -> None:
    async with connect(redis_url, name="tt:test") as town:
        await town.commands.ping()
        before = await calls(redis, "ping")
        await town.commands.get("k")
        assert await calls(redis, "ping") == before


@pytest.mark.parametrize("crowd", [1, 40])
async def test_cancelled_commands_neither_shrink_the_pool_nor_mix_up_replies(
    redis_url: str, crowd: int
) -> None:
    wrong = []

    async with connect(redis_url, name="tt:test", max_connections=2) as town:

        async def ask(number: int) -> None:
            with anyio.move_on_after((number % 7) * 0.0007):
                said = await town.commands.echo(str(number))
                if said != str(number):
                    wrong.append((number, said))

        for start in range(0, 400, crowd):
            async with anyio.create_task_group() as tasks:
                for number in range(start, start + crowd):
                    tasks.start_soon(ask, number)
        with anyio.fail_after(3):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(ping, town.commands)
    assert wrong == []


# -- blocking reads -------------------------------------------------------------------------------


async def test_a_blocking_read_of_an_idle_stream_is_one_command(
    redis_url: str, redis: Redis
) -> None:
    async with (
        connect(redis_url, name="tt:test") as town,
        town.blocking("events", block_seconds=1) as reader,
    ):
        before = await calls(redis, "xread")
        for _ in range(3):
            assert not await reader.xread({"stream": "$"}, block=300)
        assert await calls(redis, "xread") == before + 3


async def test_a_block_longer_than_the_command_time_out_is_waited_for(
    redis_url: str, redis: Redis
) -> None:
    block = COMMAND_SECONDS + 0.7
    async with (
        connect(redis_url, name="tt:test") as town,
        town.blocking("events", block_seconds=block) as reader,
    ):
        before = await calls(redis, "xread")
        started = time.monotonic()
        assert not await reader.xread({"stream": "$"}, block=int(block * 1000))
        assert block - 0.1 < time.monotonic() - started < block + 2
        assert await calls(redis, "xread") == before + 1


async def test_a_read_cancelled_in_its_block_leaves_no_connection(
    redis_url: str, redis: Redis, eventually: Eventually
) -> None:
    before = (await redis.info("clients"))["connected_clients"]
    async with connect(redis_url, name="tt:test") as town:
        for _ in range(25):
            with anyio.move_on_after(0.01):
                async with town.blocking("events", block_seconds=30) as reader:
                    await reader.xread({"stream": "$"}, block=30_000)

        async def hung_up() -> bool:
            return await clients(redis, "tt:test:events") == 0

        # While the town lives on; the server only has to come round to each end of a line.
        await eventually(hung_up, "no reader is left behind")

    async def all_gone() -> bool:
        now = await redis.info("clients")
        return (now["connected_clients"], now["blocked_clients"]) == (before, 0)

    await eventually(all_gone, "the server counts no connection of ours")


async def test_a_reader_used_again_after_a_cancel_hears_what_came_later(
    redis_url: str, redis: Redis
) -> None:
    async with (
        connect(redis_url, name="tt:test") as town,
        town.blocking("events", block_seconds=5) as reader,
    ):
        with anyio.move_on_after(0.02):
            await reader.xread({"stream": "0"}, block=5_000)
        await redis.xadd("stream", {"n": "1"})
        heard = await reader.xread({"stream": "0"}, block=5_000)
        assert "1" in str(heard)


# -- scripts --------------------------------------------------------------------------------------


async def test_a_script_is_sent_in_full_only_to_a_server_that_does_not_know_it(
    redis_url: str, redis: Redis
) -> None:
    script = Script("return {KEYS[1], ARGV[1], ARGV[2]}", name="echo")
    await redis.script_flush()
    async with connect(redis_url, name="tt:test") as town:
        before = await calls(redis, "eval"), await calls(redis, "evalsha")
        for _ in range(5):
            assert await script.run(town.commands, ["k"], ["é", 3]) == ["k", "é", "3"]
        after = await calls(redis, "eval"), await calls(redis, "evalsha")
        assert after == (before[0] + 1, before[1] + 5)


async def test_a_script_survives_a_script_flush_and_runs_once(redis_url: str, redis: Redis) -> None:
    script = Script("return redis.call('INCR', KEYS[1])")
    async with connect(redis_url, name="tt:test") as town:
        assert await script.run(town.commands, ["n"], []) == 1
        await redis.script_flush()
        assert await script.run(town.commands, ["n"], []) == 2
