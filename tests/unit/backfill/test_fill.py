"""What is said of a gap that was filled in several timeframes, and of rows that the table does not hold."""

from __future__ import annotations

from ingestd.backfill.fill import Filled, together
from ingestd.backfill.past import put_aside, said_of_lost
from ingestd.feeds.past.id_runs import Window

STRETCH = Window(0, 60_000_000)
COMPLETE = Filled(3, "complete: all of it")
LATE = Filled(2, "not proved complete: the newest are not there", [STRETCH], may_come=True)
GONE = Filled(0, "not proved complete: the oldest are gone", [STRETCH])


def test_one_part_is_said_as_it_is() -> None:
    assert together([COMPLETE]) == Filled(3, "complete: all of it", [], may_come=True)
    assert together([LATE]) == LATE


def test_what_is_missing_is_said_first_and_every_row_is_counted() -> None:
    filled = together([COMPLETE, LATE])
    assert filled.rows == 5
    assert filled.verdict == "not proved complete: the newest are not there; complete: all of it"
    assert filled.missing == [STRETCH]


def test_it_may_still_come_only_where_all_that_is_missing_may() -> None:
    assert together([COMPLETE, LATE]).may_come
    assert not together([LATE, GONE]).may_come
    assert not together([GONE, COMPLETE]).may_come


def test_what_was_lost_stands_before_what_the_venue_lacks() -> None:
    assert said_of_lost("complete: all of it", [put_aside(2)]) == (
        "not proved complete: 2 rows were put aside in rejected_records"
    )
    assert said_of_lost("not proved complete: the oldest are gone", [put_aside(1), "1 was not taken"]) == (
        "not proved complete: 1 rows were put aside in rejected_records; 1 was not taken; the oldest are gone"
    )
