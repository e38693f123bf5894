"""What a mission must be before it may start, and what its people see of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown import ids
from tinytown.egress import Egress
from tinytown.errors import GraphCycle, Invalid, MissionNotFound
from tinytown.models.key import Actor
from tinytown.models.mission import GOAL_BYTES, StartMission
from tinytown.models.task import AGENTS, TaskSpec
from tinytown.store import Store
from tinytown.town.missions import (
    TITLE_LENGTH,
    MissionDesk,
    check,
    clean,
    control,
    in_order,
    plan,
    title_of,
    when,
)
from tinytown.town.webhooks import WebhookMaker
from tinytown.vault import Vault
from towns import hand, open_town, settle

ADA = Actor(id="key_ada", name="ada", scopes=frozenset({"write"}))


@pytest.fixture
async def desk(redis_url: str) -> AsyncIterator[MissionDesk]:
    """Lend the desk of an empty town."""
    async with open_town(redis_url) as store:
        yield MissionDesk(store, WebhookMaker(Vault(None, "main"), Egress()), max_attempts=3)


def tasks(**graph: list[str]) -> tuple[TaskSpec, ...]:
    """Draw a graph."""
    return tuple(
        TaskSpec(name=name, instructions=f"do {name}", depends_on=tuple(needed))
        for name, needed in graph.items()
    )


def accept(spec: StartMission) -> None:
    """Take a mission as the desk does."""
    check(spec)
    plan(spec)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"goal": " \n\t "}, "goal is empty"),
        ({"goal": "é" * (GOAL_BYTES // 2 + 1)}, "more than 65536 bytes"),
        ({"goal": "\ud800"}, "goal is not valid Unicode"),
        ({"title": "\u202e\u0000"}, "title has nothing to read"),
        ({"labels": {"a": "\udfff"}}, "not valid Unicode"),
        ({"agent": "hal"}, "unknown agent hal: one of claude, codex"),
        ({"repo": "javascript:alert(1)"}, "repo is not a git URL"),
        ({"repo": "https://example.org/a\nb"}, "repo is not a git URL"),
        ({"repo": "--upload-pack=x"}, "repo is not a git URL"),
        ({"ref": "--force"}, "ref is not a branch"),
        ({"ref": "a..b"}, "ref is not a branch"),
        ({"ref": "a b"}, "ref is not a branch"),
        ({"not_before": "tomorrow"}, "not an RFC 3339 time"),
        ({"not_before": "2026-11-22T21:00:00"}, "needs a time zone"),
        ({"tasks": tasks(a=["b"])}, "task a depends on unknown b"),
        ({"tasks": tasks(a=[]) + tasks(a=[])}, "task names must differ: a"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(wrong: dict[str, Any], said: str) -> None:
    spec = StartMission(**({"goal": "do it"} | wrong))
    with pytest.raises(Invalid, match=said):
        accept(spec)


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        (tasks(a=["a"]), {"a"}),
        (tasks(a=["b"], b=["a"]), {"a", "b"}),
        (tasks(free=[], a=["free", "c"], b=["a"], c=["b"]), {"a", "b", "c"}),
    ],
)
def test_a_circle_is_named(graph: tuple[TaskSpec, ...], cycle: set[str]) -> None:
    with pytest.raises(GraphCycle) as caught:
        plan(StartMission(goal="do it", tasks=graph))
    named = caught.value.extra["cycle"]
    assert set(named) == cycle
    assert named[0] == named[-1]
    assert " -> ".join(named) in caught.value.detail


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_we_know_may_be_asked_for(agent: str) -> None:
    check(StartMission(goal="do it", agent=agent))


@pytest.mark.parametrize(
    "repo",
    [
        "https://github.com/a/b.git",
        "ssh://git@host/x",
        "git@github.com:a/b.git",
        "file:///tmp/x",
        "/tmp/x",
        "owner/name",
    ],
)
def test_every_form_of_a_repository_is_known(repo: str) -> None:
    check(StartMission(goal="do it", repo=repo, ref="feature/a_b-1.2"))


def test_a_goal_may_hold_anything_that_is_text() -> None:
    check(StartMission(goal="a\r\n\t\u202eb\u0000" + "x" * (GOAL_BYTES - 9)))


# -- titles -----------------------------------------------------------------------------------


@given(st.text(max_size=300))
def test_what_people_read_holds_nothing_they_cannot_see(text: str) -> None:
    kept = clean(text)
    assert not control(kept)
    assert clean(kept) == kept
    assert kept == kept.strip()


@given(st.text(min_size=1, max_size=300))
def test_a_title_always_has_something_to_read_and_fits(goal: str) -> None:
    title = title_of(goal)
    assert 1 <= len(title) <= TITLE_LENGTH
    assert not control(title)


@pytest.mark.parametrize(
    ("goal", "title"),
    [
        ("Fix the door\nand more", "Fix the door"),
        ("\n\n  \u202eevil\u202c  words ", "evil words"),
        ("\u0000\u200b\n\n", "mission"),
        ("word " * 40, ("word " * 40)[: TITLE_LENGTH - 5].rstrip() + "…"),
        ("x" * 200, "x" * (TITLE_LENGTH - 1) + "…"),
    ],
)
def test_a_title_is_the_goals_first_line_with_something_to_read(goal: str, title: str) -> None:
    assert title_of(goal) == title


async def test_a_given_title_is_shown_without_what_could_mislead(desk: MissionDesk) -> None:
    mission = await desk.start(StartMission(goal="do it", title="pay \u202e100\u202c now\n"), ADA)
    assert mission.title == "pay 100 now"


# -- graphs -----------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> tuple[TaskSpec, ...]:
    """Draw a graph without circles, listed in any order."""
    names = [f"t{number}" for number in range(draw(st.integers(1, 12)))]
    made = [
        TaskSpec(
            name=name,
            instructions="x",
            depends_on=tuple(draw(st.lists(st.sampled_from(names[:index]), max_size=4)))
            if index
            else (),
        )
        for index, name in enumerate(names)
    ]
    return tuple(draw(st.permutations(made)))


@given(graphs())
def test_a_plan_says_the_same_from_both_ends(graph: tuple[TaskSpec, ...]) -> None:
    spec = StartMission(goal="do it", tasks=graph)
    made = {each.name: each for each in plan(spec)}
    names = {each.id: name for name, each in made.items()}
    order = in_order(graph)
    for task in graph:
        needed = set(task.depends_on)
        planned = made[task.name]
        assert planned.deps == len(needed)
        assert msgspec.json.decode(planned.depends_on) == list(task.depends_on)
        dependents = {names[id_] for id_ in planned.dependents.split()}
        assert dependents == {each.name for each in graph if task.name in each.depends_on}
        earlier = [names[id_] for id_ in planned.after.split()]
        assert needed <= set(earlier)
        assert earlier == [name for name in order if name in set(earlier)]
        assert task.name not in earlier


def test_a_task_without_its_own_takes_the_missions_pool_and_agent() -> None:
    graph = (
        TaskSpec(name="a", instructions="x"),
        TaskSpec(name="b", instructions="x", pool="gpu", agent="codex"),
    )
    a, b = plan(StartMission(goal="g", pool="cpu", agent="claude", tasks=graph))
    assert (a.pool, a.agent, b.pool, b.agent) == ("cpu", "claude", "gpu", "codex")


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        (None, 0),
        ("1970-01-01T00:00:01Z", 1000),
        ("2026-11-22T22:00:00.5+01:00", 1_795_381_200_500),
        ("1960-01-01T00:00:00Z", 0),
    ],
)
def test_a_time_is_read_with_its_zone(text: str | None, ms: int) -> None:
    assert when(text) == ms


# -- the desk ---------------------------------------------------------------------------------


async def test_a_mission_started_twice_under_one_id_is_one_mission(desk: MissionDesk) -> None:
    mission_id = ids.new("mission")
    first = await desk.start(StartMission(goal="do it"), ADA, mission_id=mission_id)
    again = await desk.start(StartMission(goal="do it"), ADA, mission_id=mission_id)
    assert first == again


async def test_ids_of_other_nouns_and_towns_are_simply_unknown(desk: MissionDesk) -> None:
    for unknown in ("", "x", ids.new("task"), ids.new("mission"), "mis_" + "!" * 26):
        for verb in (desk.read, desk.pause, desk.resume, desk.retry, desk.results):
            with pytest.raises(MissionNotFound):
                await verb(unknown)
    with pytest.raises(Invalid, match="cursor"):
        await desk.page(state=None, label=None, cursor="x", limit=10)


@pytest.mark.parametrize("text", ["", "x" * 8193, "\ud800"])
async def test_a_message_is_neither_empty_nor_endless(desk: MissionDesk, text: str) -> None:
    mission = await desk.start(StartMission(goal="do it"), ADA)
    with pytest.raises(Invalid):
        await desk.message(mission.id, text, ADA)


async def test_what_a_mission_left_behind_is_the_sum_of_its_tasks(
    desk: MissionDesk, redis_url: str
) -> None:
    mission = await desk.start(StartMission(goal="do it", tasks=tasks(a=[], b=["a"])), ADA)
    async with open_town(redis_url) as store:
        await finish(store, cost_usd=0.25, input_tokens=1, files_changed=2, summary="first")
        await finish(store, cost_usd=0.5, output_tokens=3, files_changed=1, summary="last")
    found, parts = await desk.results(mission.id)
    assert found.result is not None
    assert (found.result.summary, found.result.cost_usd) == ("last", 0.75)
    assert (found.result.input_tokens, found.result.output_tokens) == (1, 3)
    assert found.result.files_changed == 3
    assert [part.summary for _, part in parts] == ["first", "last"]


async def finish(store: Store, **result: Any) -> None:
    """Claim the next task and settle it."""
    await settle(store, await (await hand(store)).take(), **result)
