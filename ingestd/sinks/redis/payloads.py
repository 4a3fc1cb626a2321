"""The text of messages and hash fields: JSON whose numbers keep the exchange's own digits.

Prices are not parsed: `50000.50` stays `50000.50`. A number in a form that JSON does not allow (`.5`, `1.`, `007`) is
rewritten with the same value. Text that is no finite number makes the record invalid.
"""

from __future__ import annotations

import functools
import re
from decimal import Decimal, InvalidOperation

import orjson

from ingestd.clock import iso_text
from ingestd.records import BookSnapshot, Candle, FieldRule, Level, MarketRecord, Tick, Trade, field_rules

# Possessive quantifiers: no number needs backtracking, and every match would pay for it.
_NUMBER = r"-?+(?:0|[1-9][0-9]{0,59}+)(?:\.[0-9]{1,60}+)?+(?:[eE][+-]?+[0-9]{1,2}+)?+"
_number = re.compile(_NUMBER).fullmatch
_two_numbers = re.compile(rf"{_NUMBER},{_NUMBER}").fullmatch
_four_numbers = re.compile(",".join([_NUMBER] * 4)).fullmatch
_numbers = re.compile(rf"(?:{_NUMBER})?+(?:,(?:{_NUMBER})?+)*+").fullmatch  # or nothing in place of one
_LONGEST_NUMBER = 128


def number(text: str | None) -> str:
    """The text as a JSON number; `null` for None or empty text. Raises ValueError when it is no finite number."""
    if not text:
        return "null"
    if _number(text):
        return text
    try:
        value = Decimal(text) if len(text) <= _LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or abs(value.adjusted()) > _LONGEST_NUMBER:
        raise ValueError(f"not a number: {text[:40]!r}")
    return f"{value:f}"


def numbers(*texts: str | None) -> tuple[str, ...]:
    """`number` of each text. One regular expression checks all of them, as nearly always none needs rewriting."""
    plain = tuple([text or "" for text in texts])
    joined = ",".join(plain)
    # Count the commas, because "1,5" as one text must not pass as two numbers.
    if _numbers(joined) and joined.count(",") == len(plain) - 1:
        return plain if "" not in plain else tuple([text or "null" for text in plain])
    return tuple([number(text) for text in texts])


def head(symbol: str, exchange: str) -> str:
    """The beginning of every message: `{"symbol":"BTCUSDT","exchange":"binance"`. Raises ValueError if not UTF-8."""
    return f'{{"symbol":{_string(symbol)},"exchange":{_string(exchange)}'


def tick_message(head: str, tick: Tick) -> bytes:
    """The message of `market_data:{symbol}`. Raises ValueError when the tick cannot be written."""
    bid, ask, bid_volume, ask_volume = tick.bid_price, tick.ask_price, tick.bid_volume, tick.ask_volume
    if not _four_numbers(f"{bid},{ask},{bid_volume},{ask_volume}"):
        bid, ask, bid_volume, ask_volume = numbers(bid, ask, bid_volume, ask_volume)
    return (
        f'{head},"bidPrice":{bid},"askPrice":{ask},"bidVolume":{bid_volume},"askVolume":{ask_volume}'
        f',"timestamp":"{iso_text(tick.time)}"}}'
    ).encode()


def trade_message(head: str, trade: Trade) -> bytes:
    """The message of `trades:{exchange}:{symbol}`, with `kind` if not ordinary. Raises ValueError if unwritable."""
    price, quantity, trade_id = trade.price, trade.quantity, trade.trade_id
    if not _two_numbers(f"{price},{quantity}"):
        price, quantity = numbers(price, quantity)
        if price == "null" or quantity == "null":
            raise ValueError("a trade without price or quantity")
    quoted = f'"{trade_id}"' if trade_id.isalnum() and trade_id.isascii() else _string(trade_id)
    side = "null" if trade.side is None else f'"{trade.side}"'
    marked = "" if trade.kind is None and trade.in_candles else _marked(trade)
    if trade.unit is not None:
        marked += f',"unit":{_string(trade.unit)}'
    return (
        f'{head},"tradeId":{quoted},"side":{side},"price":{price},"quantity":{quantity}'
        f',"timestamp":"{iso_text(trade.time)}"{marked}}}'
    ).encode()


