"""How often something may be done, on a clock of the test's own."""

from __future__ import annotations

import pytest

from ingestd.feeds.streams.pace import Pace


def times(pace: Pace, count: int, now_s: float) -> list[float]:
    """When each of `count` that are wanted at `now_s` may be done."""
    return [now_s + pace.take(now_s) for _ in range(count)]


def test_one_after_the_other() -> None:
    assert times(Pace(4.0), 4, 100.0) == pytest.approx([100.0, 100.25, 100.5, 100.75])


def test_a_burst_is_made_up_for() -> None:
    pace = Pace(1.0, burst=3)
    assert times(pace, 5, 100.0) == pytest.approx([100.0, 100.0, 100.0, 101.0, 102.0])
    assert times(pace, 2, 103.0) == pytest.approx([103.0, 104.0])


def test_what_was_not_used_is_not_saved_beyond_the_burst() -> None:
    pace = Pace(1.0, burst=2)
    pace.take(0.0)
    assert times(pace, 3, 1000.0) == pytest.approx([1000.0, 1000.0, 1001.0])


@pytest.mark.parametrize("most", [1, 2, 7, 480])
def test_no_hour_has_more_than_its_limit_however_it_begins(most: int) -> None:
    pace = Pace.hourly(most)
    at, now_s = [], 1e6
    for _ in range(5 * most):
        now_s += pace.take(now_s)
        at.append(now_s)
    busiest = max(sum(start <= other < start + 3599.999 for other in at) for start in at)
    assert busiest <= max(most, 2)
    assert at[max(1, most // 2) - 1] == pytest.approx(1e6, abs=0.001)


@pytest.mark.parametrize("now_s", [0.0, 1.0, 900.0])
def test_a_burst_is_allowed_however_short_ago_the_machine_was_started(now_s: float) -> None:
    """The monotonic clock of Linux begins at the start of the machine."""
    assert times(Pace.hourly(6), 4, now_s) == pytest.approx([now_s, now_s, now_s, now_s + 1200.0])
