"""A worker's life as a real process: work, questions, signals, kills, and the way home."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hands import Workers, workers
from repositories import git, make_origin
from servers import RedisServer
from tinytown.models.mission import Mission, MissionState
from tinytown.models.question import Question
from tinytown.store import Store
from towns import named, open_town, start, states, told

ENDED = {MissionState.COMPLETED, MissionState.FAILED, MissionState.CANCELED}


@pytest.fixture
def ended(store: Store, eventually: Any) -> Callable[..., Any]:
    """Lend a way to wait for a mission's end."""

    async def wait(mission: Mission) -> Mission:
        async def over() -> bool:
            return (await store.missions.read(mission.id)).state in ENDED

        await eventually(over, "the mission to end", within_seconds=20)
        return await store.missions.read(mission.id)

    return wait


@pytest.fixture
def asked(store: Store, eventually: Any) -> Callable[..., Any]:
    """Lend a way to wait for an open question."""

    async def wait() -> Question:
        found: list[Question] = []

        async def there() -> bool:
            found[:], _ = await store.questions.page(cursor=None, limit=1)
            return bool(found)

        await eventually(there, "a question", within_seconds=20)
        return found[0]

    return wait


@pytest.fixture
def running(store: Store, eventually: Any) -> Callable[..., Any]:
    """Lend a way to wait for a task to run in a given attempt, its agent started."""

    async def wait(mission: Mission, attempt: int = 1) -> None:
        async def there() -> bool:
            log = await store.events.log_of(mission.id, after="0-0", limit=100)
            return any(line.attempt == attempt and b"here" in bytes(line.entry) for line in log)

        await eventually(there, f"attempt {attempt} to run", within_seconds=20)

    return wait


async def test_the_goal_reaches_the_agent_byte_for_byte(
    store: Store, crew: Workers, ended: Any, tmp_path: Path
) -> None:
    goal = "fix\tit\x01\u202e\r\n  ünïcode 🦀 'quoted' $HOME\n\n"
    crew.start(f"cat > {tmp_path}/stdin; cp $TINYTOWN_GOAL_FILE {tmp_path}/file; echo all good")
    mission = await ended(await start(store, goal=goal))
    assert mission.state is MissionState.COMPLETED
    assert mission.result.summary == "all good"
    assert (tmp_path / "stdin").read_bytes() == goal.encode()
    assert (tmp_path / "file").read_bytes() == goal.encode()


async def test_what_the_agent_leaves_is_committed_and_given_as_a_patch(
    store: Store, crew: Workers, ended: Any
) -> None:
    crew.start("echo hello > hello.txt; echo done")
    mission = await ended(await start(store))
    ((_, result),) = await store.missions.results(mission)
    assert result.files_changed == 1
    assert "+hello" in (result.patch or "")
    assert result.branch == f"tinytown/{mission.id}"


async def test_a_failing_command_tells_the_end_of_its_stderr(
    store: Store, crew: Workers, ended: Any
) -> None:
    crew.start("echo first >&2; echo the disk is full >&2; exit 3")
    mission = await ended(await start(store))
    assert mission.state is MissionState.FAILED
    assert "the disk is full" in mission.reason
    assert "the disk is full" in mission.tasks[0].reason


async def test_an_idle_worker_goes_home_with_exit_0(store: Store, crew: Workers) -> None:
    worker = crew.start(idle_seconds="0.2")
    assert await worker.exit_code() == 0
    assert (await told(store))[-2:] == ["worker.idle", "worker.stopped"]


async def test_a_worker_that_cannot_reach_redis_says_so_in_one_line(tmp_path: Path) -> None:
    with workers("unix:///nowhere/redis.sock", tmp_path) as crew:
        worker = crew.start()
        assert await worker.exit_code() == 5
        assert worker.log.startswith("tt agent: ")
        assert len(worker.log.splitlines()) == 1


async def test_an_answer_goes_on_in_the_same_session(
    store: Store, crew: Workers, ended: Any, asked: Any
) -> None:
    crew.start('a=$(tt ask "Which colour?" --option red --option blue); echo "it is $a by $$"')
    mission = await start(store)
    question = await asked()
    blocked = await store.missions.read(mission.id)
    assert blocked.state is MissionState.BLOCKED
    assert blocked.question is not None
    assert blocked.question.id == question.id
    await store.questions.answer(question.id, "blue", by="ada", via="api")
    mission = await ended(mission)
    assert mission.result.summary.startswith("it is blue by ")
    assert mission.tasks[0].attempt == 1


