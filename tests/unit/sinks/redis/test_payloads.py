"""Messages and fields against expectations written by hand, and their numbers against any text."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.clock import iso_text
from ingestd.records import Candle
from ingestd.sinks.redis import payloads
from tests.support.records import NOW_US, book, tick, trade

HEAD = payloads.head("BTCUSDT", "binance")
AT = "2026-09-21T14:13:20.000001Z"


def test_a_tick_carries_the_exchanges_own_digits() -> None:
    message = payloads.tick_message(HEAD, tick(1, bid_price="50000.50", ask_price="50001.00", bid_volume=None))
    assert message == (
        b'{"symbol":"BTCUSDT","exchange":"binance","bidPrice":50000.50,"askPrice":50001.00,'
        b'"bidVolume":null,"askVolume":0,"timestamp":"' + AT.encode() + b'"}'
    )


def test_a_trade() -> None:
    assert payloads.trade_message(HEAD, trade(1, trade_id='a"b', side=None)) == (
        b'{"symbol":"BTCUSDT","exchange":"binance","tradeId":"a\\"b","side":null,"price":64000.10,'
        b'"quantity":0.00100000,"timestamp":"' + AT.encode() + b'"}'
    )
    assert json.loads(payloads.trade_message(HEAD, trade(1)))["side"] == "buy"


def test_a_candle_the_exchange_reports() -> None:
    candle = Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1h", "1", "2.0", "0.5", "1.50", "10")
    assert payloads.candle_message(HEAD, candle) == (
        b'{"symbol":"BTCUSDT","exchange":"binance","interval":"1h","timestamp":"2026-09-21T14:13:20.000000Z",'
        b'"open":1,"high":2.0,"low":0.5,"close":1.50,"volume":10,"quoteVolume":null,"tradesCount":null,'
        b'"source":"exchange"}'
    )


def test_the_fields_of_the_hashes() -> None:
    assert payloads.tick_fields(tick(1, ask_price=None)) == (
        b"bidPrice", b"64000.10", b"askPrice", b"", b"timestamp", AT.encode(), b"exchange", b"binance",
    )  # fmt: skip
    assert payloads.market_fields(tick(1), trade(1)) == (
        b"price", b"64000.10", b"volume", b"0.00100000", b"bid", b"64000.10", b"ask", b"64000.20",
    )  # fmt: skip
    assert payloads.market_fields(tick(1), None) == (b"bid", b"64000.10", b"ask", b"64000.20")
    assert payloads.price_fields(trade(1)) == (
        b"price", b"64000.10", b"timestamp", AT.encode(), b"volume", b"0.00100000",
    )  # fmt: skip
    assert payloads.book_fields(book(1, valid=False)) == (
        b"bids", b"[[64000.10,1.50],[64000.00,2]]", b"asks", b"[[64000.20,0.10]]",
        b"timestamp", AT.encode(), b"valid", b"false",
    )  # fmt: skip
    assert payloads.levels(()) == b"[]"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("50000.50", "50000.50"), ("-0.01", "-0.01"), ("1e-7", "1e-7"), (None, "null"), ("", "null"),
        (".5", "0.5"), ("5.", "5"), ("007", "7"), ("+3", "3"),
    ],
)  # fmt: skip
def test_numbers_are_json(text: str | None, written: str) -> None:
    assert payloads.number(text) == written


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-inf", "abc", "null", "1,5", "0x10", "1e999", "9" * 500, "١"])
def test_what_is_no_number_is_refused(text: str) -> None:
    if text == "١":  # Decimal takes digits of every script; JSON gets ASCII
        assert payloads.number(text) == "1"
        return
    with pytest.raises(ValueError, match="not a number"):
        payloads.number(text)
    with pytest.raises(ValueError, match="not a number"):
        payloads.numbers("1", text)


@given(texts=st.lists(st.none() | st.text(max_size=8) | st.decimals(allow_nan=False).map(str), max_size=4))
def test_any_numbers_written_are_json_of_the_same_value(texts: list[str | None]) -> None:
    try:
        written = payloads.numbers(*texts)
    except ValueError:
        return
    values = json.loads(f"[{','.join(written)}]", parse_float=Decimal, parse_int=Decimal)
    assert values == [Decimal(text) if text else None for text in texts]


@given(symbol=st.text(max_size=10), exchange=st.text(max_size=10))
def test_any_name_makes_valid_json_or_none(symbol: str, exchange: str) -> None:
    try:
        head = payloads.head(symbol, exchange)
    except ValueError:
        return
    assert json.loads(head + "}") == {"symbol": symbol, "exchange": exchange}


def test_a_time_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="no such time"):
        iso_text(2**80)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="not a text"):
        payloads.trade_message(HEAD, trade(1, trade_id="\ud800"))
