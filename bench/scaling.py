"""What scaling promises: the four-day trace, and how fast a town at zero wakes up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio.to_thread

from bench.ground import Row
from bench.scaling_trace import BOOT, MOST, Outcome, Town, trace
from bench.scaling_trace import with_blocked as counting_questions
from bench.scaling_trace import without_starting as forgetting_starts
from bench.waking import waking

SEEDS: Final = 20
"""Traces of four days each: one is luck."""


async def scaling() -> list[Row]:
    """Live through the trace, then wake a town at zero as often as it takes."""
    return await anyio.to_thread.run_sync(lambda: four_days() + for_comparison()) + await waking()


def over_all(outcomes: Sequence[Outcome]) -> float:
    """Give the idle and boot seconds for each busy second, over all traces."""
    extra = sum(each.spent["idle"] + each.spent["starting"] for each in outcomes)
    return extra / sum(each.spent["busy"] for each in outcomes)


def four_days(seeds: int = SEEDS) -> list[Row]:
    """Serve the traces by the town's own arithmetic."""
    ours = [Town(trace(seed), idle_seconds=60).run() for seed in range(seeds)]
    waits = sorted(wait for each in ours for wait in each.waits)
    days = f"{seeds} traces of four days"

    def none(what: str, found: int) -> Row:
        return Row(f"{days}: {what}", "0", str(found), found == 0)

    needless = sum(each.needless_starts for each in ours)
    wait, over = waits[int(len(waits) * 0.95)], over_all(ours)
    most = max(each.most_at_once for each in ours)
    return [
        Row(f"{days}: wait p95", f"≤ {BOOT + 1:g} s (boot + 1)", f"{wait:.2f} s", wait <= BOOT + 1),
        Row(
            f"{days}: idle and boot ÷ busy agent-seconds, 60 s idle exit",
            "≤ 8 %",
            f"{over:.1%}",
            over <= 0.08,
        ),
        none("starts while all is blocked or deferred", needless),
        none("late although there was room", sum(o.late_with_room for o in ours)),
        none("tasks lost, busy workers killed", sum(o.lost for o in ours)),
        Row(f"{days}: workers at once", f"≤ {MOST}", str(most), most <= MOST),
    ]


def for_comparison(seeds: int = SEEDS) -> list[Row]:
    """Say what the same traces cost under other rules."""
    rows = []
    for name, how in (
        ("15 s idle exit", {"idle_seconds": 15.0}),
        ("300 s idle exit", {"idle_seconds": 300.0}),
        ("forgetting the starts on their way", {"counted": forgetting_starts}),
        ("counting questions as work", {"counted": counting_questions}),
    ):
        rules = {"idle_seconds": 60.0, **how}
        found = [Town(trace(seed), **rules).run() for seed in range(seeds)]  # type: ignore[arg-type]
        starts = sum(each.starts for each in found) / seeds / 4
        told = f"{over_all(found):.1%}, {starts:.0f} starts a day"
        rows.append(Row(f"the same days, {name}: idle and boot ÷ busy", "–", told))
    return rows
