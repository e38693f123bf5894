"""How this program talks to Redis: two kinds of connections, one policy, and a check at the door.

`commands` serves short commands from a small pool. It repeats a command after a lost connection,
which is safe because everything that writes is a script that may run twice; it never repeats after
a time-out, so that a frozen server costs a caller five seconds and not fifty. A blocking read has
a connection of its own, a time-out longer than its block, and no retry: its loop is its retry.

Replies are `str`: UTF-8, with foreign bytes kept by surrogateescape, so that nothing in Redis can
make reading fail and what is written back is the same bytes.
"""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import anyio
import msgspec
from redis import exceptions as redis_errors
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff

from tinytown.settings import redis_url_problem
from tinytown.store.faults import Patience, one_line, outage, reply_word, store_errors

REDIS_FLOOR: Final = (7, 0)
VALKEY_FLOOR: Final = (7, 2)

# A command that takes longer than this is lost: the slowest script runs for milliseconds.
COMMAND_SECONDS: Final = 5.0
# How much longer than its block a blocking read may stay silent before the server counts as gone.
BLOCK_MARGIN_SECONDS: Final = 5.0


class CannotConnect(Exception):
    """The Redis of REDIS_URL cannot be used; one line that says why, without credentials."""


class Unreachable(CannotConnect):
    """Nobody answers there, or not in time."""


class Unauthorised(CannotConnect):
    """The server answers but refuses our user or password."""


class Untrusted(CannotConnect):
    """The server's certificate does not prove that it is the server."""


class NotRedis(CannotConnect):
    """Something answers, but not as Redis does."""


class TooOld(CannotConnect):
    """A server older than the floor: Redis 7.0, Valkey 7.2."""


class WrongNode(CannotConnect):
    """A node of a cluster that does not hold this town's keys."""


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says about itself; None where it does not say."""

    product: str
    version: str | None = None
    mode: str | None = None
    role: str | None = None
    append_only: bool | None = None
    eviction: str | None = None


class _WhenLost(Retry):
    """Repeats after a lost connection, never after a time-out or a refused password."""

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[Any]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,  # noqa: ARG002 - redis-py's own
        with_failure_count: bool = False,  # noqa: FBT001, FBT002
    ) -> Any:
        """Do it, and again where that may help."""
        return await super().call_with_retry(do, fail, _is_lost, with_failure_count)


def _is_lost(error: BaseException) -> bool:
    """Tell a lost connection from a silent or an unwilling server, which fail the same twice.

    redis-py wraps whatever happens while it greets a unix socket into a ConnectionError; without
    this look inside, a frozen server would cost four time-outs instead of one.
    """
    unwilling = (redis_errors.TimeoutError, TimeoutError, redis_errors.AuthenticationError)
    return isinstance(error, redis_errors.ConnectionError) and not any(
        isinstance(cause, unwilling) for cause in _chain(error)
    )


class Connections:
    """The connections of one process to one Redis, and its patience; made by `connect`."""

    def __init__(self, url: str, *, name: str, max_connections: int, patience: Patience) -> None:
        self._url = url
        self._name = name
        self.patience = patience
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=COMMAND_SECONDS,
            # 4 tries within about half a second: a connection that was closed while idle, a
            # fail-over that just ended. Longer outages are for `Patience` and for Retry-After.
            retry=_WhenLost(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 3),
            **_options(url, name, COMMAND_SECONDS),
        )
        self.commands = Redis.from_pool(pool)

    @asynccontextmanager
    async def blocking(self, purpose: str, *, block_seconds: float) -> AsyncIterator[Redis]:
        """Lend a client with one connection of its own, for reads that block so long at most."""
        seconds = block_seconds + BLOCK_MARGIN_SECONDS
        client = _single(self._url, f"{self._name}:{purpose}", seconds)
        try:
            yield client
        finally:
            await _close(client)

    async def aclose(self) -> None:
        """Close the pool; a server that does not answer cannot hold this up."""
        await _close(self.commands)


@asynccontextmanager
async def connect(
    url: str,
    *,
    name: str,
    max_connections: int = 8,
    wait_seconds: float = 5.0,
    patience: Patience | None = None,
    key: str | None = None,
) -> AsyncIterator[Connections]:
    """Open the connections of a process once the server has proved fit; `CannotConnect` if not.

    `name` is shown by CLIENT LIST (`tt:townhall`). `max_connections` is 8 for a townhall and 2 for
    a worker: with a blocking reader each, a free 30-connection Redis holds a town of 7 workers.
    `wait_seconds` is how long a server that is starting or loading is waited for. `key` is any key
    of the town: in a cluster, the node of `url` must be the one that holds it.
    """
    await check(url, name=name, wait_seconds=wait_seconds, key=key)
    connections = Connections(
        url, name=name, max_connections=max_connections, patience=patience or Patience()
    )
    try:
        yield connections
    finally:
        await connections.aclose()


async def check(
    url: str, *, name: str, wait_seconds: float = 5.0, key: str | None = None
) -> ServerFacts:
    """Ask the server who it is and refuse one that will not do; needs no CONFIG, no ADMIN."""
    problem = redis_url_problem(url)
    if problem:
        raise CannotConnect(f"REDIS_URL {problem}")
    give_up_at = anyio.current_time() + wait_seconds
    patience = Patience()
    failures = 0
    while True:
        client = _single(url, name, COMMAND_SECONDS)
        try:
            facts = _fit(await _facts(client), url)
            if key is not None:
                await client.exists(key)
            return facts
        except (redis_errors.RedisError, OSError, UnicodeError) as error:
            refusal = _refusal(error, url)
            failures += 1
            wait = patience.wait_seconds(failures)
            if not isinstance(refusal, Unreachable) or anyio.current_time() + wait > give_up_at:
                raise refusal from error
        finally:
            await _close(client)
        await anyio.sleep(wait)


class Script:
    """One Lua script: sent by its digest, and in full to a server that does not know it (yet).

    A NOSCRIPT reply means that nothing ran, so sending again is safe; EVAL cannot be answered with
    NOSCRIPT, so two tries are enough, also after SCRIPT FLUSH, a restart or a fail-over.
    """

    def __init__(self, text: str, *, name: str = "") -> None:
        self.text = text
        self.name = name
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self, client: Redis, keys: Sequence[str], args: Sequence[str | int | float | bytes]
    ) -> Any:
        """Run it; `StoreUnavailable` if Redis will not have it now, and then nothing was written.

        (Or all of it was and the reply got lost: every script may be run again.)
        """
        with store_errors():
            try:
                return await _send(client, "EVALSHA", self.sha, len(keys), *keys, *args)
            except redis_errors.NoScriptError:
                # LOAD keeps it for good; some servers forget scripts they only know from EVAL.
                await _send(client, "SCRIPT LOAD", self.text)
                return await _send(client, "EVAL", self.text, len(keys), *keys, *args)


def place(url: str) -> str:
    """Name the server of a Redis URL without its credentials."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return unquote(parts.path)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or 6379}"


