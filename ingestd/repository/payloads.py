"""What the functions of the repository take and return, and the check of what they take.

A payload becomes a record, so that one definition says what may be stored (`validation`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Literal, TypeAlias, TypeVar

from ingestd.clock import from_datetime, now_us
from ingestd.errors import PayloadError
from ingestd.records import Candle, Funding, MarketRecord, OpenInterest, Side, Trade
from ingestd.validation import TimeWindow, rejection_reason

Number: TypeAlias = Decimal | int | str | float
"""A float counts as its shortest text: 0.1 is 0.1. Pass text or Decimal to keep your own digits."""

CandleSource: TypeAlias = Literal["trades", "reported"]
"""Whether a candle is made of the stored trades, or was stored as it was reported."""

DEFAULT_EXCHANGE = "binance"
_MAX_AHEAD_US = 60_000_000
_LONGEST_WRITTEN = 100  # digits before or behind the point; more are no price, and would take long to write out
_MAX_BIGINT = 2**63 - 1
_WORDS = {
    "text": "its symbol or exchange is empty, longer than 128 characters, or not printable",
    "time_missing": "its time is before 2009",
    "too_far_ahead": "its time is in the future",
    "trade_id": "its trade_id is empty, longer than 128 characters, or not printable",
    "price": "its price is not above 0, or has too many digits",
    "quantity": "its quantity is not above 0, or has too many digits",
}

MarketRecordT = TypeVar("MarketRecordT", bound=MarketRecord)


@dataclass(frozen=True, slots=True)
class CandlePayload:
    """A candle of one minute. Here as in every payload, a time without a zone is UTC, and `symbol` may be any of the
    market's names: BTC/USDT, BTCUSDT, BTC-USDT, the venue's own."""

    symbol: str
    bucket_start: datetime
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    quote_volume: Number | None = None
    trades_count: int | None = None
    taker_buy_base_volume: Number | None = None
    taker_buy_quote_volume: Number | None = None
    exchange: str = DEFAULT_EXCHANGE


@dataclass(frozen=True, slots=True)
class TradePayload:
    """A trade. `is_buyer_maker`: the taker sold. `side` is the taker's; one of the two is enough."""

    symbol: str
    trade_ts: datetime
    trade_id: str | int
    price: Number
    quantity: Number
    is_buyer_maker: bool | None = None
    side: str | None = None
    exchange: str = DEFAULT_EXCHANGE


@dataclass(frozen=True, slots=True)
class OpenInterestPayload:
    """The open interest of a contract at one time."""

    symbol: str
    snapshot_ts: datetime
    open_interest: Number
    open_interest_usd: Number | None = None
    basis: Number | None = None
    exchange: str = DEFAULT_EXCHANGE


@dataclass(frozen=True, slots=True)
class FundingPayload:
    """A perpetual's funding rate at one time."""

    symbol: str
    funding_ts: datetime
    funding_rate: Number
    annualised_rate: Number | None = None
    payment: Number | None = None
    exchange: str = DEFAULT_EXCHANGE


Payload: TypeAlias = CandlePayload | TradePayload | OpenInterestPayload | FundingPayload


@dataclass(frozen=True, slots=True)
class StoredCandle:
    """A candle of one minute as it is stored. `symbol` is the text that was asked for, here as in all that is read.

    `created_at` is the end of the minute for a candle of trades, the time of storing for a reported one.
    """

    exchange: str
    symbol: str
    bucket_start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None
    trades_count: int | None
    taker_buy_base_volume: Decimal | None
    taker_buy_quote_volume: Decimal | None
    source: CandleSource
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredTrade:
    """A trade as it is stored. `created_at` is when it was received."""

    exchange: str
    symbol: str
    trade_ts: datetime
    trade_id: str
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool | None
    side: Side | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredOpenInterest:
    """Open interest as it is stored. `unit`: contracts, base or quote; None: not known."""

    exchange: str
    symbol: str
    snapshot_ts: datetime
    open_interest: Decimal | None
    open_interest_usd: Decimal | None
    basis: Decimal | None
    unit: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredFunding:
    """A funding rate as it is stored."""

    exchange: str
    symbol: str
    funding_ts: datetime
    funding_rate: Decimal
    annualised_rate: Decimal | None
    payment: Decimal | None
    created_at: datetime


