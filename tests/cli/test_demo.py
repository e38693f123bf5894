"""`tt demo`: every step happens and is checked, or the exit code says that one is missing."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import anyio
import pytest

from families import family_of, living
from laptop import Laptop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

STEPS = (
    "a git repository whose check.py fails",
    "the town is open at http://127.0.0.1:",
    "a phone is added",
    "the mission is posted",
    "a worker is started and claims the task",
    "the agent fixes the spelling and asks a question",
    "the question is on the phone",
    "the answer '!' is pressed on the phone",
    "the agent goes on with the answer",
    "the mission is completed",
    "the phone knows",
    "the branch has",
    "the worker is home; the town is at zero",
    "the town is closed; no process and no directory is left",
)
LATENCIES = (
    "posted → claimed",
    "asked → push",
    "push → answer",
    "answer → agent continues",
    "done → push",
    "idle → home",
)


@pytest.fixture
def home(away: Laptop, tmp_path: Path) -> Laptop:
    """Lend a laptop that knows no town, with a temporary directory of its own."""
    place = tmp_path / "t"
    place.mkdir()
    return away.knowing(TMPDIR=str(place))


def left_behind(home: Laptop) -> list[str]:
    return [each.name for each in Path(home.environ["TMPDIR"]).iterdir()]


async def test_every_step_happens_and_nothing_is_left(home: Laptop) -> None:
    with anyio.fail_after(90):
        said = await home("demo")
    lines = said.out.splitlines()
    assert len(lines) == len(STEPS)
    for line, step in zip(lines, STEPS, strict=True):
        assert re.match(rf" *\d+\.\d\d s  ✓ {re.escape(step)}", line), line
    for name in LATENCIES:
        assert re.search(rf"{name} \d+ ms", said.out), name
    assert said.err == ""
    assert left_behind(home) == []
    assert not home.home.exists(), "the demo has a home of its own"


async def test_the_machines_own_settings_do_not_change_the_demo(home: Laptop) -> None:
    busy = home.knowing(
        REDIS_URL="redis://127.0.0.1:9/0",
        TINYTOWN_AGENT="claude",
        TINYTOWN_PUBLIC_URL="https://elsewhere.example",
        TINYTOWN_MAX_WORKERS="0",
        HTTP_PROXY="http://127.0.0.1:9",
        http_proxy="http://127.0.0.1:9",
    )
    with anyio.fail_after(90):
        assert "✓ the worker is home" in (await busy("demo")).out


async def test_a_phone_that_is_never_pressed_is_a_missing_step(home: Laptop) -> None:
    said = await home("demo", "--phone-ignores", "--patience", "4", code=1)
    assert said.err.splitlines()[-1] == (
        "tt: missing: the answer is pressed on the phone: not within 4 s"
    )
    assert STEPS[6] in said.out
    assert STEPS[7] not in said.out
    assert left_behind(home) == []


async def test_an_interrupted_demo_leaves_nothing(home: Laptop) -> None:
    async with home.running("demo", "--phone-ignores") as demo:
        assert demo.stdout is not None
        said = b""
        with anyio.fail_after(30):
            while b"is on the phone" not in said:
                said += await demo.stdout.receive()
        family = family_of(demo.pid)
        assert len(family) >= 2, "a Redis and a worker"
        demo.send_signal(signal.SIGINT)
        with anyio.fail_after(20):
            assert await demo.wait() == 128 + signal.SIGINT
    assert not living(family)
    assert left_behind(home) == []


async def test_what_is_kept_is_named(home: Laptop) -> None:
    said = await home("demo", "--keep")
    place = Path(said.out.splitlines()[-2].rpartition(" ")[2])
    assert (place / "origin.git").is_dir()
    assert "townhall.ready" in (place / "log").read_text()
