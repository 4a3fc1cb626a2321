"""When the frames of a volley are due, and what stands in a venue's frame."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.lab.sim.venue_frames import raw
from ingestd.lab.sim.volley import Bursts, Pace, Steady, burst_offsets


def test_a_steady_pace_is_so_many_a_second() -> None:
    pace = Steady(1000.0)
    assert [pace.due(at_s) for at_s in (0.0, 0.0005, 0.5, 2.0)] == [0, 0, 500, 2000]
    assert pace.at_s(500) == 0.5


def test_bursts_are_the_same_each_time_and_hold_what_was_asked_for() -> None:
    offsets = burst_offsets(60.0, 2_000.0)
    assert offsets == burst_offsets(60.0, 2_000.0)
    assert len(offsets) == 120_000
    assert 0 <= min(offsets) <= max(offsets) <= 60.0
    busiest = max(Counter(int(at * 10) for at in offsets).values())
    assert busiest > 5 * 200  # of a tenth of a second, against the mean


def test_a_stretch_can_be_played_faster() -> None:
    pace = Bursts([0.0, 1.0, 1.0, 5.0], speed=10.0)
    assert [pace.due(at_s) for at_s in (0.0, 0.09, 0.1, 0.5)] == [1, 1, 3, 4]
    assert pace.at_s(3) == 0.5


@pytest.mark.parametrize("pace", [Steady(333.0), Bursts(burst_offsets(5.0, 300.0), 3.0)], ids=["steady", "bursts"])
@given(number=st.integers(0, 1400))
def test_what_is_due_is_due_at_its_time(pace: Pace, number: int) -> None:
    at_s = pace.at_s(number)
    assert pace.due(at_s + 1e-9) > number - 1
    assert pace.due(at_s - 1e-9) <= number + 1


def test_a_frame_without_its_envelope() -> None:
    assert raw('{"stream":"a@trade","data":{"e":"trade","t":{n}}}') == '{"e":"trade","t":{n}}'
    assert raw('{"e":"trade"}') == '{"e":"trade"}'
