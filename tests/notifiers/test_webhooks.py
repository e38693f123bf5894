"""Webhooks from event to receiver: a real notifier, a real sender, a receiver on loopback."""

from __future__ import annotations

import email.utils
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from conftest import Eventually
from fakes.errand import Errand, start_errand
from fakes.letters import LOOPBACK, SECRET
from fakes.notifying import QUICK, deliveries, notifier_of, running
from fakes.receiver import Answer, Got, Receiver, receiver
from posts import webhook
from tinytown import ids
from tinytown.models.delivery import DeliveryState
from tinytown.models.endpoint import EndpointState, EventFilter, SigningSecret
from tinytown.standard_webhooks import new_secret
from tinytown.store import Store
from tinytown_notifiers import Rules
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.sinks.webhook import WebhookSender

ENDED = ("mission.completed",)
LONG_AGO, FAR_OFF = "2025-11-22T21:00:00.000Z", "2099-01-01T00:00:00.000Z"


@pytest.fixture
async def mail() -> AsyncIterator[Receiver]:
    async with receiver() as server:
        yield server


@asynccontextmanager
async def working(store: Store, rules: Rules = QUICK) -> AsyncIterator[None]:
    """Let one more notifier work."""
    sink, sender = PushSink(LOOPBACK), WebhookSender(LOOPBACK)
    try:
        async with running(notifier_of(store, sink, rules, sender=sender)):
            yield
    finally:
        await sender.close()
        sink.close()


def signing(secret: str = SECRET, *, until: str | None = None) -> SigningSecret:
    return SigningSecret(
        id=ids.new("endpoint"), kind="v1", secret=secret, created_at=LONG_AGO, expires_at=until
    )


async def subscribe(store: Store, url: str, **fields: Any) -> str:
    given = {"url": url, "events": ENDED, "schedule_seconds": (0.05,) * 6, **fields}
    record = webhook(**{"secrets": (signing(),), **given})
    await store.endpoints.put(record)
    return record.id


async def finish(store: Store, *titles: str) -> list[Errand]:
    """End a mission for each title."""
    errands = [await start_errand(store, title=title) for title in titles]
    for errand in errands:
        await errand.finish()
    return errands


def titles(found: list[Got]) -> list[str]:
    return [json.loads(got.body)["data"]["title"] for got in found]


