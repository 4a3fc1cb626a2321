"""Candles by the book: the same definition as the SQL, in plain Python, to compare with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext

Bucket = Callable[[datetime], datetime]
Key = tuple[datetime, str, str]


@dataclass(frozen=True)
class TradeRow:
    """A row of `trades` with its decimals as text. Its exchange is binance."""

    time: datetime
    symbol: str
    trade_id: str
    seq: int
    side: str | None
    price: str
    quantity: str
    in_candles: bool = True
    contract_size: str | None = None
    contract_currency: str | None = None

    def amount(self) -> Decimal | None:
        """What was paid, in the quote currency; None where nobody can know."""
        if self.contract_currency == "unknown":
            return None
        quantity = Decimal(self.quantity) * Decimal(self.contract_size or "1")
        if self.contract_currency == "quote":
            return quantity
        if self.contract_currency == "base":
            return Decimal(self.price) * quantity
        # Nothing is said: Binance counts the base currency of what is settled in the quote currency.
        pair, _, settle = self.symbol.partition(":")
        return Decimal(self.price) * Decimal(self.quantity) if not settle or pair.endswith(f"/{settle}") else None


def fixed(width: timedelta) -> Bucket:
    """Buckets of a fixed width, counted from Monday 2000-01-03 UTC."""
    monday = datetime(2000, 1, 3, tzinfo=UTC)
    return lambda at: monday + (at - monday) // width * width


def calendar_month(at: datetime) -> datetime:
    return datetime(at.year, at.month, 1, tzinfo=UTC)


BUCKETS: dict[str, Bucket] = {
    "candles_1m": fixed(timedelta(minutes=1)),
    "candles_5m": fixed(timedelta(minutes=5)),
    "candles_15m": fixed(timedelta(minutes=15)),
    "candles_30m": fixed(timedelta(minutes=30)),
    "candles_1h": fixed(timedelta(hours=1)),
    "candles_4h": fixed(timedelta(hours=4)),
    "candles_1d": fixed(timedelta(days=1)),
    "candles_1w": fixed(timedelta(weeks=1)),
    '"candles_1M"': calendar_month,
    "candles_1month": calendar_month,
}
COLUMNS = (
    "bucket_start, exchange, symbol, open, high, low, close, volume, quote_volume, trades_count,"
    " taker_buy_base_volume, taker_buy_quote_volume"
)


def expected_candles(trades: Iterable[TradeRow], bucket: Bucket) -> list[tuple[str | None, ...]]:
    """Every candle as text, ordered by bucket and symbol."""
    groups: defaultdict[tuple[datetime, str], list[TradeRow]] = defaultdict(list)
    for trade in trades:
        if not trade.in_candles:
            continue
        groups[bucket(trade.time), trade.symbol].append(trade)
    with localcontext() as context:
        context.prec = 200
        return [_candle(start, symbol, groups[start, symbol]) for start, symbol in sorted(groups)]


def _candle(start: datetime, symbol: str, trades: Sequence[TradeRow]) -> tuple[str | None, ...]:
    ordered = sorted(trades, key=lambda trade: (trade.time, trade.seq, trade.trade_id.encode()))
    prices = [Decimal(trade.price) for trade in ordered]
    finest = Decimal(1).scaleb(min(_exponent(price) for price in prices))
    quantities = [Decimal(trade.quantity) for trade in ordered]
    amounts = [amount for trade in ordered if (amount := trade.amount()) is not None]
    known = len(amounts) == len(ordered)
    values = (
        prices[0],
        max(prices).quantize(finest),
        min(prices).quantize(finest),
        prices[-1],
        sum(quantities),
        sum(amounts) if known else None,
        len(ordered),
        _bought(ordered, quantities),
        _bought(ordered, amounts) if known else None,
    )
    return (f"{start:%Y-%m-%d %H:%M:%S+00}", "binance", symbol, *map(_text, values))


def _bought(trades: Sequence[TradeRow], amounts: Sequence[Decimal]) -> Decimal | int | None:
    known = [(trade.side, amount) for trade, amount in zip(trades, amounts, strict=True) if trade.side is not None]
    return sum(amount if side == "buy" else 0 for side, amount in known) if known else None


def _exponent(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def _text(value: Decimal | int | None) -> str | None:
    return f"{value:f}" if isinstance(value, Decimal) else None if value is None else str(value)
