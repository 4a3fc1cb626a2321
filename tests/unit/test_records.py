"""The journal's form of a batch: what an older ingestd wrote is still read."""

from __future__ import annotations

from ingestd.records import OpenInterest, decode_batch, encode_batch
from tests.support.records import trade

# As version 1 wrote it: a trade of nine fields, without `kind` and `in_candles`.
OLD_TRADE = (
    b"\x91\x9a\xa1x\xa7binance\xa8BTC/USDT\xcf\x00\x06[\xfe\xda%\xe0\x01\xcf\x00\x06[\xfe\xda%\xf3\x89\xa11\x01\xa3buy"
    b"\xa864000.10\xaa0.00100000"
)


def test_a_trade_of_the_first_version_has_no_kind_and_is_in_the_candles() -> None:
    (read,) = decode_batch(OLD_TRADE)
    assert read == trade(1)
    assert (read.kind, read.in_candles) == (None, True)


def test_an_open_interest_of_the_first_version_has_no_unit() -> None:
    old = (
        b"\x91\x98\xa1o\xa5bybit\xabBTC/USD:BTC\xcf\x00\x06[\xfe\xda%\xe0\x01\xcf\x00\x06[\xfe\xda%\xf3\x89"
        b"\xa412.5\xc0\xc0"
    )
    at = trade(1)
    assert decode_batch(old) == [OpenInterest("bybit", "BTC/USD:BTC", at.time, at.received_at, "12.5")]


def test_a_marked_trade_comes_back_from_the_journal() -> None:
    marked = trade(1, kind="insurance_fund", in_candles=False)
    assert decode_batch(encode_batch([marked])) == [marked]
