"""Records for tests, and Hypothesis strategies for them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from hypothesis import strategies as st

from ingestd.records import (
    BookSnapshot,
    Candle,
    Funding,
    Liquidation,
    MarketRecord,
    MarkPrice,
    OpenInterest,
    Record,
    Tick,
    Trade,
)
from ingestd.storage.writer import copy_text

NOW_US = 1_790_000_000_000_000  # 2026-09-21T15:33:20Z


def trade(number: int = 1, **changes: object) -> Trade:
    """A valid trade; `number` makes it distinct."""
    values: dict[str, object] = {
        "exchange": "binance",
        "symbol": "BTC/USDT",
        "time": NOW_US + number,
        "received_at": NOW_US + number + 5_000,
        "trade_id": str(number),
        "seq": number,
        "side": "buy",
        "price": "64000.10",
        "quantity": "0.00100000",
    }
    return Trade(**{**values, **changes})  # type: ignore[arg-type] # the tests choose the fields


def tick(number: int = 1, **changes: object) -> Tick:
    values: dict[str, object] = {
        "exchange": "binance",
        "symbol": "BTC/USDT",
        "time": NOW_US + number,
        "received_at": NOW_US + number + 5_000,
        "bid_price": "64000.10",
        "bid_volume": "1.50",
        "ask_price": "64000.20",
        "ask_volume": "0",
    }
    return Tick(**{**values, **changes})  # type: ignore[arg-type] # the tests choose the fields


def book(number: int = 1, **changes: object) -> BookSnapshot:
    values: dict[str, object] = {
        "exchange": "binance",
        "symbol": "BTC/USDT",
        "time": NOW_US + number,
        "received_at": NOW_US + number,
        "bids": (("64000.10", "1.50"), ("64000.00", "2")),
        "asks": (("64000.20", "0.10"),),
        "sequence": number,
        "valid": True,
    }
    return BookSnapshot(**{**values, **changes})  # type: ignore[arg-type] # the tests choose the fields


def decimal_texts(minimum: str = "0.00000001", maximum: str = "99999999") -> st.SearchStrategy[str]:
    """Decimal text as venues write it: fixed point, trailing zeros kept."""
    numbers = st.decimals(Decimal(minimum), Decimal(maximum), allow_nan=False, allow_infinity=False, places=8)
    return st.builds(lambda number, zeros: f"{number:f}" + "0" * zeros, numbers, st.integers(0, 3))


def trades(symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")) -> st.SearchStrategy[Trade]:
    """Trades whose ids repeat often enough for duplicates to be met."""
    return st.builds(
        lambda number, symbol, side, price, quantity, kind: trade(
            number, symbol=symbol, side=side, price=price, quantity=quantity, kind=kind
        ),
        st.integers(1, 40),
        st.sampled_from(symbols),
        st.sampled_from(("buy", "sell", None)),
        decimal_texts(),
        decimal_texts(),
        st.sampled_from((None, None, "rpi", "block")),
    )


def ticks() -> st.SearchStrategy[Tick]:
    return st.builds(
        lambda number, bid, ask: tick(number, bid_price=bid, ask_price=ask),
        st.integers(1, 1000),
        st.none() | decimal_texts(),
        decimal_texts(),
    )


def books() -> st.SearchStrategy[BookSnapshot]:
    levels = st.lists(st.tuples(decimal_texts(), decimal_texts()), max_size=4).map(tuple)
    return st.builds(
        lambda number, bids, asks: book(number, bids=bids, asks=asks), st.integers(1, 1000), levels, levels
    )


def open_interests() -> st.SearchStrategy[OpenInterest]:
    return st.builds(
        lambda number, sides, unit: OpenInterest(
            "binance", "BTC/USDT:USDT", NOW_US + number, NOW_US, sides[0], sides[1], None, unit
        ),
        st.integers(1, 20),
        st.tuples(decimal_texts(), st.none() | decimal_texts()) | st.tuples(st.none(), decimal_texts()),
        st.sampled_from((None, "contracts", "base", "quote")),
    )


def fundings() -> st.SearchStrategy[Funding]:
    return st.builds(
        lambda number, rate: Funding("binance", "BTC/USDT:USDT", NOW_US + number, NOW_US, rate, NOW_US + 10**9),
        st.integers(1, 20),
        decimal_texts("-0.01", "0.01"),
    )


def candles() -> st.SearchStrategy[Candle]:
    return st.builds(
        lambda number, price, volume: Candle(
            "binance", "BTC/USDT", NOW_US + number * 60_000_000, NOW_US, "1m", price, price, price, price, volume
        ),
        st.integers(1, 20),
        decimal_texts(),
        decimal_texts("0"),
    )


def liquidations() -> st.SearchStrategy[Liquidation]:
    """Some are equal in all that makes two rows the same."""
    return st.builds(
        lambda number, side, price, quantity, order_id: Liquidation(
            "binance", "BTC/USDT:USDT", NOW_US + number, NOW_US + 10 * number, side, price, quantity, order_id
        ),
        st.integers(1, 5),
        st.sampled_from(("buy", "sell")),
        st.sampled_from(("64000.10", "64000.1", "1e-7")),
        st.sampled_from(("1", "2.50")),
        st.sampled_from((None, "17")),
    )


def mark_prices() -> st.SearchStrategy[MarkPrice]:
    return st.builds(
        lambda number, mark, index: MarkPrice("bybit", "BTC/USDT:USDT", NOW_US + number, NOW_US, mark, index),
        st.integers(1, 20),
        decimal_texts(),
        st.none() | decimal_texts(),
    )


def market_records() -> st.SearchStrategy[MarketRecord]:
    """Any record a feed may hand over, valid."""
    return st.one_of(trades(), ticks(), books(), open_interests(), fundings(), candles(), liquidations(), mark_prices())


def copy_lines(records: Sequence[Record]) -> list[str]:
    """Records of one kind as COPY lines with unified symbols."""
    return copy_text.lines(records, [copy_text.market(record.exchange, record.symbol) for record in records])
