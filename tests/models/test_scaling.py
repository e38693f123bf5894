"""The arithmetic of scaling: what contract.md says, and what must hold for any demand."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.models.scaling import (
    Demand,
    PoolSignal,
    Signal,
    Start,
    WorkerCounts,
    missing,
    only,
    share,
    signal,
    to_start,
    total,
    wanted,
)

counts = st.integers(min_value=0, max_value=20)
NOW = 1_763_845_200_000


@st.composite
def demands(draw: st.DrawFn) -> Demand:
    """Draw a demand that a town can have: leases are held by workers."""
    busy, draining = draw(counts), draw(counts)
    leaving = draw(st.integers(0, draining))
    active = leaving + draw(st.integers(0, busy))
    waiting, deferred = draw(counts), draw(counts)
    return Demand(
        waiting=waiting,
        active=active,
        leaving=leaving,
        blocked=busy + draining - active,
        deferred=deferred,
        oldest_waiting_ms=NOW - draw(counts) if waiting else None,
        next_due_ms=NOW + draw(counts) if deferred else None,
        workers=WorkerCounts(
            idle=draw(counts),
            busy=busy,
            starting=draw(counts),
            draining=draining,
            lost=draw(counts),
        ),
    )


towns = st.dictionaries(st.sampled_from("abcdef"), demands(), max_size=6)
mosts = st.integers(0, 40)


def plus(demand: Demand, **more: int) -> Demand:
    """Add to a demand."""
    changed = {name: getattr(demand, name) + by for name, by in more.items()}
    return msgspec.structs.replace(demand, **changed)


def test_the_contracts_example_comes_out_of_its_situation() -> None:
    demand = Demand(
        waiting=2,
        active=1,
        blocked=1,
        oldest_waiting_ms=NOW - 4200,
        workers=WorkerCounts(busy=1, starting=1),
    )
    assert msgspec.to_builtins(signal(demand, least=0, most=5, now_ms=NOW)) == {
        "desired": 3,
        "start": 1,
        "min": 0,
        "max": 5,
        "queue_depth": 3,
        "waiting": 2,
        "active": 1,
        "blocked": 1,
        "deferred": 0,
        "oldest_waiting_seconds": 4.2,
        "next_due_seconds": None,
        "workers": {"idle": 0, "busy": 1, "starting": 1, "draining": 0, "lost": 0},
        "recommendation": "scale_up",
        "reason": "2 waiting, 1 busy, 1 starting, max 5",
    }


@pytest.mark.parametrize(
    ("demand", "expected"),
    [
        (Demand(), (0, 0, "scale_to_zero")),
        (Demand(workers=WorkerCounts(idle=1)), (0, 0, "scale_to_zero")),
        (Demand(waiting=1), (1, 1, "scale_up")),
        (Demand(waiting=1, workers=WorkerCounts(starting=1)), (1, 0, "steady")),
        (Demand(waiting=1, workers=WorkerCounts(idle=1)), (1, 0, "steady")),
        (Demand(active=1, workers=WorkerCounts(busy=1)), (1, 0, "steady")),
        (Demand(active=1, workers=WorkerCounts(busy=1, idle=2)), (1, 0, "scale_down")),
        (Demand(waiting=9), (5, 5, "scale_up")),
        (Demand(waiting=9, active=5, workers=WorkerCounts(busy=5)), (5, 0, "steady")),
        # A person's sleep is no demand: the worker that holds the question may be all there is.
        (Demand(blocked=1, workers=WorkerCounts(busy=1)), (0, 0, "steady")),
        # Nobody holds it: nothing needs to run while the person sleeps.
        (Demand(blocked=1), (0, 0, "scale_to_zero")),
        (Demand(deferred=4, next_due_ms=NOW + 1000), (0, 0, "scale_to_zero")),
        # Blocked workers are busy and cannot take what waits.
        (Demand(waiting=1, blocked=2, workers=WorkerCounts(busy=2)), (1, 1, "scale_up")),
        (Demand(waiting=1, blocked=5, workers=WorkerCounts(busy=5)), (1, 0, "steady")),
        # A draining worker with its task counts once, one without still counts.
        (Demand(active=1, leaving=1, workers=WorkerCounts(draining=1)), (1, 0, "steady")),
        (Demand(active=2, workers=WorkerCounts(busy=2, draining=1)), (3, 0, "steady")),
        (Demand(waiting=1, workers=WorkerCounts(draining=1)), (2, 1, "scale_up")),
        # What was lost is gone.
        (Demand(waiting=1, workers=WorkerCounts(lost=3)), (1, 1, "scale_up")),
    ],
)
def test_a_situation_has_one_answer(demand: Demand, expected: tuple[int, int, str]) -> None:
    found = signal(demand, least=0, most=5, now_ms=NOW)
    assert (found.desired, found.start, found.recommendation) == expected


@given(demand=demands(), least=st.integers(0, 5), most=mosts)
def test_desired_stays_within_its_bounds(demand: Demand, least: int, most: int) -> None:
    assert least <= wanted(demand, least=least, most=max(least, most)) <= max(least, most)


@given(demand=demands(), most=mosts)
def test_never_more_is_started_than_fits_or_waits(demand: Demand, most: int) -> None:
    start = to_start(demand, wanted(demand, least=0, most=most), most=most)
    assert 0 <= start <= max(0, most - demand.workers.present)
    assert start <= demand.waiting


@given(demand=demands(), least=st.integers(0, 10), most=st.integers(10, 40))
def test_what_is_started_fills_up_the_minimum(demand: Demand, least: int, most: int) -> None:
    desired = wanted(demand, least=least, most=most)
    assert demand.workers.present + to_start(demand, desired, most=most) >= least


@given(demand=demands(), most=mosts, more=st.integers(1, 5))
def test_more_that_waits_never_wants_less(demand: Demand, most: int, more: int) -> None:
    before = signal(demand, least=0, most=most, now_ms=NOW)
    after = signal(plus(demand, waiting=more), least=0, most=most, now_ms=NOW)
    assert after.desired >= before.desired
    assert after.start >= before.start


@given(demand=demands(), most=mosts, more=st.integers(1, 50))
def test_blocked_and_deferred_work_is_no_demand(demand: Demand, most: int, more: int) -> None:
    def asked(demand: Demand) -> tuple[int, int, str]:
        found = signal(demand, least=0, most=most, now_ms=NOW)
        return found.desired, found.start, found.recommendation

    assert asked(demand) == asked(plus(demand, blocked=more, deferred=more))


@given(demand=demands(), most=mosts)
def test_starting_what_was_asked_for_is_enough(demand: Demand, most: int) -> None:
    """A poller that starts `start` workers and looks again is not asked for more."""
    start = to_start(demand, wanted(demand, least=0, most=most), most=most)
    workers = msgspec.structs.replace(demand.workers, starting=demand.workers.starting + start)
    again = msgspec.structs.replace(demand, workers=workers)
    assert to_start(again, wanted(again, least=0, most=most), most=most) == 0


@given(town=towns, most=mosts)
def test_pools_share_the_towns_most(town: dict[str, Demand], most: int) -> None:
    places = share(town, most=most)
    assert set(places) == set(town)
    assert sum(places.values()) <= most
    for pool, demand in town.items():
        if sum(each.workers.present for each in town.values()) <= most:
            assert places[pool] >= demand.workers.present, "who works keeps its place"


@given(town=towns, most=mosts)
def test_no_place_is_left_empty_while_a_pool_waits_for_one(
    town: dict[str, Demand], most: int
) -> None:
    """Workers that hold blocked tasks must not keep their pool's other tasks from a worker."""
    places = share(town, most=most)
    if sum(places.values()) < most:
        for pool, demand in town.items():
            desired = wanted(demand, least=0, most=most)
            alone = to_start(demand, desired, most=most)
            assert to_start(demand, desired, most=places[pool]) == alone


