"""The text of a moment, against the standard library's own calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.clock import iso_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_1000_US, YEAR_10000_US = -30_610_224_000_000_000, 253_402_300_800_000_000  # a year of four digits


def written(time_us: int) -> str:
    moment = EPOCH + timedelta(microseconds=time_us)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


@given(st.integers(YEAR_1000_US, YEAR_10000_US - 1))
def test_any_moment(time_us: int) -> None:
    assert iso_text(time_us) == written(time_us)


@given(st.lists(st.integers(-3_000_000, 3_000_000), max_size=50))
def test_what_is_kept_of_one_moment_does_not_spoil_those_around_it(offsets: list[int]) -> None:
    for base in (0, 1_790_000_000_000_000):
        for offset in offsets:
            assert iso_text(base + offset) == written(base + offset)


def test_more_moments_than_are_kept() -> None:
    step_us = 7_919_000_123
    times = [number * step_us for number in range(30_000)]
    assert [iso_text(time_us) for time_us in times] == [written(time_us) for time_us in times]
    assert iso_text(times[0]) == written(times[0])


def test_what_no_calendar_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no such time"):
        iso_text(2**80)
