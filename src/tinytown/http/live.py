"""Streams of server-sent events: heartbeats, slow readers, and an orderly end at shutdown."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, suppress
from typing import Any, Final, TypeAlias

import anyio
import msgspec
from litestar import Response
from litestar.di import NamedDependency
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Send

from tinytown.errors import StoreUnavailable
from tinytown.models.event import Event
from tinytown.town.hub import FellBehind

_log = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 15.0
"""Proxies close what is silent for 30 to 60 seconds."""
SEND_SECONDS: Final = 10.0
"""A reader whose socket takes nothing for so long is dropped; it resumes where it was."""
RETRY_MS: Final = 2000
_RETRY: Final = b"retry: %d\n\n" % RETRY_MS
_HEARTBEAT: Final = b":\n\n"
_BYE: Final = b"event: bye\ndata: {}\nretry: %d\n\n" % RETRY_MS
HEADERS: Final = {
    "Cache-Control": "no-store",
    # nginx and its relatives would collect the stream until a buffer is full.
    "X-Accel-Buffering": "no",
}


class Frames:
    """Events as bytes of the wire, each written once however many people watch."""

    def __init__(self, keep: int = 512) -> None:
        """Remember the last `keep` events."""
        self._keep = keep
        self._written: OrderedDict[str, bytes] = OrderedDict()

    def of(self, event: Event) -> bytes:
        """Write an event as a frame: its stream id, its type, its JSON."""
        frame = self._written.get(event.id)
        if frame is None:
            frame = b"id: %s\nevent: %s\ndata: %s\n\n" % (
                event.stream_id.encode(),
                event.type.encode(),
                msgspec.json.encode(event),
            )
            self._written[event.id] = frame
            if len(self._written) > self._keep:
                self._written.popitem(last=False)
        return frame


class Streams:
    """All open streams and long polls of this process, so that they can be ended together."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._scopes: set[anyio.CancelScope] = set()
        self.closed = False

    def __len__(self) -> int:
        return len(self._scopes)

    @contextmanager
    def patient(self) -> Iterator[anyio.CancelScope]:
        """Run a block that may wait long; it is cut short when the town closes."""
        with anyio.CancelScope() as scope:
            if self.closed:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def close(self) -> None:
        """End what is open, and let nothing new wait."""
        self.closed = True
        for scope in tuple(self._scopes):
            scope.cancel()


class _Stream(ASGIResponse):
    """Writes frames until they end, the reader goes, falls behind, or the town closes."""

    __slots__ = ("_frames", "_lock", "_sent_at", "_streams")
    _should_set_content_length = False

    def __init__(self, frames: AsyncGenerator[bytes, None], streams: Streams, **rest: Any) -> None:
        super().__init__(**rest)
        self._frames = frames
        self._streams = streams
        self._lock = anyio.Lock()
        self._sent_at = time.monotonic()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Write the stream."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._until_gone, receive, group.cancel_scope)
            group.start_soon(self._beat, send, group.cancel_scope)
            await self._write(send)
            group.cancel_scope.cancel()

    async def _write(self, send: Send) -> None:
        reason = ""
        try:
            await self._put(send, _RETRY)
            with self._streams.patient():
                async with aclosing(self._frames) as frames:
                    async for frame in frames:
                        await self._put(send, frame)
        except FellBehind:
            reason = "it fell behind"
        except StoreUnavailable as error:
            reason = error.detail
        except TimeoutError:
            # Said in the log only: whoever does not read cannot be told.
            _log.info("stream.dropped", extra={"facts": {"reason": "its reader is too slow"}})
            return
        if reason:
            _log.info("stream.dropped", extra={"facts": {"reason": reason}})
        with suppress(TimeoutError):
            await self._put(send, _BYE, more=False)

    async def _put(self, send: Send, data: bytes, *, more: bool = True) -> None:
        async with self._lock:
            with anyio.fail_after(SEND_SECONDS):
                await send({"type": "http.response.body", "body": data, "more_body": more})
            self._sent_at = time.monotonic()

    async def _beat(self, send: Send, scope: anyio.CancelScope) -> None:
        try:
            while True:
                await anyio.sleep(max(0.1, self._sent_at + HEARTBEAT_SECONDS - time.monotonic()))
                if time.monotonic() - self._sent_at >= HEARTBEAT_SECONDS:
                    await self._put(send, _HEARTBEAT)
        except TimeoutError:
            scope.cancel()

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


class LiveResponse(Response[Any]):
    """A response that goes on while there is something to tell."""

    def __init__(self, frames: AsyncGenerator[bytes, None], streams: Streams) -> None:
        """Stream frames to one reader."""
        super().__init__(None, media_type="text/event-stream", headers=HEADERS)
        self._frames = frames
        self._streams = streams

    def to_asgi_response(self, *_: Any, headers: Any = None, **__: Any) -> ASGIResponse:
        """Give the framework the stream itself."""
        return _Stream(
            self._frames,
            self._streams,
            headers={**(headers or {}), **HEADERS},
            media_type="text/event-stream",
            status_code=200,
        )


TheFrames: TypeAlias = NamedDependency[Frames]
TheStreams: TypeAlias = NamedDependency[Streams]