def test_the_pool_that_waits_longest_gets_the_last_place() -> None:
    town = {
        "a": Demand(waiting=3, oldest_waiting_ms=NOW - 10),
        "b": Demand(waiting=1, oldest_waiting_ms=NOW - 99),
        "c": Demand(active=1, workers=WorkerCounts(busy=1)),
    }
    assert share(town, most=3) == {"a": 1, "b": 1, "c": 1}


def test_a_pool_whose_workers_wait_for_people_gets_one_for_what_else_waits() -> None:
    town = {"a": Demand(waiting=1, blocked=2, workers=WorkerCounts(busy=2), oldest_waiting_ms=NOW)}
    assert share(town, most=5) == {"a": 3}


@given(town=towns)
def test_the_town_is_the_sum_of_its_pools(town: dict[str, Demand]) -> None:
    whole = total(town)
    assert whole.waiting == sum(each.waiting for each in town.values())
    assert whole.workers.present == sum(each.workers.present for each in town.values())
    ages = [each.oldest_waiting_ms for each in town.values() if each.oldest_waiting_ms]
    assert whole.oldest_waiting_ms == (min(ages) if ages else None)


@given(demand=demands(), most=mosts)
def test_ages_are_never_negative(demand: Demand, most: int) -> None:
    found: PoolSignal = signal(demand, least=0, most=most, now_ms=NOW - 100)
    assert (found.oldest_waiting_seconds or 0) >= 0
    assert (found.next_due_seconds or 0) >= 0


