"""What a feed hands over and every sink understands.

These structs are also the wire form of the journal (msgpack arrays tagged by their first element), so a change of
fields or order is a change of format: raise `WIRE_VERSION`. What an older version wrote is still read: a new field
comes last and has a default.

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
    """What a field may hold: validation, COPY and the Kafka message read it.

    `reason`: what `rejected_records` says of a value that breaks the rule. Fields without a rule are plain text, levels
    and whole numbers; `validation` checks them by hand.
    """

    allows: Literal["positive", "not_negative", "any_number", "time", "count", "name", "id", "side"]
    reason: str = ""

    @property
    def is_decimal(self) -> bool:
        """Whether the field is a decimal number, as text."""
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
    """The rule of each field that has one, in the order of the fields."""
    return {
        name: mark
        for name, hint in get_type_hints(record, include_extras=True).items()
        for part in (hint, *get_args(hint))
        for mark in getattr(part, "__metadata__", ())
        if isinstance(mark, FieldRule)
    }


class Tick(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="t"):
    """Best bid and ask. A side the venue reports as empty is None."""

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    bid_price: Price | None
    bid_volume: Volume | None
    ask_price: Price | None
    ask_volume: Volume | None


class Trade(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="x"):
    """One execution. `side` is the taker's.

    `seq` orders trades inside one instant: the trade id where the venue's ids increase, else the arrival counter.
    `kind` is what the venue marks it as, one of `TRADE_KINDS`; None: an ordinary trade. `in_candles` is False where the
    venue's own candles leave such trades out.

    `unit` is what one of `quantity` is: `base` or `quote` (one of that currency), a contract of so much of it
    (`0.01 base`, `100 quote`), or `unknown`. None: one of the base currency, as everywhere on spot.
    """

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    trade_id: str
    seq: int
    side: Side | None
    price: Price
    quantity: Quantity
    kind: str | None = None
    in_candles: bool = True
    unit: str | None = None


class BookSnapshot(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="b"):
    """The top levels of an order book, best first. `valid` is False while its sequence is in doubt."""

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    sequence: int | None
    valid: bool


class OpenInterest(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="o"):
    """How much is open: counted in `unit`, one of `OPEN_INTEREST_UNITS` (None: the venue does not say), or its value in
    the quote currency, or both. A venue that counts in the quote currency says the value only.
    """

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    open_interest: OpenQuantity | None
    open_interest_usd: OpenQuantity | None = None
    basis: Basis | None = None
    unit: str | None = None


class Funding(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="f"):
    """A perpetual's funding rate for the interval that ends at `next_funding_time`."""

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    funding_rate: Rate
    next_funding_time: Time | None = None
    annualised_rate: Rate | None = None
    payment: Rate | None = None
    mark_price: Price | None = None


class Candle(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="c"):
    """A candle as the exchange reports it; `time` is when it opens."""

    exchange: str
    symbol: str
    time: Time
    received_at: Time
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


class Liquidation(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="l"):
    """An order with which an exchange closes a position by force.

    `side` is the order's: a `sell` closes a long position. `price` is the order's too, which most exchanges set to the
    bankruptcy price of the position: it was not traded at that. `quantity` counts what the market's trades count.
    """

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    side: OrderSide
    price: Price
    quantity: Quantity
    order_id: OrderId | None = None


class MarkPrice(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="m"):
    """The price at which an exchange values positions in a contract, and the price of its underlying, if it says it."""

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    mark_price: Price
    index_price: Price | None = None


class FeedGap(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="g"):
    """A stretch in which a stream may have missed data.

    `time` is when it began (the last thing received before), `ended_at` when the stream spoke again; None while it
    is open. What is missing lies between the two, on our clock and on the venue's (`earliest_us`, `latest_us`). The
    row of one (exchange, symbol, channel, time) is written when the gap opens and again when it ends. `cause`: see
    `gap_causes`.
    """

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    channel: str
    ended_at: Time | None
    cause: str
    detail: str | None = None


class Rejected(msgspec.Struct, frozen=True, array_like=True, gc=False, tag="r"):
    """A record that did not pass validation, on its way to `rejected_records`."""

    exchange: str
    symbol: str
    time: Time
    received_at: Time
    table: str
    reason: str
    record: str


MarketRecord: TypeAlias = Tick | Trade | BookSnapshot | OpenInterest | Funding | Candle | Liquidation | MarkPrice
Record: TypeAlias = MarketRecord | FeedGap | Rejected

# Further from ours than this, the venue's time does not say when a record was sent: a snapshot holds old trades.
_MOST_LAG_US = 60_000_000


def earliest_us(time: int, received_at: int) -> int:
    """The earlier of the venue's time and ours: what followed this record is later on both clocks."""
    return time if received_at - _MOST_LAG_US <= time < received_at else received_at


def latest_us(time: int, received_at: int) -> int:
    """The later of the venue's time and ours: what came before this record is earlier on both clocks."""
    return time if received_at < time <= received_at + _MOST_LAG_US else received_at


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[list[Record]] = msgspec.msgpack.Decoder(list[Record])


def encode_batch(records: Sequence[Record]) -> bytes:
    """The journal's form of a batch."""
    return _encoder.encode(records)


def decode_batch(payload: bytes) -> list[Record]:
    """The records of `encode_batch`. Raises `msgspec.DecodeError` on anything else."""
    try:
        return _decoder.decode(payload)
    except UnicodeDecodeError as error:  # the library's only other answer to bytes that are no batch
        raise msgspec.DecodeError(f"a text is not UTF-8: {error}") from error


MEMORY_BYTES = 500
"""What a record but a book takes, measured as it stands in a list: fields, their texts, the allocator's share."""

_LEVEL_MEMORY_BYTES = 180  # two short texts and their pair


def memory_bytes(record: Record) -> int:
    """About what a record takes in memory: for trades and ticks five to seven times its journaled form."""
    if type(record) is BookSnapshot:
        return MEMORY_BYTES + _LEVEL_MEMORY_BYTES * (len(record.bids) + len(record.asks))
    return MEMORY_BYTES


def all_memory_bytes(records: Sequence[Record]) -> int:
    """The same of many, at a third of the cost where there is no book among them."""
    if BookSnapshot not in set(map(type, records)):
        return MEMORY_BYTES * len(records)
    return sum(map(memory_bytes, records))
