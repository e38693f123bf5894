"""The public API as a strict type checker sees it: checked by `just types`, never run."""

from __future__ import annotations

from typing import Literal, assert_type

import tinytown
from tinytown import errors, ids, settings
from tinytown.models.event import Event
from tinytown.models.key import Actor, Scope
from tinytown.models.mission import (
    Mission,
    MissionMove,
    MissionState,
    Priority,
    Result,
    StartMission,
)
from tinytown.models.moves import reachable
from tinytown.models.question import Ask, OutcomeKind, Question, QuestionState
from tinytown.models.scaling import Recommendation, Signal
from tinytown.models.task import MOVES, Task, TaskMove, TaskSpec, TaskState
from tinytown.settings import Secret, Settings
from tinytown.town import Town


def values_are_typed_to_the_leaf(
    mission: Mission, question: Question, event: Event, signal: Signal
) -> None:
    """A caller's editor knows what stands in every field."""
    assert_type(mission.state, MissionState)
    assert_type(mission.tasks, tuple[Task, ...])
    assert_type(mission.tasks[0].state, TaskState)
    assert_type(mission.priority, Priority)
    assert_type(mission.question, Question | None)
    assert_type(mission.result, Result | None)
    assert_type(mission.labels, dict[str, str])
    assert_type(question.state, QuestionState)
    assert_type(question.options, tuple[str, ...])
    assert_type(question.outcome, OutcomeKind | None)
    assert_type(event.mission_id, str | None)
    assert_type(signal.desired, int)
    assert_type(signal.recommendation, Recommendation)


def what_is_frozen_stays_frozen(mission: Mission) -> None:
    """Values do not change under those who hold them."""
    mission.title = "another"  # type: ignore[misc]
    mission.tasks.append("more")  # type: ignore[attr-defined]


def what_a_caller_may_say_is_closed() -> None:
    """Typing mistakes are found before anything is sent."""
    StartMission(goal="mend it", priority="high", tasks=(TaskSpec(name="a", instructions="b"),))
    StartMission(goal="mend it", priority="urgent")  # type: ignore[arg-type]
    StartMission()  # type: ignore[call-arg]
    Ask(text="May I?", kind="approval", risk="high")
    Ask(text="May I?", kind="permission")  # type: ignore[arg-type]


def tables_know_their_noun() -> None:
    """A move of one noun cannot be asked of another noun's table."""
    assert_type(reachable(MOVES, TaskState.QUEUED, TaskMove.CLAIM), frozenset[TaskState])
    reachable(MOVES, TaskState.QUEUED, MissionMove.START)  # type: ignore[misc]


def settings_and_secrets() -> None:
    """What comes from the environment is typed, and a secret is a type of its own."""
    read = settings.load({})
    assert_type(read, Settings)
    assert_type(read.redis_url, Secret | None)
    assert_type(read.pool, tuple[str, ...])
    assert_type(read.notifier, bool)
    assert_type(read.launcher, Literal["none", "process", "docker", "fly", "webhook"])


async def a_town_answers_with_nouns(town: Town, actor: Actor) -> None:
    """Every use-case gives back the same nouns as every door."""
    assert_type(await town.missions.start(StartMission(goal="mend it"), actor), Mission)
    assert_type(await town.missions.read(ids.new("mission")), Mission)
    assert_type(
        await town.missions.page(state=None, label=None, cursor=None, limit=10),
        tuple[list[Mission], str | None],
    )
    assert_type(await town.questions.answer("qst_1", "yes", by="me", via="api"), Question)
    assert_type(await town.scaling.signal(), Signal)
    assert_type(actor.may("write"), bool)
    actor.may("everything")  # type: ignore[arg-type]


def errors_are_one_tree(error: errors.TownError) -> None:
    """Whoever catches the root knows status, title and slug."""
    assert_type(error.status, int)
    assert_type(error.title, str)
    assert_type(error.slug(), str)
    assert_type(errors.tree(), list[type[errors.TownError]])


VERSION: str = tinytown.__version__
ADMIN: Scope = "admin"
