"""ccxt's dicts as records."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.feeds.ccxt import records as convert
from ingestd.venues.exact import ExactFloat
from ingestd.venues.trade_identity import TradeIds

NOW = 1_700_000_000_000_000
START = 1_600_000_000_000_000


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "id": "42",
        "timestamp": 1_699_999_999_123,
        "side": "sell",
        "price": ExactFloat("0.00100000"),
        "amount": ExactFloat("1.50"),
        **changes,
    }


def record(ids: TradeIds | None = None, **changes: Any) -> Any:
    return convert.trade_record("x", "A/B", trade(**changes), NOW, ids or TradeIds(START))


def test_a_trade_has_the_venues_text_time_and_id() -> None:
    made = record()

    assert (made.price, made.quantity, made.side) == ("0.00100000", "1.50", "sell")
    assert (made.time, made.received_at) == (1_699_999_999_123_000, NOW)
    assert (made.trade_id, made.seq) == ("42", 42)


@pytest.mark.parametrize("trade_id", ["a1b2", "9223372036854775808", "-5", "4.2", "٤٢"])
def test_a_trade_id_that_is_no_number_is_ordered_by_arrival(trade_id: str) -> None:
    ids = TradeIds(START)

    assert [record(ids, id=trade_id).seq for _ in range(3)] == [START + 1, START + 2, START + 3]


def test_the_largest_id_that_fits() -> None:
    assert record(id=str(2**63 - 1)).seq == 2**63 - 1
    assert record(id=7).seq == 7


def test_a_trade_without_an_id_is_named_after_its_fields() -> None:
    first, again = TradeIds(START), TradeIds(START + 10**9)
    names = [record(first, id=None).trade_id for _ in range(3)]

    assert names[0].startswith("s-")
    assert names[1:] == [f"{names[0]}.1", f"{names[0]}.2"]
    assert [record(again, id="").trade_id for _ in range(3)] == names  # sent again after a restart: the same names
    assert record(first, id=None, price=ExactFloat("2")).trade_id not in names
    assert record(first, id=None, timestamp=1_699_999_999_124).trade_id not in names


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=6), st.randoms())
def test_what_another_connection_sends_again_adds_no_name(frames: list[list[int]], random: Any) -> None:
    """`frames`: how many milliseconds after the one before it each equal trade is; the snapshot is in any order."""
    first, again = TradeIds(START), TradeIds(START)
    at, sent, names = 0, [], []
    for number, steps in enumerate(frames):
        for step in steps:
            at += step
            sent.append(at)
            names.append(first.synthetic("A/B", at, "1", "1", "buy", number))
    assert len(set(names)) == len(names)
    snapshot = sorted(sent, key=lambda _: random.random())[: random.randint(1, len(sent))]
    assert {again.synthetic("A/B", at, "1", "1", "buy", 0) for at in snapshot} <= set(names)
    first.forget_equal_trades("A/B")
    assert {first.synthetic("A/B", at, "1", "1", "buy", 99) for at in sent} == set(names)


def test_what_a_trade_lacks() -> None:
    assert record(price=None) is None
    assert record(amount=None) is None
    assert record(side=None).side is None
    assert record(timestamp=None).time == NOW


def test_a_tick_with_one_empty_side() -> None:
    made = convert.tick_record("x", "A/B", {"bid": ExactFloat("1.0"), "bidVolume": None, "ask": None}, NOW)

    assert made is not None
    assert (made.bid_price, made.bid_volume, made.ask_price, made.time) == ("1.0", None, None, NOW)
    assert convert.tick_record("x", "A/B", {"last": 1.0}, NOW) is None


def test_the_top_of_a_book() -> None:
    book = {
        "bids": [[ExactFloat("1.10"), ExactFloat("5.0")], [1.0, 2], [0.9, 1.0]],
        "asks": [[ExactFloat("1.20"), 3.0]],
        "nonce": 77,
        "timestamp": 5,
    }

    made = convert.book_record("x", "A/B", book, NOW, levels=2)

    assert made is not None
    assert made.bids == (("1.10", "5.0"), ("1.0", "2"))
    assert made.asks == (("1.20", "3.0"),)
    assert (made.sequence, made.time, made.valid) == (77, 5_000, True)


def test_where_the_library_keeps_the_venues_time_as_text_its_microseconds_count() -> None:
    """Coinbase Advanced and Kraken: the time stands in the envelope, not in `info`."""
    at = {"timestamp": 1_618_677_817_075, "datetime": "2021-04-17T16:43:37.075687123Z"}
    tick = convert.tick_record("x", "A/B", {"bid": "1", "ask": "2", "info": {}, **at}, NOW)
    book = convert.book_record("x", "A/B", {"bids": [[1.0, 1.0]], "asks": [], **at}, NOW, levels=1)

    assert tick is not None
    assert book is not None
    assert tick.time == book.time == 1_618_677_817_075_687


def test_a_text_of_another_time_is_no_more_exact() -> None:
    at = {"timestamp": 1_618_677_817_075, "datetime": "2021-04-17T16:43:38.076687Z"}
    book = convert.book_record("x", "A/B", {"bids": [[1.0, 1.0]], "asks": [], **at}, NOW, levels=1)

    assert book is not None
    assert book.time == 1_618_677_817_075_000


def test_a_crossed_book_is_not_valid_and_an_empty_one_is_nothing() -> None:
    crossed = {"bids": [[2.0, 1.0]], "asks": [[1.0, 1.0]], "nonce": None, "timestamp": None}
    made = convert.book_record("x", "A/B", crossed, NOW, levels=5)

    assert made is not None
    assert not made.valid
    assert convert.book_record("x", "A/B", {"bids": [], "asks": []}, NOW, levels=5) is None


def test_funding_is_annualised_when_its_interval_is_known() -> None:
    rate = {"fundingRate": ExactFloat("0.0001"), "fundingTimestamp": 28_800_000, "interval": "8h", "markPrice": "5.0"}

    made = convert.funding_record("x", "A/B", rate, NOW)

    assert made is not None
    assert (made.annualised_rate, made.next_funding_time, made.mark_price) == ("0.1095", 28_800_000_000, "5.0")
    unknown = convert.funding_record("x", "A/B", {**rate, "interval": None}, NOW)
    assert unknown is not None
    assert unknown.annualised_rate is None
    assert convert.funding_record("x", "A/B", {}, NOW) is None


def test_open_interest() -> None:
    made = convert.open_interest_record("x", "A/B", {"openInterestAmount": "10.50", "openInterestValue": 3.0}, NOW)

    assert made is not None
    assert (made.open_interest, made.open_interest_usd) == ("10.50", "3.0")
    only_value = convert.open_interest_record("x", "A/B", {"openInterestValue": 3.0}, NOW)
    assert only_value is not None
    assert (only_value.open_interest, only_value.open_interest_usd, only_value.unit) == (None, "3.0", None)


def test_a_market_as_a_row() -> None:
    info = convert.market_info(
        "x",
        {
            "id": "BTCUSDT",
            "symbol": "BTC/USDT",
            "base": "BTC",
            "quote": "USDT",
            "type": "spot",
            "active": None,
            "limits": {"amount": {"min": ExactFloat("0.00100000"), "max": None}},
            "precision": {"price": 1e-8, "amount": ExactFloat("0.10")},
        },
    )

    assert (info.market_id, info.active, info.min_amount, info.max_amount) == ("BTCUSDT", True, "0.00100000", None)
    assert (info.price_precision, info.amount_precision) == ("0.00000001", "0.10")
