"""Encodes a record as a Kafka message and decodes it, in the format that docs/kafka.md promises to consumers.

    topic    {prefix}.market.trades         by the record's type; gaps and rejections have topics of their own
    key      exchange:symbol                keeps the order within a symbol
    value    {"event_type": "TRADE", "timestamp": "2026-09-21T15:33:20.000001Z", "data": {every field by its name}}
    headers  ingestd-position               journal_id:position:index, increasing within a partition per journal
             ingestd-version                2; a change of fields raises it
             ingestd-symbol                 the unified symbol, if `kafka.symbol_style` is another one

Decimals are the exchange's own text, as JSON strings. Times are ISO 8601 in UTC with microseconds; one outside the
years 1970 to 9999, which only a rejected record can have, is the integer number of microseconds since the epoch.
Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, TypeAlias, get_args, get_type_hints

import msgspec

from ingestd.channels import CHANNEL_OF, ROWS
from ingestd.clock import iso_text
from ingestd.errors import EnvelopeError
from ingestd.records import FeedGap, FieldRule, Record, Rejected, Tick, Trade, field_rules

VERSION = b"2"
POSITION_HEADER = "ingestd-position"
VERSION_HEADER = "ingestd-version"
SYMBOL_HEADER = "ingestd-symbol"
_LONGEST_POSITION = 1000
_position = re.compile(rb"([!-9;-~]+):(0|[1-9][0-9]*):(0|[1-9][0-9]*)").fullmatch

TopicKind: TypeAlias = str
"""The last part of a topic's name: a channel, `gaps` or `rejected`."""

_KIND_OF: dict[type, TopicKind] = {**CHANNEL_OF, FeedGap: "gaps", Rejected: "rejected"}
TOPIC_KINDS: tuple[TopicKind, ...] = tuple(_KIND_OF.values())
_EVENT_TYPE_OF: dict[type, str] = {**{row.record: row.event_type for row in ROWS}, FeedGap: "GAP", Rejected: "REJECTED"}

# Fields that messages of version 1 lack.
_ADDED: dict[str, Any] = {"kind": None, "in_candles": True, "unit": None}

# A decimal as venues write it. It goes into COPY text unescaped, so no other text may pass.
_DECIMAL = r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_Decimal = Annotated[str, msgspec.Meta(pattern=rf"\A{_DECIMAL}\Z")]
# Checks all levels of one side at once: one check takes 4 µs, forty checks of two texts each take 40 µs.
_levels = re.compile(rf"(?:{_DECIMAL} )*").fullmatch
_Time = str | int


def topic_name(prefix: str, kind: TopicKind) -> str:
    """The topic of a kind of record."""
    return f"{prefix}.market.{kind}"


def topic_kind(record: Record) -> TopicKind:
    """The last part of the record's topic name."""
    return _KIND_OF[type(record)]


def topics(prefix: str) -> dict[str, TopicKind]:
    """Every market topic, and its kind of record."""
    return {topic_name(prefix, kind): kind for kind in TOPIC_KINDS}


def key(record: Record, symbol: str | None = None) -> bytes:
    """The message key. One symbol of one exchange always goes to the same partition."""
    return f"{record.exchange}:{record.symbol if symbol is None else symbol}".encode()


def encode(record: Record, symbol: str | None = None) -> bytes:
    """The message value, in which the market is called `symbol`; None: as in the record."""
    wire = _WIRES[type(record)]
    values = list(msgspec.structs.astuple(record))
    if symbol is not None:
        values[_SYMBOL_INDEX] = symbol
    for index in wire.times:
        if values[index] is not None:
            values[index] = _iso(values[index])
    timestamp = values[_TIME_INDEX]
    if type(timestamp) is int:
        timestamp = values[_RECEIVED_INDEX]
    return _encoder.encode(wire.event(timestamp, wire.data(*values)))


def encoder_of(record: Record, symbol: str | None = None) -> Callable[[Any], bytes]:
    """`encode`, at half the cost, for the records of this one's type, exchange and symbol only."""
    make, name = _ENCODERS.get(type(record)), record.symbol if symbol is None else symbol
    return partial(encode, symbol=name) if make is None else make(record.exchange, name)


