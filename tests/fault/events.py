"""What the emitter sends: an endless row of events, each wholly determined by its number.

So whoever compares needs the numbers only. Odd ones are trades, even ones ticks; every 997th trade has a price that
no table takes. The number is the trade's id and the tick's bid volume.
"""

from __future__ import annotations

import json

from ingestd.records import Tick, Trade

EXCHANGE = "emitter"
SYMBOLS = 40
_REFUSED_EVERY = 997


def is_trade(number: int) -> bool:
    return number % 2 == 1


def is_flawed(number: int) -> bool:
    """Whether validation must refuse it."""
    return is_trade(number) and number % _REFUSED_EVERY == 0


def symbol_of(number: int) -> str:
    return f"S{number // 2 % SYMBOLS}/USDT"


def line(number: int) -> str:
    """The event on the wire."""
    price = "NaN" if is_flawed(number) else price_of(number)
    return f"{number},{symbol_of(number)},{price},{quantity_of(number)}\n"


def price_of(number: int) -> str:
    return f"{number % 1000 + 1}.{number % 97:02d}0"


def quantity_of(number: int) -> str:
    return f"0.{number % 9 + 1}00"


def number_in(rejected: str) -> int:
    """Of the record that a rejection keeps, as JSON."""
    values = json.loads(rejected)
    return int(values.get("trade_id") or values["bid_volume"])


def record(text: str, base_us: int, received_at: int) -> Trade | Tick:
    """The record of a line; its time is `base_us` and so many microseconds as its number says."""
    number_text, symbol, price, quantity = text.split(",")
    number = int(number_text)
    if is_trade(number):
        return Trade(EXCHANGE, symbol, base_us + number, received_at, number_text, number, "buy", price, quantity)
    return Tick(EXCHANGE, symbol, base_us + number, received_at, price, number_text, None, None)
