"""A Redis that refuses to write refuses whole changes: no script leaves half of one behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import pytest
from redis import Redis as BlockingRedis

from books import Books
from servers import RedisServer
from tinytown import ids
from tinytown.errors import StoreUnavailable
from tinytown.store import Store
from towns import Hand, ask, hand, open_town, settle, start

Servers = Callable[..., RedisServer]
Step = Callable[[], Awaitable[object]]

AILMENTS: Final = {
    # How it falls ill, and how it gets well.
    "out of memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
    "read-only": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
}


async def steps(store: Store) -> dict[str, Step]:
    """Bring a town to where every kind of change is possible, and list the changes."""
    worker, idle = await hand(store), await hand(store)
    await start(store)
    claim = await worker.take()
    kind, question = await ask(store, claim, options=("a", "b"))
    assert kind == "asked"
    done = await start(store, pools={"late": "other"}, graph={"late": ()})
    other = await Hand(store, "other").register()
    claimed = await other.take()
    waiting = await start(store)
    return {
        "start a mission": lambda: start(store, mission_id=ids.new("mission")),
        "register a worker": lambda: hand(store),
        "renew a lease": lambda: worker.renew(claim),
        "claim a task": idle.claim,
        "answer a question": lambda: store.questions.answer(question, "a", by="ada", via="phone"),
        "fetch the answer": lambda: store.questions.take(
            question, task_id=claim.task_id, attempt=claim.attempt
        ),
        "ask a question": lambda: ask(store, claim, "And this?"),
        "write to the log": lambda: store.docket.append_log(
            claim.task_id, claim.attempt, first=0, lines=[b'{"kind":"message"}'] * 3
        ),
        "settle a task": lambda: settle(store, claimed, patch=b"x" * 1000),
        "send a message": lambda: store.missions.message(
            claim.mission_id, message_id=ids.new("request"), text="hello", by="ada"
        ),
        "pause a mission": lambda: store.missions.pause(waiting.id),
        "resume a mission": lambda: store.missions.resume(waiting.id),
        "cancel a mission": lambda: store.missions.cancel(waiting.id, by="ada"),
        "retry a mission": lambda: store.missions.retry(waiting.id),
        "drain a worker": lambda: store.workers.drain(other.id),
        "send a worker home": lambda: other.leave(always=True),
        "tick": store.clockwork.tick,
        "read a mission": lambda: store.missions.read(done.id),
    }


@pytest.mark.parametrize("ailment", AILMENTS)
async def test_a_refused_change_leaves_no_trace_and_is_made_when_redis_is_well(
    redis_server: Servers, ailment: str
) -> None:
    server = redis_server(enable_debug_command="yes", maxmemory_policy="noeviction")
    fall_ill, get_well = AILMENTS[ailment]
    refused = set()
    async with open_town(server.url) as store:
        for name, step in (await steps(store)).items():
            server.send(*fall_ill)
            before = server.send("DEBUG", "DIGEST")
            try:
                await step()
            except StoreUnavailable:
                refused.add(name)
                assert server.send("DEBUG", "DIGEST") == before, name
            server.send(*get_well)
            if name in refused:
                await step()
    with BlockingRedis.from_url(server.url, decode_responses=True, protocol=2) as client:
        assert Books(client).check() == []
    assert "start a mission" in refused
    assert "read a mission" not in refused
    # A full Redis can still finish what it has; a read-only one can write nothing.
    assert ("settle a task" in refused) is (ailment == "read-only")
    assert ("tick" in refused) is (ailment == "read-only")
