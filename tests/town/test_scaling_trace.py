"""Four simulated days, driven by the town's own arithmetic: what is promised, and that it shows."""

from __future__ import annotations

from collections.abc import Callable

from bench.scaling import four_days, over_all
from bench.scaling_trace import BOOT, Outcome, Town, trace, with_blocked, without_starting

from tinytown.models.scaling import Demand

SEEDS = range(20)


def test_the_promises_hold_on_the_trace() -> None:
    assert [row for row in four_days() if not row.kept] == []


def test_the_trace_is_the_one_it_stands_for() -> None:
    """Some twenty busy hours and eighty starts a day; else the promises mean something else."""
    found = [Town(trace(seed), idle_seconds=60).run() for seed in SEEDS]
    days = len(found) * 4
    assert 18 <= sum(each.spent["busy"] for each in found) / days / 3600 <= 22
    assert 75 <= sum(each.starts for each in found) / days <= 95


def test_nobody_waits_longer_than_a_boot_while_there_is_room() -> None:
    found = Town(trace(3), idle_seconds=60).run()
    assert found.wait(0.5) <= BOOT + 0.001
    assert found.late_with_room == 0


def spoilt(how: Callable[[Demand], Demand]) -> list[Outcome]:
    return [Town(trace(seed), idle_seconds=60, counted=how).run() for seed in SEEDS]


def test_forgetting_the_starts_on_their_way_would_show() -> None:
    found = spoilt(without_starting)
    assert max(each.most_at_once for each in found) > 5
    assert over_all(found) > 0.08


def test_taking_questions_for_work_would_show() -> None:
    found = spoilt(with_blocked)
    assert sum(each.needless_starts for each in found) > 1000
    assert over_all(found) > 0.2
