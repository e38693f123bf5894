"""When a failed delivery is tried again."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tinytown_notifiers.schedule import HORIZON_SECONDS, Schedule

ATTEMPTS = st.integers(1, 10_000)
SCHEDULES = st.builds(
    Schedule,
    first_seconds=st.floats(0.001, 60),
    cap_seconds=st.floats(60, 3600),
    attempts=st.integers(2, 10_000),
)


@given(SCHEDULES, ATTEMPTS, st.randoms(use_true_random=False))
def test_waits_stay_within_their_ceiling(
    schedule: Schedule, attempt: int, chance: random.Random
) -> None:
    wait = schedule.wait(attempt, chance=chance)

    if attempt >= schedule.attempts:
        assert wait is None
    else:
        assert wait is not None
        assert 0 <= wait <= schedule.ceiling(attempt) <= schedule.cap_seconds


@given(SCHEDULES, st.floats(0, HORIZON_SECONDS), st.randoms(use_true_random=False))
def test_never_earlier_than_the_receiver_asked_for(
    schedule: Schedule, asked: float, chance: random.Random
) -> None:
    wait = schedule.wait(1, retry_after_seconds=asked, chance=chance)

    assert wait is not None
    assert wait >= asked


@given(SCHEDULES, st.integers(1, 100))
def test_ceilings_double_until_the_cap(schedule: Schedule, attempt: int) -> None:
    now, after = schedule.ceiling(attempt), schedule.ceiling(attempt + 1)

    assert after == schedule.cap_seconds or after == 2 * now


def test_whoever_asks_for_more_than_a_day_is_given_up() -> None:
    assert Schedule().wait(1, retry_after_seconds=HORIZON_SECONDS + 1) is None


def test_the_jitter_is_full() -> None:
    chance = random.Random(1)
    waits = [Schedule().wait(6, chance=chance) or 0.0 for _ in range(2_000)]

    assert min(waits) < 1
    assert max(waits) > 63
    assert 30 < sum(waits) / len(waits) < 34


def test_the_default_schedule_gives_up_after_about_an_hour() -> None:
    chance = random.Random(1)
    schedule = Schedule()
    totals = [
        sum(schedule.wait(attempt, chance=chance) or 0 for attempt in range(1, schedule.attempts))
        for _ in range(500)
    ]

    assert 40 * 60 < sum(totals) / len(totals) < 80 * 60


def test_a_first_retry_comes_within_seconds() -> None:
    assert Schedule().ceiling(1) == 2.0
