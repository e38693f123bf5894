"""Webhooks: one signed POST goes out behind the egress guard, what became of it comes back.

The receiver is a stranger. It gets a fixed time for everything together, is read no further than
needed to use the connection again, is never followed anywhere else, and of what it says only the
status and three headers count.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio
import msgspec

from tinytown import __version__, clock, standard_webhooks
from tinytown.egress import BLOCKED, Egress
from tinytown.errors import Invalid

if TYPE_CHECKING:
    from tinytown_notifiers.sinks.wire import Heard, Wire

LONGEST_PAUSE_SECONDS: Final = 86_400.0
"""Whoever asks for more time than this is asked once a day all the same."""
_TRIES: Final = 3
"""Kept connections that may turn out to be dead before one reply counts as a failure."""
_THROTTLED: Final = frozenset({429, 502, 504})
_OWN_CLASS: Final = frozenset({410, 429})


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One POST, complete but for its signature."""

    id: str
    """`webhook-id`: the event's id, the same in every attempt."""
    url: str
    """Where to. Secret: some receivers know their senders by nothing else."""
    body: bytes
    headers: dict[str, str]
    """Content type and the endpoint's own; validated, in lower case."""
    secrets: tuple[str, ...]
    """What signs it: each `whsec_` and `whsk_` that is alive now."""

    def __repr__(self) -> str:
        """Name the event and the host only: the rest may open doors."""
        try:
            host = urlsplit(self.url).hostname
        except ValueError:
            host = None
        return f"Letter(id={self.id!r}, host={host!r})"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a letter."""

    code: str
    """`ok`, or the class of the failure: dns, blocked_address, connect_refused, connect_timeout,
    tls_name, tls_expired, tls_other, reset, total_timeout, http_3xx, http_4xx, http_410, http_429,
    http_5xx, protocol, invalid_url."""
    status: int | None = None
    reason: str = ""
    """One line that is safe to show: never the receiver's words, never an address."""
    retry_after_seconds: float | None = None
    """How long the receiver asked to be left alone, a day at most."""
    disable: bool = False
    """The receiver wants no letters any more."""
    abort: bool = False
    """The receiver does not want this letter again."""
    throttled: bool = False
    """The receiver, or what stands before it, is overloaded: slow down for all letters to it."""
    duration_seconds: float = 0.0


class SenderRules(msgspec.Struct, frozen=True, kw_only=True):
    """How a sender works; the defaults are the town's."""

    total_seconds: float = 15.0
    """From the first look at the name to the last byte of the reply; a lease is longer."""
    connect_seconds: float = 5.0
    """For one connection, TLS included; and for one look-up of a name."""
    reply_bytes: int = 16_384
    """A longer reply is cut off, and its connection with it."""
    header_lines: int = 100
    header_bytes: int = 8_190
    """For one line of the reply's head."""
    keep_seconds: float = 15.0
    connections: int = 128
    """In use at once. Above the deliverer's places, so that nobody waits here; a kept TLS
    connection is 0.3 MB."""
    lookups: int = 32
    """Names looked up at once: a dead name server holds one thread each."""
    names_seconds: int = 10
    """How long an answer of DNS is used again."""


