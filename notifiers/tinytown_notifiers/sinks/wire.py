"""What aiohttp is told for webhooks, what stands between it and a socket, what its errors mean.

Only `webhook` imports this room, and only when a first letter leaves.
"""

from __future__ import annotations

import contextvars
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import aiohttp.abc
import anyio
import anyio.to_thread
import certifi
import msgspec
from yarl import URL

from tinytown.egress import BLOCKED, Blocked, Egress
from tinytown.errors import Invalid

if TYPE_CHECKING:
    from tinytown_notifiers.sinks.webhook import SenderRules

_log = logging.getLogger(__name__)

_URLS: Final = 512
_FORESEEN: Final = (aiohttp.ClientError, OSError)
_NAME_MISMATCH: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH
_OUT_OF_TIME: Final = frozenset({9, 10})  # X509_V_ERR_CERT_NOT_YET_VALID, …_CERT_HAS_EXPIRED


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What counts of a reply's head, or the class of the failure."""

    code: str = "ok"
    status: int | None = None
    retry_after: str = ""
    delivery: str = ""
    """The values of all `webhook-delivery` headers."""
    stale: bool = False
    """It was a kept connection that had ended meanwhile: nobody has read the letter."""


class _Trip:
    """One request on its way: what the guard saw of it."""

    __slots__ = ("blocked", "dialled", "secure")

    def __init__(self, *, secure: bool) -> None:
        self.secure = secure
        self.blocked = False
        self.dialled = False


_trip: contextvars.ContextVar[_Trip] = contextvars.ContextVar("tinytown_webhook_trip")


def trust() -> ssl.SSLContext:
    """Load whom TLS trusts: certifi's roots, and the machine's own (SSL_CERT_FILE)."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Wire:
    """One pool of connections, every one of which was dialled under the guard's eyes."""

    def __init__(
        self,
        egress: Egress,
        rules: SenderRules,
        *,
        trust: ssl.SSLContext,
        lookup: Callable[..., Any],
    ) -> None:
        """Open a session on the running event loop."""
        self._egress = egress
        self._rules = rules
        self._url = lru_cache(maxsize=_URLS)(self._checked)
        self._timeout = self._limits(rules.total_seconds)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=trust,
                resolver=_Names(lookup, rules),
                ttl_dns_cache=rules.names_seconds,
                socket_factory=self._socket,
                keepalive_timeout=rules.keep_seconds,
                limit=rules.connections,
                limit_per_host=0,  # how many an endpoint may have is for the claim to say
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,  # a proxy looks names up itself: it would dial what we must not
            read_bufsize=rules.reply_bytes,
            max_line_size=rules.header_bytes,
            max_field_size=rules.header_bytes,
            max_headers=rules.header_lines,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, deadline: float
    ) -> Heard:
        """Post once; the deadline is a moment of time.monotonic()."""
        try:
            address = self._url(url)
        except Invalid as error:
            return Heard(code="blocked_address" if error.detail == BLOCKED else "invalid_url")
        except ValueError:
            return Heard(code="invalid_url")
        trip = _Trip(secure=address.scheme == "https")
        token = _trip.set(trip)
        try:
            return await self._post(address, body, headers, deadline)
        except Exception as error:  # noqa: BLE001 - a stranger's bytes decide what is raised here
            code = "blocked_address" if trip.blocked and not trip.dialled else failure(error)
            if not isinstance(error, _FORESEEN):
                # Its text may hold the address.
                _log.warning("webhook.odd", extra={"facts": {"reason": type(error).__name__}})
            return Heard(code=code, stale=code == "reset" and not trip.dialled)
        finally:
            _trip.reset(token)

    async def _post(
        self, url: URL, body: bytes, headers: Mapping[str, str], deadline: float
    ) -> Heard:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        limits = self._timeout if left > self._rules.total_seconds * 0.99 else self._limits(left)
        reply = await self._session.post(
            url, data=body, headers=headers, allow_redirects=False, timeout=limits
        )
        try:
            await self._finish(reply)
        finally:
            reply.close()  # does nothing where all was read: that connection is kept
        return Heard(
            status=reply.status,
            retry_after=reply.headers.get("retry-after", ""),
            delivery=",".join(reply.headers.getall("webhook-delivery", ())),
        )

    async def _finish(self, reply: aiohttp.ClientResponse) -> None:
        """Read a short reply to its end. The head has said what it says: the rest changes nothing.

        So a receiver that hangs in the middle of a body has still received the letter.
        """
        room = self._rules.reply_bytes
        content = reply.content
        try:
            while room > 0 and not content.at_eof():
                room -= len(await content.readany())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return

    def _limits(self, seconds: float) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=seconds,
            sock_connect=self._rules.connect_seconds,
            ceil_threshold=seconds + 1,  # to the millisecond, not to the second
        )

    def _checked(self, url: str) -> URL:
        """Parse a URL once; what its text says is judged again, the allow list may have changed."""
        self._egress.check_url(url)
        return URL(url, encoded=True)

    def _socket(self, info: Any) -> socket.socket:
        """Make the socket for an address that is about to be dialled: the guard's last word."""
        family, kind, protocol, _, address = info
        trip = _trip.get()
        try:
            self._egress.check_peer(address, port=address[1], secure=trip.secure)
        except Blocked:
            trip.blocked = True
            raise
        trip.dialled = True
        return socket.socket(family, kind, protocol)


