"""What the functions of the repository take, and what they refuse before anything is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from ingestd.clock import to_datetime
from ingestd.errors import PayloadError
from ingestd.repository import CandlePayload, FundingPayload, OpenInterestPayload, TradePayload
from ingestd.repository.payloads import candle_record, funding_record, in_utc, open_interest_record, trade_record

NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)


@pytest.fixture(params=["UTC", "America/New_York", "Asia/Kolkata"])
def _anywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def candle(**changes: Any) -> CandlePayload:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "bucket_start": NOON, "volume": "152.4"}
    prices = {"open": "64000.12", "high": "64120.55", "low": "63950.02", "close": "64080.10"}
    return CandlePayload(**{**values, **prices, **changes})


def trade(**changes: Any) -> TradePayload:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "trade_ts": NOON, "trade_id": 7, "price": "1.50", "quantity": "2"}
    return TradePayload(**{**values, **changes})


@pytest.mark.usefixtures("_anywhere")
def test_a_time_without_a_zone_is_utc_wherever_the_program_runs() -> None:
    naive = datetime(2026, 1, 6, 12)
    assert in_utc(naive) == NOON
    for given in (naive, NOON, NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))):
        assert to_datetime(candle_record(candle(bucket_start=given)).time) == NOON
        assert to_datetime(trade_record(trade(trade_ts=given)).time) == NOON


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Decimal("64000.10"), "64000.10"),
        ("0.00000001", "0.00000001"),
        (Decimal("1E-8"), "0.00000001"),
        (1e-7, "0.0000001"),
        (0.1, "0.1"),
        (3, "3"),
        (Decimal("1E+3"), "1000"),
    ],
)
def test_a_number_keeps_its_digits(number: Any, text: str) -> None:
    assert candle_record(candle(open=number)).open == text


@pytest.mark.parametrize(
    ("make", "record", "said"),
    [
        (lambda: candle(open="NaN"), candle_record, "'NaN' is no number"),
        (lambda: candle(open=float("inf")), candle_record, "inf is no number"),
        (lambda: candle(open="1,5"), candle_record, "'1,5' is no number"),
        (lambda: candle(open=True), candle_record, "True is no number"),
        (lambda: candle(open="0"), candle_record, "its price is not above 0"),
        (lambda: candle(volume="-1"), candle_record, "its quantity is not above 0"),
        (lambda: candle(open="1E+101"), candle_record, "has too many digits"),
        (lambda: candle(open="1E-101"), candle_record, "has too many digits"),
        (lambda: candle(symbol=""), candle_record, "symbol or exchange is empty"),
        (lambda: candle(symbol="BTC\x00"), candle_record, "not printable"),
        (lambda: candle(bucket_start="2026-01-06"), candle_record, "'2026-01-06' is no datetime"),
        (lambda: candle(bucket_start=datetime(1970, 1, 1)), candle_record, "its time is before 2009"),
        (lambda: candle(bucket_start=datetime(2262, 1, 1)), candle_record, "its time is in the future"),
        (lambda: candle(trades_count=-1), candle_record, "trades_count"),
        (lambda: trade(trade_id=""), trade_record, "its trade_id is empty"),
        (lambda: trade(side="long"), trade_record, "side is neither buy nor sell"),
        (lambda: trade(side="buy", is_buyer_maker=True), trade_record, "is_buyer_maker=True makes it sell"),
        (lambda: OpenInterestPayload("X", NOON, "-1"), open_interest_record, "open_interest"),
        (lambda: FundingPayload("X", NOON, "x"), funding_record, "'x' is no number"),
    ],
)
def test_what_no_table_takes_is_refused_with_the_payload(
    make: Callable[[], Any], record: Callable[[Any], Any], said: str
) -> None:
    payload = make()
    with pytest.raises(PayloadError) as refused:
        record(payload)
    assert str(refused.value).startswith(f"{type(payload).__name__}(symbol=")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("is_buyer_maker", "side", "taker"),
    [(True, None, "sell"), (False, None, "buy"), (None, "SELL", "sell"), (False, "Buy", "buy"), (None, None, None)],
)
def test_the_taker_s_side_comes_from_either(is_buyer_maker: bool | None, side: str | None, taker: str | None) -> None:
    assert trade_record(trade(is_buyer_maker=is_buyer_maker, side=side)).side == taker


@pytest.mark.parametrize(
    ("trade_id", "seq"), [(7, 7), ("123456789012345678", 123456789012345678), ("9" * 30, 0), ("a-1", 0), ("٣", 0)]
)
def test_trades_of_one_instant_are_ordered_by_the_number_of_their_id(trade_id: str | int, seq: int) -> None:
    made = trade_record(trade(trade_id=trade_id))
    assert (made.trade_id, made.seq) == (str(trade_id), seq)


def test_the_optional_numbers_of_open_interest_and_funding() -> None:
    interest = open_interest_record(OpenInterestPayload("X", NOON, 5, open_interest_usd="7.5", basis=-12))
    assert (interest.open_interest, interest.open_interest_usd, interest.basis) == ("5", "7.5", "-12")
    funding = funding_record(FundingPayload("X", NOON, "-0.0001", annualised_rate="0.1", payment=Decimal("1.5")))
    assert (funding.funding_rate, funding.annualised_rate, funding.payment) == ("-0.0001", "0.1", "1.5")
