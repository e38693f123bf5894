"""A mission, from a laptop to a phone and back: read the town aloud (`just story`).

One sentence per test, in the order in which things happen. Everything is real but the people.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from tinytown.egress import Egress
from tinytown.errors import AlreadyAnswered, LeaseLost
from tinytown.links import AnswerLinks
from tinytown.models.key import Actor
from tinytown.models.mission import MissionState, StartMission
from tinytown.models.task import TaskSpec
from tinytown.store import Store
from tinytown.store.docket import Nothing
from tinytown.town.dispatcher import Dispatcher
from tinytown.town.hub import Hub
from tinytown.town.missions import MissionDesk
from tinytown.town.questions import QuestionDesk
from tinytown.town.scaling import ScalingDesk
from tinytown.town.webhooks import WebhookMaker
from tinytown.vault import Vault
from towns import ask, hand, open_town, settle, told

Eventually = Callable[..., Awaitable[None]]
YOU = Actor(id="key_laptop", name="you", scopes=frozenset({"admin"}))


class SmallTown:
    """A town as its people know it: desks, and a clock that ticks."""

    def __init__(self, store: Store) -> None:
        self.store = store
        maker = WebhookMaker(Vault(None, "main"), Egress())
        self.missions = MissionDesk(store, maker, max_attempts=3)
        self.questions = QuestionDesk(store, AnswerLinks(town="main", keys=["s" * 32]))
        self.scaling = ScalingDesk(store, max_workers=5)
        self.hub = Hub(store)


@pytest.fixture
async def town(redis_url: str) -> AsyncIterator[SmallTown]:
    """Open a town for a day."""
    async with open_town(redis_url) as store, anyio.create_task_group() as group:
        town = SmallTown(store)
        group.start_soon(town.hub.run)
        group.start_soon(Dispatcher(store, town.hub).run)
        yield town
        group.cancel_scope.cancel()


async def test_an_empty_town_costs_nothing_and_wants_nobody(town: SmallTown) -> None:
    signal = await town.scaling.signal()
    assert (signal.desired, signal.recommendation) == (0, "scale_to_zero")


async def test_you_start_a_mission_and_may_close_the_laptop(town: SmallTown) -> None:
    mission = await town.missions.start(StartMission(goal="Fix the door of the barn"), YOU)
    assert mission.state is MissionState.QUEUED
    assert mission.title == "Fix the door of the barn"
    assert (await town.missions.read(mission.id)) == mission


async def test_the_town_asks_for_a_worker_as_soon_as_one_is_needed(town: SmallTown) -> None:
    await town.missions.start(StartMission(goal="Fix the door"), YOU)
    signal = await town.scaling.signal()
    assert (signal.start, signal.recommendation) == (1, "scale_up")
    assert signal.reason == "1 waiting, 0 busy, max 5"


async def test_a_worker_wakes_up_and_gets_the_goal_word_for_word(town: SmallTown) -> None:
    goal = "Fix the door.\n\nIt squeaks — badly."
    await town.missions.start(StartMission(goal=goal), YOU)
    claim = await (await hand(town.store)).take()
    assert claim.goal == goal
    assert (await town.missions.read(claim.mission_id)).state is MissionState.RUNNING


async def test_it_needs_you_so_it_asks_and_waits(town: SmallTown) -> None:
    await town.missions.start(StartMission(goal="Paint the door"), YOU)
    claim = await (await hand(town.store)).take()
    await ask(town.store, claim, "Which colour?", kind="choice", options=("red", "blue"))
    mission = await town.missions.read(claim.mission_id)
    assert mission.state is MissionState.BLOCKED
    assert mission.question is not None
    assert mission.question.text == "Which colour?"
    assert (await town.scaling.signal()).desired == 0, "your sleep is no demand"


async def test_you_answer_from_your_phone_and_the_agent_goes_on(town: SmallTown) -> None:
    await town.missions.start(StartMission(goal="Paint the door"), YOU)
    claim = await (await hand(town.store)).take()
    _, question = await ask(
        town.store, claim, "Which colour?", kind="choice", options=("red", "blue")
    )
    await town.questions.answer(question, "Blue", by="your phone", via="link")
    outcome = await town.store.questions.take(
        question, task_id=claim.task_id, attempt=claim.attempt
    )
    assert outcome is not None
    assert (outcome.kind, outcome.answer, outcome.by) == ("answered", "blue", "your phone")
    assert (await town.missions.read(claim.mission_id)).state is MissionState.RUNNING


async def test_the_first_answer_wins_and_the_second_hears_who_was_first(town: SmallTown) -> None:
    await town.missions.start(StartMission(goal="Paint the door"), YOU)
    claim = await (await hand(town.store)).take()
    _, question = await ask(town.store, claim, "Which colour?", options=("red", "blue"))
    await town.questions.answer(question, "red", by="your phone", via="link")
    with pytest.raises(AlreadyAnswered, match="your phone already answered"):
        await town.questions.answer(question, "blue", by="your tablet", via="link")


async def test_your_silence_is_never_taken_for_consent(
    town: SmallTown, eventually: Eventually
) -> None:
    await town.missions.start(StartMission(goal="Tear down the barn"), YOU)
    claim = await (await hand(town.store)).take()
    _, question = await ask(town.store, claim, "Really?", deadline_seconds=0.1)

    async def outcome() -> object:
        return await town.store.questions.take(
            question, task_id=claim.task_id, attempt=claim.attempt
        )

    await eventually(outcome, "the deadline passed")
    said = await town.store.questions.take(question, task_id=claim.task_id, attempt=claim.attempt)
    assert said is not None
    assert (said.kind, said.answer) == ("no_answer", "")


async def test_it_is_done_and_you_read_what_it_did(town: SmallTown) -> None:
    mission = await town.missions.start(StartMission(goal="Fix the door"), YOU)
    claim = await (await hand(town.store)).take()
    await settle(town.store, claim, summary="It is fixed.", branch="tinytown/door", patch=b"+oil\n")
    mission, [(_, result)] = await town.missions.results(mission.id)
    assert mission.state is MissionState.COMPLETED
    assert (result.summary, result.branch, result.patch) == (
        "It is fixed.",
        "tinytown/door",
        "+oil\n",
    )


async def test_a_plan_of_several_tasks_is_worked_off_in_its_order(town: SmallTown) -> None:
    tasks = (
        TaskSpec(name="paint", instructions="Paint it.", depends_on=("sand", "buy")),
        TaskSpec(name="sand", instructions="Sand it."),
        TaskSpec(name="buy", instructions="Buy paint."),
    )
    await town.missions.start(StartMission(goal="A red door", tasks=tasks), YOU)
    worker = await hand(town.store)
    done = []
    for _ in tasks:
        claim = await worker.take()
        await settle(town.store, claim)
        done.append(claim.name)
    assert done[2] == "paint"


async def test_a_worker_that_dies_is_replaced_and_its_ghost_is_not_believed(
    town: SmallTown, eventually: Eventually
) -> None:
    mission = await town.missions.start(StartMission(goal="Fix the door"), YOU)
    ghost = await hand(town.store)
    lost = await town.store.docket.claim(ghost.id, ghost.pools, lease_ms=100, silence_ms=60_000)

    async def back() -> bool:
        return (await town.missions.read(mission.id)).tasks[0].state == "queued"

    await eventually(back, "the lease ran out")
    claim = await (await hand(town.store)).take()
    with pytest.raises(LeaseLost):
        await settle(town.store, lost, summary="I was first!")  # type: ignore[arg-type]
    await settle(town.store, claim, summary="Done.")
    assert (await told(town.store)).count("mission.completed") == 1


async def test_you_change_your_mind_and_everything_stops(town: SmallTown) -> None:
    mission = await town.missions.start(StartMission(goal="Tear down the barn"), YOU)
    worker = await hand(town.store)
    claim = await worker.take()
    _, question = await ask(town.store, claim, "Really?")
    mission = await town.missions.cancel(mission.id, YOU)
    assert mission.state is MissionState.CANCELED
    assert (await town.questions.read(question)).state == "withdrawn"
    with pytest.raises(LeaseLost):
        await settle(town.store, claim)


async def test_when_nothing_is_left_the_worker_goes_home_and_the_town_is_at_zero(
    town: SmallTown,
) -> None:
    await town.missions.start(StartMission(goal="Fix the door"), YOU)
    worker = await hand(town.store)
    assert not await worker.leave(), "not while something waits"
    await settle(town.store, await worker.take())
    assert isinstance(await worker.claim(), Nothing)
    assert await worker.leave()
    signal = await town.scaling.signal()
    assert (signal.desired, signal.workers.present) == (0, 0)


async def test_whoever_listened_heard_the_whole_story(
    town: SmallTown, eventually: Eventually
) -> None:
    story: list[str] = []

    async def listen() -> None:
        async for event in town.hub.follow(lambda _: True, after="0-0"):
            story.append(event.type)  # noqa: PERF401 - one by one, as they come

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await town.missions.start(StartMission(goal="Paint the door"), YOU)
        claim = await (await hand(town.store)).take()
        _, question = await ask(town.store, claim, "Which colour?")
        await town.questions.answer(question, "blue", by="your phone", via="link")
        await settle(town.store, claim)
        await eventually(lambda: story[-1:] == ["mission.completed"], "the end of the story")
        group.cancel_scope.cancel()
    assert story == [
        "mission.created",
        "task.queued",
        "worker.started",
        "task.started",
        "mission.started",
        "question.asked",
        "mission.blocked",
        "question.answered",
        "mission.unblocked",
        "task.completed",
        "mission.completed",
    ]
