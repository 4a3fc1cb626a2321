"""Whose record is it: the rule that keeps a returning leader from storing a second copy of what its successor has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.records import Candle, Record
from ingestd.storage.leases import Term, Terms
from tests.support.records import book, tick, trade

S = 1_000_000


def term(epoch: int, *, mine: bool, taken: int, until: int) -> Term:
    return Term(epoch, "me" if mine else "other", mine, taken * S, until * S, until * S)


def candle(at: int, opened: int, timeframe: str = "1m") -> Candle:
    return Candle("binance", "BTC/USDT", opened * S, at * S, timeframe, "1", "2", "1", "2", "3")


# Mine from 100, another's from 200 to 300, mine again until 400, another's since.
SHARED = (
    term(1, mine=True, taken=100, until=190),
    term(2, mine=False, taken=200, until=310),
    term(3, mine=True, taken=300, until=400),
    term(4, mine=False, taken=400, until=500),
)


@pytest.mark.parametrize(
    ("at", "anothers"),
    [(50, False), (150, False), (199, False), (200, True), (299, True), (300, False), (399, False), (400, True)],
)
def test_ticks_and_books_are_stored_by_whose_turn_it_was(at: int, anothers: bool) -> None:
    terms = Terms(SHARED, now=450 * S)
    for record in (tick(1, received_at=at * S), book(1, received_at=at * S)):
        assert terms.belongs_to_another(record) is anothers


def test_what_has_a_key_is_stored_by_whoever_has_it() -> None:
    terms = Terms(SHARED, now=450 * S)
    assert not any(terms.belongs_to_another(trade(1, received_at=at * S)) for at in range(0, 600, 10))


def test_a_holder_that_ran_out_owns_nothing_after_that() -> None:
    """Nobody knows whether it still captured: a copy too many is better than none."""
    terms = Terms((term(1, mine=False, taken=100, until=200), term(2, mine=True, taken=300, until=400)), now=350 * S)
    received: list[Record] = [tick(1, received_at=at * S) for at in (150, 250, 320)]
    assert [terms.belongs_to_another(record) for record in received] == [True, False, False]
    dead = Terms((term(1, mine=False, taken=100, until=200),), now=350 * S)
    alive = Terms((term(1, mine=False, taken=100, until=200),), now=190 * S)
    late = tick(1, received_at=250 * S)
    assert not dead.belongs_to_another(late)
    assert alive.belongs_to_another(late)


def test_the_hosts_clock_is_set_against_the_databases() -> None:
    ahead = Terms(SHARED[:2], now=250 * S, ahead_us=30 * S)
    assert not ahead.belongs_to_another(tick(1, received_at=229 * S))  # 199 by the database
    assert ahead.belongs_to_another(tick(1, received_at=231 * S))


@pytest.mark.parametrize(
    ("at", "opened", "timeframe", "anothers"),
    [
        (130, 60, "1m", False),  # closed at 120, long before the other began
        (190, 180, "1m", True),  # open until 240: the other hears its end
        (130, 120, "1h", True),
        (130, 60, "weird", False),
        (210, 120, "1m", True),  # received in the other's time, whatever it is
    ],
)
def test_a_candle_does_not_replace_what_the_successor_knows_better(
    at: int, opened: int, timeframe: str, anothers: bool
) -> None:
    terms = Terms(SHARED[:2], now=250 * S)
    assert terms.belongs_to_another(candle(at, opened, timeframe)) is anothers


def test_without_a_lease_everything_is_ones_own() -> None:
    assert Terms().epoch == 0
    assert not Terms().belongs_to_another(tick(1))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=8),
    st.integers(0, 500),
)
def test_of_two_who_received_the_same_tick_one_stores_it(spans: list[tuple[str, int, int]], at: int) -> None:
    """Each span: who holds it, for how long, and how long nobody does after it. The last one lives."""
    terms, begin, holder_at = [], 10, ""
    for epoch, (holder, length, pause) in enumerate(spans, 1):
        last = epoch == len(spans)
        terms.append((epoch, holder, begin, 1000 if last else begin + length))
        if begin <= at and (last or at < begin + length):
            holder_at = holder
        begin += length + pause
    stores = {
        host: not Terms(
            tuple(term(epoch, mine=holder == host, taken=taken, until=until) for epoch, holder, taken, until in terms),
            now=600 * S,
        ).belongs_to_another(tick(1, received_at=at * S))
        for host in "ab"
    }
    assert stores == ({"a": holder_at == "a", "b": holder_at == "b"} if holder_at else {"a": True, "b": True})
