"""The records that feeds produce and every sink understands.

These structs are also the wire form of the journal (msgpack arrays tagged by their first element), so changing fields
or their order changes the format: raise `WIRE_VERSION`. Journals of older versions must stay readable: add a new field
at the end, with a default.

Prices and sizes are the exchange's own decimal text. Times are integer microseconds since the epoch, UTC:
`time` is the exchange's, `received_at` ours, taken at the socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, TypeAlias, get_args, get_type_hints

import msgspec

WIRE_VERSION = 3

Channel: TypeAlias = Literal[
    "ticks", "trades", "order_book", "open_interest", "funding", "candles", "liquidations", "mark_prices"
]
CHANNELS: tuple[Channel, ...] = get_args(Channel)

StreamId: TypeAlias = tuple[str, str, str]  # exchange, channel, symbol

Side: TypeAlias = Literal["buy", "sell"]
Level: TypeAlias = tuple[str, str]

OpenInterestUnit: TypeAlias = Literal["contracts", "base", "quote"]
OPEN_INTEREST_UNITS: tuple[OpenInterestUnit, ...] = get_args(OpenInterestUnit)

TradeKind: TypeAlias = Literal["liquidation", "insurance_fund", "adl", "block", "rpi", "settlement", "other"]
TRADE_KINDS: tuple[TradeKind, ...] = get_args(TradeKind)


class FieldRule(NamedTuple):
    """The values that a field allows; used by validation, COPY and the Kafka messages.

    `reason` is stored in `rejected_records` with a value that breaks the rule. Fields without a rule hold plain text,
    levels or integers; `validation` checks them one by one.
    """

    allows: Literal["positive", "not_negative", "any_number", "time", "count", "name", "id", "side"]
    reason: str = ""

    @property
    def is_decimal(self) -> bool:
        """Whether the field holds a decimal number as text."""
        return self.allows in ("positive", "not_negative", "any_number")


Time: TypeAlias = Annotated[int, FieldRule("time")]
Price: TypeAlias = Annotated[str, FieldRule("positive", "price")]
Quantity: TypeAlias = Annotated[str, FieldRule("positive", "quantity")]
Volume: TypeAlias = Annotated[str, FieldRule("not_negative", "quantity")]
OpenQuantity: TypeAlias = Annotated[str, FieldRule("not_negative", "open_interest")]
Basis: TypeAlias = Annotated[str, FieldRule("any_number", "basis")]
Rate: TypeAlias = Annotated[str, FieldRule("any_number", "funding_rate")]
OrderSide: TypeAlias = Annotated[Side, FieldRule("side", "side")]
OrderId: TypeAlias = Annotated[str, FieldRule("id", "order_id")]
Timeframe: TypeAlias = Annotated[str, FieldRule("name", "timeframe")]
Count: TypeAlias = Annotated[int, FieldRule("count", "trades_count")]


def field_rules(record: type) -> Mapping[str, FieldRule]:
    """The rules of a record's fields, in field order; fields without a rule are left out."""
    return {
        name: mark
        for name, hint in get_type_hints(record, include_extras=True).items()
        for part in (hint, *get_args(hint))
        for mark in getattr(part, "__metadata__", ())
        if isinstance(mark, FieldRule)
    }


