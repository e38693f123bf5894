"""Demand in, Signal out: the pure arithmetic of how many workers a town wants."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

Recommendation = Literal["scale_up", "steady", "scale_down", "scale_to_zero"]
SLOTS: Final = 1
"""Tasks one worker runs at a time: a coding agent takes a whole machine."""


class WorkerCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers are in each state."""

    idle: int = 0
    busy: int = 0
    starting: int = 0
    draining: int = 0
    lost: int = 0

    @property
    def present(self) -> int:
        """How many exist and cost something."""
        return self.idle + self.busy + self.starting + self.draining


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool's leases and counters say, all counted by the store in one step."""

    waiting: int = 0
    active: int = 0
    leaving: int = 0
    """Those of the active whose worker drains: it will take nothing after them."""
    blocked: int = 0
    deferred: int = 0
    oldest_waiting_ms: int | None = None
    next_due_ms: int | None = None
    workers: WorkerCounts = WorkerCounts()


class Start(msgspec.Struct, frozen=True):
    """One worker to be started: its pool, and the id that names the promise."""

    id: str
    pool: str


class PoolSignal(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers a pool wants, and why."""

    desired: int
    start: int
    min: int
    max: int
    queue_depth: int
    waiting: int
    active: int
    blocked: int
    deferred: int
    oldest_waiting_seconds: float | None
    next_due_seconds: float | None
    workers: WorkerCounts
    recommendation: Recommendation
    reason: str


class Signal(PoolSignal, frozen=True, kw_only=True):
    """The town's signal (contract.md, `/api/scaling`)."""

    version: int
    town: str
    generated_at: str
    seq: int
    pools: dict[str, PoolSignal]


def wanted(demand: Demand, *, least: int, most: int) -> int:
    """Count the workers wanted in all: clamp(ceil((waiting + active) / slots) + draining).

    Tasks on draining workers are counted through `draining`: their workers still exist but take
    nothing new. Blocked and deferred work is no demand.
    """
    staying = demand.active - demand.leaving
    in_all = math.ceil((demand.waiting + staying) / SLOTS) + demand.workers.draining
    return max(least, min(most, in_all))


def to_start(demand: Demand, desired: int, *, most: int) -> int:
    """Count the workers a poller should start now: never more than wait and fit.

    Workers that are idle or already starting will take waiting tasks first. Workers that hold a
    blocked task are busy; they take a place of `most` although they are no demand.
    """
    workers = demand.workers
    missing = math.ceil(demand.waiting / SLOTS) - workers.idle - workers.starting
    below = desired - workers.present
    return max(0, min(max(missing, below), most - workers.present))


def signal(
    demand: Demand, *, least: int, most: int, now_ms: int, start: int | None = None
) -> PoolSignal:
    """Turn one pool's demand into its signal.

    For the whole town `start` is what its pools start together: an idle worker of one pool is no
    help to another.
    """
    workers = demand.workers
    desired = wanted(demand, least=least, most=most)
    if start is None:
        start = to_start(demand, desired, most=most)
    if start > 0:
        recommendation: Recommendation = "scale_up"
    elif desired == 0 and workers.busy == 0:
        recommendation = "scale_to_zero"
    elif workers.present > desired and workers.idle > 0 and demand.waiting == 0:
        recommendation = "scale_down"
    else:
        recommendation = "steady"
    return PoolSignal(
        desired=desired,
        start=start,
        min=least,
        max=most,
        queue_depth=demand.waiting + demand.active,
        waiting=demand.waiting,
        active=demand.active,
        blocked=demand.blocked,
        deferred=demand.deferred,
        oldest_waiting_seconds=_seconds_since(demand.oldest_waiting_ms, now_ms),
        next_due_seconds=_seconds_until(demand.next_due_ms, now_ms),
        workers=workers,
        recommendation=recommendation,
        reason=_reason(demand, most),
    )


def total(demands: dict[str, Demand]) -> Demand:
    """Add the pools up to the town's demand."""
    oldest = [d.oldest_waiting_ms for d in demands.values() if d.oldest_waiting_ms is not None]
    dues = [d.next_due_ms for d in demands.values() if d.next_due_ms is not None]
    return Demand(
        waiting=sum(d.waiting for d in demands.values()),
        active=sum(d.active for d in demands.values()),
        leaving=sum(d.leaving for d in demands.values()),
        blocked=sum(d.blocked for d in demands.values()),
        deferred=sum(d.deferred for d in demands.values()),
        oldest_waiting_ms=min(oldest) if oldest else None,
        next_due_ms=min(dues) if dues else None,
        workers=WorkerCounts(
            idle=sum(d.workers.idle for d in demands.values()),
            busy=sum(d.workers.busy for d in demands.values()),
            starting=sum(d.workers.starting for d in demands.values()),
            draining=sum(d.workers.draining for d in demands.values()),
            lost=sum(d.workers.lost for d in demands.values()),
        ),
    )


def share(demands: dict[str, Demand], *, most: int) -> dict[str, int]:
    """Split the town's `most` over its pools: who works keeps its place, then the oldest wait."""
    places: dict[str, int] = {}
    left = most
    for pool, demand in sorted(demands.items()):
        places[pool] = min(demand.workers.present, left)
        left -= places[pool]
    never = float("inf")
    by_age = sorted(
        demands.items(),
        key=lambda item: (
            never if item[1].oldest_waiting_ms is None else item[1].oldest_waiting_ms,
            item[0],
        ),
    )
    for pool, demand in by_age:
        # What it should start, not how many it wants in all: workers that hold blocked tasks are
        # no demand, yet they cannot take what waits.
        more = to_start(demand, wanted(demand, least=0, most=most), most=places[pool] + left)
        places[pool] += more
        left -= more
    return places


def missing(signal: Signal) -> list[str]:
    """List the pools that miss a worker, once for each: who waits longest comes first."""
    by_age = sorted(
        signal.pools.items(), key=lambda item: (-(item[1].oldest_waiting_seconds or 0.0), item[0])
    )
    return [pool for pool, part in by_age for _ in range(part.start)]


def only(signal: Signal, starts: Iterable[Start]) -> Signal:
    """Say the signal with these starts and no others: what a webhook should begin now."""
    counts = Counter(start.pool for start in starts)
    pools = {
        name: msgspec.structs.replace(part, start=counts[name])
        for name, part in signal.pools.items()
    }
    return msgspec.structs.replace(signal, start=counts.total(), pools=pools)


def _seconds_since(then_ms: int | None, now_ms: int) -> float | None:
    return None if then_ms is None else max(0, now_ms - then_ms) / 1000


def _seconds_until(then_ms: int | None, now_ms: int) -> float | None:
    return None if then_ms is None else max(0, then_ms - now_ms) / 1000


def _reason(demand: Demand, most: int) -> str:
    workers = demand.workers
    parts = [f"{demand.waiting} waiting", f"{workers.busy} busy"]
    for name, count in (
        ("idle", workers.idle),
        ("starting", workers.starting),
        ("draining", workers.draining),
    ):
        if count:
            parts.append(f"{count} {name}")
    parts.append(f"max {most}")
    return ", ".join(parts)