def _options(url: str, name: str, seconds: float) -> dict[str, Any]:
    """Gather what every connection has in common."""
    options: dict[str, Any] = {
        # RESP2: redis-py 8.1 hands out closed connections under RESP3 (its issue 4252).
        "protocol": 2,
        "legacy_responses": False,
        "decode_responses": True,
        "encoding_errors": "surrogateescape",
        "client_name": name,
        "socket_connect_timeout": COMMAND_SECONDS,
        "socket_timeout": seconds,
        # No PING before a command: TCP keep-alive finds dead peers and the retry covers the rest,
        # and on a Redis that is paid by the command an idle town should be silent.
        "health_check_interval": 0,
    }
    scheme = urlsplit(url).scheme
    if scheme in {"redis", "rediss"}:
        options["socket_keepalive"] = True
    if scheme == "rediss":
        options["ssl_cert_reqs"] = "required"
        options["ssl_check_hostname"] = True
        options["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
    return options


def _single(url: str, name: str, seconds: float) -> Redis:
    """Make a client with one connection that never repeats a command."""
    pool = ConnectionPool.from_url(
        url, max_connections=1, retry=Retry(NoBackoff(), 0), **_options(url, name, seconds)
    )
    return Redis.from_pool(pool)


async def _close(client: Redis) -> None:
    """Close a client even while being cancelled, but never wait long for the other side."""
    with anyio.move_on_after(1, shield=True):
        await client.aclose()


async def _facts(client: Redis) -> ServerFacts:
    """Read INFO, or HELLO where the user may not (INFO counts as dangerous in ACLs)."""
    try:
        info = await client.info()
    except redis_errors.NoPermissionError:
        return await _facts_by_hello(client)
    if "redis_version" not in info:
        raise redis_errors.InvalidResponse("INFO without redis_version")
    valkey = info.get("valkey_version")
    append_only = info.get("aof_enabled")
    return ServerFacts(
        product=str(info.get("server_name") or ("valkey" if valkey else "redis")),
        version=_text(valkey or info.get("redis_version")),
        mode=_text(info.get("server_mode") or info.get("redis_mode")),
        role=_text(info.get("role")),
        append_only=None if append_only is None else bool(append_only),
        eviction=_text(info.get("maxmemory_policy")),
    )


async def _facts_by_hello(client: Redis) -> ServerFacts:
    """Read who the server is from HELLO; a server that refuses even that stays unknown."""
    try:
        reply = await _send(client, "HELLO", "2")
    except redis_errors.ResponseError:
        await client.ping()
        return ServerFacts(product="unknown")
    flat = reply if isinstance(reply, list) else [part for pair in reply.items() for part in pair]
    said = dict(zip(flat[::2], flat[1::2], strict=False))
    return ServerFacts(
        product=str(said.get("server", "redis")),
        version=_text(said.get("version")),
        mode=_text(said.get("mode")),
        role=_text(said.get("role")),
    )


def _fit(facts: ServerFacts, url: str) -> ServerFacts:
    """Pass a server that is new enough, or that does not say."""
    found = re.match(r"(\d+)\.(\d+)", facts.version or "")
    floor = VALKEY_FLOOR if facts.product == "valkey" else REDIS_FLOOR
    if found and (int(found[1]), int(found[2])) < floor:
        raise TooOld(
            f"{facts.product} {facts.version} at {place(url)} is too old:"
            f" Redis 7.0 or Valkey 7.2 or newer is needed"
        )
    return facts


def _refusal(error: BaseException, url: str) -> CannotConnect:
    """Say in one line why the server cannot be used."""
    where = place(url)
    causes = list(_chain(error))
    by_cause = next(filter(None, (_refusal_by_cause(cause, where) for cause in causes)), None)
    if by_cause:
        return by_cause
    tls = urlsplit(url).scheme == "rediss"
    if isinstance(error, redis_errors.TimeoutError):
        # A plain Redis takes a TLS greeting for the start of a command and waits for the rest.
        hint = " (is it plain redis:// there?)" if tls else ""
        return Unreachable(f"Redis at {where} does not answer in time{hint}")
    if isinstance(error, redis_errors.InvalidResponse | UnicodeError):
        hint = "" if tls else " (if it wants TLS, use rediss://)"
        return NotRedis(f"what answers at {where} is not Redis{hint}")
    if any(isinstance(cause, ConnectionResetError) for cause in causes):
        hint = "does it offer TLS 1.2 or newer?" if tls else "if it wants TLS, use rediss://"
        return Unreachable(f"Redis at {where} closes the connection ({hint})")
    reason = outage(error)
    system = next((cause.strerror for cause in causes if isinstance(cause, OSError)), None)
    if reason:
        said = f"cannot be reached: {system}" if system else f"cannot be used: {reason.detail}"
        return Unreachable(f"Redis at {where} {said}")
    return NotRedis(f"what answers at {where} refuses INFO: {one_line(error)[:120]}")


def _refusal_by_cause(cause: BaseException, where: str) -> CannotConnect | None:
    """Recognise the causes that waiting does not cure."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Untrusted(f"the certificate of Redis at {where}: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return NotRedis(f"{where} does not speak TLS ({cause.reason}); is it redis:// there?")
    if isinstance(cause, redis_errors.AuthenticationError | redis_errors.NoPermissionError):
        return Unauthorised(f"Redis at {where} refuses the user or password of REDIS_URL")
    if isinstance(cause, redis_errors.MovedError):
        return WrongNode(
            f"Redis at {where} is a cluster node that does not hold this town;"
            f" {cause.host}:{cause.port} does: name that one in REDIS_URL"
        )
    if reply_word(cause) == "DENIED":
        return Unauthorised(f"Redis at {where} is in protected mode and refuses strangers")
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Walk from an error to what caused it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


async def _send(client: Redis, *parts: str | float | bytes) -> Any:
    """Send one command; redis-py leaves this method without types."""
    return await client.execute_command(*parts)  # type: ignore[no-untyped-call]


def _text(value: object) -> str | None:
    """Make text of what INFO parsed into numbers."""
    return None if value is None else str(value)
