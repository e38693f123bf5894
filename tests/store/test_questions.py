"""Questions: asked under a lease, answered once, taken by the agent that asked."""

from __future__ import annotations

import anyio
import pytest

from tinytown import ids
from tinytown.errors import AlreadyAnswered, IllegalMove, LeaseLost, QuestionNotFound
from tinytown.models.mission import MissionState
from tinytown.models.question import OutcomeKind, QuestionState
from tinytown.models.task import Claim
from tinytown.store import Store
from tinytown.store.questions import Outcome
from towns import LEASE_MS, TurnedClock, ask, hand, settle, start, states, told


async def claimed(store: Store) -> Claim:
    """Start a mission and claim its task."""
    await start(store)
    return await (await hand(store)).take()


async def taken(store: Store, question: str, claim: Claim) -> Outcome | None:
    """Fetch an outcome for the claim's agent."""
    return await store.questions.take(question, task_id=claim.task_id, attempt=claim.attempt)


async def test_a_question_blocks_task_and_mission_until_it_is_answered(store: Store) -> None:
    claim = await claimed(store)
    kind, question = await ask(store, claim, kind="choice", options=("a", "b"), risk="high")
    assert kind == "asked"
    mission = await store.missions.read(claim.mission_id)
    assert (mission.state, states(mission)) == (MissionState.BLOCKED, {"main": "blocked"})
    assert mission.question is not None
    assert (mission.question.id, mission.question.options) == (question, ("a", "b"))
    assert await taken(store, question, claim) is None
    assert await store.questions.answer(question, "a", by="ada", via="link")
    mission = await store.missions.read(claim.mission_id)
    assert (mission.state, mission.question) == (MissionState.RUNNING, None)
    assert await taken(store, question, claim) == Outcome(
        kind=OutcomeKind.ANSWERED, answer="a", by="ada", via="link"
    )
    assert (await told(store))[-4:] == [
        "question.asked",
        "mission.blocked",
        "question.answered",
        "mission.unblocked",
    ]


async def test_a_worker_hears_of_the_answer_in_its_inbox(store: Store) -> None:
    claim = await claimed(store)
    worker = (await store.workers.list())[0].id
    _, question = await ask(store, claim)
    heard: list[dict[str, str]] = []

    async def listen() -> None:
        async with store.blocking("test", block_seconds=5) as client:
            signals = await store.workers.wait(
                client, {store.workers.inbox(worker): "0-0"}, block_ms=5000
            )
            heard.extend(fields for rows in signals.values() for _, fields in rows)

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await store.questions.answer(question, "yes", by="ada", via="api")
    assert heard == [{"kind": "answer", "task": claim.task_id, "question": question}]


async def test_of_fifty_answers_at_once_exactly_one_wins(store: Store) -> None:
    claim = await claimed(store)
    _, question = await ask(store, claim)
    won: list[str] = []
    lost: list[AlreadyAnswered] = []

    async def answer(number: int) -> None:
        try:
            if await store.questions.answer(question, f"a{number}", by=f"p{number}", via="api"):
                won.append(f"p{number}")
        except AlreadyAnswered as error:
            lost.append(error)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(answer, number)
    assert (len(won), len(lost)) == (1, 49)
    assert {error.extra["answered_by"] for error in lost} == set(won)
    assert (await told(store)).count("question.answered") == 1


async def test_the_same_answer_again_is_welcome_and_another_is_told_who_was_first(
    store: Store,
) -> None:
    claim = await claimed(store)
    _, question = await ask(store, claim)
    assert await store.questions.answer(question, "yes", by="ada", via="link")
    assert not await store.questions.answer(question, "yes", by="bob", via="api")
    with pytest.raises(AlreadyAnswered, match="ada already answered") as caught:
        await store.questions.answer(question, "no", by="bob", via="api")
    assert caught.value.extra["answer"] == "yes"
    assert (await store.questions.read(question)).answered_by == "ada"


@pytest.mark.parametrize(
    ("default", "outcome"),
    [
        ("b", Outcome(kind=OutcomeKind.DEFAULTED, answer="b")),
        (None, Outcome(kind=OutcomeKind.NO_ANSWER)),
    ],
)
async def test_silence_is_a_default_only_where_one_was_set(
    store: Store, clock: TurnedClock, default: str | None, outcome: Outcome
) -> None:
    clock.turn()
    claim = await claimed(store)
    _, question = await ask(store, claim, deadline_seconds=20, default=default)
    clock.turn(seconds=20, ms=-1)
    await store.clockwork.tick()
    assert await taken(store, question, claim) is None
    clock.turn(ms=1)
    tick = await store.clockwork.tick()
    assert tick.handled == 1
    assert await taken(store, question, claim) == outcome
    record = await store.questions.read(question)
    assert (record.state, record.answer) == (QuestionState.EXPIRED, default)
    assert (record.answered_at, record.answered_by) == (None, None)
    assert (await store.missions.read(claim.mission_id)).state is MissionState.RUNNING
    with pytest.raises(IllegalMove, match="expired"):
        await store.questions.answer(question, "late", by="ada", via="api")
    assert (await told(store))[-2:] == ["question.expired", "mission.unblocked"]


