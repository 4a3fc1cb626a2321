"""The generated market: sequence numbers, the book between two frames, exact texts."""

from __future__ import annotations

import json

import pytest

from ingestd.lab.sim.synthetic.market import DEPTH, Listing, Market, decimal_text
from ingestd.lab.sim.synthetic.wire import Wire

SPOT = Listing("BTC", False, 100_000)
LINEAR = SPOT._replace(linear=True)


@pytest.mark.parametrize("listing", [SPOT, LINEAR], ids=["spot", "linear"])
def test_depth_frames_continue_each_other_and_rebuild_the_book(listing: Listing) -> None:
    market = Market(listing, seed=3, first_id=1000, history=10)
    wire = Wire(market)
    market.open_book()
    bids = {market.price(tick).decode(): market.sizes[size].decode() for tick, size in market.bids.items()}
    last = market.update_id
    for _ in range(200):
        for _ in range(20):
            market.quote()
        frame = json.loads(wire.depth(1_790_000_000_000))
        assert frame["U"] == last + 1
        assert frame["u"] == market.update_id
        assert frame.get("pu", last) == last
        last = frame["u"]
        for price, size in frame["b"]:
            bids.pop(price, None)
            if float(size):
                bids[price] = size
    assert bids == {market.price(tick).decode(): market.sizes[size].decode() for tick, size in market.bids.items()}
    assert len(market.bids) == len(market.asks) == DEPTH
    assert max(market.bids) == market.bid == market.ask - 1 == min(market.asks) - 1


def test_trade_ids_increase_by_one_and_candles_add_up() -> None:
    market = Market(SPOT, seed=3, first_id=0, history=1000)
    trades = [market.trade(1_790_000_000_000 + number * 100) for number in range(1000)]
    assert [trade.trade_id for trade in trades] == list(range(1, 1001))
    assert sum(candle.count for candle in market.candles) == 1000
    assert sum(candle.volume for candle in market.candles) == sum(market.units[trade.size] for trade in trades)
    assert all(candle.low <= min(candle.open, candle.close) for candle in market.candles)
    assert all(candle.high >= max(candle.open, candle.close) for candle in market.candles)
    assert all(candle.open_ms % 60_000 == 0 for candle in market.candles)


def test_the_same_seed_is_the_same_market() -> None:
    one, other = (Market(SPOT, seed=9, first_id=0, history=10) for _ in range(2))
    assert [one.trade(0) for _ in range(100)] == [other.trade(0) for _ in range(100)]


@pytest.mark.parametrize(
    ("units", "decimals", "written", "text"),
    [(1, 2, 8, b"0.01000000"), (100_050, 2, 2, b"1000.50"), (7, 3, 3, b"0.007"), (0, 3, 8, b"0.00000000")],
)
def test_decimal_text_keeps_binances_zeros(units: int, decimals: int, written: int, text: bytes) -> None:
    assert decimal_text(units, decimals, written) == text


def test_payloads_are_binances() -> None:
    market = Market(SPOT, seed=3, first_id=5_000_000, history=10)
    wire = Wire(market)
    trade = market.trade(1_790_000_000_000)
    assert set(json.loads(wire.trade(trade))) == {"e", "E", "s", "t", "p", "q", "T", "m", "M"}
    aggregate = json.loads(wire.aggregate(trade))
    assert aggregate["f"] == aggregate["l"] == trade.trade_id != aggregate["a"]
    assert set(json.loads(wire.book_ticker(0))) == {"u", "s", "b", "B", "a", "A"}
    futures = Wire(Market(LINEAR, seed=3, first_id=5_000_000, history=10))
    assert set(json.loads(futures.book_ticker(0))) == {"e", "u", "s", "b", "B", "a", "A", "T", "E"}
    assert json.loads(futures.mark_price(1_790_000_000_000))["T"] % 28_800_000 == 0
