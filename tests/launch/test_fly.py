"""Starting Fly machines: the right ones, once, at Fly's pace, whatever Fly answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import anyio
import pytest

from conftest import Eventually
from fakes.machines import MachinesApi
from paper import NO_SIGNAL, MakeTown, reconciling
from tinytown.launch import StartFailed, fly
from tinytown.launch.fly import FlyLauncher, fly_launcher
from tinytown.models.scaling import Start
from tinytown.store import Store
from towns import start


@pytest.fixture
def api() -> Iterator[MachinesApi]:
    with MachinesApi() as api:
        yield api


@pytest.fixture
async def launcher(api: MachinesApi) -> AsyncIterator[FlyLauncher]:
    async with fly_launcher(api.url, app="town", token="fly-token", create=False) as launcher:
        yield launcher


async def launch(launcher: FlyLauncher, *pools: str) -> list[StartFailed | None]:
    """Start a worker of each pool; gives what became of each."""
    starts = [Start(f"s{number}", pool) for number, pool in enumerate(pools)]
    failed = await launcher.start(starts, NO_SIGNAL)
    return [failed.get(each.id) for each in starts]


async def failure(launcher: FlyLauncher, pool: str = "default") -> StartFailed:
    """Start a worker that cannot be started."""
    (failed,) = await launch(launcher, pool)
    assert failed is not None
    return failed


async def test_a_stopped_machine_of_the_group_is_started(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    api.add("a1", group="townhall")
    api.add("b2", state="started")
    api.add("c3", standbys=["b2"])
    api.add("d4")
    assert await launch(launcher, "default") == [None]
    assert api.started() == ["d4"]


async def test_a_suspended_machine_is_as_good(api: MachinesApi, launcher: FlyLauncher) -> None:
    api.add("a1", state="suspended")
    assert await launch(launcher, "default") == [None]


async def test_each_start_gets_a_machine_of_its_own(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    for number in range(3):
        api.add(f"m{number}")
    assert await launch(launcher, "default", "default") == [None, None]
    assert api.started() == ["m0", "m1"]
    assert api.asked.count(("list", "")) == 1


async def test_a_machine_serves_the_pools_its_environment_names(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    api.add("a1")
    api.add("b2", env={"TINYTOWN_POOL": "gpu, big"})
    assert await launch(launcher, "big") == [None]
    assert api.started() == ["b2"]
    failed = await failure(launcher, "small")
    assert (str(failed), failed.failed) == (
        "no machine of process group worker serves the pool small",
        True,
    )


async def test_a_machine_just_started_is_not_started_again(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    """The list may lag behind, and a second start of the same machine would be no second worker."""
    machine = api.add("a1")
    await launch(launcher, "default")
    machine.state = "stopped"
    failed = await failure(launcher)
    assert (str(failed), failed.failed) == ("all 1 machines of the pool default are in use", False)
    assert machine.starts == 1


async def test_a_machine_that_somebody_else_started_is_left_to_them(
    api: MachinesApi, launcher: FlyLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.add("a1", state="started")
    api.add("b2")
    monkeypatch.setattr(fly, "_CAN_START", {"stopped", "started"})  # as an old list would say
    assert await launch(launcher, "default") == [None]
    assert api.started() == ["b2"]


async def test_a_machine_being_replaced_is_passed_over(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    api.add("a1")
    api.add("b2")
    api.trouble.append(("start", 412))
    assert await launch(launcher, "default") == [None]
    assert api.started() == ["b2"]


async def test_where_every_machine_is_being_replaced_it_is_tried_soon_again(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    machine = api.add("a1", state="replacing")
    failed = await failure(launcher)
    assert (str(failed), failed.failed) == ("machines are not ready (replacing)", False)
    assert failed.again_seconds == fly.REPLACING_SECONDS
    machine.state = "stopped"
    assert await launch(launcher, "default") == [None]


async def test_a_machine_that_is_gone_is_passed_over(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    api.add("a1")
    api.add("b2")
    api.trouble.append(("start", 404))
    assert await launch(launcher, "default") == [None]
    assert api.started() == ["b2"]


@pytest.mark.parametrize(
    ("action", "answer", "said", "counts"),
    [
        ("list", 404, "there is no app town for this FLY_API_TOKEN", True),
        ("list", 403, "list: Fly refuses FLY_API_TOKEN (HTTP 403)", True),
        ("list", 429, "list: too many requests", False),
        ("list", 500, "list: HTTP 500", True),
        ("list", 502, "list: HTTP 502", True),
        ("list", "nonsense", "list: a reply that makes no sense (HTTP 200)", True),
        ("list", "nothing", "list: no reply: the connection was cut", True),
        ("start", 401, "start: Fly refuses FLY_API_TOKEN (HTTP 401)", True),
        ("start", 422, "start: HTTP 422", True),
        ("start", 429, "start: too many requests", False),
        ("start", 500, "machine a1 does not start (HTTP 500)", True),
        (
            "start",
            "nonsense",
            "machine a1 does not start (a reply that makes no sense (HTTP 200))",
            True,
        ),
        ("start", "nothing", "machine a1 does not start (no reply: the connection was cut)", True),
    ],
)
async def test_a_start_that_surely_failed_says_why(
    api: MachinesApi,
    launcher: FlyLauncher,
    action: str,
    answer: str | int,
    said: str,
    counts: bool,  # noqa: FBT001
) -> None:
    api.add("a1")
    api.trouble.append((action, answer))
    failed = await failure(launcher)
    assert (str(failed), failed.failed) == (said, counts)
    assert api.started() == []


async def test_a_wrong_token_is_said_without_it(api: MachinesApi) -> None:
    api.add("a1")
    async with fly_launcher(api.url, app="town", token="wrong-token", create=False) as launcher:
        failed = await failure(launcher)
    assert str(failed) == "list: Fly refuses FLY_API_TOKEN (HTTP 401)"


async def test_an_api_that_is_not_there_is_a_failed_start() -> None:
    with MachinesApi() as api:
        url = api.url
    async with fly_launcher(url, app="town", token="fly-token", create=False) as launcher:
        failed = await failure(launcher)
    assert str(failed) == "cannot reach 127.0.0.1: nobody listens there"


async def test_an_app_without_workers_says_so(api: MachinesApi, launcher: FlyLauncher) -> None:
    api.add("a1", group="townhall")
    failed = await failure(launcher)
    assert str(failed) == "the app town has no machine of process group worker"
    assert failed.failed


async def test_a_start_whose_reply_got_lost_is_looked_up_and_not_repeated(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    api.add("a1")
    api.add("b2")
    api.trouble.append(("start", "lost"))
    assert await launch(launcher, "default") == [None]
    assert api.started() == ["a1"]
    assert api.asked[-1] == ("get", "a1")


async def test_a_start_nobody_can_look_up_keeps_its_promise(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    api.add("a1")
    api.trouble += [("start", "lost"), ("get", 500)]
    assert await launch(launcher, "default") == [None], "it may have started"
    assert api.started() == ["a1"]


async def test_fly_says_how_long_to_wait(api: MachinesApi, launcher: FlyLauncher) -> None:
    api.add("a1")
    api.retry_after = "7"
    api.trouble.append(("list", 429))
    assert (await failure(launcher)).again_seconds == 7


async def test_the_same_is_asked_once_a_second(api: MachinesApi, launcher: FlyLauncher) -> None:
    for number in range(5):
        api.add(f"m{number}")
    begun = anyio.current_time()
    for _ in range(3):
        assert await launch(launcher, "default") == [None]
    assert anyio.current_time() - begun >= 1.9
    assert api.asked.count(("list", "")) == 3


async def test_no_machine_is_made_unless_that_is_wanted(
    api: MachinesApi, launcher: FlyLauncher
) -> None:
    api.add("a1", state="started")
    failed = await failure(launcher)
    assert (failed.failed, failed.again_seconds) == (False, fly.FULL_SECONDS)
    assert ("create", "") not in api.asked


async def test_a_machine_is_made_like_the_others_where_that_is_wanted(api: MachinesApi) -> None:
    api.add("a1", state="started", image="registry/worker:1", env={"A": "1"})
    async with fly_launcher(api.url, app="town", token="fly-token", create=True) as launcher:
        assert await launch(launcher, "default") == [None]
    made = api.machines["made1"]
    assert made.config == {
        "metadata": {"fly_process_group": "worker"},
        "image": "registry/worker:1",
        "env": {"A": "1", "TINYTOWN_POOL": "default"},
    }


# With real workers ---------------------------------------------------------------------------


@pytest.fixture
def town(redis_url: str, tmp_path: Path) -> Iterator[MachinesApi]:
    """Lend an API whose machines run real workers, with `fly.toml`'s idea of their environment."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "REDIS_URL": redis_url,
        "TINYTOWN_HOME": str(tmp_path),
        "TINYTOWN_AGENT": "command",
        "TINYTOWN_AGENT_COMMAND": "cat",
        "TINYTOWN_IDLE_SECONDS": "0.3",
    }
    log = (tmp_path / "log").open("wb")

    def run(env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tinytown_workers"]
        return subprocess.Popen(command, env={**environ, **env}, stderr=log)

    with log, MachinesApi(run=run) as api:
        yield api


@pytest.mark.timeout(90)
async def test_a_mission_wakes_a_machine_that_is_stopped_again_after_it(
    town: MachinesApi, town_of: MakeTown, store: Store, eventually: Eventually
) -> None:
    machines = [town.add("a1"), town.add("b2")]
    opening = fly_launcher(town.url, app="town", token="fly-token", create=False)
    async with reconciling(town_of(), opening):
        for number in (1, 2):
            mission = await start(store)

            async def completed(mission_id: str = mission.id) -> bool:
                return (await store.missions.read(mission_id)).state == "completed"

            await eventually(completed, within_seconds=20)
            await eventually(
                lambda: all(each.state == "stopped" for each in machines), within_seconds=10
            )
            assert len(town.started()) == number
    assert [code for each in machines for code in each.exits] == [0, 0]


@pytest.mark.timeout(90)
async def test_a_fleet_in_trouble_serves_every_mission_and_starts_nobody_twice(
    town: MachinesApi, town_of: MakeTown, store: Store, eventually: Eventually
) -> None:
    """Deploys, limits, hang-ups: as many starts as tasks at most, and all of them done."""
    for number in range(3):
        town.add(f"m{number}")
    town.trouble += [("list", 500), ("list", 429), ("start", 412), ("start", "lost")]
    opening = fly_launcher(town.url, app="town", token="fly-token", create=False)
    async with reconciling(town_of(), opening):
        missions = [await start(store) for _ in range(3)]

        async def done() -> bool:
            found = [await store.missions.read(each.id) for each in missions]
            return all(each.state == "completed" for each in found)

        await eventually(done, within_seconds=60)
    assert not town.trouble
    assert len(town.started()) <= 3