async def test_an_answer_in_time_leaves_no_deadline_behind(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    claim = await claimed(store)
    _, question = await ask(store, claim, deadline_seconds=20)
    await store.questions.answer(question, "yes", by="ada", via="api")
    clock.turn(seconds=25)
    assert (await store.clockwork.tick()).handled == 0


async def test_a_task_waits_for_all_its_questions(store: Store) -> None:
    claim = await claimed(store)
    questions = [(await ask(store, claim, f"Which {n}?"))[1] for n in range(3)]
    for question in questions:
        assert (await store.missions.read(claim.mission_id)).state is MissionState.BLOCKED
        await store.questions.answer(question, "yes", by="ada", via="api")
    assert (await store.missions.read(claim.mission_id)).state is MissionState.RUNNING
    assert (await told(store)).count("mission.blocked") == 1


async def test_asking_the_same_again_is_the_same_question_while_it_is_open(store: Store) -> None:
    claim = await claimed(store)
    _, question = await ask(store, claim, "Really?")
    assert await ask(store, claim, "Really?") == ("open", question)
    await store.questions.answer(question, "yes", by="ada", via="api")
    kind, other = await ask(store, claim, "Really?")
    assert kind == "asked", "the agent heard the answer and asks anew"
    assert other != question


async def test_a_question_outlives_its_worker_and_is_not_asked_twice(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    lost = await claimed(store)
    _, question = await ask(store, lost, "Which?", options=("a", "b"))
    clock.turn(ms=LEASE_MS)
    other = await hand(store)
    again = await other.take()
    assert (await store.questions.read(question)).state is QuestionState.OPEN
    assert await ask(store, again, "Which?", options=("a", "b")) == ("open", question)
    assert (await store.missions.read(lost.mission_id)).state is MissionState.BLOCKED
    await store.questions.answer(question, "b", by="ada", via="link")
    with pytest.raises(LeaseLost):
        await taken(store, question, lost)
    outcome = await taken(store, question, again)
    assert outcome is not None
    assert outcome.answer == "b"
    assert (await told(store)).count("question.asked") == 1


async def test_an_answer_given_while_nobody_worked_waits_for_the_next_attempt(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    lost = await claimed(store)
    _, question = await ask(store, lost, "Which?")
    clock.turn(ms=LEASE_MS)
    await store.clockwork.tick()
    await store.questions.answer(question, "b", by="ada", via="link")
    again = await (await hand(store)).take()
    assert await ask(store, again, "Which?") == ("known", question)
    outcome = await taken(store, question, again)
    assert outcome is not None
    assert outcome.answer == "b"
    assert (await store.missions.read(lost.mission_id)).state is MissionState.RUNNING


async def test_a_parked_question_waits_without_a_worker_and_the_answer_queues_its_task(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    await start(store)
    worker = await hand(store)
    claim = await worker.take()
    _, question = await ask(store, claim, "Which?")
    await store.docket.save_checkpoint(claim.task_id, 1, b"where I was")
    for _ in range(2):
        assert await store.docket.park(claim.task_id, 1)
    assert await worker.leave(), "a person's sleep costs nothing"
    assert (await store.missions.read(claim.mission_id)).state is MissionState.BLOCKED
    clock.turn(seconds=86_400)
    await store.clockwork.tick()
    demand = (await store.clockwork.demand()).pools["default"]
    assert (demand.waiting, demand.active, demand.blocked) == (0, 0, 1)
    with pytest.raises(LeaseLost):
        await settle(store, claim)
    await store.questions.answer(question, "b", by="ada", via="link")
    again = await (await hand(store)).take()
    assert (again.attempt, again.checkpoint) == (2, True)
    assert await store.missions.checkpoint(claim.task_id) == b"where I was"
    assert await ask(store, again, "Which?") == ("known", question)
    outcome = await taken(store, question, again)
    assert outcome is not None
    assert outcome.answer == "b"
    await settle(store, again)
    assert await store.missions.checkpoint(claim.task_id) is None
    assert "redelivered" not in await store.clockwork.counters()


async def test_a_task_whose_answer_has_just_come_is_not_parked(store: Store) -> None:
    claim = await claimed(store)
    assert not await store.docket.park(claim.task_id, 1)
    _, question = await ask(store, claim)
    await store.questions.answer(question, "yes", by="ada", via="api")
    assert not await store.docket.park(claim.task_id, 1)
    assert (await store.missions.read(claim.mission_id)).state is MissionState.RUNNING


@pytest.mark.parametrize("default", ["b", None])
async def test_silence_is_told_once_also_to_an_attempt_that_was_not_there(
    store: Store, clock: TurnedClock, default: str | None
) -> None:
    """Asked anew at every deadline, a parked agent would never get anywhere."""
    clock.turn()
    parked = await claimed(store)
    how = {"deadline_seconds": 20, "default": default}
    _, question = await ask(store, parked, "Which?", **how)
    await store.docket.park(parked.task_id, 1)
    clock.turn(seconds=20)
    await store.clockwork.tick()
    again = await (await hand(store)).take()
    assert await ask(store, again, "Which?", **how) == ("known", question)
    outcome = await taken(store, question, again)
    assert outcome is not None
    assert (outcome.kind, outcome.answer) == (
        (OutcomeKind.DEFAULTED, "b") if default else (OutcomeKind.NO_ANSWER, "")
    )
    await store.docket.release(again.task_id, 2, reason="drains", counts=False)
    later = await (await hand(store)).take()
    assert (await ask(store, later, "Which?", **how))[0] == "asked", "it heard the silence"


@pytest.mark.parametrize("spent", [False, True])
async def test_an_approval_is_spent_once(
    store: Store,
    clock: TurnedClock,
    spent: bool,  # noqa: FBT001
) -> None:
    clock.turn()
    lost = await claimed(store)
    how = {"kind": "approval", "options": ("approve", "deny"), "binding": "rm -rf:12ab"}
    _, question = await ask(store, lost, "May I?", **how)
    await store.questions.answer(question, "approve", by="ada", via="link")
    if spent:
        assert await taken(store, question, lost)
    clock.turn(ms=LEASE_MS)
    again = await (await hand(store)).take()
    kind, other = await ask(store, again, "May I?", **how)
    assert (kind, other == question) == (("asked", False) if spent else ("known", True))


async def test_an_approval_is_bound_to_what_was_approved(store: Store, clock: TurnedClock) -> None:
    clock.turn()
    lost = await claimed(store)
    _, question = await ask(store, lost, "May I?", kind="approval", binding="rm one:12ab")
    await store.questions.answer(question, "approve", by="ada", via="link")
    clock.turn(ms=LEASE_MS)
    again = await (await hand(store)).take()
    kind, _ = await ask(store, again, "May I?", kind="approval", binding="rm all:34cd")
    assert kind == "asked"


async def test_an_answer_to_an_earlier_attempt_does_not_unblock_the_present_one(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    lost = await claimed(store)
    _, old = await ask(store, lost, "Old?")
    clock.turn(ms=LEASE_MS)
    again = await (await hand(store)).take()
    await ask(store, again, "New?")
    await store.questions.answer(old, "yes", by="ada", via="api")
    assert (await store.missions.read(lost.mission_id)).state is MissionState.BLOCKED


@pytest.mark.parametrize("ending", ["settle", "cancel", "die"])
async def test_a_question_is_withdrawn_when_its_mission_ends(
    store: Store, clock: TurnedClock, ending: str
) -> None:
    clock.turn()
    await start(store, max_attempts=1)
    claim = await (await hand(store)).take()
    _, question = await ask(store, claim, deadline_seconds=3600)
    if ending == "settle":
        await settle(store, claim, completed=False)
    elif ending == "cancel":
        await store.missions.cancel(claim.mission_id, by="ada")
    else:
        clock.turn(ms=LEASE_MS)
        await store.clockwork.tick()
    assert (await store.questions.read(question)).state is QuestionState.WITHDRAWN
    with pytest.raises(IllegalMove, match="withdrawn"):
        await store.questions.answer(question, "yes", by="ada", via="api")
    assert (await told(store)).count("question.withdrawn") == 1


async def test_a_question_can_be_taken_only_by_the_task_that_asked(store: Store) -> None:
    first, second = await claimed(store), await claimed(store)
    _, question = await ask(store, first)
    with pytest.raises(QuestionNotFound):
        await taken(store, question, second)
    with pytest.raises(QuestionNotFound):
        await taken(store, ids.new("question"), first)
    with pytest.raises(QuestionNotFound):
        await store.questions.answer(ids.new("question"), "yes", by="ada", via="api")
    with pytest.raises(QuestionNotFound):
        await store.questions.read(ids.new("question"))


async def test_open_questions_are_listed_in_pages_the_longest_waiting_first(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    claim = await claimed(store)
    asked = []
    for number in range(5):
        clock.turn(ms=1)
        asked.append((await ask(store, claim, f"Which {number}?"))[1])
    page, cursor = await store.questions.page(cursor=None, limit=2)
    assert [question.id for question in page] == asked[:2]
    # Answered meanwhile: the next page goes on behind it, neither again nor with a gap.
    await store.questions.answer(asked[1], "yes", by="ada", via="api")
    page, cursor = await store.questions.page(cursor=cursor, limit=2)
    assert [question.id for question in page] == asked[2:4]
    page, cursor = await store.questions.page(cursor=cursor, limit=2)
    assert ([question.id for question in page], cursor) == (asked[4:], None)
    everything = await store.questions.of_mission(claim.mission_id)
    assert [question.id for question in everything] == asked