def candle_record(payload: CandlePayload) -> Candle:
    """The candle's record. Raises PayloadError, as do the next three, if no table would take it."""
    at, number = _time_us(payload, payload.bucket_start), _numbers(payload)
    return _checked(
        payload,
        Candle(
            payload.exchange, payload.symbol, at, now_us(), "1m",
            number(payload.open), number(payload.high), number(payload.low), number(payload.close),
            number(payload.volume), _maybe(number, payload.quote_volume), payload.trades_count,
            _maybe(number, payload.taker_buy_base_volume), _maybe(number, payload.taker_buy_quote_volume),
        ),
    )  # fmt: skip


def trade_record(payload: TradePayload) -> Trade:
    """The trade's record. `seq` is the id if that is a number, else 0: then trades of one instant are ordered by id."""
    at, number = _time_us(payload, payload.trade_ts), _numbers(payload)
    trade_id = str(payload.trade_id)
    is_number = trade_id.isascii() and trade_id.isdigit() and len(trade_id) < len(str(_MAX_BIGINT))
    return _checked(
        payload,
        Trade(
            payload.exchange, payload.symbol, at, now_us(), trade_id, int(trade_id) if is_number else 0,
            _side(payload), number(payload.price), number(payload.quantity),
        ),
    )  # fmt: skip


def open_interest_record(payload: OpenInterestPayload) -> OpenInterest:
    """The snapshot's record."""
    at, number = _time_us(payload, payload.snapshot_ts), _numbers(payload)
    return _checked(
        payload,
        OpenInterest(
            payload.exchange, payload.symbol, at, now_us(), number(payload.open_interest),
            _maybe(number, payload.open_interest_usd), _maybe(number, payload.basis),
        ),
    )  # fmt: skip


def funding_record(payload: FundingPayload) -> Funding:
    """The rate's record."""
    at, number = _time_us(payload, payload.funding_ts), _numbers(payload)
    return _checked(
        payload,
        Funding(
            payload.exchange, payload.symbol, at, now_us(), number(payload.funding_rate),
            annualised_rate=_maybe(number, payload.annualised_rate), payment=_maybe(number, payload.payment),
        ),
    )  # fmt: skip


def in_utc(instant: datetime) -> datetime:
    """The time in UTC; one without a zone is UTC already, as `datetime.utcnow()` gives it."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _checked(payload: Payload, record: MarketRecordT) -> MarketRecordT:
    reason = rejection_reason(record, TimeWindow({}, now_us() + _MAX_AHEAD_US))
    if reason is not None:
        raise _refused(payload, reason)
    return record


def _time_us(payload: Payload, instant: datetime) -> int:
    if not isinstance(instant, datetime):
        raise _refused(payload, f"{instant!r} is no datetime")
    return from_datetime(in_utc(instant))


def _numbers(payload: Payload) -> Callable[[Number], str]:
    """Writes a number of this payload as text, with the digits that it has."""

    def written(value: Number) -> str:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            raise _refused(payload, f"{value!r} is no number") from None
        exponent = number.as_tuple().exponent
        if isinstance(value, bool) or not isinstance(exponent, int):
            raise _refused(payload, f"{value!r} is no number")
        if max(number.adjusted(), -exponent) > _LONGEST_WRITTEN:
            raise _refused(payload, f"{value!r} has too many digits")
        return format(number, "f")

    return written


def _maybe(written: Callable[[Number], str], value: Number | None) -> str | None:
    return None if value is None else written(value)


def _side(payload: TradePayload) -> Side | None:
    """The taker's side."""
    by_maker: Side | None = None
    if payload.is_buyer_maker is not None:
        by_maker = "sell" if payload.is_buyer_maker else "buy"
    if payload.side is None:
        return by_maker
    side = payload.side.lower()
    if side not in ("buy", "sell"):
        raise _refused(payload, "side is neither buy nor sell")
    if by_maker not in (None, side):
        raise _refused(payload, f"side is the taker's, and is_buyer_maker={payload.is_buyer_maker} makes it {by_maker}")
    return "buy" if side == "buy" else "sell"


def _refused(payload: Payload, reason: str) -> PayloadError:
    return PayloadError(f"{payload}: cannot be stored: {_WORDS.get(reason, reason)}")
