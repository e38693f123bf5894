"""From an event in Redis to a phone, through the real store, the real Apprise and a real socket."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest
from redis.asyncio import Redis

import fakes.notifier_process
from conftest import Eventually
from fakes.errand import add_endpoint, start_errand
from fakes.ntfy import Fault, NtfyServer
from servers import RedisServer
from tinytown.errors import EndpointNotFound
from tinytown.links import AnswerLinks
from tinytown.models.delivery import Delivery, DeliveryState
from tinytown.store import Store, open_store
from tinytown.vault import Vault
from tinytown_notifiers import Notifier, Rules
from tinytown_notifiers.schedule import Schedule
from tinytown_notifiers.sinks import Delivered
from tinytown_notifiers.sinks.push import PushSink
from tinytown_notifiers.wording import Writer

LINKS = AnswerLinks(town="main", keys=["a secret long enough to sign with"])
WRITER = Writer(public_url="https://town.example", links=LINKS)
QUICK = Rules(
    schedule=Schedule(first_seconds=0.05, cap_seconds=0.2, attempts=4),
    lease_seconds=6,
    grace_seconds=0.3,
    orphan_seconds=0.3,
)


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    async with open_store(redis_url, town="main", name="test") as store:
        yield store


def notifier_of(store: Store, sink: PushSink, rules: Rules = QUICK, **fields: object) -> Notifier:
    parts = {"vault": Vault(None, "main"), "writer": WRITER, **fields}
    return Notifier(store, sink=sink, rules=rules, **parts)  # type: ignore[arg-type]


@asynccontextmanager
async def running(*notifiers: Notifier) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        for notifier in notifiers:
            group.start_soon(notifier.run)
        yield
        group.cancel_scope.cancel()


async def deliveries(store: Store, endpoint: str) -> list[Delivery]:
    return (await store.deliveries.of_endpoint(endpoint, cursor=None, limit=50))[0]


async def only(store: Store, endpoint: str) -> Delivery:
    (delivery,) = await deliveries(store, endpoint)
    return delivery


async def test_a_question_rings_the_phone_with_buttons_that_answer_it(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    async with running(notifier_of(store, sink)):
        question = await (await start_errand(store)).ask("Delete the table?")
        await eventually(lambda: ntfy.on("phone"), "the push")

        (got,) = ntfy.on("phone")
        assert (got.title, got.message) == (
            "Fix the build",
            "Delete the table?\n\nOptions: Yes · No",
        )
        for index, action in enumerate(got.actions):
            link = LINKS.verify(action.url.rpartition("/")[2], now=0)
            assert (link.question_id, link.choice, link.endpoint_id) == (question, index, endpoint)

        async def delivered() -> bool:
            return (await only(store, endpoint)).state is DeliveryState.DELIVERED

        await eventually(delivered)
    (attempt,) = (await only(store, endpoint)).attempts
    assert (attempt.number, attempt.outcome, attempt.error) == (1, "delivered", None)
    assert 0 < attempt.duration_seconds < 5


async def test_a_phone_hears_how_missions_end_and_nothing_it_did_not_ask_for(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("phone"))
    await add_endpoint(store, ntfy.endpoint("curious"), ("mission.*",))
    async with running(notifier_of(store, sink)):
        await (await start_errand(store, title="One")).finish(summary="Green again.")
        await (await start_errand(store, title="Two")).finish(reason="it cannot be done")
        await eventually(lambda: len(ntfy.on("phone")) == 2 and len(ntfy.on("curious")) == 6)

    done, failed = ntfy.on("phone")
    assert (done.title, done.message) == (
        "Done: One",
        "Green again.\n\nBranch tinytown/x · 2 files changed",
    )
    assert (failed.title, failed.message) == ("Failed: Two", "it cannot be done")
    assert failed.priority > done.priority


async def test_a_refused_key_is_dead_at_once_with_the_reason(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    await add_endpoint(store, ntfy.endpoint("other"), ("delivery.dead",))
    ntfy.fault("phone", Fault(status=401), forever=True)
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.on("other"), "delivery.dead is told to who asked for it")

    (dead,), _ = await store.deliveries.dead(cursor=None, limit=10)
    assert (dead.endpoint_id, dead.state, dead.attempt) == (endpoint, DeliveryState.DEAD, 1)
    assert dead.reason is not None
    assert "unauthorized" in dead.reason
    assert dead.attempts[0].status == 401
    assert "unauthorized" in ntfy.on("other")[0].message


async def test_who_asks_for_patience_is_not_asked_again_before(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(status=429, headers={"Retry-After": "1"}))
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.requests)
        refused_at = time.monotonic()
        await eventually(lambda: ntfy.on("phone"))
        assert ntfy.on("phone")[0].at - refused_at > 0.9

        async def recorded() -> bool:
            return len((await only(store, endpoint)).attempts) == 2

        await eventually(recorded)
    first, second = (await only(store, endpoint)).attempts
    assert (first.outcome, first.status, second.outcome) == ("retry", 429, "delivered")


async def test_after_the_last_attempt_a_delivery_is_dead(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(status=503), forever=True)
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).ask()

        async def dead() -> bool:
            found = await deliveries(store, endpoint)
            return bool(found) and found[0].state is DeliveryState.DEAD

        await eventually(dead)
    gone = await only(store, endpoint)
    assert [attempt.outcome for attempt in gone.attempts] == ["retry", "retry", "retry", "dead"]
    assert gone.reason is not None
    assert gone.reason.startswith("given up after attempt 4")


async def test_a_dead_letter_that_is_replayed_arrives(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(status=403))
    notifier = notifier_of(store, sink)
    async with running(notifier):
        await (await start_errand(store)).finish()

        async def dead() -> bool:
            return bool((await store.deliveries.dead(cursor=None, limit=1))[0])

        await eventually(dead)
        await store.deliveries.replay((await only(store, endpoint)).id)
        notifier.ring()
        await eventually(lambda: ntfy.on("phone"))


async def test_a_question_answered_meanwhile_is_never_pushed(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(status=503, headers={"Retry-After": "1"}))
    async with running(notifier_of(store, sink)):
        question = await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.requests, "the first attempt")
        await store.questions.answer(question, "Yes", by="laptop", via="test")

        async def obsolete() -> bool:
            return (await only(store, endpoint)).state is DeliveryState.OBSOLETE

        await eventually(obsolete)
    assert len(ntfy.requests) == 1
    assert ntfy.published == []


async def test_an_answer_between_claim_and_send_stops_the_push_too(
    store: Store,
    ntfy: NtfyServer,
    sink: PushSink,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    claim = store.deliveries.claim

    async def claim_and_answer(**fields: object) -> object:
        due = await claim(**fields)  # type: ignore[arg-type]
        if due.deliveries:
            await store.questions.answer(question, "Yes", by="laptop", via="test")
        return due

    monkeypatch.setattr(store.deliveries, "claim", claim_and_answer)
    question = await (await start_errand(store)).ask()
    async with running(notifier_of(store, sink)):

        async def obsolete() -> bool:
            found = await deliveries(store, endpoint)
            return bool(found) and found[0].state is DeliveryState.OBSOLETE

        await eventually(obsolete)
    assert ntfy.requests == []
    (health,) = await store.endpoints.health([endpoint])
    assert health.failures == 0, "it says nothing about the phone"


async def test_a_paused_endpoint_gets_nothing_until_it_is_resumed(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(status=503))
    rules = Rules(schedule=Schedule(first_seconds=0.3, cap_seconds=0.3), orphan_seconds=0.3)
    async with running(notifier_of(store, sink, rules)):
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.requests, "an attempt that fails")
        await store.endpoints.move(endpoint, "disable", reason="test")
        await (await start_errand(store)).finish()
        await anyio.sleep(0.6)  # longer than the retry would take
        assert ntfy.published == []

        await store.endpoints.move(endpoint, "revive", reason="test")
        await eventually(lambda: ntfy.on("phone"), "what waited arrives at once")
    assert len(ntfy.on("phone")) == 1, "what happened during the pause is not told afterwards"


async def test_one_hanging_phone_delays_no_other(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    for number in range(12):
        ntfy.fault(f"dead{number}", Fault(hang=True), forever=True)
        await add_endpoint(store, ntfy.endpoint(f"dead{number}"))
    await add_endpoint(store, ntfy.endpoint("phone"))
    async with running(notifier_of(store, sink)):
        await (await start_errand(store, title="First")).ask()
        await eventually(lambda: len(ntfy.requests) == 13)
        asked_at = time.monotonic()
        await (await start_errand(store, title="Second")).ask()
        await eventually(lambda: len(ntfy.on("phone")) == 2)

        assert ntfy.on("phone")[1].at - asked_at < 0.5


async def test_two_notifiers_deliver_each_event_once(
    store: Store, ntfy: NtfyServer, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("phone"))
    sinks = [PushSink(), PushSink()]
    async with running(*(notifier_of(store, sink) for sink in sinks)):
        for number in range(10):
            await (await start_errand(store, title=f"Number {number}")).finish()
        await eventually(lambda: len(ntfy.on("phone")) >= 10)
        await anyio.sleep(0.2)
    assert sorted(got.title for got in ntfy.on("phone")) == [
        f"Done: Number {number}" for number in range(10)
    ]
    for sink in sinks:
        sink.close()


async def test_a_push_that_was_accepted_before_the_kill_is_sent_again_and_none_is_lost(
    store: Store, redis_url: str, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(hang=True, after=True))
    doomed = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
        [sys.executable, str(fakes.notifier_process.__file__), redis_url]
    )
    try:
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.on("phone"), "accepted, but the sender does not know yet")
    finally:
        doomed.kill()
        doomed.wait()

    async with running(notifier_of(store, sink)):

        async def delivered() -> bool:
            return (await only(store, endpoint)).state is DeliveryState.DELIVERED

        await eventually(delivered)
    assert len(ntfy.on("phone")) == 2
    assert (await only(store, endpoint)).attempt == 2


async def test_an_event_that_was_read_but_not_planned_is_found_again(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("phone"))
    await store.events.ensure_group()
    await (await start_errand(store)).ask()
    async with store.blocking("test", block_seconds=1) as client:
        lost = await store.events.consume(client, "notifier", block_ms=100, limit=100)
    assert "question.asked" in [event.type for event in lost]

    async with running(notifier_of(store, sink)):
        await eventually(lambda: ntfy.on("phone"))


async def test_an_endpoint_added_a_moment_ago_is_not_overlooked(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("first"))
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.on("first"), "the endpoints are known now")
        await add_endpoint(store, ntfy.endpoint("second"))
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.on("second"))


async def test_after_flushall_the_notifier_heals_by_itself(
    store: Store, redis: Redis, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("before"))
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.on("before"))
        await redis.flushall()
        # The same number of endpoints as before, and so the same version: but another one.
        await add_endpoint(store, ntfy.endpoint("after"))
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.on("after"))
    assert len(ntfy.on("before")) == 1


async def test_while_redis_is_away_nothing_is_lost_and_little_is_said(
    redis_server: Callable[..., RedisServer],
    ntfy: NtfyServer,
    sink: PushSink,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = redis_server(persist=True, appendfsync="always")
    async with open_store(server.url, town="main", name="test") as store:
        await add_endpoint(store, ntfy.endpoint("phone"))
        ntfy.fault("phone", Fault(status=503))
        async with running(notifier_of(store, sink)):
            await (await start_errand(store)).ask()
            await eventually(lambda: ntfy.requests)
            server.stop()
            away_at = time.monotonic()
            await anyio.sleep(2)
            server.start()
            back_at = time.monotonic()
            await eventually(lambda: ntfy.on("phone"), "the retry that was due")
            assert ntfy.on("phone")[0].at - back_at < 4
    lines = [record for record in caplog.records if record.getMessage() == "redis.away"]
    assert 1 <= len(lines) <= 2 + (back_at - away_at)


async def test_told_to_stop_it_finishes_what_is_on_its_way(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    slow = PushSink(send_seconds=1)
    ntfy.fault("phone", Fault(hang=True), forever=True)
    async with running(notifier_of(store, slow, Rules())):
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.requests)
    (attempt,) = (await only(store, endpoint)).attempts
    assert (attempt.outcome, attempt.error) == ("retry", "no answer within 1 seconds")
    slow.close()


async def test_sealed_addresses_are_opened_and_never_stored_in_clear(
    store: Store, redis: Redis, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    vault = Vault("the operator's secret key", "main")
    endpoint = await add_endpoint(store, vault.seal(ntfy.endpoint("Canary7Topic")))
    ntfy.fault("Canary7Topic", Fault(status=500), None, Fault(status=401))
    async with running(notifier_of(store, sink, vault=vault)):
        for _ in range(2):
            await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.on("Canary7Topic"))

        async def all_over() -> bool:
            return {one.state.value for one in await deliveries(store, endpoint)} == {
                "delivered",
                "dead",
            }

        await eventually(all_over)
    kept = []
    async for key in redis.scan_iter():
        dump = await redis.execute_command("DUMP", key, NEVER_DECODE=[])  # type: ignore[no-untyped-call]
        kept.append(f"{key} {dump!r}")
    assert "Canary" not in "".join(kept)


async def test_with_another_secret_key_nothing_is_sent_and_the_reason_is_told(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    sealed = Vault("the operator's secret key", "main").seal(ntfy.endpoint("phone"))
    endpoint = await add_endpoint(store, sealed)
    async with running(notifier_of(store, sink, vault=Vault("another secret key", "main"))):
        await (await start_errand(store)).finish()

        async def told() -> bool:
            found = await deliveries(store, endpoint)
            return bool(found) and bool(found[0].attempts)

        await eventually(told)
    assert "TINYTOWN_SECRET_KEY" in str((await only(store, endpoint)).attempts[0].error)
    assert ntfy.requests == []


async def test_a_fault_of_ours_counts_as_an_attempt_and_so_comes_to_an_end(
    store: Store, sink: PushSink, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sink, "send", send)
    endpoint = await add_endpoint(store, "ntfy://127.0.0.1:1/phone")
    async with running(notifier_of(store, sink)):
        await (await start_errand(store)).finish()

        async def dead() -> bool:
            found = await deliveries(store, endpoint)
            return bool(found) and found[0].state is DeliveryState.DEAD

        await eventually(dead)
    assert "a fault of the notifier: ZeroDivisionError" in str((await only(store, endpoint)).reason)


async def test_a_test_message_goes_out_at_once_and_says_how_it_went(
    store: Store, ntfy: NtfyServer, sink: PushSink
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    notifier = notifier_of(store, sink)

    assert isinstance(await notifier.send_test(endpoint), Delivered)
    assert ntfy.on("phone")[0].title == "tinytown can reach you"
    with pytest.raises(EndpointNotFound):
        await notifier.send_test("end_nobody")


async def test_it_says_that_it_is_well_and_how_far_behind_it_is(
    store: Store, sink: PushSink, eventually: Eventually
) -> None:
    notifier = notifier_of(store, sink)
    assert not notifier.ok
    async with running(notifier):
        await eventually(lambda: notifier.ok)
        assert notifier.lag_seconds == 0
    assert not notifier.ok


async def test_an_idle_notifier_hardly_speaks_to_redis(
    store: Store, redis: Redis, sink: PushSink
) -> None:
    rules = Rules()
    async with running(notifier_of(store, sink, rules)):
        await anyio.sleep(0.5)
        before = int((await redis.info("stats"))["total_commands_processed"])
        await anyio.sleep(2)
        after = int((await redis.info("stats"))["total_commands_processed"])
    assert after - before <= 1, "the INFO that asked; reads block, claims wait for the bell"


async def test_the_process_runs_and_stops_in_order(
    store: Store, redis_url: str, ntfy: NtfyServer, eventually: Eventually
) -> None:
    await add_endpoint(store, ntfy.endpoint("phone"))
    process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
        [sys.executable, "-m", "tinytown_notifiers"],
        env={"REDIS_URL": redis_url, "TINYTOWN_LOG": "json", "PATH": "/usr/bin:/bin"},
        stderr=subprocess.PIPE,
    )
    try:
        await (await start_errand(store)).ask()
        await eventually(lambda: ntfy.on("phone"))
        assert ntfy.on("phone")[0].actions[0].url.startswith("http://127.0.0.1:8080/a/")
    finally:
        process.terminate()
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0
    assert b'"delivery.attempt"' in said
    assert b"Traceback" not in said
