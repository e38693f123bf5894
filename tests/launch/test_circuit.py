"""A town that cannot start workers tells its people: an honest event, and a push."""

from __future__ import annotations

from typing import Any

import pytest

from tinytown.links import AnswerLinks
from tinytown.models.endpoint import PUSH_EVENTS, EndpointRecord, wants
from tinytown.models.event import Event
from tinytown.models.scaling import Start
from tinytown.store import Store
from tinytown_notifiers.sinks import Priority
from tinytown_notifiers.wording import Recipient, Writer
from towns import start


def endpoint(*events: str) -> EndpointRecord:
    return EndpointRecord(
        id="end_1",
        kind="push",
        url="ntfy://x/y",
        name="phone",
        events=events,
        created_at="2026-11-22T21:00:00.000Z",
    )


def lost(**data: Any) -> Event:
    return Event(
        id="evt_1-0",
        type="worker.lost",
        timestamp="2026-11-22T21:00:00.000Z",
        town="main",
        data=data,
    )


OPEN = lost(worker=None, pool="default", failed_starts=5, reason="5 starts in a row failed: exit 1")


@pytest.mark.parametrize(
    ("event", "events", "wanted"),
    [
        (OPEN, PUSH_EVENTS, True),
        (OPEN, ("mission.*",), True),
        (OPEN, ("worker.lost",), True),
        (OPEN, ("question.asked",), False),
        (lost(worker="agt_1"), PUSH_EVENTS, False),
        (lost(worker="agt_1"), ("worker.*",), True),
    ],
)
def test_who_hears_of_failed_missions_hears_that_nobody_can_be_started(
    event: Event,
    events: tuple[str, ...],
    wanted: bool,  # noqa: FBT001
) -> None:
    assert wants(endpoint(*events), event, {}) == wanted


def test_the_push_says_what_is_wrong() -> None:
    writer = Writer(public_url=None, links=AnswerLinks(town="main", keys=["0123456789abcdef"]))
    message = writer.word(OPEN, Recipient(endpoint_id="end_1", url="ntfy://x/y"))
    assert message.title == "No worker can be started"
    assert message.body == "5 starts in a row failed: exit 1"
    assert message.priority == Priority.HIGH


async def test_the_circuit_opens_with_the_fifth_failure_in_a_row(store: Store) -> None:
    await start(store)
    for number in range(6):
        await store.clockwork.end_start(
            Start(f"s{number}", "default"),
            launcher="docker",
            result="crashed",
            failed=True,
            reason="exit 1",
        )
    (told,) = [e for e in await store.events.after("0-0", limit=99) if e.type == "worker.lost"]
    assert told.tells_no_starts
    assert told.data == {
        "worker": None,
        "pool": "default",
        "launcher": "docker",
        "failed_starts": 5,
        "next_try_seconds": 60,
        "reason": "5 starts in a row failed: exit 1",
    }
