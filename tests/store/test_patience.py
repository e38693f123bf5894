"""How loops live through an outage: growing waits, few lines, and a word when it is over."""

from __future__ import annotations

import logging
import time

import anyio
import anyio.lowlevel
import pytest
from redis import exceptions as redis_errors

from tinytown.store.faults import LINE_SECONDS, Patience


def test_waits_grow_to_a_cap_and_never_in_step() -> None:
    least = [Patience(draw=lambda: 0.0).wait_seconds(failures) for failures in range(1, 9)]
    most = [Patience(draw=lambda: 1.0).wait_seconds(failures) for failures in range(1, 9)]
    assert most == [0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 1.5, 1.5]
    assert least == [wait / 2 for wait in most]
    assert Patience().wait_seconds(10**9) <= 1.5


class Day:
    """A clock that moves only when a step is made, and a Redis that is away until some time."""

    def __init__(self, back_at: float) -> None:
        self.now = 100.0
        self.back_at = 100.0 + back_at

    def monotonic(self) -> float:
        return self.now

    async def step(self) -> str:
        self.now += 0.01
        if self.now < self.back_at:
            raise redis_errors.ConnectionError("redis://:secret-word@h:1 refused")
        return "done"

    def patience(self) -> Patience:
        return Patience(first_seconds=0.0005, cap_seconds=0.0005, monotonic=self.monotonic)


def lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    """Give the facts of every line of one event."""
    return [vars(record)["facts"] for record in caplog.records if record.message == event]


async def test_an_outage_of_many_loops_is_few_lines_and_one_that_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="tinytown.store.faults")
    day = Day(back_at=7.5)
    patience = day.patience()
    async with anyio.create_task_group() as tasks:
        for name in ("dispatcher", "notifier", "events"):
            tasks.start_soon(patience.keep_trying, name, day.step)
    # Said at once, after 1 s, then after 2 s and 4 s more.
    assert len(lines(caplog, "redis.away")) == 4
    assert lines(caplog, "redis.back") == []
    day.now += LINE_SECONDS
    await patience.keep_trying("dispatcher", day.step)
    (back,) = lines(caplog, "redis.back")
    assert back["away_seconds"] == pytest.approx(7.5, abs=0.1)
    await patience.keep_trying("dispatcher", day.step)
    assert len(lines(caplog, "redis.back")) == 1
    assert "secret-word" not in str(lines(caplog, "redis.away"))


async def test_a_short_blink_is_one_line_and_its_end_is_told_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="tinytown.store.faults")
    day = Day(back_at=0.05)
    patience = day.patience()
    for _ in range(300):
        assert await patience.keep_trying("dispatcher", day.step) == "done"
    assert [record.message for record in caplog.records] == ["redis.away", "redis.back"]
    assert lines(caplog, "redis.back")[0]["away_seconds"] == pytest.approx(0.04, abs=0.02)


async def test_one_loop_that_works_does_not_say_that_all_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="tinytown.store.faults")
    bad, good = Day(back_at=1_000_000), Day(back_at=0)
    patience = bad.patience()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patience.keep_trying, "bad", bad.step)
        while bad.now < 105:
            await patience.keep_trying("good", good.step)
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert len(lines(caplog, "redis.away")) == 3
    assert lines(caplog, "redis.back") == []


async def test_a_loop_cancelled_in_an_outage_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="tinytown.store.faults")
    day = Day(back_at=1_000_000)
    patience = day.patience()
    with anyio.move_on_after(0.05):
        await patience.keep_trying("gone", day.step)
    assert lines(caplog, "redis.back") == []
    day.now = day.back_at
    await patience.keep_trying("other", day.step)
    assert len(lines(caplog, "redis.back")) == 1


async def test_patience_is_for_outages_only() -> None:
    async def mistaken() -> None:
        raise redis_errors.ResponseError("WRONGTYPE Operation against a key")

    with pytest.raises(redis_errors.ResponseError):
        await Patience().keep_trying("test", mistaken)


async def test_a_patient_loop_can_be_cancelled_while_it_waits() -> None:
    async def gone() -> None:
        raise redis_errors.ConnectionError("gone")

    started = time.monotonic()
    with anyio.move_on_after(0.05):
        await Patience(first_seconds=30, cap_seconds=30).keep_trying("test", gone)
    assert time.monotonic() - started < 1
