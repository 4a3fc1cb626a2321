"""Percentiles, ratios and medians, by hand."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.lab.bench.figures import Figure, Figures, percentile, us_each


def test_percentiles_are_values_that_were_measured() -> None:
    hundred = list(range(1, 101))
    assert percentile(hundred, 0.5) == 50
    assert percentile(hundred, 0.99) == 99
    assert percentile(hundred, 1.0) == 100
    assert percentile(reversed(hundred), 0.0) == 1
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no percentile"):
        percentile([], 0.5)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.floats(0, 1))
def test_at_least_the_share_does_not_exceed_a_percentile(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert found == min(values) or sum(value < found for value in values) < share * len(values)


def test_a_ratio_is_to_the_limit_measured_in_the_same_run() -> None:
    figures = Figures([Figure("psql", "psql", 200.0, "/s"), Figure("sink", "sink", 150.0, "/s", "psql")])
    figures.add("lost", "without its limit", 10.0, "/s", "never measured")
    sink, lost = figures.all()[1:]
    assert figures.ratio(sink) == 0.75
    assert figures.ratio(lost) is None
    assert figures.ratio(figures.all()[0]) is None
    assert figures.value("never measured") is None


def test_a_rate_is_the_median_of_its_rounds_and_shows_them() -> None:
    figures = Figures()
    figures.rate("a", "three", [30.0, 10.0, 2000.0], note="why")
    figures.rate("b", "one", [5.0])
    three, one = figures.all()
    assert three.value == statistics.median([30.0, 10.0, 2000.0]) == 30.0
    assert three.note == "why; rounds: 30, 10, 2,000"
    assert one.note == ""


def test_nothing_is_measured_twice_in_a_run() -> None:
    figures = Figures([Figure("a", "a", 1.0, "s")])
    with pytest.raises(ValueError, match="measured already"):
        figures.add("a", "a", 2.0, "s")


def test_microseconds_each() -> None:
    assert us_each(2.0, 1_000_000) == 2.0