class _Names(aiohttp.abc.AbstractResolver):
    """Looks names up on threads of its own, each look-up within its time.

    The event loop's own pool of threads has six on a small machine: as many dead name servers
    would stop everybody's letters.
    """

    def __init__(self, lookup: Callable[..., Any], rules: SenderRules) -> None:
        self._lookup = lookup
        self._seconds = rules.connect_seconds
        self._threads = anyio.CapacityLimiter(rules.lookups)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[aiohttp.abc.ResolveResult]:
        def ask() -> Any:
            return self._lookup(host, port, family, socket.SOCK_STREAM)

        infos: Any = ()
        try:
            with anyio.move_on_after(self._seconds):
                infos = await anyio.to_thread.run_sync(
                    ask, abandon_on_cancel=True, limiter=self._threads
                )
        except (OSError, ValueError) as error:
            raise socket.gaierror(socket.EAI_FAIL, "the look-up failed") from error
        if not infos:
            raise socket.gaierror(socket.EAI_NONAME, "no answer")
        return [_resolved(host, port, info) for info in infos]

    async def close(self) -> None:
        """Do nothing: threads end with their look-up."""


def _resolved(host: str, port: int, info: Any) -> aiohttp.abc.ResolveResult:
    family, _, protocol, _, address = info
    return aiohttp.abc.ResolveResult(
        hostname=host,
        host=address[0],
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


def failure(error: Exception) -> str:
    """Name the class of a failure: the first that fits, from the particular to the general."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _connector(error)
    return next((code for kind, code in _KINDS if isinstance(error, kind)), "protocol")


def _certificate(error: Exception) -> str:
    number = getattr(error, "verify_code", None)
    if number in _NAME_MISMATCH:
        return "tls_name"
    return "tls_expired" if number in _OUT_OF_TIME else "tls_other"


def _connector(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    cause = error.os_error
    if isinstance(cause, Blocked):
        return "blocked_address"
    if isinstance(error, aiohttp.ClientConnectorSSLError) or isinstance(cause, ssl.SSLError):
        return "tls_other"
    if isinstance(cause, TimeoutError) or cause.errno == errno.ETIMEDOUT:
        return "connect_timeout"
    if isinstance(cause, ConnectionResetError | BrokenPipeError):
        return "reset"
    return "connect_refused"


_KINDS: Final[tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...]] = (
    (aiohttp.ConnectionTimeoutError, "connect_timeout"),
    (aiohttp.InvalidURL, "invalid_url"),
    (aiohttp.ServerDisconnectedError, "reset"),
    (TimeoutError, "total_timeout"),
    (OSError, "reset"),
    (aiohttp.ClientConnectionError, "reset"),
)
