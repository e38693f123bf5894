"""How a plugin's requests leave the house: bounded, unredirected, watched, and cut off in time.

Apprise's plugins call `requests.post(…)` and keep nothing of the reply but true or false. While a
plugin runs here, the name `requests` in its module is a `Courier`: the same functions over one
shared pool of connections (a new TLS context per message costs 70 ms of processor time). It writes
into the `Exchange` of the message what the notifier has to know: the status, how long the server
asked us to wait, why nothing came back.

No proxy of the environment is asked: it would look names up itself, and dial what must not be.
"""

from __future__ import annotations

import contextlib
import contextvars
import email.utils
import json
import os
import socket
import ssl
import threading
import time
from typing import Any, Final

import certifi
import requests  # noqa: TID251 - the library under Apprise; here it is put on a leash
import urllib3
from requests.adapters import HTTPAdapter  # noqa: TID251 - the same
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from tinytown.egress import BLOCKED, Blocked, Egress
from tinytown.errors import Invalid
from tinytown_notifiers.sinks.dialling import Mail, dial

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0
"""ntfy answers within milliseconds; a mail or chat server under load within seconds."""
REPLY_BYTES: Final = 65_536
"""More of a reply than this says nothing about the delivery."""
_AGES: Final = 1e9
_POOLS: Final = 64
_KEPT: Final = 4

_WAYS_ROUND: Final = frozenset({"Session", "session", "sessions", "api", "adapters"})
"""Of `requests`, what would open connections without us."""


class Exchange:
    """What happened on the wire for one message; shared by the sending thread and its watcher."""

    def __init__(self, *, egress: Egress, deadline: float, free: bool = False) -> None:
        """Start watching; `deadline` is a moment of time.monotonic().

        `free` marks a request of the user's own making: a webhook in all but name, and held to
        the same rules about ports and TLS. A known service speaks its own protocol on its port.
        """
        self.egress = egress
        self.deadline = deadline
        self._free = free
        self.requests = 0
        self.status: int | None = None
        self.retry_after_seconds: float | None = None
        self.trouble: str | None = None
        self.refused = False
        self._lock = threading.Lock()
        self._aborted = False
        self._handles: list[socket.socket] = []

    def watch(self, sock: socket.socket) -> None:
        """Keep a second handle of a connection: shutting it down wakes whoever reads the first."""
        with contextlib.suppress(OSError), self._lock:
            handle = socket.socket(fileno=os.dup(sock.fileno()))
            self._handles.append(handle)
            if self._aborted:
                handle.shutdown(socket.SHUT_RDWR)

    def abort(self) -> None:
        """Cut every connection of this exchange, from any thread."""
        with self._lock:
            self._aborted = True
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the handles; the connections themselves belong to the pool."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()

    @property
    def aborted(self) -> bool:
        """Whether the exchange was cut off."""
        return self._aborted

    def begin(self) -> None:
        """Raise Invalid where nobody waits for this exchange any more."""
        if self._aborted:
            raise Invalid("cut off before it began")

    def check(self, peer: tuple[Any, ...], *, secure: bool) -> None:
        """Raise Blocked where this address may not be dialled, or used again."""
        if self._free:
            self.egress.check_peer(peer, port=peer[1], secure=secure)
        else:
            self.egress.check_peer(peer)

    def blocked(self) -> None:
        """Remember that the rule stood in the way."""
        self.refused = True
        self.trouble = BLOCKED

    def saw_reply(self, reply: requests.Response) -> None:
        """Remember what a reply says; the last one that is no success counts."""
        good = 200 <= reply.status_code < 300
        if good and self.status is not None and not 200 <= self.status < 300:
            return
        self.status = reply.status_code
        self.retry_after_seconds = None if good else _retry_after(reply)


_exchange: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar(
    "tinytown_push_exchange", default=None
)


def _in_hand() -> Exchange:
    exchange = _exchange.get()
    if exchange is None:
        message = "no exchange: plugins run inside carrying() only"
        raise RuntimeError(message)
    return exchange


@contextlib.contextmanager
def carrying(exchange: Exchange) -> Any:
    """Let every request of this thread belong to an exchange."""
    token = _exchange.set(exchange)
    try:
        yield
    finally:
        _exchange.reset(token)
        exchange.close()


class _Watched:
    """A connection that is dialled here, and shows its socket to the exchange in hand."""

    sock: Any
    host: str
    port: int
    timeout: Any
    secure: bool

    def _new_conn(self) -> socket.socket:
        connection: Any = self
        try:
            sock = dial(_in_hand(), self.host, self.port, self.timeout, secure=self.secure)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, connection, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, "no connection in time") from error
        except OSError as error:
            raise NewConnectionError(connection, str(error)) from error
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:
            # Kept from another message, whose rule may have been another.
            exchange = _in_hand()
            try:
                exchange.check(self.sock.getpeername(), secure=self.secure)
            except Blocked:
                exchange.blocked()
                raise
            exchange.watch(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]


class _WatchedHttp(_Watched, HTTPConnection):
    secure = False


class _WatchedHttps(_Watched, HTTPSConnection):
    secure = True


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHttp


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHttps


