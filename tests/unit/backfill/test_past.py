"""Which times of a window have a row, and what is said of those that have none."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.backfill.past import Coverage, row_proof
from ingestd.feeds.past.id_runs import Window

HOUR_US = 3_600_000_000


def missing(start: int, end: int, step: int | None, times: Sequence[int]) -> list[tuple[int, int]]:
    seen = Coverage(start, end, step)
    seen.see(times)
    return [(one.start_us, one.end_us) for one in seen.missing()]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([0, 10, 20, 30], []),
        ([10, 20, 30], [(0, 10)]),
        ([0, 10, 20], [(30, 40)]),
        ([0, 30], [(10, 30)]),
        ([], [(0, 40)]),
        ([0, 10, 20, 30, 40, 50], []),
    ],
)
def test_what_lacks_a_row_is_missing(times: list[int], expected: list[tuple[int, int]]) -> None:
    assert missing(0, 40, 10, times) == expected


def test_a_window_between_two_rows_needs_none() -> None:
    assert missing(5, 10, 10, []) == [(5, 10)]  # nothing was seen at all
    assert missing(1, 9, None, [0, 8 * HOUR_US, 16 * HOUR_US]) == []
    assert missing(10, 10, 10, []) == []


def test_funding_has_the_rhythm_of_its_market() -> None:
    eight = [8 * HOUR_US * index for index in range(10)]
    start, end = eight[3], eight[9]
    assert missing(start, end, None, eight) == []
    assert missing(start, end, None, [at + 3000 for at in eight]) == []  # some milliseconds late
    ((first, last),) = missing(start, end, None, [at for at in eight if at != eight[5]])
    assert first <= eight[5] + 60_000_000
    assert last == eight[6]
    assert missing(start, end, None, eight[5:]) == [(start, eight[5])]
    assert missing(start, end + 8 * HOUR_US, None, eight[:9])[-1][1] == end + 8 * HOUR_US
    assert missing(start, end, None, [eight[4]]) != []  # one alone has no rhythm


@given(st.sets(st.integers(0, 60)), st.integers(0, 60), st.integers(1, 60))
def test_every_step_without_a_row_is_in_a_stretch_and_no_other(present: set[int], start: int, length: int) -> None:
    end = start + length
    stretches = missing(start * 10, end * 10, 10, [at * 10 for at in sorted(present) if start <= at < end])
    absent = {at for at in range(start, end) if at not in present}
    assert {at for at in range(start, end) if any(low <= at * 10 < high for low, high in stretches)} == absent


def test_the_sentence_names_the_first_stretch_and_how_many_more() -> None:
    assert row_proof("candles", "1m", []).startswith("complete: every candle")
    stretch = Window(0, 60_000_000)
    assert row_proof("candles", "1m", [stretch, stretch, stretch]) == (
        "not proved complete: the venue has no closed candle of 1m for 1970-01-01 00:00:00.000 to 1970-01-01 "
        "00:01:00.000 UTC, and 2 more such stretches"
    )
