"""Parking: nobody answers, the worker leaves, another one goes on with the work."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hands import Workers
from tinytown.models.mission import Mission, MissionState
from tinytown.models.question import Ask, Question
from tinytown.store import Store
from tinytown.vault import Vault
from tinytown_workers import checkpoint, session
from tinytown_workers.agents import Usage
from tinytown_workers.asking import Asking
from tinytown_workers.checkpoint import Checkpoint, Unreadable
from tinytown_workers.loop import Worker, WorkerRules
from tinytown_workers.process import Pulse
from tinytown_workers.session import SessionRules
from towns import hand, start, told

ASKS = (
    'echo "attempt $TINYTOWN_ATTEMPT" >> work.txt; '
    'a=$(tt ask "Which?" --option red --option blue) || exit $?; '
    "echo chose $a after $(wc -l < work.txt)"
)


@pytest.fixture
def parked(store: Store, eventually: Any) -> Callable[..., Any]:
    """Lend a way to wait until a mission waits for a person without a worker."""

    async def wait(mission: Mission) -> Question:
        async def gone() -> bool:
            read = await store.missions.read(mission.id)
            task = read.tasks[0]
            return (task.state, task.worker) == ("blocked", None)

        await eventually(gone, "the task to be parked", within_seconds=20)
        question = (await store.missions.read(mission.id)).question
        assert question is not None
        return question

    return wait


@pytest.fixture
def ended(store: Store, eventually: Any) -> Callable[..., Any]:
    """Lend a way to wait for a mission's end."""

    async def wait(mission: Mission) -> Mission:
        async def over() -> bool:
            return (await store.missions.read(mission.id)).state in {
                MissionState.COMPLETED,
                MissionState.FAILED,
            }

        await eventually(over, "the mission to end", within_seconds=20)
        return await store.missions.read(mission.id)

    return wait


async def test_a_parked_session_needs_no_worker_and_keeps_the_work(
    store: Store, crew: Workers, parked: Any, ended: Any
) -> None:
    first = crew.start(ASKS, hold_seconds="0.2", idle_seconds="0.2")
    mission = await start(store)
    question = await parked(mission)
    # The worker that asked goes home: blocked work is no demand.
    assert await first.exit_code() == 0
    demand = (await store.clockwork.demand()).pools["default"]
    assert (demand.blocked, demand.waiting, demand.active) == (1, 0, 0)
    await store.questions.answer(question.id, "blue", by="ada", via="link")
    demand = (await store.clockwork.demand()).pools["default"]
    assert (demand.blocked, demand.waiting) == (0, 1)
    crew.start(ASKS)
    mission = await ended(mission)
    # The second attempt found the line that the first one wrote before it asked.
    assert mission.result.summary == "chose blue after 2"
    assert mission.result.files_changed == 1
    assert (await told(store)).count("question.asked") == 1


async def test_a_parked_workers_place_is_free_for_other_work(
    store: Store, crew: Workers, parked: Any, ended: Any
) -> None:
    crew.start(f"if grep -q quick; then echo fast; else {ASKS}; fi", hold_seconds="0.2")
    slow = await start(store, goal="slow")
    await parked(slow)
    quick = await ended(await start(store, goal="quick"))
    assert quick.result.summary == "fast"


async def test_a_ghost_of_the_parked_attempt_can_write_nothing(
    store: Store, crew: Workers, parked: Any
) -> None:
    crew.start(ASKS, hold_seconds="0.2")
    mission = await start(store)
    await parked(mission)
    task = mission.tasks[0].id
    with pytest.raises(Exception, match="lease"):
        await store.docket.append_log(task, 1, first=0, lines=[b"{}"])
    with pytest.raises(Exception, match="lease"):
        await store.docket.release(task, 1, reason="ghost", counts=False)


async def test_a_canceled_mission_forgets_its_parked_session(
    store: Store, crew: Workers, parked: Any
) -> None:
    crew.start(ASKS, hold_seconds="0.2")
    mission = await start(store)
    await parked(mission)
    await store.missions.cancel(mission.id, by="ada")
    assert await store.missions.checkpoint(mission.tasks[0].id) is None
    assert (await store.questions.page(cursor=None, limit=5)) == ([], None)


async def test_an_answer_while_the_mission_is_paused_waits_for_the_resume(
    store: Store, crew: Workers, parked: Any, ended: Any
) -> None:
    crew.start(ASKS, hold_seconds="0.2")
    mission = await start(store)
    question = await parked(mission)
    await store.missions.pause(mission.id)
    await store.questions.answer(question.id, "red", by="ada", via="api")
    assert (await store.missions.read(mission.id)).tasks[0].state == "pending"
    await store.missions.resume(mission.id)
    assert (await ended(mission)).result.summary == "chose red after 2"


async def test_sigterm_takes_the_work_along(store: Store, crew: Workers, ended: Any) -> None:
    script = (
        'echo "attempt $TINYTOWN_ATTEMPT" >> work.txt; echo here; '
        'test "$TINYTOWN_ATTEMPT" = 1 && exec sleep 600; echo lines $(wc -l < work.txt)'
    )
    first = crew.start(script, lease_seconds="600")
    mission = await start(store)
    while not await store.events.log_of(mission.id, after="0-0", limit=1):
        await store.clockwork.ping()
    first.send(signal.SIGTERM)
    assert await first.exit_code() == 0
    crew.start(script)
    assert (await ended(mission)).result.summary.endswith("lines 2")