class _Adapter(HTTPAdapter):
    """requests' own adapter with one TLS context for all, and connections that can be cut."""

    def __init__(self) -> None:
        # certifi's roots, and those of the machine (SSL_CERT_FILE): private servers have their own.
        self._tls = ssl.create_default_context(cafile=certifi.where())
        self._tls.load_default_certs()
        super().__init__(pool_connections=_POOLS, pool_maxsize=_KEPT, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._tls, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        # The context verifies; naming the bundle again would load it for every connection.
        host, _ = super().build_connection_pool_key_attributes(request, verify, cert)
        return host, {}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Leave the connection as it is: its context verifies, whatever the plugin says."""


class Courier:
    """Stands where a plugin expects the `requests` module."""

    def __init__(self) -> None:
        self._adapter = _Adapter()
        self.mail = Mail(_in_hand)
        """What the mail plugin gets for `smtplib`."""

    def __getattr__(self, name: str) -> Any:
        """Everything but sending (codes, exceptions, auth) is the library's own."""
        if name in _WAYS_ROUND:
            raise AttributeError(f"requests.{name} is not for plugins here")
        return getattr(requests, name)

    def close(self) -> None:
        """Close the kept connections."""
        self._adapter.close()

    def get(self, url: str, **kwargs: Any) -> requests.Response:
        """Send a GET."""
        return self.request("GET", url, **kwargs)

    def post(self, url: str, data: Any = None, **kwargs: Any) -> requests.Response:
        """Send a POST."""
        return self.request("POST", url, data=data, **kwargs)

    def put(self, url: str, data: Any = None, **kwargs: Any) -> requests.Response:
        """Send a PUT."""
        return self.request("PUT", url, data=data, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> requests.Response:
        """Send a DELETE."""
        return self.request("DELETE", url, **kwargs)

    def patch(self, url: str, data: Any = None, **kwargs: Any) -> requests.Response:
        """Send a PATCH."""
        return self.request("PATCH", url, data=data, **kwargs)

    def head(self, url: str, **kwargs: Any) -> requests.Response:
        """Send a HEAD."""
        return self.request("HEAD", url, **kwargs)

    def options(self, url: str, **kwargs: Any) -> requests.Response:
        """Send an OPTIONS."""
        return self.request("OPTIONS", url, **kwargs)

    def request(self, method: str, url: str, **kwargs: Any) -> requests.Response:
        """Send one request within the limits of the exchange in hand; redirects are an answer."""
        exchange = _in_hand()
        # What a plugin says about limits, redirects and certificates is not for it to say.
        for name in ("timeout", "verify", "allow_redirects", "cert", "stream", "proxies"):
            kwargs.pop(name, None)
        exchange.requests += 1
        try:
            return self._send(exchange, requests.Request(method, url, **kwargs).prepare())
        except requests.RequestException as error:
            if not exchange.refused:
                exchange.trouble = "cut off: too slow" if exchange.aborted else _trouble(error)
            raise

    def _send(self, exchange: Exchange, prepared: requests.PreparedRequest) -> requests.Response:
        left = exchange.deadline - time.monotonic()
        if left <= 0 or exchange.aborted:
            raise requests.ReadTimeout
        reply = self._adapter.send(
            prepared,
            stream=True,
            timeout=(min(CONNECT_SECONDS, left), min(READ_SECONDS, left)),
            proxies={},
        )
        _read(reply)
        exchange.saw_reply(reply)
        return reply


def _read(reply: requests.Response) -> None:
    """Read what there is of the body, up to the limit; each piece within the read timeout."""
    body = bytearray()
    try:
        while len(body) < REPLY_BYTES:
            piece = reply.raw.read1(REPLY_BYTES - len(body), decode_content=True)
            if not piece:
                break
            body += piece
    except (urllib3.exceptions.HTTPError, OSError):
        # The head came; a body that breaks off changes nothing about the answer.
        reply.close()
    else:
        if len(body) >= REPLY_BYTES:
            reply.close()
        else:
            reply.raw.release_conn()
    reply._content = bytes(body)  # noqa: SLF001 - requests has no public way to bound a body
    reply._content_consumed = True  # noqa: SLF001 - the same


_KINDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (requests.ConnectTimeout, "no connection in time"),
    (requests.Timeout, "no reply in time"),
    (requests.exceptions.InvalidURL, "the address is not valid"),
)
_SIGNS: Final = (
    ("CERTIFICATE_VERIFY_FAILED", "the server's certificate is not trusted"),
    ("SSLError", "the server does not speak TLS as it should"),
    ("NameResolutionError", "the host name is not known"),
    ("Connection refused", "connection refused"),
    ("RemoteDisconnected", "the server hung up"),
    ("Connection reset", "the server hung up"),
    ("unreachable", "the network cannot be reached"),
)


def _trouble(error: requests.RequestException) -> str:
    """Name a failure without the URL that requests puts into its text."""
    for kind, words in _KINDS:
        if isinstance(error, kind):
            return words
    text = repr(error)
    return next((words for sign, words in _SIGNS if sign in text), "no connection")


def _retry_after(reply: requests.Response) -> float | None:
    """Read how long the server wants to be left alone: the header, or what chats put in JSON."""
    asked = reply.headers.get("Retry-After", "").strip()
    if asked:
        return _seconds(asked)
    if reply.status_code != 429:
        return None
    try:
        told = json.loads(reply.content)
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    nested = told.get("parameters")  # Telegram
    for place in (told, nested if isinstance(nested, dict) else {}):
        value = place.get("retry_after")  # Discord
        if isinstance(value, int | float) and value >= 0:
            return min(float(value), _AGES)
    return None


def _seconds(asked: str) -> float | None:
    """Read Retry-After: seconds, or a date against this machine's clock."""
    if asked.isdecimal():
        return min(float(asked), _AGES)
    try:
        moment = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - time.time())  # noqa: TID251 - a server's date, not stored
