"""How long starts are held back after workers that end at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tinytown.launch.backoff import FORGIVEN_SECONDS, PAUSES_SECONDS, Backoff


def test_nothing_is_held_back_before_anything_failed() -> None:
    assert Backoff().wait(0.0) == 0.0


def test_the_third_failure_in_a_row_pauses_for_half_a_minute() -> None:
    backoff = Backoff()
    assert [backoff.failed(now) for now in (0.0, 1.0, 3.0)] == [1.0, 2.0, 30.0]
    assert backoff.wait(3.0) == 30.0
    assert backoff.wait(32.9) > 0
    assert backoff.wait(33.0) == 0.0


def test_the_pause_does_not_grow_without_end() -> None:
    backoff = Backoff()
    pauses = [backoff.failed(now * 30.0) for now in range(20)]
    assert pauses[2:] == [PAUSES_SECONDS[-1]] * 18


def test_failures_far_apart_are_not_in_a_row() -> None:
    backoff = Backoff()
    backoff.failed(0.0)
    backoff.failed(1.0)
    assert backoff.failed(1.0 + FORGIVEN_SECONDS + 0.1) == PAUSES_SECONDS[0]
    assert backoff.failures == 1


@given(st.lists(st.floats(min_value=0, max_value=1000), min_size=1, max_size=30))
def test_whatever_fails_a_start_is_never_held_back_longer_than_the_cap(gaps: list[float]) -> None:
    backoff, now = Backoff(), 0.0
    for gap in gaps:
        now += gap
        assert backoff.failed(now) in PAUSES_SECONDS
        assert 0 < backoff.wait(now) <= PAUSES_SECONDS[-1] + 1e-6