def _trade_encoder(exchange: str, symbol: str) -> Callable[[Trade], bytes]:
    begin, middle = _begin("TRADE", exchange, symbol)

    def encode_trade(record: Trade) -> bytes:
        at, received_at = record.time, record.received_at
        trade_id, price, quantity = record.trade_id, record.price, record.quantity
        side = _SIDES.get(record.side)
        texts = f"{trade_id}{price}{quantity}"
        if side is None or not texts.isprintable() or '"' in texts or "\\" in texts:
            return encode(record, symbol)  # a text needs escaping
        if record.kind is not None or not record.in_candles or record.unit is not None:
            return encode(record, symbol)
        if not (0 <= at < _NEWEST_ISO_US and 0 <= received_at < _NEWEST_ISO_US):
            return encode(record, symbol)
        time = iso_text(at)
        return (
            f'{begin}{time}{middle}{time}","received_at":"{iso_text(received_at)}","trade_id":"{trade_id}","seq":'
            f'{record.seq},"side":{side},"price":"{price}","quantity":"{quantity}",'
            f'"kind":null,"in_candles":true,"unit":null}}}}'
        ).encode()

    return encode_trade


def _tick_encoder(exchange: str, symbol: str) -> Callable[[Tick], bytes]:
    begin, middle = _begin("TICK", exchange, symbol)

    def encode_tick(record: Tick) -> bytes:
        at, received_at = record.time, record.received_at
        bid, bid_volume, ask, ask_volume = record.bid_price, record.bid_volume, record.ask_price, record.ask_volume
        texts = f"{bid}{bid_volume}{ask}{ask_volume}"
        if not texts.isprintable() or '"' in texts or "\\" in texts:
            return encode(record, symbol)
        if bid is None or bid_volume is None or ask is None or ask_volume is None:
            return encode(record, symbol)
        if not (0 <= at < _NEWEST_ISO_US and 0 <= received_at < _NEWEST_ISO_US):
            return encode(record, symbol)
        time = iso_text(at)
        return (
            f'{begin}{time}{middle}{time}","received_at":"{iso_text(received_at)}","bid_price":"{bid}","bid_volume":"'
            f'{bid_volume}","ask_price":"{ask}","ask_volume":"{ask_volume}"}}}}'
        ).encode()

    return encode_tick


def _begin(event_type: str, exchange: str, symbol: str) -> tuple[str, str]:
    """The JSON before `timestamp`, and between it and `time`."""
    names = [_encoder.encode(text).decode() for text in (exchange, symbol)]
    return (
        f'{{"event_type":"{event_type}","timestamp":"',
        f'","data":{{"exchange":{names[0]},"symbol":{names[1]},"time":"',
    )


def decode(kind: TopicKind, value: bytes) -> Record:
    """Decode a message of the topic of this kind. Raises EnvelopeError, which says what is wrong with the message."""
    wire = _WIRE_OF_KIND[kind]
    try:
        event = wire.decoder.decode(value)
        values = list(msgspec.structs.astuple(event.data))
        _time_us(event.timestamp)
        for index in wire.levels:
            _check_levels(values[index])
        for index in wire.times:
            if values[index] is not None:
                values[index] = _time_us(values[index])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise EnvelopeError(f"not a {wire.event_type} message: {error}") from error
    record: Record = wire.record(*values)
    return record


def parse_position(header: bytes) -> tuple[str, int, int]:
    """Parse `ingestd-position`: journal id, position, index in the batch. Raises EnvelopeError on any other text."""
    found = _position(header) if len(header) <= _LONGEST_POSITION else None  # int() refuses thousands of digits
    if found is not None:
        return found[1].decode("ascii"), int(found[2]), int(found[3])
    raise EnvelopeError(f"the header {POSITION_HEADER} is not journal_id:position:index (found {header[:80]!r})")


_NEWEST_ISO_US = 253_402_300_800_000_000  # the year 10000
_SECONDS_KEPT = 10_000
_second_numbers: dict[str, int] = {}
_SIDES: dict[str | None, str] = {"buy": '"buy"', "sell": '"sell"', None: "null"}


