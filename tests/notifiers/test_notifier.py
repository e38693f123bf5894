"""From an event in Redis to a phone: the real store, the real Apprise, a real socket."""

from __future__ import annotations

import time
from datetime import timedelta

import anyio
import msgspec
import pytest
from redis.asyncio import Redis

from conftest import Eventually
from fakes.errand import add_endpoint, start_errand
from fakes.notifying import LINKS, deliveries, notifier_of, only, running
from fakes.ntfy import Fault, NtfyServer
from tinytown import clock
from tinytown.errors import EndpointNotFound
from tinytown.models.delivery import DeliveryState
from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_notifiers import Rules
from tinytown_notifiers.schedule import Schedule
from tinytown_notifiers.sinks.push import PushSink


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
    store: Store, redis: Redis, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    ntfy.fault("phone", Fault(status=503), forever=True)
    schedule = Schedule(first_seconds=0.3, cap_seconds=0.3, attempts=10_000)
    async with running(notifier_of(store, sink, Rules(schedule=schedule, orphan_seconds=0.3))):
        await (await start_errand(store)).finish()
        await eventually(lambda: ntfy.requests, "an attempt that fails")
        await store.endpoints.move(endpoint, "disable", reason="test")
        in_flight = store.keys("endpoint_flight", endpoint)

        async def nothing_on_its_way() -> bool:
            return not await redis.exists(in_flight)

        await eventually(nothing_on_its_way)
        ntfy.fault("phone")  # from now on it would take one
        await (await start_errand(store)).finish()
        await anyio.sleep(0.6)  # longer than the retry would take
        assert ntfy.published == []

        await store.endpoints.move(endpoint, "revive", reason="test")
        await eventually(lambda: ntfy.on("phone"), "what waited arrives at once")
    assert len(ntfy.on("phone")) == 1, "what happened during the pause is not told afterwards"


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


async def test_a_test_message_goes_out_at_once_and_says_how_it_went(
    store: Store, ntfy: NtfyServer, sink: PushSink
) -> None:
    endpoint = await add_endpoint(store, ntfy.endpoint("phone"))
    notifier = notifier_of(store, sink)

    assert (await notifier.send_test(endpoint)).delivered
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
        await anyio.sleep(0.5)  # until it has settled
        before = int((await redis.info("stats"))["total_commands_processed"])
        await anyio.sleep(2)  # idling is what is measured
        after = int((await redis.info("stats"))["total_commands_processed"])
    assert after - before <= 1, "the INFO that asked; reads block, claims wait for the bell"


async def test_who_is_added_hears_of_nothing_that_was_before(
    store: Store, ntfy: NtfyServer, sink: PushSink, eventually: Eventually
) -> None:
    await (await start_errand(store, title="Before")).finish(summary="Done.")
    later = clock.written(clock.now() + timedelta(hours=1))
    added = await add_endpoint(store, ntfy.endpoint("phone"))
    record = await store.endpoints.read(added)
    await store.endpoints.put(msgspec.structs.replace(record, created_at=later))
    old = await add_endpoint(store, ntfy.endpoint("old"))
    async with running(notifier_of(store, sink)):
        await eventually(lambda: ntfy.on("old"), "the push to who was there")
    assert await deliveries(store, added) == []
    assert len(await deliveries(store, old)) == 1
