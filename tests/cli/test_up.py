"""`tt up`: a whole town in one process tree, opened, used, closed in order, and found again."""

from __future__ import annotations

import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE

import anyio
import pytest
from anyio.abc import Process

from conftest import Eventually
from families import Relative, family_of, living
from laptop import Laptop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Running:
    """A `tt up` beside the test."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said = ""

    async def says(self, words: str) -> None:
        """Wait until it said something on standard output."""
        assert self.process.stdout is not None
        with anyio.fail_after(20):
            while words not in self.said:
                self.said += (await self.process.stdout.receive()).decode()

    @property
    def family(self) -> list[Relative]:
        """Every process below it."""
        return family_of(self.process.pid)

    @property
    def workers(self) -> list[Relative]:
        """Its workers."""
        return [each for each in self.family if "tinytown.launch.child" in each.command]


@asynccontextmanager
async def town(home: Laptop, log: Path, *arguments: str) -> AsyncIterator[Running]:
    """Run `tt up` until it is told to stop (or the block ends)."""
    with log.open("ab") as file:
        process = await anyio.open_process(
            [str(home.program), "up", "--port", "0", *arguments],
            env=home.environ,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=file,
            start_new_session=True,
        )
    running = Running(process)
    async with process:
        try:
            await running.says("Ctrl-C closes the town.")
            yield running
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
                with anyio.move_on_after(15, shield=True):
                    await process.wait()


@pytest.fixture
def home(away: Laptop) -> Laptop:
    """Lend a laptop whose agent says what it was told, after asking when the goal says so."""
    agent = """
        goal=$(cat)
        echo "$goal"
        case $goal in ask*) tt ask 'Go on?' --option yes ;; esac
    """
    del away.environ["TINYTOWN_PORT"]
    return away.knowing(
        TINYTOWN_AGENT="command",
        TINYTOWN_AGENT_COMMAND=shlex.join(["sh", "-c", agent]),
        TINYTOWN_IDLE_SECONDS="1",
        TINYTOWN_DRAIN_SECONDS="3",
    )


async def test_a_town_comes_up_works_closes_in_order_and_is_found_again(
    home: Laptop, tmp_path: Path, eventually: Eventually
) -> None:
    log = tmp_path / "log"
    async with town(home, log) as up:
        assert "Its admin key, shown only now:" in up.said
        assert (await home("mission", "start", "say it", "--watch")).out.endswith(
            "completed: say it\n"
        )
        assert "tt_" not in log.read_text()
        second = await home("up", "--port", "0", code=4)
        assert f"process {up.process.pid}" in second.err
        await eventually(lambda: not up.workers, "the worker goes home", within_seconds=15)
        family = up.family
        assert [each.name for each in family] == ["redis-server"]
        up.process.send_signal(signal.SIGINT)
        assert await up.process.wait() == 0
        assert not living(family)
    await home("mission", "list", code=5)
    async with town(home, log) as up:
        assert "admin key" not in up.said
        (mission,) = (await home("mission", "list", "--json")).json["items"]
        assert mission["state"] == "completed"
        assert len((await home("keys", "list", "--json")).json["items"]) == 1


async def test_a_laptop_that_lost_its_key_gets_another(home: Laptop, tmp_path: Path) -> None:
    async with town(home, tmp_path / "log"):
        await home("mission", "list")
    (home.home / "connection.json").unlink()
    async with town(home, tmp_path / "log"):
        names = [each["name"] for each in (await home("keys", "list", "--json")).json["items"]]
        assert names == ["first", "tt up"]


async def test_a_closing_town_takes_its_workers_along_and_their_work_is_not_lost(
    home: Laptop, tmp_path: Path, eventually: Eventually
) -> None:
    log = tmp_path / "log"
    async with town(home, log) as up:
        mission = (await home("mission", "start", "ask me")).out.strip()

        async def asked() -> bool:
            return bool((await home("questions", "--json")).json["items"])

        await eventually(asked, "the question", within_seconds=20)
        family = up.family
        up.process.send_signal(signal.SIGTERM)
        assert await up.process.wait() == 0
        assert not living(family)
    async with town(home, log):
        await eventually(asked, "the question, again", within_seconds=20)
        await home("answer", "last", "yes")
        said = await home("mission", "watch", mission)
        assert said.out.splitlines()[-1].startswith(f"{mission} completed")


async def test_workers_do_not_outlive_a_town_that_was_killed(
    home: Laptop, tmp_path: Path, eventually: Eventually
) -> None:
    log = tmp_path / "log"
    async with town(home, log) as up:
        mission = (await home("mission", "start", "ask me")).out.strip()

        async def asked() -> bool:
            return bool((await home("questions", "--json")).json["items"])

        await eventually(asked, "the question", within_seconds=20)
        workers = up.workers
        assert len(workers) == 1
        up.process.send_signal(signal.SIGKILL)
        await up.process.wait()
        await eventually(lambda: not living(workers), "the workers go", within_seconds=20)
    async with town(home, log):
        await home("answer", "last", "yes")
        said = await home("mission", "watch", mission)
        assert said.out.splitlines()[-1].startswith(f"{mission} completed")


async def test_a_town_that_cannot_open_says_why_in_one_line(home: Laptop) -> None:
    said = await home.knowing(REDIS_URL="redis://127.0.0.1:9/0")("up", "--port", "0", code=5)
    assert said.err.startswith("tt: ")
    said = await home.knowing(TINYTOWN_LAUNCHER="fly", FLY_API_TOKEN="x", FLY_APP_NAME="y")(
        "up", code=2
    )
    assert "TINYTOWN_LAUNCHER" in said.err
    said = await home("up", "--host", "203.0.113.1", "--port", "0", code=1)
    assert "203.0.113.1" in said.err