async def test_past_the_hold_tt_ask_says_parked_and_the_answer_is_there_next_time(
    store: Store, crew: Workers, ended: Any, asked: Any, tmp_path: Path
) -> None:
    crew.start(
        f'a=$(tt ask "Which?" --option red --option blue); code=$?; echo $code >> {tmp_path}/codes'
        "; test $code = 0 || exit $code; echo chose $a",
        hold_seconds="0.2",
    )
    mission = await start(store)
    question = await asked()
    codes = tmp_path / "codes"
    while not codes.exists():
        await store.clockwork.ping()
    await store.questions.answer(question.id, "red", by="ada", via="link")
    mission = await ended(mission)
    assert mission.result.summary == "chose red"
    assert codes.read_text().split() == ["75", "0"]
    assert mission.tasks[0].attempt == 2
    assert (await told(store)).count("question.asked") == 1


async def test_a_killed_workers_task_is_finished_by_another_and_settled_once(
    store: Store, crew: Workers, ended: Any, running: Any
) -> None:
    first = crew.start("echo here; sleep 600")
    mission = await start(store)
    await running(mission)
    first.send(signal.SIGKILL)
    crew.start("echo here; echo second")
    mission = await ended(mission)
    events = await told(store)
    assert (mission.state, mission.tasks[0].attempt) == (MissionState.COMPLETED, 2)
    assert events.count("task.completed") == 1
    assert events.count("task.requeued") == 1


async def test_sigterm_hands_the_task_back_at_once_and_exits_0(
    store: Store, crew: Workers, ended: Any, running: Any
) -> None:
    first = crew.start("echo here; sleep 600", lease_seconds="600")
    mission = await start(store)
    await running(mission)
    first.send(signal.SIGTERM)
    assert await first.exit_code() == 0
    again = await store.missions.read(mission.id)
    assert states(again) == {"main": "queued"}
    crew.start("echo second")
    mission = await ended(mission)
    assert mission.result.summary == "second"
    # An honest return is no loss towards the dead letter, and the worker said goodbye.
    assert "worker.lost" not in await told(store)


async def test_a_frozen_worker_wakes_up_to_a_lost_lease_and_writes_nothing(
    store: Store, crew: Workers, ended: Any, running: Any, eventually: Any, tmp_path: Path
) -> None:
    ghost = crew.start(f"echo here; while ! test -e {tmp_path}/go; do sleep 0.05; done; echo ghost")
    mission = await start(store)
    await running(mission)
    ghost.send(signal.SIGSTOP)
    crew.start("echo alive")
    mission = await ended(mission)
    (tmp_path / "go").touch()
    ghost.send(signal.SIGCONT)
    await eventually(lambda: "lease.lost" in ghost.log or '"lost"' in ghost.log, "the ghost to see")
    mission = await store.missions.read(mission.id)
    assert mission.result is not None
    assert mission.result.summary == "alive"
    assert (await told(store)).count("task.completed") == 1
    assert ghost.alive


async def test_a_worker_killed_while_it_asks_does_not_make_the_person_answer_twice(
    store: Store, crew: Workers, ended: Any, asked: Any
) -> None:
    script = 'a=$(tt ask "Which?" --option red --option blue) && echo chose $a'
    first = crew.start(script)
    mission = await start(store)
    question = await asked()
    first.send(signal.SIGKILL)
    crew.start(script)

    async def answered_late() -> Mission:
        await store.questions.answer(question.id, "blue", by="ada", via="api")
        return await ended(mission)  # type: ignore[no-any-return]

    done = await answered_late()
    assert done.result is not None
    assert done.result.summary == "chose blue"
    events = await told(store)
    assert (events.count("question.asked"), events.count("question.answered")) == (1, 1)


async def test_a_canceled_mission_ends_its_agent_and_frees_the_worker(
    store: Store, crew: Workers, ended: Any, running: Any, tmp_path: Path
) -> None:
    worker = crew.start(
        f"grep -q again && echo fine && exit; echo here; echo $$ > {tmp_path}/pid; sleep 600"
    )
    mission = await start(store)
    await running(mission)
    await store.missions.cancel(mission.id, by="ada")
    after = await ended(await start(store, goal="again"))
    assert after.state is MissionState.COMPLETED
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert worker.alive


