"""What every bench stands on: rows of the table, percentiles, and what a process costs."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

import anyio
import msgspec

# Real servers and townhalls are started the way the tests start them.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


class Row(msgspec.Struct, frozen=True):
    """One line of the table: what was promised, what was found, and whether it holds."""

    what: str
    promised: str
    found: str
    kept: bool | None = None
    """None: a figure to compare with, no promise of ours."""


def percentile(values: Sequence[float], percent: int) -> float:
    """Find a percentile of measured values (1 to 99)."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def latency(
    what: str, seconds: Sequence[float], *, p50_ms: float, p99_ms: float | None = None
) -> Row:
    """Compare measured latencies with what was promised."""
    p50, p99 = percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000
    promised = f"p50 ≤ {p50_ms:g} ms" + (f", p99 ≤ {p99_ms:g} ms" if p99_ms else "")
    kept = p50 <= p50_ms and (p99_ms is None or p99 <= p99_ms)
    return Row(what, promised, f"p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(seconds)}", kept)


def pss_mb(pid: int) -> float:
    """Read a process's proportional share of memory, in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(pid)


def family(pid: int) -> list[int]:
    """List a process and its descendants."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_seconds(pid: int) -> float:
    """Read how much processor time a process has used, all its threads together."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


async def until(holds: Callable[[], Any], *, within_seconds: float = 30) -> None:
    """Wait until something holds, asking every few milliseconds."""
    with anyio.fail_after(within_seconds):
        while True:
            held = holds()
            if isinstance(held, Awaitable):
                held = await held
            if held:
                return
            await anyio.sleep(0.001)


async def commands_so_far(client: Any) -> int:
    """Count the commands Redis has run, those inside scripts included, without this question."""
    stats = await client.info("commandstats")
    return sum(row["calls"] for name, row in stats.items() if not name.endswith("_info"))