def say(town: dict[str, Demand], most: int) -> Signal:
    """Say a town's signal as town/scaling.py does."""
    places = share(town, most=most)
    pools = {
        name: signal(demand, least=0, most=places[name], now_ms=NOW)
        for name, demand in town.items()
    }
    start = sum(pool.start for pool in pools.values())
    whole = signal(total(town), least=0, most=most, now_ms=NOW, start=start)
    return Signal(
        **{name: getattr(whole, name) for name in whole.__struct_fields__},
        version=1,
        town="main",
        generated_at="2026-11-22T21:00:00.123Z",
        seq=1,
        pools=pools,
    )


@given(town=towns, most=mosts)
def test_what_is_missing_is_what_the_signal_says(town: dict[str, Demand], most: int) -> None:
    said = say(town, most)
    listed = missing(said)
    assert len(listed) == said.start
    for pool, part in said.pools.items():
        assert listed.count(pool) == part.start
    ages = [said.pools[pool].oldest_waiting_seconds or 0 for pool in listed]
    assert ages == sorted(ages, reverse=True), "who waits longest comes first"
    present = sum(demand.workers.present for demand in town.values())
    assert len(listed) <= max(0, most - present)


@given(town=towns, most=mosts)
def test_starting_everything_that_is_missing_leaves_nothing_missing(
    town: dict[str, Demand], most: int
) -> None:
    after = {}
    listed = missing(say(town, most))
    for pool, demand in town.items():
        coming = demand.workers.starting + listed.count(pool)
        workers = msgspec.structs.replace(demand.workers, starting=coming)
        after[pool] = msgspec.structs.replace(demand, workers=workers)
    assert missing(say(after, most)) == []


@given(town=towns, most=mosts, more=st.integers(1, 5))
def test_only_waiting_work_starts_anybody(town: dict[str, Demand], most: int, more: int) -> None:
    still = {
        pool: msgspec.structs.replace(demand, waiting=0, oldest_waiting_ms=None, blocked=more)
        for pool, demand in town.items()
    }
    assert missing(say(still, most)) == []


@given(town=towns, most=mosts)
def test_a_webhook_hears_of_the_promised_starts_only(town: dict[str, Demand], most: int) -> None:
    said = say(town, most)
    starts = [Start(str(number), pool) for number, pool in enumerate(missing(said)[:2])]
    told = only(said, starts)
    assert told.start == len(starts) == sum(part.start for part in told.pools.values())
    assert (told.waiting, told.desired, told.seq) == (said.waiting, said.desired, said.seq)