async def test_a_drained_worker_finishes_its_task_and_leaves(
    store: Store, crew: Workers, ended: Any, running: Any, tmp_path: Path
) -> None:
    worker = crew.start(f"echo here; while ! test -e {tmp_path}/go; do sleep 0.02; done; echo ok")
    mission = await start(store)
    await running(mission)
    (listed,) = await store.workers.list()
    await store.workers.drain(listed.id)
    (tmp_path / "go").touch()
    assert (await ended(mission)).state is MissionState.COMPLETED
    assert await worker.exit_code() == 0


async def test_a_sentence_from_a_person_reaches_the_running_agent(
    store: Store, crew: Workers, ended: Any, running: Any
) -> None:
    crew.start("echo here; while ! tt messages | grep tests; do sleep 0.05; done")
    mission = await start(store)
    await running(mission)
    await store.missions.message(mission.id, message_id="evt_1", text="add tests", by="ada")
    mission = await ended(mission)
    assert "add tests" in mission.result.summary


async def test_a_later_task_builds_on_the_work_of_an_earlier_one(
    store: Store, crew: Workers, ended: Any
) -> None:
    crew.start("ls; test -e one && echo built on one; echo x > one")
    mission = await ended(await start(store, {"first": [], "second": ["first"]}))
    assert states(mission) == {"first": "completed", "second": "completed"}
    assert "built on one" in (mission.tasks[1].summary or "")


async def test_a_repository_is_cloned_and_the_branch_pushed(
    store: Store, crew: Workers, ended: Any, tmp_path: Path
) -> None:
    origin = make_origin(tmp_path / "origin")
    crew.start("echo more > more.txt; echo pushed")
    mission = await ended(await start(store, repo=f"file://{origin}", ref="main"))
    assert mission.state is MissionState.COMPLETED, mission.reason
    assert mission.result.pushed
    shown = git(origin, "show", f"tinytown/{mission.id}:more.txt")
    assert shown == "more"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"repo": "file:///nowhere/at/all"}, "nowhere"),
        ({"agent": "opencode"}, "opencode is not installed"),
    ],
)
async def test_what_cannot_start_fails_with_the_reason(
    store: Store, crew: Workers, ended: Any, spec: dict[str, Any], reason: str
) -> None:
    crew.start("true")
    mission = await ended(await start(store, **spec))
    assert mission.state is MissionState.FAILED
    assert reason in mission.reason


async def test_a_silent_agent_is_ended_by_the_idle_clock(
    store: Store, crew: Workers, ended: Any
) -> None:
    crew.start("sleep 600", silence_seconds="0.3")
    mission = await ended(await start(store))
    assert mission.state is MissionState.FAILED
    assert mission.reason


async def test_a_mission_may_limit_its_time(store: Store, crew: Workers, ended: Any) -> None:
    crew.start("while true; do echo busy; sleep 0.05; done")
    mission = await ended(await start(store, time_limit_seconds=0.4))
    assert mission.state is MissionState.FAILED


async def test_a_poisoned_task_dies_with_its_reason(
    store: Store, crew: Workers, ended: Any, tmp_path: Path
) -> None:
    # The agent kills its worker: the parent of the process that leads its session.
    crew_script = "kill -9 $(ps -o ppid= -p $$ | tr -d ' ')"
    for _ in range(3):
        crew.start(crew_script)
    mission = await ended(await start(store))
    assert mission.tasks[0].state == "dead"
    assert "3 lost workers" in mission.reason


async def test_a_restart_of_redis_in_the_middle_of_a_task_loses_nothing(
    redis_server: Callable[..., RedisServer], tmp_path: Path, eventually: Any
) -> None:
    server = redis_server(persist=True)
    with workers(server.url, tmp_path) as crew:
        async with open_town(server.url) as store:
            crew.start(
                f"cd {tmp_path}; touch here; while ! test -e go; do sleep 0.05; done; echo ok",
                lease_seconds="30",
            )
            mission = await start(store)
            await eventually((tmp_path / "here").exists, "the agent to start")
            server.stop(signal.SIGKILL)
            server.start()
            (tmp_path / "go").touch()

            async def completed() -> bool:
                read = await store.patience.keep_trying(
                    "test", lambda: store.missions.read(mission.id)
                )
                return read.state is MissionState.COMPLETED

            await eventually(completed, "the mission to complete", within_seconds=20)
            assert named(mission, "main")
            assert (await told(store)).count("task.completed") == 1