async def test_what_arrives_is_the_event_and_its_signature_holds(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    await subscribe(store, mail.url("program"), headers={"x-team": "blue"})
    async with working(store):
        [errand] = await finish(store, "Tidy up")
        await eventually(lambda: mail.got)
    [got] = mail.got
    told = Webhook(SECRET).verify(got.body, got.headers)
    assert (told["type"], told["mission_id"], told["id"]) == (
        "mission.completed",
        errand.mission_id,
        got.id,
    )
    assert got.headers["x-team"] == "blue"
    changed = got.body.replace(b"Tidy up", b"Tidy UP")
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(changed, got.headers)


async def test_every_attempt_has_the_same_id_and_text_and_a_fresh_time(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    mail.answer("program", Answer(status=503), Answer(status=500))
    await subscribe(store, mail.url("program"), schedule_seconds=(1.1, 1.1))
    async with working(store):
        await finish(store, "Tidy up")
        await eventually(lambda: len(mail.got) == 3)
    assert len({(got.id, got.body) for got in mail.got}) == 1
    times = [int(got.headers["webhook-timestamp"]) for got in mail.got]
    assert times[0] < times[1] < times[2]
    assert len({got.headers["webhook-signature"] for got in mail.got}) == 3
    for got in mail.got:
        Webhook(SECRET).verify(got.body, got.headers)


async def test_attempts_come_by_the_endpoint_s_schedule_and_end_with_it(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    mail.rule = lambda _: Answer(status=500)
    waits = (0.1, 0.4)
    endpoint = await subscribe(store, mail.url("program"), schedule_seconds=waits)
    async with working(store):
        await finish(store, "Tidy up")

        async def dead() -> bool:
            found = await deliveries(store, endpoint)
            return bool(found) and found[0].state is DeliveryState.DEAD

        await eventually(dead)
    first, second, third = (got.at for got in mail.got)
    assert second - first >= 0.1 * 0.8
    assert third - second >= 0.4 * 0.8
    [given_up] = await deliveries(store, endpoint)
    assert given_up.reason == "given up after attempt 3: status 500"
    assert [(each.status, each.code) for each in given_up.attempts] == [(500, "http_5xx")] * 3


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_receiver_is_never_called_earlier_than_it_asked_for(
    store: Store, mail: Receiver, eventually: Eventually, form: str
) -> None:
    asked = int(time.time()) + 2
    text = "1" if form == "seconds" else email.utils.formatdate(asked, usegmt=True)
    mail.answer("program", Answer(status=429, headers={"retry-after": text}))
    await subscribe(store, mail.url("program"))
    async with working(store):
        await finish(store, "One", "Two", "Three", "Four", "Five", "Six")
        await eventually(lambda: len(mail.accepted("program")) == 6, within_seconds=20)
    refused = next(got for got in mail.got if got.answered == 429)
    on_their_way = [got for got in mail.got if got.at < refused.at + 0.3]
    later = [got for got in mail.got if got not in on_their_way]
    assert len(on_their_way) <= 4
    assert later
    for got in later:
        if form == "seconds":
            assert got.at - refused.at >= 1
        else:
            assert int(got.headers["webhook-timestamp"]) >= asked


@pytest.mark.parametrize(
    "answer", [Answer(status=410), Answer(headers={"webhook-delivery": "disable"})]
)
async def test_who_wants_no_more_is_sent_no_more(
    store: Store, mail: Receiver, eventually: Eventually, answer: Answer
) -> None:
    mail.answer("program", answer)
    endpoint = await subscribe(store, mail.url("program"), max_in_flight=1)
    await subscribe(store, mail.url("other"), events=("endpoint.disabled",))
    async with working(store):
        await finish(store, "One", "Two")
        await eventually(lambda: mail.on("other"), "somebody else is told")
        await finish(store, "Three")
        await anyio.sleep(0.3)  # room for another one to come
    assert len(mail.on("program")) == 1
    [health] = await store.endpoints.health([endpoint])
    assert health.state is EndpointState.DISABLED
    assert health.disabled_reason.startswith("the receiver wants no more")


async def test_who_does_not_want_this_one_is_not_sent_it_again(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    mail.answer("program", Answer(status=400, headers={"webhook-delivery": "abort-message"}))
    endpoint = await subscribe(store, mail.url("program"))
    async with working(store):
        await finish(store, "One", "Two")
        await eventually(lambda: mail.accepted("program"))
    states = sorted(each.state.value for each in await deliveries(store, endpoint))
    assert states == ["dead", "delivered"]


async def test_an_overloaded_receiver_is_sent_less_and_then_more_again(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    mail.answer("program", Answer(status=504), Answer(status=502))
    await subscribe(store, mail.url("program"), max_in_flight=1)
    async with working(store):
        await finish(store, *(f"Number {number}" for number in range(10)))
        await eventually(lambda: len(mail.accepted("program")) == 10, within_seconds=20)
    gaps = [later.at - got.at for got, later in zip(mail.got, mail.got[1:], strict=False)]
    assert gaps[2] >= 0.25, "two throttles put half a second between two requests at first"
    assert min(gaps[-3:]) < gaps[2] / 2


async def test_while_a_secret_is_rotated_both_sign(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    old, new, expired = new_secret("v1"), new_secret("v1"), new_secret("v1")
    secrets = (signing(new), signing(old, until=FAR_OFF), signing(expired, until=LONG_AGO))
    await subscribe(store, mail.url("program"), secrets=secrets)
    async with working(store):
        await finish(store, "Tidy up")
        await eventually(lambda: mail.got)
    [got] = mail.got
    assert len(got.headers["webhook-signature"].split()) == 2
    for alive in (old, new):
        Webhook(alive).verify(got.body, got.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(expired).verify(got.body, got.headers)


async def test_in_order_means_in_order_over_failures_and_two_notifiers(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    dice = random.Random(7)
    mail.rule = lambda _: Answer(status=dice.choice([200, 200, 503]), after_seconds=0.005)
    await subscribe(store, mail.url("program"), fifo=True, schedule_seconds=(0.02,) * 20)
    async with working(store), working(store):
        errands = await finish(store, *(f"Number {number}" for number in range(30)))
        await eventually(lambda: len(mail.accepted("program")) == 30, within_seconds=30)
    assert titles(mail.accepted("program")) == [f"Number {number}" for number in range(30)]
    assert len(errands) == 30
    orders = [got.order for got in mail.got]
    assert orders == sorted(orders), "not one attempt out of turn"
    assert mail.most_open["program"] == 1


async def test_only_what_was_asked_for_is_sent(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    blue = await start_errand(store, title="Blue", labels={"team": "blue"})
    red = await start_errand(store, title="Red", labels={"team": "red"})
    only_blue = EventFilter(labels={"team": "blue"})
    await subscribe(store, mail.url("blue"), filter=only_blue)
    await subscribe(store, mail.url("red"), filter=EventFilter(mission_id=red.mission_id))
    await subscribe(store, mail.url("all"), events=("mission.*",))
    async with working(store):
        for errand in (blue, red):
            await errand.finish()
        await eventually(lambda: len(mail.on("all")) >= 2 and mail.on("blue") and mail.on("red"))
    assert titles(mail.on("blue")) == ["Blue"]
    assert titles(mail.on("red")) == ["Red"]
    assert {json.loads(got.body)["type"].partition(".")[0] for got in mail.on("all")} == {"mission"}


async def test_a_receiver_that_never_answers_stops_nobody_else(
    store: Store, mail: Receiver, eventually: Eventually
) -> None:
    mail.rule = lambda got: Answer(never=got.path == "hole")
    await subscribe(store, mail.url("hole"), events=("*",), max_in_flight=32)
    await subscribe(store, mail.url("program"))
    async with working(store, msgspec.structs.replace(QUICK, places=40)):
        await finish(store, *(f"Number {number}" for number in range(30)))
        await eventually(lambda: mail.open["hole"] == 32)
        began = anyio.current_time()
        await finish(store, "The last")
        await eventually(lambda: "The last" in titles(mail.accepted("program")))
        assert anyio.current_time() - began < 2
    assert mail.most_open["hole"] == 32


async def test_told_to_stop_a_notifier_finishes_what_is_on_its_way_and_loses_nothing(
    store: Store, redis_url: str, mail: Receiver, eventually: Eventually
) -> None:
    mail.rule = lambda _: Answer(after_seconds=0.5)
    endpoint = await subscribe(store, mail.url("program"))
    doomed = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
        [sys.executable, "-m", "tinytown_notifiers"],
        env={
            "REDIS_URL": redis_url,
            "TINYTOWN_LOG": "json",
            "TINYTOWN_EGRESS_ALLOW": "127.0.0.1",
            "PATH": "/usr/bin:/bin",
        },
        stderr=subprocess.PIPE,
    )
    await finish(store, *(f"Number {number}" for number in range(7)))
    await eventually(lambda: mail.open["program"] == 4, within_seconds=20)
    doomed.send_signal(signal.SIGTERM)
    _, said = await anyio.to_thread.run_sync(lambda: doomed.communicate(timeout=10))
    assert doomed.returncode == 0
    assert b"Traceback" not in said

    found = await deliveries(store, endpoint)
    states = sorted(each.state.value for each in found)
    assert states == ["delivered"] * 4 + ["due"] * 3, "none is left leased to nobody"
    async with working(store):
        await eventually(lambda: len(mail.accepted("program")) == 7)
    assert len({got.id for got in mail.got}) == len(mail.got) == 7, "each came once"