async def test_a_damaged_checkpoint_starts_over_and_says_so(
    store: Store, crew: Workers, parked: Any, ended: Any
) -> None:
    first = crew.start(ASKS, hold_seconds="0.2", idle_seconds="0")
    mission = await start(store)
    question = await parked(mission)
    assert await first.exit_code() == 0
    key = store.keys("task_checkpoint", mission.tasks[0].id)
    async with store.blocking("test", block_seconds=1) as client:
        await client.set(key, b"rubbish")
    await store.questions.answer(question.id, "blue", by="ada", via="api")
    crew.start(ASKS)
    mission = await ended(mission)
    assert mission.result.summary == "chose blue after 1"
    events = await store.events.of_mission(mission.id, after="0-0", limit=100)
    assert any("starting over" in str(event.data.get("text")) for event in events)


async def test_with_a_secret_key_the_checkpoint_cannot_be_read_in_redis(
    store: Store, crew: Workers, parked: Any, ended: Any
) -> None:
    key = "a secret key of some length"
    crew.start(ASKS, hold_seconds="0.2", secret_key=key)
    mission = await start(store)
    question = await parked(mission)
    packed = await store.missions.checkpoint(mission.tasks[0].id)
    assert packed is not None
    with pytest.raises(Unreadable, match="TINYTOWN_SECRET_KEY"):
        checkpoint.unpack(packed, Vault(None, "main"))
    assert checkpoint.unpack(packed, Vault(key, "main")).asked[0].question_id == question.id
    await store.questions.answer(question.id, "red", by="ada", via="api")
    assert (await ended(mission)).result.summary == "chose red after 2"


def test_a_checkpoint_larger_than_its_bound_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "CHECKPOINT_BYTES", 100)
    saved = Checkpoint(
        agent="claude",
        session_id="1",
        files={"a": bytes(range(256)) * 4},
        bundle=b"",
        base="",
        usage=Usage(),
    )
    assert checkpoint.pack(saved, Vault(None, "main")) is None


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "a/../../b"])
def test_a_checkpoint_cannot_write_outside_the_home(name: str, tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        checkpoint.write_files(tmp_path / "home", {name: b"x"})


async def test_work_too_large_to_be_parked_stays_with_its_worker_and_says_so(
    store: Store, crew: Workers, ended: Any, eventually: Any
) -> None:
    crew.start(f"head -c 12000000 /dev/urandom > big; {ASKS}", hold_seconds="0.2")
    mission = await start(store)

    async def said() -> bool:
        events = await store.events.of_mission(mission.id, after="0-0", limit=100)
        return any("stays on its worker" in str(event.data.get("text")) for event in events)

    await eventually(said, "the worker to say that it holds", within_seconds=20)
    held = await store.missions.read(mission.id)
    assert held.question is not None
    assert held.tasks[0].worker is not None
    await store.questions.answer(held.question.id, "red", by="ada", via="api")
    assert (await ended(mission)).result.summary.startswith("chose red")


async def test_an_agent_that_goes_on_although_nobody_answers_is_ended(
    store: Store, tmp_path: Path, parked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "PARKED_SECONDS", 0.2)
    stubborn = 'tt ask "Which?" --option red --option blue || sleep 4242'
    worker = Worker(
        store,
        rules=WorkerRules(idle_seconds=0),
        session_rules=SessionRules(
            work_dir=tmp_path / "work",
            agent="command",
            agent_command=f"sh -c '{stubborn}'",
            hold_seconds=0.1,
        ),
        environ={"PATH": os.environ["PATH"]},
        vault=Vault(None, "main"),
    )
    mission = await start(store)
    began = anyio.current_time()
    await worker.run()
    assert anyio.current_time() - began >= 0.3, "it had its time to end the turn itself"
    assert (await parked(mission)).text == "Which?"


@pytest.fixture
async def asking(store: Store) -> Asking:
    """Lend what asks for a task that nobody waits long for."""
    await start(store)
    claim = await (await hand(store)).take()
    return Asking(store, claim, Pulse(), hold_seconds=0.05)


async def test_a_leave_that_came_after_the_turn_is_good_for_one_call(
    store: Store, asking: Asking
) -> None:
    ask = Ask(text="Allow?", kind="approval", options=("Allow", "Deny"), binding="Bash:1")
    parked = await asking.ask(ask, via="mcp")
    assert parked.outcome == "parked"
    await store.questions.answer(parked.question_id, "Allow", by="ada", via="api")
    assert (await asking.outcome(parked.question_id)).answer == "Allow"
    used = await asking.ask(ask, via="mcp")
    assert (used.outcome, used.answer, used.question_id) == (
        "answered",
        "Allow",
        parked.question_id,
    )
    again = await asking.ask(ask, via="mcp")
    assert again.outcome == "parked", "the next call is asked about anew"
    assert again.question_id != parked.question_id


async def test_an_answer_that_came_when_asked_once_more_takes_the_order_to_end_back(
    store: Store, asking: Asking
) -> None:
    ask = Ask(text="Which?", kind="text")
    parked = await asking.ask(ask, via="mcp")
    assert asking.parked.is_set()
    await store.questions.answer(parked.question_id, "blue", by="ada", via="api")
    assert (await asking.ask(ask, via="mcp")).answer == "blue"
    assert not asking.parked.is_set()
    assert asking.left_open == ()
