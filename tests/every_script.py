"""A town in which every script has something to do, and one call of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from tinytown import ids
from tinytown.models.delivery import Attempt
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.event import Event
from tinytown.models.hook import HookMove, HookOutcome
from tinytown.models.key import digest
from tinytown.models.scaling import Start
from tinytown.models.source import SourceRecord
from tinytown.store import Store
from tinytown.store.access import Reply, StoredKey
from tinytown.store.hooks import Settled
from tinytown.store.workers import Card
from towns import SILENCE_MS, ask, hand, settle, start

Call = Callable[[], Awaitable[object]]

READERS = {"read_demand", "read_missions"}
"""Scripts that write nothing: they must answer where writing is refused."""


async def every_script(store: Store) -> dict[str, Call]:  # noqa: PLR0915 - one scene for all
    """Set the scene; gives one call per script, in an order in which all of them succeed."""
    paused, canceled = await start(store), await start(store)
    await store.missions.pause(paused.id)
    await store.missions.cancel(canceled.id, by="ada")
    for _ in range(6):
        await start(store)
    asking, settling, releasing, working, parking = [
        await (await hand(store)).take() for _ in range(5)
    ]
    waiting = await start(store)
    _, answered = await ask(store, asking, "Answered?")
    await store.questions.answer(answered, "yes", by="ada", via="api")
    _, question = await ask(store, asking)
    await ask(store, parking)
    idle, leaving, draining = await hand(store), await hand(store), await hand(store)

    endpoint = EndpointRecord(
        id=ids.new("endpoint"), kind="push", url="json://x", name="", events=("*",), created_at=""
    )
    await store.endpoints.put(endpoint)
    other = msgspec.structs.replace(endpoint, id=ids.new("endpoint"))
    await store.endpoints.put(other)
    version, _ = await store.endpoints.all()
    events = await store.events.after("0-0", limit=100)

    async def plan(event: Event) -> object:
        return await store.deliveries.plan(event, [endpoint.id], version=version)

    async def lease() -> str:
        found = await store.deliveries.claim(lease_ms=45_000, limit=1)
        return found.deliveries[0].id

    tried = Attempt(number=1, at="now", outcome="dead", duration_seconds=0.1)
    await plan(events[0])
    dead = await lease()
    await store.deliveries.record(dead, tried, outcome="dead")
    await plan(events[1])
    leased = await lease()
    await plan(events[2])

    key = StoredKey(id="key_a", name="a", scopes=("read",), created_at="", digest=digest("a"))
    await store.access.put_key(key)
    await store.access.begin("me", "old", body_digest="d", reserved_id="one")
    reply = Reply(status=200, body=msgspec.Raw(b"{}"))
    begun = Start(pool="default", id="begun")

    async def reserve() -> object:
        stamp = (await store.clockwork.demand()).stamp
        reserved = await store.clockwork.reserve_starts(
            [begun], stamp=stamp, launcher="process", token="me", lease_ms=1000
        )
        assert reserved is not None
        return reserved

    source = SourceRecord(id=ids.new("source"), scheme="hmac", created_at="", updated_at="")
    spare = msgspec.structs.replace(source, id=ids.new("source"))
    await store.sources.put(source)
    await store.sources.put(spare)

    async def take(delivery: str) -> str:
        version, _ = await store.sources.all()
        taken = await store.hooks.take(
            ids.new("hook"),
            source_id=source.id,
            version=version,
            delivery=delivery,
            keep_seconds=60,
            kind="",
            headers=b"{}",
            payload=b"{}",
            sent_ms=0,
        )
        assert taken is not None
        return taken[0]

    async def reject() -> object:
        version, _ = await store.sources.all()
        return await store.hooks.reject(
            source.id, version=version, reason="signature", request_id="req_a"
        )

    opened, dying = await take("first"), await take("second")
    outcome = HookOutcome(action="attach", mission_id=working.mission_id)
    given_up = Settled(entry=("1-1", dying), move=HookMove.GIVE_UP, outcome=outcome)
    await store.hooks.settle([given_up])
    return {
        "put_source": lambda: store.sources.put(
            msgspec.structs.replace(source, id=ids.new("source"))
        ),
        "drop_source": lambda: store.sources.drop(spare.id),
        "take_hook": lambda: take(ids.new("hook")),
        "reject_hook": reject,
        "open_hooks": lambda: store.hooks.open([("1-1", opened)]),
        "settle_hooks": lambda: store.hooks.settle(
            [
                Settled(
                    entry=("1-1", opened),
                    move=HookMove.ROUTE,
                    outcome=outcome,
                    mission_id=working.mission_id,
                    line=b'{"kind": "notice", "text": "hi"}',
                )
            ]
        ),
        "replay_hook": lambda: store.hooks.replay(dying),
        "write_audit": lambda: store.audit.write(
            actor="me", verb="look", object_id="", result="done", request_id="req_a"
        ),
        "start_mission": lambda: start(store),
        "register_worker": lambda: store.workers.register(
            ids.new("agent"),
            ["default"],
            Card(host="", version="", agent=None),
            silence_ms=SILENCE_MS,
        ),
        "claim_task": idle.claim,
        "renew_lease": idle.renew,
        "append_log": lambda: store.docket.append_log(
            working.task_id, 1, first=0, lines=[b"{}", b"{}"]
        ),
        "report_progress": lambda: store.docket.progress(working.task_id, 1, {"text": "half"}),
        "send_message": lambda: store.missions.message(
            working.mission_id, message_id="m", text="hi", by="ada"
        ),
        "ask_question": lambda: ask(store, working, "And now?"),
        "answer_question": lambda: store.questions.answer(question, "a", by="ada", via="api"),
        "take_answer": lambda: store.questions.take(
            answered, task_id=asking.task_id, attempt=asking.attempt
        ),
        "save_checkpoint": lambda: store.docket.save_checkpoint(parking.task_id, 1, b"here"),
        "park_task": lambda: store.docket.park(parking.task_id, 1),
        "settle_task": lambda: settle(store, settling, patch=b"diff", bundle=b"pack"),
        "release_task": lambda: store.docket.release(
            releasing.task_id, 1, reason="drains", counts=False
        ),
        "pause_mission": lambda: store.missions.pause(waiting.id),
        "resume_mission": lambda: store.missions.resume(paused.id),
        "retry_mission": lambda: store.missions.retry(canceled.id),
        "cancel_mission": lambda: store.missions.cancel(asking.mission_id, by="ada"),
        "drain_worker": lambda: store.workers.drain(draining.id),
        "leave_worker": lambda: store.workers.leave(leaving.id, always=True, reason="idle"),
        "plan_deliveries": lambda: plan(events[3]),
        "claim_deliveries": lambda: store.deliveries.claim(lease_ms=45_000, limit=9),
        "record_attempts": lambda: store.deliveries.record(leased, tried, outcome="retry"),
        "replay_delivery": lambda: store.deliveries.replay(dead),
        "start_replay": lambda: store.deliveries.start_replay(
            ids.new("replay"), endpoint_id="", since_ms=0, until_ms=None, missing=False, by="ada"
        ),
        "put_endpoint": lambda: store.endpoints.put(other),
        "move_endpoint": lambda: store.endpoints.move(other.id, "disable", reason=""),
        "drop_endpoint": lambda: store.endpoints.drop(other.id),
        "put_key": lambda: store.access.put_key(msgspec.structs.replace(key, id="key_b")),
        "drop_key": lambda: store.access.drop_key("key_a"),
        "begin_request": lambda: store.access.begin(
            "me", "new", body_digest="d", reserved_id="two"
        ),
        "finish_request": lambda: store.access.finish("me", "old", reply),
        "read_demand": store.clockwork.demand,
        "read_missions": lambda: store.missions.read(working.mission_id),
        "reserve_starts": reserve,
        "end_start": lambda: store.clockwork.end_start(
            begun, launcher="process", result="crashed", failed=True, hold_ms=5
        ),
        "tick": store.clockwork.tick,
    }
