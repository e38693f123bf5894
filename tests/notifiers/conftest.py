"""What the notifier's tests share: an ntfy server on loopback, a sink, and a message to send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from fakes.letters import LOOPBACK
from fakes.messages import MakeMessage
from fakes.ntfy import NtfyServer
from tinytown.store import Store, open_store
from tinytown_notifiers.sinks import Message
from tinytown_notifiers.sinks.push import PushSink


@pytest.fixture
def ntfy() -> Iterator[NtfyServer]:
    with NtfyServer() as server:
        yield server


@pytest.fixture
def sink() -> Iterator[PushSink]:
    sink = PushSink(LOOPBACK, send_seconds=5)
    yield sink
    sink.close()


@pytest.fixture
def message() -> MakeMessage:
    def make(url: str, **fields: object) -> Message:
        told = {"subject": "qst_1", "title": "Fix the build", "body": "Shall I?", **fields}
        return Message(url=url, **told)  # type: ignore[arg-type]

    return make


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with open_store(redis_url, town="main", name="test") as store:
        yield store
