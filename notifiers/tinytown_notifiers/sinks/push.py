"""Phones, through Apprise: one target per object, one thread per target, nothing waits for others.

Apprise knows some seventy services that we allow; it has no queue, no reasons and no patience of
its own worth keeping. So it is asked for one thing only, to make and send one request, and the rest
is done around it: the limits in `courier`, the allow-list in `catalog`, retries in the notifier.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from typing import Any, Final

import anyio
import anyio.to_thread

from tinytown.egress import BLOCKED, Egress
from tinytown.errors import Invalid
from tinytown_notifiers.sinks import Delivered, Failed, Message, Outcome
from tinytown_notifiers.sinks.channels import body, parameters
from tinytown_notifiers.sinks.target import Target

SEND_SECONDS: Final = 20.0
"""The whole of one attempt; a lease on a delivery is longer than this."""
_WIND_DOWN_SECONDS: Final = 2.0
"""How long a thread whose connections were cut may take to notice."""
_TARGETS: Final = 512
"""Parsed targets kept; a town has a handful of phones."""
_REASON_LETTERS: Final = 300
_STATUS_IN_LOG: Final = re.compile(r"error=(\d{3,5})")
_TRANSIENT: Final = frozenset({408, 421, 425, 429})
_MOVED_FOR_GOOD: Final = frozenset({301, 308})


class _Lane:
    """One target and whoever is on the way to it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.turn = anyio.Lock()
        self.limiter = anyio.CapacityLimiter(1)
        self.busy = False
        """A thread is at it; one that was given up may still be."""


class PushSink:
    """Sends messages through Apprise's plugins; implements Sink."""

    def __init__(self, egress: Egress, *, send_seconds: float = SEND_SECONDS) -> None:
        """Send within `send_seconds` each, to addresses that `egress` permits."""
        self._egress = egress
        self._send_seconds = send_seconds
        self._courier: Any = None
        self._making = threading.Lock()
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()

    async def send(self, message: Message) -> Outcome:
        """Send one message; a target's messages go one after another, in their own thread."""
        started = time.monotonic()
        try:
            lane = await self._lane(message.url)
        except Invalid as error:
            return Failed(permanent=True, reason=error.detail)
        async with lane.turn:
            if lane.busy:
                outcome: Outcome = Failed(
                    permanent=False, reason="an earlier message to this endpoint still hangs"
                )
            else:
                outcome = await self._send(lane, message)
        return _timed(outcome, time.monotonic() - started)

    async def check(self, url: str) -> None:
        """Raise Invalid where a URL is none that this sink can or may send to."""
        await anyio.to_thread.run_sync(self.validate, url)

    def validate(self, url: str) -> None:
        """Do what `check` does, on the calling thread (it may import a plugin)."""
        self._parse(url)

    def close(self) -> None:
        """Close the connections that were kept for the next message."""
        if self._courier is not None:
            self._courier.close()

    async def _lane(self, url: str) -> _Lane:
        lane = self._lanes.get(url)
        if lane is None:
            target = await anyio.to_thread.run_sync(self._parse, url)
            # Two messages may have parsed the same URL side by side; they share one lane.
            lane = self._lanes.setdefault(url, _Lane(target))
            while len(self._lanes) > _TARGETS:
                self._lanes.popitem(last=False)
        self._lanes.move_to_end(url)
        return lane

    def _parse(self, url: str) -> Target:
        target = Target(url, self._the_courier())
        if target.host is not None and self._egress.shows_blocked(target.host):
            raise Invalid(BLOCKED)
        return target

    def _the_courier(self) -> Any:
        with self._making:
            if self._courier is None:
                # Here and not above: a town without phones never loads Apprise (20 MB).
                from tinytown_notifiers.sinks.courier import Courier

                self._courier = Courier()
            return self._courier

    async def _send(self, lane: _Lane, message: Message) -> Outcome:
        from tinytown_notifiers.sinks.courier import Exchange

        exchange = Exchange(
            egress=self._egress,
            deadline=time.monotonic() + self._send_seconds,
            free=lane.target.service.free_headers,
        )

        def run() -> Outcome:
            lane.busy = True
            try:
                return _deliver(lane.target, message, exchange)
            except Invalid as error:
                return Failed(permanent=True, reason=error.detail)
            finally:
                lane.busy = False

        outcome: Outcome | None = None
        try:
            with anyio.move_on_after(self._send_seconds):
                outcome = await anyio.to_thread.run_sync(
                    run, abandon_on_cancel=True, limiter=lane.limiter
                )
        finally:
            if outcome is None:
                # Too slow, or we are being stopped: cut its connections so that the thread ends.
                exchange.abort()
                with anyio.move_on_after(_WIND_DOWN_SECONDS, shield=True):
                    while lane.busy:  # noqa: ASYNC110 - it is a thread that changes it
                        await anyio.sleep(0.005)
        return outcome or Failed(
            permanent=False, reason=f"no answer within {self._send_seconds:g} seconds"
        )


