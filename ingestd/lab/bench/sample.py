"""Generates records to measure with, always the same except for their times."""

from __future__ import annotations

from collections.abc import Iterator

from ingestd.clock import now_us
from ingestd.records import Record, Side, Trade

_SYMBOLS = 20
_STEP_US = 100


def trades(count: int) -> list[Record]:
    """Generate trades of some symbols over the last minutes, as a busy venue sends them."""
    start = now_us() - count * _STEP_US
    return [_trade(number, start + number * _STEP_US) for number in range(count)]


def _trade(number: int, at: int) -> Trade:
    symbol, identity = f"SYM{number % _SYMBOLS}/USDT", 4_000_000_000 + number
    price, quantity = f"{64_000 + number % 977}.{number % 100:02d}000000", f"0.{number % 99_999 + 1:05d}000"
    side: Side = "buy" if number % 3 else "sell"
    return Trade("bench", symbol, at, at + 1500, str(identity), identity, side, price, quantity)


def portions(records: list[Record], size: int) -> Iterator[list[Record]]:
    """Cut the records into lists of that size; the last may be shorter."""
    return (records[start : start + size] for start in range(0, len(records), size))