def _check_levels(side: tuple[tuple[str, str], ...]) -> None:
    text = "".join([f"{price} {amount} " for price, amount in side])
    if not _levels(text) or text.count(" ") != 2 * len(side):
        raise ValueError("a level of the book is not a pair of decimals")


def _iso(time_us: int) -> _Time:
    return iso_text(time_us) if 0 <= time_us < _NEWEST_ISO_US else time_us


def _time_us(text: _Time) -> int:
    """The inverse of `_iso`. Accepts no other zone and no missing digits."""
    if type(text) is int:
        return text
    assert isinstance(text, str), "the decoder lets nothing else through"
    fraction = text[20:26]
    if len(text) != 27 or text[19] != "." or text[26] != "Z" or not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f"{text[:40]!r} is not a time such as 2026-09-21T15:33:20.000001Z")
    second = _second_numbers.get(text[:19])
    if second is None:
        second = _parse_second(text[:19])
    return second * 1_000_000 + int(fraction)


def _parse_second(text: str) -> int:
    # msgspec checks the calendar and every digit; a leap second is refused.
    second = int(msgspec.convert(f"{text}Z", datetime).timestamp())
    if text[10] != "T" or not 0 <= second * 1_000_000 < _NEWEST_ISO_US:
        raise ValueError(f"{text!r} is outside the years 1970 to 9999, or no T stands before its hour")
    if len(_second_numbers) >= _SECONDS_KEPT:
        _second_numbers.clear()
    _second_numbers[text] = second
    return second


@dataclass(frozen=True, slots=True)
class _Wire:
    """The wire format of one type of record: `event(timestamp, data(*fields))` is encoded."""

    record: Callable[..., Any]
    event_type: str
    event: Callable[..., msgspec.Struct]
    data: Callable[..., msgspec.Struct]
    times: tuple[int, ...]  # which fields are times
    levels: tuple[int, ...]  # which fields are sides of a book
    decoder: msgspec.json.Decoder[Any]


def _wire(record: type) -> _Wire:
    hints = get_type_hints(record)
    names, rules = record.__struct_fields__, field_rules(record)  # type: ignore[attr-defined] # every record is a Struct
    types = {name: _wire_type(hints[name], rules.get(name)) for name in names}
    fields = [(name, types[name], _ADDED[name]) if name in _ADDED else (name, types[name]) for name in names]
    # An unknown key is refused, because a new field is a new version.
    data = msgspec.defstruct(f"{record.__name__}Data", fields, forbid_unknown_fields=True, gc=False)
    event = msgspec.defstruct(
        f"{record.__name__}Event",
        [("timestamp", _Time), ("data", data)],
        tag_field="event_type",
        tag=_EVENT_TYPE_OF[record],
        forbid_unknown_fields=True,
        gc=False,
    )
    times = tuple(index for index, name in enumerate(names) if name in rules and rules[name].allows == "time")
    levels = tuple(index for index, name in enumerate(names) if name in ("bids", "asks"))
    return _Wire(record, _EVENT_TYPE_OF[record], event, data, times, levels, msgspec.json.Decoder(event))


def _wire_type(hint: Any, rule: FieldRule | None) -> Any:
    """The wire type of a field: times as ISO text, decimals as checked text, other types unchanged."""
    optional = type(None) in get_args(hint)
    if rule is not None and rule.allows == "time":
        return _Time | None if optional else _Time
    if rule is not None and rule.is_decimal:
        return _Decimal | None if optional else _Decimal
    return hint


_encoder = msgspec.json.Encoder()
_WIRES: dict[type, _Wire] = {record: _wire(record) for record in _KIND_OF}
_WIRE_OF_KIND: dict[TopicKind, _Wire] = {kind: _WIRES[record] for record, kind in _KIND_OF.items()}
_TIME_INDEX = Tick.__struct_fields__.index("time")
_SYMBOL_INDEX = Tick.__struct_fields__.index("symbol")
_RECEIVED_INDEX = Tick.__struct_fields__.index("received_at")
_ENCODERS: dict[type, Callable[[str, str], Callable[[Any], bytes]]] = {Trade: _trade_encoder, Tick: _tick_encoder}
