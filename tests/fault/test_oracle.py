"""The judge finds every way in which the promise can be broken, and nothing where it was kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fault import events
from tests.fault.oracle import Ledger, Row, Stored, judge

BASE_US = 1_790_000_000_000_000
COUNTS: dict[str, dict[str, int]] = {
    "received": {"ticks": 900, "trades": 1000},
    "recovered": {"ticks": 100},
    "stored": {"ticks": 1000, "trades": 950},
    "duplicate": {"trades": 49},
    "rejected": {"trades": 1},
    "dropped": {},
    "released": {},
    "in_journal": {},
}


def row(number: int) -> Row:
    quantity = events.quantity_of(number) if events.is_trade(number) else None
    symbol, price = events.symbol_of(number), events.price_of(number)
    return Row(number, number // 100, symbol, BASE_US + number, price, quantity)


def sound() -> tuple[Ledger, Stored]:
    """2,000 events sent, 1,950 answered, two of the others stored; event 997 is the flawed one."""
    answered = frozenset(range(1, 1951)) - {997}
    stored = Stored(rejected=[997])
    for number in (*sorted(answered), 1960, 1961):
        (stored.trades if events.is_trade(number) else stored.ticks).append(row(number))
    return Ledger(1, 2001, BASE_US, answered, frozenset({997})), stored


def complaints(ledger: Ledger, stored: Stored, lives: Any = (COUNTS,)) -> str:
    return "; ".join(judge(ledger, stored, lives).complaints)


def test_what_was_kept_is_not_complained_about() -> None:
    ledger, stored = sound()
    verdict = judge(ledger, stored, [COUNTS])
    assert verdict.complaints == ()
    assert (verdict.journaled, verdict.refused, verdict.unknown, verdict.unknown_stored) == (1949, 1, 50, 2)


def test_a_report_is_read_as_it_was_told() -> None:
    report = {"first": 1, "end": 11, "base_us": 5, "journaled": [[1, 4], [6, 8]], "refused": [9]}
    ledger = Ledger.read(report)
    assert ledger.journaled == {1, 2, 3, 6, 7}
    assert ledger.unknown == {4, 5, 8, 10}


def test_a_journaled_one_that_is_nowhere() -> None:
    ledger, stored = sound()
    stored.ticks.remove(row(500))
    assert complaints(ledger, stored) == "1 lost: 500"


def test_an_unknown_one_that_is_nowhere_is_no_loss() -> None:
    ledger, stored = sound()
    stored.ticks.remove(row(1960))
    assert complaints(ledger, stored) == ""


@pytest.mark.parametrize("number", [500, 1960])
def test_one_that_is_there_twice_whatever_was_known_of_it(number: int) -> None:
    ledger, stored = sound()
    stored.ticks.append(row(number))
    assert f"1 stored twice: {number}" in complaints(ledger, stored)


def test_one_that_nobody_sent() -> None:
    ledger, stored = sound()
    stored.ticks.append(row(2002))
    assert complaints(ledger, stored) == "1 stored and never sent: 2002"


def test_a_refused_one_that_is_stored_or_nowhere_or_twice() -> None:
    ledger, stored = sound()
    stored.trades.append(row(997))
    assert "stored although refused: 997" in complaints(ledger, stored)
    ledger, stored = sound()
    stored.rejected.clear()
    assert complaints(ledger, stored) == "1 lost of the refused: 997"
    ledger, stored = sound()
    stored.rejected.append(997)
    assert complaints(ledger, stored) == "1 put aside twice: 997"


def test_a_sound_one_that_was_refused() -> None:
    ledger, stored = sound()
    stored.rejected.append(1970)
    assert complaints(ledger, stored) == "1 refused without a flaw: 1970"


@pytest.mark.parametrize("change", [{"price": "9"}, {"symbol": "X"}, {"time_us": 1}, {"quantity": "9"}])
def test_one_that_was_changed(change: dict[str, Any]) -> None:
    ledger, stored = sound()
    stored.trades[7] = replace(stored.trades[7], **change)
    assert f"with another value than was sent: {stored.trades[7].number}" in complaints(ledger, stored)


def test_one_that_came_later_than_its_successor() -> None:
    ledger, stored = sound()
    index = next(index for index, row in enumerate(stored.ticks) if row.number == 500)
    stored.ticks[index] = replace(stored.ticks[index], transaction=7)
    assert complaints(ledger, stored) == "1 visible before an earlier one of its symbol: 500"


@pytest.mark.parametrize("term", ["received", "stored", "duplicate", "rejected", "dropped", "released", "in_journal"])
def test_a_record_that_is_not_accounted_for(term: str) -> None:
    ledger, stored = sound()
    wrong = {**COUNTS, term: {**COUNTS[term], "trades": COUNTS[term].get("trades", 0) + 1}}
    assert "came and" in complaints(ledger, stored, [COUNTS, wrong])
