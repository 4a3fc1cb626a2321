"""What validation lets through, and what it puts aside and why."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.clock import MICROSECONDS_PER_DAY
from ingestd.records import Liquidation, MarketRecord, MarkPrice, Tick, Trade, encode_batch
from ingestd.validation import OLDEST_TIME_US, all_valid, as_json, rejection, rejection_reason, time_window
from tests.support.records import NOW_US, book, market_records, tick, trade

WINDOW = time_window(NOW_US + 10 * MICROSECONDS_PER_DAY, 60, {Trade: 365, Tick: 0})


@given(market_records())
def test_what_a_venue_sends_passes(record: MarketRecord) -> None:
    if isinstance(record, Tick) and record.bid_price is None and record.ask_price is None:
        return
    assert rejection_reason(record, WINDOW) is None


texts = st.sampled_from(["NaN", "-1", "0", "", "1 ", "1.5", ".5", "9" * 200, "a\n", "a" * 129])
FIELDS: dict[str, st.SearchStrategy[object]] = {
    **dict.fromkeys(("price", "quantity", "trade_id", "exchange", "symbol", "side"), texts),
    **dict.fromkeys(("bid_price", "ask_price", "bid_volume", "ask_volume"), texts | st.none()),
    **dict.fromkeys(("seq", "time", "received_at"), st.sampled_from([-1, 0, OLDEST_TIME_US, 2**62, 2**63])),
}


@st.composite
def perhaps_flawed(draw: st.DrawFn) -> MarketRecord:
    record = draw(market_records())
    names = [name for name in FIELDS if name in record.__struct_fields__]
    changed = draw(st.lists(st.sampled_from(names), max_size=1))
    return msgspec.structs.replace(record, **{name: draw(FIELDS[name]) for name in changed})


@given(st.lists(perhaps_flawed(), max_size=5))
def test_a_batch_is_sound_when_each_of_its_records_is(records: list[MarketRecord]) -> None:
    assert all_valid(records, WINDOW) == all(rejection_reason(record, WINDOW) is None for record in records)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "inf", "-1", "0", "0.000", "", " 1", "1 ", "1,5",
                                  "0x10", "1e999", "١", "1\n", "--1", "1_000", "9" * 200])  # fmt: skip
def test_a_price_that_is_no_positive_finite_number_is_put_aside(text: str) -> None:
    assert rejection_reason(trade(price=text), WINDOW) == "price"
    assert rejection_reason(trade(quantity=text), WINDOW) == "quantity"
    assert rejection_reason(tick(bid_price=text), WINDOW) == "price"


@pytest.mark.parametrize("text", ["1", "1.", ".5", "0.00000001", "1e-8", "5E+3", "64000.100"])
def test_every_way_to_write_a_number_passes(text: str) -> None:
    assert rejection_reason(trade(price=text), WINDOW) is None
    assert Decimal(text) > 0


def test_an_empty_side_of_a_tick_passes_and_two_do_not() -> None:
    assert rejection_reason(tick(bid_price=None, bid_volume=None), WINDOW) is None
    assert rejection_reason(tick(bid_price=None, ask_price=None), WINDOW) == "no_price"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": WINDOW.newest + 1}, "too_far_ahead"),
        ({"time": 0}, "time_missing"),
        ({"time": OLDEST_TIME_US - 1}, "time_missing"),
        ({"time": NOW_US - 356 * MICROSECONDS_PER_DAY}, "older_than_retention"),
        ({"trade_id": ""}, "trade_id"),
        ({"trade_id": "a\x00b"}, "trade_id"),
        ({"trade_id": "x" * 129}, "trade_id"),
        ({"trade_id": "a\ud800"}, "trade_id"),
        ({"symbol": "BTC\n"}, "text"),
        ({"side": "BUY"}, "side"),
        ({"received_at": 0}, "received_at"),
        ({"received_at": 2**62}, "received_at"),
        ({"seq": -1}, "seq"),
        ({"seq": 2**63}, "seq"),
    ],
)
def test_each_flaw_has_its_reason(changes: dict[str, object], reason: str) -> None:
    assert rejection_reason(trade(1, **changes), WINDOW) == reason


FORCED = Liquidation("binance", "BTC/USDT:USDT", NOW_US, NOW_US, "sell", "9910", "0.014", "a1")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"order_id": None}, None),
        ({"order_id": "x" * 200}, None),
        ({"order_id": "x" * 201}, "order_id"),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "a\x00"}, "order_id"),
        ({"side": None}, "side"),
        ({"side": "SELL"}, "side"),
        ({"price": "0"}, "price"),
        ({"price": "NaN"}, "price"),
        ({"quantity": "0.0"}, "quantity"),
        ({"quantity": "-1"}, "quantity"),
        ({"time": WINDOW.newest + 1}, "too_far_ahead"),
        ({"exchange": ""}, "text"),
    ],
)
def test_each_field_of_a_liquidation_is_judged(changes: dict[str, object], reason: str | None) -> None:
    assert rejection_reason(msgspec.structs.replace(FORCED, **changes), WINDOW) == reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"index_price": "1.5"}, None),
        ({"mark_price": None}, "price"),
        ({"mark_price": "0"}, "price"),
        ({"index_price": "-1"}, "price"),
        ({"index_price": ""}, "price"),
        ({"received_at": 0}, "received_at"),
    ],
)
def test_each_field_of_a_mark_price_is_judged(changes: dict[str, object], reason: str | None) -> None:
    record = MarkPrice("okx", "BTC/USDT:USDT", NOW_US, NOW_US, "11794.15")
    assert rejection_reason(msgspec.structs.replace(record, **changes), WINDOW) == reason


def test_a_retention_of_nothing_refuses_nothing_for_its_age() -> None:
    assert rejection_reason(tick(time=OLDEST_TIME_US), WINDOW) is None


@pytest.mark.parametrize("levels", [(("1", "0"),), (("01", "1"),), (("1", "NaN"),), (("1", "-1"),), (("", "1"),)])
def test_a_bad_level_puts_the_snapshot_aside(levels: tuple[tuple[str, str], ...]) -> None:
    assert rejection_reason(book(bids=levels), WINDOW) == "level"
    assert rejection_reason(book(asks=levels), WINDOW) == "level"


def test_a_book_without_end_is_put_aside_and_little_is_kept_of_it() -> None:
    levels = tuple((f"{price}.5", "1") for price in range(1, 10_002))
    assert rejection_reason(book(bids=levels[:-1]), WINDOW) is None
    assert rejection_reason(book(asks=levels), WINDOW) == "size"
    kept = json.loads(rejection(book(asks=levels), "order_book", "size").record)
    assert kept["characters"] > 100_000
    assert len(kept["begins"]) == 8_000


def test_a_number_beyond_every_limit_can_be_put_aside() -> None:
    kept = json.loads(rejection(book(sequence=10**5000), "order_book", "sequence").record)
    assert int(kept["sequence"], 16) == 10**5000


@given(st.text(st.characters(codec=None)))
def test_a_rejection_can_always_be_journaled_and_stored(text: str) -> None:
    """Whatever the text: msgpack, JSON and UTF-8 take the rejection of a record that holds it."""
    refused = rejection(trade(trade_id=text, symbol=text), "trades", "trade_id")
    encode_batch([refused])
    refused.record.encode("utf-8")
    assert "\\u0000" not in refused.record
    assert json.loads(refused.record)["price"] == "64000.10"


def test_as_json_names_every_field() -> None:
    record = trade()
    assert json.loads(as_json(record)) == json.loads(
        json.dumps({name: getattr(record, name) for name in record.__struct_fields__})
    )
    assert isinstance(record, msgspec.Struct)
