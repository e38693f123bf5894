"""A server of one's own: private, kept alive, found again after every kind of crash."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from redis.asyncio import Redis

from homes import alive, holds, owner_process, redis_of, write
from tinytown import embedded
from tinytown.embedded import (
    EmbeddedServer,
    HomeInUse,
    Quarters,
    ServerFailed,
)
from tinytown.errors import StoreUnavailable
from tinytown.store.client import connect
from tinytown.store.faults import store_errors

Eventually = Callable[..., Awaitable[None]]

# -- private and durable --------------------------------------------------------------------------


async def test_it_listens_on_a_private_socket_and_nowhere_else(home: Path) -> None:
    before = os.umask(0)
    try:
        async with EmbeddedServer(Quarters(home)) as server, redis_of(server) as redis:
            info = await redis.info()
            assert (info["tcp_port"], info["aof_enabled"]) == (0, 1)
            assert info["maxmemory_policy"] == "noeviction"
            assert info["process_id"] == server.pid
            directory = home / "redis"
            assert directory.stat().st_mode & 0o777 == 0o700
            assert (directory / "redis.sock").stat().st_mode & 0o777 == 0o700
            for file in directory.rglob("*"):
                assert file.stat().st_mode & 0o077 == 0, file
    finally:
        os.umask(before)


async def test_a_home_of_its_own_making_is_private(home: Path) -> None:
    async with EmbeddedServer(Quarters(home / "deep" / "town")):
        assert (home / "deep" / "town").stat().st_mode & 0o777 == 0o700


async def test_what_was_written_is_there_after_an_orderly_stop(home: Path) -> None:
    async with EmbeddedServer(Quarters(home)) as server:
        await write(server, "mark")
        pid = server.pid
    assert pid is not None
    assert not alive(pid)
    assert not (home / "redis" / "redis.sock").exists()
    async with EmbeddedServer(Quarters(home)) as server:
        assert await holds(server, "mark")


async def test_the_server_has_a_session_of_its_own_and_none_of_our_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYTOWN_API_KEY", "a-key-that-nobody-else-may-see")
    async with EmbeddedServer(Quarters(home)) as server:
        assert server.pid is not None
        assert os.getsid(server.pid) == server.pid != os.getsid(0)
        assert Path(f"/proc/{server.pid}/environ").read_bytes().strip(b"\0") == b""


async def test_workers_on_the_machine_reach_it_by_its_url(home: Path) -> None:
    async with (
        EmbeddedServer(Quarters(home / "with space é")) as server,
        connect(server.url, name="tt:test") as town,
    ):
        assert await town.commands.ping() is True


# -- one owner ------------------------------------------------------------------------------------


async def test_a_second_town_in_the_same_home_is_told_who_is_there(home: Path) -> None:
    async with owner_process(home) as (owner, _):
        with pytest.raises(HomeInUse) as caught:
            async with EmbeddedServer(Quarters(home)):
                pytest.fail("two towns in one home")
        line = str(caught.value)
        assert line.startswith(f"the town in {home} is already run by process {owner.pid} since 20")
        assert line.endswith("Z")
        assert owner.poll() is None


async def test_the_refused_town_leaves_the_first_one_alone(home: Path) -> None:
    async with EmbeddedServer(Quarters(home)) as first:
        with pytest.raises(HomeInUse):
            await EmbeddedServer(Quarters(home)).__aenter__()
        await write(first, "mark")
        assert await holds(first, "mark")
    async with EmbeddedServer(Quarters(home)) as second:
        assert await holds(second, "mark")


async def test_homes_do_not_see_each_other(home: Path) -> None:
    async with (
        EmbeddedServer(Quarters(home / "a")) as one,
        EmbeddedServer(Quarters(home / "b")) as two,
    ):
        await write(one, "mark")
        assert not await holds(two, "mark")


# -- crashes --------------------------------------------------------------------------------------


async def test_a_server_whose_owner_was_killed_is_adopted_with_all_it_holds(home: Path) -> None:
    async with owner_process(home) as (owner, server_pid):
        async with Redis.from_url(f"unix://{home}/redis/redis.sock", protocol=2) as redis:
            await redis.set("mark", "here")
        owner.kill()
        owner.wait()
        assert alive(server_pid)
        async with EmbeddedServer(Quarters(home)) as server:
            assert server.adopted
            assert server.pid == server_pid
            assert await holds(server, "mark")
    assert not alive(server_pid)


async def test_after_both_were_killed_the_old_socket_and_pid_are_in_nobodys_way(
    home: Path,
) -> None:
    async with owner_process(home) as (owner, server_pid):
        async with Redis.from_url(f"unix://{home}/redis/redis.sock", protocol=2) as redis:
            await redis.set("mark", "here")
        owner.kill()
        os.kill(server_pid, signal.SIGKILL)
        owner.wait()
    assert (home / "redis" / "redis.sock").exists()
    async with EmbeddedServer(Quarters(home)) as server:
        assert not server.adopted
        assert await holds(server, "mark")


async def test_a_pid_that_now_belongs_to_somebody_else_is_left_alone(home: Path) -> None:
    async with EmbeddedServer(Quarters(home)):
        pass
    bystander = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220
    try:
        (home / "redis" / "pid").write_text(str(bystander.pid))
        (home / "redis" / "owner.lock").write_text(str(bystander.pid))
        async with EmbeddedServer(Quarters(home)) as server:
            assert server.pid != bystander.pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


async def test_a_frozen_server_left_behind_is_ended_and_replaced(home: Path) -> None:
    async with owner_process(home) as (owner, server_pid):
        async with Redis.from_url(f"unix://{home}/redis/redis.sock", protocol=2) as redis:
            await redis.set("mark", "here")
        os.kill(server_pid, signal.SIGSTOP)
        owner.kill()
        owner.wait()
        async with EmbeddedServer(Quarters(home)) as server:
            assert server.pid != server_pid
            assert not alive(server_pid)
            assert await holds(server, "mark")


async def test_a_server_that_is_killed_is_started_again_with_all_it_held(
    home: Path, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedServer(Quarters(home)) as server, anyio.create_task_group() as tasks:
        tasks.start_soon(server.run)
        await write(server, "mark")
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)

        async def back() -> bool:
            try:
                return server.pid not in {None, first} and await holds(server, "mark")
            except OSError:
                return False

        async def patient() -> bool:
            with suppress(StoreUnavailable), store_errors():
                return await back()
            return False

        await eventually(patient, "the mark is back")
        assert [record.message for record in caplog.records].count("redis.died") == 1
        tasks.cancel_scope.cancel()


async def test_an_adopted_server_is_kept_alive_too(home: Path, eventually: Eventually) -> None:
    async with owner_process(home) as (owner, server_pid):
        owner.kill()
        owner.wait()
        async with EmbeddedServer(Quarters(home)) as server, anyio.create_task_group() as tasks:
            tasks.start_soon(server.run)
            os.kill(server_pid, signal.SIGKILL)
            await eventually(lambda: server.pid not in {None, server_pid}, "a new server")
            tasks.cancel_scope.cancel()


async def test_a_server_that_keeps_dying_is_given_up_with_a_reason(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_DEATHS", 2)
    async with EmbeddedServer(Quarters(home)) as server:
        assert server.pid is not None
        (home / "redis" / "appendonlydir" / "appendonly.aof.manifest").write_text("junk\n")
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(ServerFailed, match="died 2 times"):
            await server.run()
