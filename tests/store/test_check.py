"""A server must prove fit before it is used, and a refusal is one line that says why."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.stapled import MultiListener
from anyio.streams.tls import TLSStream

from certificates import Authority
from servers import RedisServer, free_port
from tinytown.embedded import bundled_server
from tinytown.errors import StoreUnavailable
from tinytown.store.client import (
    COMMAND_SECONDS,
    CannotConnect,
    NotRedis,
    Script,
    TooOld,
    Unauthorised,
    Unreachable,
    Untrusted,
    WrongNode,
    check,
    connect,
    place,
)

Servers = Callable[..., RedisServer]
Eventually = Callable[..., Awaitable[None]]


async def refused(url: str, kind: type[CannotConnect], wait_seconds: float = 0.2) -> str:
    """Check a server that must be refused; give the one line."""
    with pytest.raises(CannotConnect) as caught:
        await check(url, name="tt:test", wait_seconds=wait_seconds)
    assert type(caught.value) is kind, repr(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def port_of(listener: MultiListener[SocketStream]) -> int:
    """Tell where a listener listens."""
    return listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's extra, not Django's


@asynccontextmanager
async def answering(serve: Callable[[ByteStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Listen on a loopback port and answer every connection with `serve`."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def handle(stream: ByteStream) -> None:
        async with stream:
            try:
                await serve(stream)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield port_of(listener)
        tasks.cancel_scope.cancel()


async def test_the_debian_server_is_new_enough(redis_url: str) -> None:
    facts = await check(redis_url, name="tt:test")
    assert (facts.product, facts.mode, facts.role) == ("redis", "standalone", "master")
    assert facts.append_only is False
    assert facts.eviction == "noeviction"


async def test_valkey_is_known_by_its_own_version(redis_server: Servers) -> None:
    server = redis_server(program=str(bundled_server()))
    facts = await check(server.url, name="tt:test")
    assert facts.product == "valkey"
    assert facts.version is not None
    assert int(facts.version.partition(".")[0]) >= 8


@pytest.mark.parametrize(
    ("info", "too_old"),
    [
        ("redis_version:6.2.14", "redis 6.2.14"),
        ("redis_version:7.0.0", None),
        ("redis_version:10.1.0", None),
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.5", None),
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.1.0", "valkey 7.1.0"),
        ("redis_version:unstable", None),
    ],
)
async def test_a_server_below_the_floor_is_refused_with_its_version(
    info: str, too_old: str | None
) -> None:
    async def serve(stream: ByteStream) -> None:
        while True:
            asked = await stream.receive()
            replies = asked.upper().count(b"CLIENT\r\n")
            await stream.send(b"+OK\r\n" * replies)
            if b"\r\nINFO\r\n" in asked.upper():
                await stream.send(f"${len(info)}\r\n{info}\r\n".encode())

    async with answering(serve) as port:
        url = f"redis://127.0.0.1:{port}"
        if too_old is None:
            await check(url, name="tt:test", wait_seconds=0)
        else:
            line = await refused(url, TooOld)
            assert line == (
                f"{too_old} at 127.0.0.1:{port} is too old: Redis 7.0 or Valkey 7.2 or newer "
                "is needed"
            )


async def test_nobody_there_is_told_in_one_line_after_a_short_wait() -> None:
    started = time.monotonic()
    port = free_port()
    line = await refused(f"redis://:secret@127.0.0.1:{port}", Unreachable, wait_seconds=0.3)
    assert f"127.0.0.1:{port}" in line
    assert "secret" not in line
    assert time.monotonic() - started < 2
    assert "/nowhere/redis.sock" in await refused("unix:///nowhere/redis.sock", Unreachable)
    assert "no-such-host.invalid" in await refused("redis://no-such-host.invalid", Unreachable)


async def test_a_server_that_starts_a_moment_later_is_waited_for(redis_server: Servers) -> None:
    server = redis_server()
    server.stop()
    async with anyio.create_task_group() as tasks:

        async def start_later() -> None:
            await anyio.sleep(0.3)  # how long the server is late
            await anyio.to_thread.run_sync(server.start)

        tasks.start_soon(start_later)
        facts = await check(server.url, name="tt:test", wait_seconds=10)
    assert facts.product == "redis"


async def test_a_server_that_never_answers_is_given_up() -> None:
    async def silence(stream: ByteStream) -> None:
        await anyio.sleep_forever()

    async with answering(silence) as port:
        started = time.monotonic()
        line = await refused(f"redis://127.0.0.1:{port}", Unreachable)
        assert line.endswith("does not answer in time")
        assert time.monotonic() - started < 2 * COMMAND_SECONDS


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"-ERR unknown command\r\n-ERR unknown command\r\n-ERR unknown command\r\n" * 3,
        b"\xff\xfe\xfd\r\n",
    ],
)
async def test_what_is_not_a_redis_is_called_so(greeting: bytes) -> None:
    async def serve(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(greeting)

    async with answering(serve) as port:
        await refused(f"redis://127.0.0.1:{port}", NotRedis)


@pytest.mark.parametrize("user", ["", ":wrong-pass@", "nobody:wrong-pass@"])
async def test_a_wrong_or_missing_password_is_told_at_once(
    redis_server: Servers, user: str
) -> None:
    server = redis_server(tcp=True, requirepass="right-pass")
    started = time.monotonic()
    line = await refused(f"redis://{user}127.0.0.1:{server.port}", Unauthorised, wait_seconds=5)
    assert line == (f"Redis at 127.0.0.1:{server.port} refuses the user or password of REDIS_URL")
    assert time.monotonic() - started < 1
    facts = await check(f"redis://:right-pass@127.0.0.1:{server.port}", name="tt:test")
    assert facts.product == "redis"


async def test_a_user_without_dangerous_commands_is_enough(redis_server: Servers) -> None:
    server = redis_server(tcp=True)
    server.send("ACL", "SETUSER", "town", "on", ">pw", "~*", "&*", "+@all", "-@dangerous")
    url = f"redis://town:pw@127.0.0.1:{server.port}"
    facts = await check(url, name="tt:test")
    assert (facts.product, facts.version) == ("redis", "7.0.15")
    async with connect(url, name="tt:test") as town:
        assert await Script("return redis.call('INCR', KEYS[1])").run(town.commands, ["n"], []) == 1


async def test_a_cluster_node_without_the_towns_keys_names_the_one_that_has_them(
    redis_server: Servers, eventually: Eventually
) -> None:
    one = redis_server(tcp=True, cluster_enabled="yes", cluster_port=free_port())
    two = redis_server(tcp=True, cluster_enabled="yes", cluster_port=free_port())
    one.send("CLUSTER", "ADDSLOTSRANGE", "0", "8191")
    two.send("CLUSTER", "ADDSLOTSRANGE", "8192", "16383")
    one.send("CLUSTER", "MEET", "127.0.0.1", str(two.port), two.options["cluster-port"])
    for node in (one, two):
        await eventually(
            lambda node=node: "cluster_state:ok" in node.send("CLUSTER", "INFO"), "it is a cluster"
        )
    first = int(one.send("CLUSTER", "KEYSLOT", "tt:{main}:events")[1:]) <= 8191
    holder, other = (one, two) if first else (two, one)
    async with connect(holder.url, name="tt:test", key="tt:{main}:events") as town:
        script = Script("redis.call('SET', KEYS[1], 1) return redis.call('INCR', KEYS[2])")
        assert await script.run(town.commands, ["tt:{main}:a", "tt:{main}:b"], []) == 1
    with pytest.raises(WrongNode) as caught:
        async with connect(other.url, name="tt:test", key="tt:{main}:events"):
            pytest.fail("connected to the wrong node")
    assert f"127.0.0.1:{holder.port} does" in str(caught.value)
    async with connect(other.url, name="tt:test") as town:
        with pytest.raises(StoreUnavailable, match="on another node"):
            await script.run(town.commands, ["tt:{main}:a", "tt:{main}:b"], [])


async def test_a_wrong_url_is_refused_before_anything_is_opened() -> None:
    line = await refused("http://127.0.0.1", CannotConnect)
    assert line == "REDIS_URL should start with redis://, rediss:// or unix://"


def test_a_place_never_carries_credentials() -> None:
    assert place("redis://user:pw@host:1/2") == "host:1"
    assert place("rediss://:pw@host") == "host:6379"
    assert place("redis://:pw@[::1]:1") == "[::1]:1"
    assert place("unix://user:pw@/run/r%20s.sock?password=pw") == "/run/r s.sock"


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def tls_server(redis_server: Servers, pair: tuple[Path, Path], **options: str) -> int:
    """Start a server that speaks TLS with this certificate; give its port."""
    port = free_port()
    certificate, key = pair
    redis_server(
        tls_port=port,
        tls_cert_file=str(certificate),
        tls_key_file=str(key),
        tls_ca_cert_file=str(certificate),
        tls_auth_clients="no",
        **options,
    )
    return port


async def test_a_certificate_of_a_known_authority_is_accepted(
    redis_server: Servers, authority: Authority
) -> None:
    port = tls_server(redis_server, authority.issue("localhost"))
    url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}"
    async with connect(url, name="tt:test") as town:
        assert await town.commands.ping() is True
        async with town.blocking("events", block_seconds=1) as reader:
            assert not await reader.xread({"stream": "$"}, block=10)


async def test_an_unknown_authority_is_refused(
    redis_server: Servers, authority: Authority, tmp_path: Path
) -> None:
    port = tls_server(redis_server, authority.issue("localhost"))
    other = Authority(tmp_path, "stranger")
    for query in ("", f"?ssl_ca_certs={other.file}"):
        line = await refused(f"rediss://localhost:{port}/0{query}", Untrusted, wait_seconds=5)
        assert "unable to get local issuer certificate" in line or "self-signed" in line


async def test_a_certificate_for_another_name_is_refused(
    redis_server: Servers, authority: Authority
) -> None:
    port = tls_server(redis_server, authority.issue("redis.example"))
    line = await refused(
        f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}", Untrusted, wait_seconds=5
    )
    assert "Hostname mismatch" in line


async def test_an_expired_certificate_is_refused(
    redis_server: Servers, authority: Authority
) -> None:
    port = tls_server(redis_server, authority.issue("localhost", days=-1))
    line = await refused(
        f"rediss://localhost:{port}/0?ssl_ca_certs={authority.file}", Untrusted, wait_seconds=5
    )
    assert "expired" in line


async def test_a_town_speaks_tls_1_2_or_newer_only(authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def greet(stream: ByteStream) -> None:
        async with stream:
            with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream, ssl.SSLError)):
                await TLSStream.wrap(stream, server_side=True, ssl_context=context)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, greet)
        port = port_of(listener)
        url = f"rediss://localhost:{port}?ssl_ca_certs={authority.file}"
        assert "TLS 1.2 or newer" in await refused(url, Unreachable)
        tasks.cancel_scope.cancel()


async def test_plain_text_to_a_tls_port_and_tls_to_a_plain_port_are_explained(
    redis_server: Servers, authority: Authority
) -> None:
    port = tls_server(redis_server, authority.issue("localhost"))
    assert "rediss://" in await refused(f"redis://localhost:{port}", Unreachable)
    plain = redis_server(tcp=True)
    assert "redis://" in await refused(f"rediss://localhost:{plain.port}", Unreachable)
