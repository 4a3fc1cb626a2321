"""How often something may be done, on a clock of the test's own."""

from __future__ import annotations

import pytest

from ingestd.feeds.native.pace import Pace


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
