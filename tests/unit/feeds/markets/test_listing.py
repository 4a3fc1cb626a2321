"""What a list of markets makes doubtful, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.listing import CLOSED, LACKING, SILENT_US, Choice, ListingDoubts, has_expired, is_poor
from ingestd.status import StreamStatus

NOW = 1_790_000_000_000_000  # 2026-09-21


def stream(symbol: str, last: int) -> StreamStatus:
    return StreamStatus("trades", symbol, received=1, last_received_at=last, followed_at=1)


def choice(symbols: Sequence[str], closed: Sequence[str] = (), lacking: Sequence[str] = ()) -> Choice:
    return Choice(symbols, {symbol: {} for symbol in symbols}, closed=set(closed), lacking=set(lacking))


def test_what_was_closed_when_it_was_first_followed_is_not_in_doubt() -> None:
    doubts = ListingDoubts()
    assert doubts.judge(choice(["A", "B"], closed=["A"]), [], NOW).doubtful == {}
    assert doubts.judge(choice(["A", "B"], closed=["A"]), [], NOW).doubtful == {}
    assert doubts.judge(choice(["A", "B"], closed=["B"]), [], NOW).doubtful == {"B": CLOSED}
    assert doubts.judge(choice(["A", "B"], closed=["A"]), [], NOW).doubtful == {"A": CLOSED}


def test_what_is_lacking_is_in_doubt_once_none_of_its_streams_delivers() -> None:
    doubts = ListingDoubts()
    streams = [stream("A", NOW - SILENT_US), stream("A", NOW)]
    assert doubts.judge(choice(["A"], lacking=["A"]), streams, NOW).doubtful == {}
    assert doubts.judge(choice(["A"], lacking=["A"]), streams, NOW + SILENT_US).doubtful == {"A": LACKING}
    assert doubts.judge(choice(["A"], lacking=["A"]), streams, NOW + 2 * SILENT_US).doubtful == {}
    judgement = doubts.judge(choice(["A"]), streams, NOW + 3 * SILENT_US)
    assert (judgement.doubtful, judgement.back) == ({}, ["A"])


@pytest.mark.parametrize(
    ("symbol", "market", "expected"),
    [
        ("BTC/USDT:USDT-260920", None, True),
        ("BTC/USDT:USDT-260921", None, False),  # its day is not over
        ("BTC/USD:BTC-260901-60000-C", None, True),
        ("BTC/USDT:USDT-260920", {"expiry": NOW // 1000 + 1}, False),
        ("BTC/USDT:USDT-269999", {"expiry": NOW // 1000}, True),
        ("BTC/USDT:USDT-269999", None, False),
        ("BTC/USDT:USDT", {"expiry": None}, False),
        ("BTC-200101/USDT", None, False),
    ],
)
def test_a_contract_whose_time_is_over(symbol: str, market: dict[str, Any] | None, expected: bool) -> None:
    assert has_expired(symbol, market, NOW) is expected


def test_a_poor_list() -> None:
    known = [str(number) for number in range(100)]
    assert not is_poor(known, known[5:], known[50:])
    assert is_poor(known, known[50:], [])
    assert is_poor(known, known[1:], ["0"])
    assert not is_poor([], known, [])


states = st.dictionaries(st.sampled_from(["A/X", "B/X", "C/X"]), st.sampled_from([True, False, None]))


@given(st.lists(states, max_size=8), st.sampled_from([["A/X", "B/X", "C/X"], ["*/X"], ["A/X", "?/X"]]))
def test_no_list_ends_what_is_followed_and_each_spell_of_doubt_is_said_once(
    lists: list[dict[str, bool | None]], wanted: list[str]
) -> None:
    """`None`: the list says nothing of it being active. Every stream is silent, so what is lacking is in doubt."""
    doubts, followed, in_doubt = ListingDoubts(), dict[str, Any](), set[str]()
    for listed in lists:
        markets = {**followed, **{symbol: {"active": active} for symbol, active in listed.items()}}
        symbols = symbol_names.resolve(wanted, markets, followed=followed).symbols
        assert followed.keys() <= set(symbols)
        lacking = [symbol for symbol in symbols if symbol not in listed]
        closed = [symbol for symbol in symbols if listed.get(symbol) is False]
        judged = doubts.judge(choice(symbols, closed, lacking), [stream(s, 1) for s in symbols], NOW)
        in_doubt |= {symbol for symbol in closed if symbol not in followed}
        doubtful = {*lacking, *closed}
        assert judged.doubtful.keys() == doubtful - in_doubt
        assert set(judged.back) == in_doubt - {*lacking, *closed}
        in_doubt = (in_doubt - set(judged.back)) | doubtful
        followed = {symbol: markets[symbol] for symbol in symbols}