def _deliver(target: Target, message: Message, exchange: Any) -> Outcome:
    """Run one plugin once, in a thread of its own, and read from the exchange what happened."""
    from apprise import Apprise, NotifyFormat, NotifyType

    from tinytown_notifiers.sinks.courier import carrying

    with carrying(exchange):
        exchange.begin()
        plugin = target.build(parameters(target.schema, message))
        apprise = Apprise(asset=plugin.asset)
        apprise.add(plugin)
        with apprise.notify(
            title=message.title,
            body=body(target.schema, message),
            notify_type=NotifyType.INFO,
            # Agents write what they like: say that it is text, or chats read it as HTML.
            body_format=NotifyFormat.TEXT,
        ) as result:
            if result:
                return Delivered(duration_seconds=0.0)
            lines = [str(entry.message) for entry in result.logs()]
    return _failure(target, exchange, lines)


def _failure(target: Target, exchange: Any, lines: list[str]) -> Failed:
    """Tell why a message was not taken, and whether it is worth trying again."""
    reason = target.redact(" ".join(lines))
    if exchange.refused or exchange.trouble is not None:
        return Failed(permanent=exchange.refused, reason=exchange.trouble or BLOCKED, status=None)
    status = exchange.status or _status_in(reason)
    if status is not None and 200 <= status < 300:
        # The server was content and the plugin was not: its words are all there is.
        return Failed(permanent=False, reason=_short(reason) or "the answer was not understood")
    if status is None:
        # Nothing was sent. A plugin over HTTP did not get as far as asking: it never will.
        return Failed(
            permanent=target.speaks_http and exchange.requests == 0,
            reason=_short(reason) or "the message could not be sent",
        )
    if 300 <= status < 400:
        return Failed(
            permanent=status in _MOVED_FOR_GOOD,
            reason=f"redirects are not followed (status {status})",
            status=status,
        )
    return Failed(
        permanent=400 <= status < 500 and status not in _TRANSIENT,
        reason=_short(reason) or f"status {status}",
        status=status,
        retry_after_seconds=exchange.retry_after_seconds,
    )


def _status_in(reason: str) -> int | None:
    """Find the status in a plugin's own words; ntfy writes its code there (42901 is a 429)."""
    found = _STATUS_IN_LOG.search(reason)
    if not found:
        return None
    return int(found.group(1)[:3])


def _short(reason: str) -> str:
    return reason if len(reason) <= _REASON_LETTERS else reason[: _REASON_LETTERS - 1] + "…"


def _timed(outcome: Outcome, seconds: float) -> Outcome:
    rounded = round(seconds, 4)
    if isinstance(outcome, Delivered):
        return Delivered(duration_seconds=rounded)
    return Failed(
        permanent=outcome.permanent,
        reason=outcome.reason,
        duration_seconds=rounded,
        retry_after_seconds=outcome.retry_after_seconds,
        status=outcome.status,
    )