class Header(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields that every record begins with. A field added here would change the wire format of them all."""

    exchange: str
    symbol: str
    time: Time
    received_at: Time


def own_fields(record: type[Header]) -> tuple[str, ...]:
    """The names of a record's fields after the header."""
    return record.__struct_fields__[len(Header.__struct_fields__) :]


class Tick(Header, frozen=True, tag="t"):
    """Best bid and ask. A side the venue reports as empty is None."""

    bid_price: Price | None
    bid_volume: Volume | None
    ask_price: Price | None
    ask_volume: Volume | None


class Trade(Header, frozen=True, tag="x"):
    """One execution. `side` is the taker's.

    `seq` orders trades inside one instant: the trade id where the venue's ids increase, else the arrival counter.
    `kind` is the venue's mark on the trade, one of `TRADE_KINDS`; None: an ordinary trade. `in_candles` is False if the
    venue's own candles leave such trades out.

    `unit` is the unit of `quantity`: `base` or `quote` (that currency), a contract worth an amount of it (`0.01 base`,
    `100 quote`), or `unknown`. None: the base currency, as always on spot.
    """

    trade_id: str
    seq: int
    side: Side | None
    price: Price
    quantity: Quantity
    kind: str | None = None
    in_candles: bool = True
    unit: str | None = None


class BookSnapshot(Header, frozen=True, tag="b"):
    """The top levels of an order book, best first. `valid` is False while its sequence is in doubt."""

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    sequence: int | None
    valid: bool


class OpenInterest(Header, frozen=True, tag="o"):
    """A contract's open interest: an amount in `unit`, one of `OPEN_INTEREST_UNITS` (None: unknown), a value in the
    quote currency, or both. A venue that counts in the quote currency gives only the value.
    """

    open_interest: OpenQuantity | None
    open_interest_usd: OpenQuantity | None = None
    basis: Basis | None = None
    unit: str | None = None


class Funding(Header, frozen=True, tag="f"):
    """A perpetual's funding rate for the interval that ends at `next_funding_time`."""

    funding_rate: Rate
    next_funding_time: Time | None = None
    annualised_rate: Rate | None = None
    payment: Rate | None = None
    mark_price: Price | None = None


class Candle(Header, frozen=True, tag="c"):
    """A candle as the exchange reports it; `time` is its opening time."""

    timeframe: Timeframe
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    quote_volume: Volume | None = None
    trades_count: Count | None = None
    taker_buy_base_volume: Volume | None = None
    taker_buy_quote_volume: Volume | None = None


class Liquidation(Header, frozen=True, tag="l"):
    """An order by which an exchange force-closes a position.

    `side` is the order's: a `sell` closes a long position. `price` is the order's too: most exchanges set it to the
    position's bankruptcy price, not the price of the execution. `quantity` has the unit of the market's trades.
    """

    side: OrderSide
    price: Price
    quantity: Quantity
    order_id: OrderId | None = None


class MarkPrice(Header, frozen=True, tag="m"):
    """The price at which an exchange values positions in a contract, and the index price of the underlying, if any."""

    mark_price: Price
    index_price: Price | None = None


class FeedGap(Header, frozen=True, tag="g"):
    """A period in which a stream may have missed records.

    `time` is the start (the last record before the gap), `ended_at` the first record after it; None while the gap is
    open. The missing records lie between the two on both our clock and the venue's (`earliest_us`, `latest_us`). The
    row keyed by exchange, symbol, channel and time is written when the gap opens and again when it ends. For `cause`,
    see `gaps/causes.py`.
    """

    channel: str
    ended_at: Time | None
    cause: str
    detail: str | None = None


class Rejected(Header, frozen=True, tag="r"):
    """A record that did not pass validation, on its way to `rejected_records`."""

    table: str
    reason: str
    record: str


MarketRecord: TypeAlias = Tick | Trade | BookSnapshot | OpenInterest | Funding | Candle | Liquidation | MarkPrice
Record: TypeAlias = MarketRecord | FeedGap | Rejected

# If the two clocks differ by more than this, the venue's time is not the time of sending: a snapshot holds old trades.
_MAX_CLOCK_DIFFERENCE_US = 60_000_000


def earliest_us(time: int, received_at: int) -> int:
    """The earlier of the venue's time and ours: what followed this record is later on both clocks."""
    return time if received_at - _MAX_CLOCK_DIFFERENCE_US <= time < received_at else received_at


def latest_us(time: int, received_at: int) -> int:
    """The later of the venue's time and ours: what came before this record is earlier on both clocks."""
    return time if received_at < time <= received_at + _MAX_CLOCK_DIFFERENCE_US else received_at


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Record]] = msgspec.msgpack.Decoder(list[Record])


def encode_batch(records: Sequence[Record]) -> bytes:
    """Encode a batch for the journal."""
    return _encoder.encode(records)


def decode_batch(payload: bytes) -> list[Record]:
    """Decode a batch written by `encode_batch`. Raises `msgspec.DecodeError` on any other bytes."""
    try:
        return _decoder.decode(payload)
    except UnicodeDecodeError as error:  # the only other error msgspec raises for bytes that are no batch
        raise msgspec.DecodeError(f"a text is not UTF-8: {error}") from error


MEMORY_BYTES = 500
"""What a record but a book takes, measured as it stands in a list: fields, their texts, the allocator's share."""

_LEVEL_MEMORY_BYTES = 180  # two short strings and their tuple


def memory_bytes(record: Record) -> int:
    """Estimate a record's memory in bytes: for trades and ticks five to seven times the size in the journal."""
    if type(record) is BookSnapshot:
        return MEMORY_BYTES + _LEVEL_MEMORY_BYTES * (len(record.bids) + len(record.asks))
    return MEMORY_BYTES


def all_memory_bytes(records: Sequence[Record]) -> int:
    """Estimate the memory of many records in bytes, at a third of the cost if there is no book among them."""
    if BookSnapshot not in set(map(type, records)):
        return MEMORY_BYTES * len(records)
    return sum(map(memory_bytes, records))