def record_message(head: str, record: MarketRecord) -> bytes:
    """The message of a channel without a format of its own: the record's fields, named in camel case."""
    rules = _rules_of(type(record))
    fields = [
        f'"{_in_camel_case(name)}":{_value(getattr(record, name), rules.get(name))}'
        for name in record.__struct_fields__[4:]
    ]
    return f'{head},{",".join(fields)},"timestamp":"{iso_text(record.time)}"}}'.encode()


_rules_of = functools.cache(field_rules)


def _in_camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _value(value: str | int | None, rule: FieldRule | None) -> str:
    if value is None or isinstance(value, int):
        return orjson.dumps(value).decode()
    return number(value) if rule is not None and rule.is_decimal else _string(value)


def _marked(trade: Trade) -> str:
    kind = "null" if trade.kind is None else _string(trade.kind)
    return f',"kind":{kind},"inCandles":{"true" if trade.in_candles else "false"}'


def levels(side: tuple[Level, ...]) -> bytes:
    """One side of a book: `[[50000.50,1.5],[50000,2]]`, best first."""
    flat = numbers(*[text for level in side for text in level]) if side else ()
    return (
        f"[{','.join([f'[{price},{amount}]' for price, amount in zip(flat[::2], flat[1::2], strict=True)])}]".encode()
    )


def tick_fields(tick: Tick) -> tuple[bytes, ...]:
    """The fields of `market:tick:{symbol}`; an empty side of the book is an empty text."""
    return (
        b"bidPrice", text(tick.bid_price), b"askPrice", text(tick.ask_price),
        b"timestamp", iso_text(tick.time).encode(), b"exchange", tick.exchange.encode(),
    )  # fmt: skip


def market_fields(tick: Tick | None, trade: Trade | None) -> tuple[bytes, ...]:
    """The fields of `market:{exchange}:{symbol}`: the last trade's price and quantity, the best bid and ask.

    Fields not known yet are left out.
    """
    fields: tuple[bytes, ...] = ()
    if trade is not None:
        fields = (b"price", text(trade.price), b"volume", text(trade.quantity))
    if tick is not None:
        fields += (b"bid", text(tick.bid_price), b"ask", text(tick.ask_price))
    return fields


def price_fields(trade: Trade) -> tuple[bytes, ...]:
    """The fields of `price:{exchange}:{symbol}`; the volume is the last trade's quantity."""
    at = iso_text(trade.time).encode()
    return (b"price", text(trade.price), b"timestamp", at, b"volume", text(trade.quantity))


def book_fields(book: BookSnapshot) -> tuple[bytes, ...]:
    """The fields of `orderbook:{exchange}:{symbol}`; `valid` is false while the book's sequence is in doubt."""
    return (
        b"bids", levels(book.bids), b"asks", levels(book.asks), b"timestamp", iso_text(book.time).encode(),
        b"valid", b"true" if book.valid else b"false",
    )  # fmt: skip


def candle_message(head: str, candle: Candle) -> bytes:
    """An exchange's candle in the list `candle:{exchange}:{symbol}:{interval}`; `timestamp` is its opening time."""
    o, h, low, c, volume, quote = numbers(
        candle.open, candle.high, candle.low, candle.close, candle.volume, candle.quote_volume
    )
    count = "null" if candle.trades_count is None else candle.trades_count
    return candle_text(head, candle.timeframe, candle.time, (o, h, low, c, volume, quote), str(count), "exchange")


def candle_text(
    head: str, interval: str, opens_us: int, values: tuple[str, str, str, str, str, str], count: str, source: str
) -> bytes:
    """The JSON of a candle: `values` are open, high, low, close, volume, quote volume as JSON numbers.

    `source` is `exchange` or `trades` (built here from the trades received).
    """
    o, h, low, c, volume, quote = values
    return (
        f'{head},"interval":{_string(interval)},"timestamp":"{iso_text(opens_us)}"'
        f',"open":{o},"high":{h},"low":{low},"close":{c},"volume":{volume},"quoteVolume":{quote}'
        f',"tradesCount":{count},"source":"{source}"}}'
    ).encode()


def text(value: str | None) -> bytes:
    """A hash field's value: the exchange's own text, empty for None."""
    return b"" if value is None else value.encode()


def _string(value: str) -> str:
    # orjson raises TypeError for half of a surrogate pair.
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise ValueError(f"not a text: {value!r}") from error