class WebhookSender:
    """Sends letters over kept connections, any number at a time."""

    def __init__(
        self,
        egress: Egress,
        *,
        rules: SenderRules | None = None,
        lookup: Callable[..., Any] = socket.getaddrinfo,
    ) -> None:
        """Dial what `egress` permits; `lookup` answers like socket.getaddrinfo, on a thread."""
        self._egress = egress
        self._rules = rules or SenderRules()
        self._lookup = lookup
        self._wire: Wire | None = None
        self._opening = anyio.Lock()
        self._closed = False

    async def send(self, letter: Letter) -> Reply:
        """Send one letter and tell what became of it; never raises for the other side's sake."""
        wire = self._wire or await self._open()
        started = time.monotonic()
        deadline = started + self._rules.total_seconds
        try:
            headers = self._headers(letter)
        except Invalid as error:
            return Reply(code="protocol", reason=error.detail)
        for left in range(_TRIES - 1, -1, -1):
            heard = await wire.post(letter.url, letter.body, headers, deadline=deadline)
            if not (heard.stale and left):
                break
        return _judge(heard, round(time.monotonic() - started, 4))

    async def close(self) -> None:
        """Hang up; letters on their way end as `reset`."""
        self._closed = True
        if self._wire is not None:
            await self._wire.close()

    def _headers(self, letter: Letter) -> dict[str, str]:
        """Sign with the time of this attempt; nothing of the endpoint's can stand in for it."""
        now = int(clock.unix_seconds())
        headers = {**_OURS, **letter.headers}
        headers["webhook-id"] = letter.id
        headers["webhook-timestamp"] = str(now)
        headers["webhook-signature"] = standard_webhooks.sign(
            letter.secrets, id=letter.id, timestamp=now, body=letter.body
        )
        return headers

    async def _open(self) -> Wire:
        async with self._opening:
            if self._closed:
                raise RuntimeError("the sender is closed")
            if self._wire is None:
                # Here and not above: a town without webhooks never loads aiohttp (14 MB).
                self._wire = await _open_wire(self._egress, self._rules, self._lookup)
            return self._wire


async def _open_wire(egress: Egress, rules: SenderRules, lookup: Callable[..., Any]) -> Wire:
    """Load aiohttp and the trusted roots on a thread: together they take a tenth of a second."""

    def load() -> Any:
        from tinytown_notifiers.sinks import wire

        return wire, wire.trust()

    module, trust = await anyio.to_thread.run_sync(load)
    opened: Wire = module.Wire(egress, rules, trust=trust, lookup=lookup)
    return opened


_OURS: Final = {
    "accept": "*/*",
    "accept-encoding": "identity",  # nothing is decompressed here
    "content-type": "application/octet-stream",
    "user-agent": f"tinytown/{__version__}",
}
"""Named here, or aiohttp would add its own."""
_REASONS: Final = {
    "dns": "the host name is not known",
    "blocked_address": BLOCKED,
    "connect_refused": "no connection",
    "connect_timeout": "no connection in time",
    "tls_name": "the certificate is another host's",
    "tls_expired": "the certificate has expired",
    "tls_other": "TLS failed, or the certificate is not trusted",
    "reset": "the connection was cut",
    "total_timeout": "no reply in time",
    "protocol": "the reply is not HTTP that can be read",
    "invalid_url": "the address is not one that can be called",
}


def _judge(heard: Heard, seconds: float) -> Reply:
    """Read the only parts of a reply that count."""
    status = heard.status
    if status is None or not 200 <= status < 600:
        code = "protocol" if status is not None else heard.code
        return Reply(code=code, status=status, reason=_REASONS[code], duration_seconds=seconds)
    if status < 300 and not heard.delivery:
        return Reply(code="ok", status=status, duration_seconds=seconds)
    wishes = {wish.strip().lower() for wish in heard.delivery.split(",")}
    disable, abort = "disable" in wishes, "abort-message" in wishes
    if status < 300:
        return Reply(
            code="ok", status=status, disable=disable, abort=abort, duration_seconds=seconds
        )
    moved = status < 400
    return Reply(
        code=f"http_{status}" if status in _OWN_CLASS else f"http_{status // 100}xx",
        status=status,
        reason=f"redirects are not followed (status {status})" if moved else f"status {status}",
        retry_after_seconds=_asked_to_wait(heard.retry_after.strip()),
        disable=disable or status == 410,
        abort=abort,
        throttled=status in _THROTTLED,
        duration_seconds=seconds,
    )


def _asked_to_wait(text: str) -> float | None:
    """Read `Retry-After` (RFC 9110, 10.2.3): seconds, or a date against this machine's clock."""
    if re.fullmatch(r"[0-9]+", text):
        return min(float(text), LONGEST_PAUSE_SECONDS)
    with contextlib.suppress(ValueError, TypeError, IndexError, OverflowError):
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # "-0000": UTC from somebody who does not know where they are
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() - clock.unix_seconds()
        return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS)
    return None
