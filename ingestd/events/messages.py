"""Parses events that trading programs publish. Pure, and strict about every value that a table would refuse.

The envelopes are `{"event_type", "timestamp", "data"}`. Numbers may be JSON numbers or decimal text; either way their
digits are kept. An event's identity is the id that its producer gave it (header `ingestd-event-id`, or `event_id` in
the data), else a hash of its content, so that repetitions are recognised. Publisher and consumer both use this parser,
so that the consumer accepts every published event.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from typing import Any, NoReturn, TypeAlias

from ingestd.errors import EnvelopeError
from ingestd.validation import LONGEST_ID, is_id

EVENT_ID_HEADER = "ingestd-event-id"

_NAMESPACE = uuid.UUID("8b0d3bd5-6a3c-5f0b-9c53-2f1f0f3f7f6a")
_NUMBER = re.compile(r"-?(?:[0-9]{1,60}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,2})?").fullmatch
_OLDEST = datetime(2009, 1, 1, tzinfo=UTC)
_MAX_AHEAD = timedelta(days=1)
_MAX_DEPTH = 64  # far below the recursion limits here and in the server
_EXACT = Context(prec=400)  # more digits than _NUMBER allows
# Fields that are compared by value; all others are compared as written.
NUMBER_FIELDS = frozenset(
    {"quantity", "price", "executed_price", "executed_quantity", "entry_price", "exit_price", "pnl", "fee"}
)
_TEXT_FIELDS = frozenset(
    {"exchange", "symbol", "order_id", "trade_id", "side", "order_type", "strategy", "client_id", "event_id"}
)
# Digits after the microseconds, which ISO 8601 allows and a timestamp of the database cannot hold.
_beyond_us = re.compile(r"[.,][0-9]{6}([0-9]+)").search


@dataclass(frozen=True, slots=True)
class Submitted:
    """An order was sent to an exchange."""

    id: uuid.UUID
    at: datetime
    exchange: str | None
    symbol: str
    order_id: str
    side: str
    quantity: str
    price: str | None
    order_type: str | None
    strategy: str | None
    client_id: str | None
    data: str


@dataclass(frozen=True, slots=True)
class Executed:
    """A part of an order, or all of it, was executed."""

    id: uuid.UUID
    at: datetime
    exchange: str | None
    symbol: str
    order_id: str
    side: str | None
    quantity: str
    price: str
    fee: str | None
    order_type: str | None
    strategy: str | None
    data: str


@dataclass(frozen=True, slots=True)
class Completed:
    """A trade was closed. `side` is that of its entry."""

    id: uuid.UUID
    at: datetime
    exchange: str | None
    symbol: str
    trade_id: str
    side: str | None
    quantity: str | None
    entry_price: str
    exit_price: str
    pnl: str
    strategy: str | None
    data: str


Event: TypeAlias = Submitted | Executed | Completed


Headers: TypeAlias = Sequence[tuple[str, bytes | None]]


def read_event(event_type: str, value: bytes, headers: Headers, now: datetime) -> Event:
    """Parse a message of the topic of this event type. Raises EnvelopeError, which says what is wrong with the
    message."""
    document = _parsed(value)
    if document.get("event_type") != event_type:
        raise EnvelopeError(f"event_type is not {event_type} (found {str(document.get('event_type'))[:40]!r})")
    data = document.get("data")
    if not isinstance(data, dict):
        raise EnvelopeError("data is not an object")
    _refuse_unstorable(data, 0)
    timestamp = document.get("timestamp")
    at = _time(timestamp, now)
    fields = _Fields(data)
    identity = _identity(event_type, headers, f"{at.isoformat()}{_rest_of(str(timestamp))}", fields)
    return _READERS[event_type](identity, at, fields, _written(data))


class _Number(str):
    """The text of a JSON number, digit for digit."""

    __slots__ = ()


def _written(value: Any, *, sort: bool = False) -> str:
    """The value as JSON, with the numbers' original digits."""
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, dict):
        items = sorted(value.items()) if sort else value.items()
        return "{" + ",".join(f"{json.dumps(key)}:{_written(item, sort=sort)}" for key, item in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(item, sort=sort) for item in value) + "]"
    return json.dumps(value)


def _parsed(value: bytes) -> dict[str, Any]:
    try:
        document = json.loads(value, parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise EnvelopeError("not a JSON object")
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _refuse_unstorable(value: Any, depth: int) -> None:
    """Raise EnvelopeError for values that JSONB refuses: NUL, half a surrogate pair, numbers with too many digits."""
    if depth > _MAX_DEPTH:
        raise EnvelopeError(f"data is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(value, _Number):
        if not _NUMBER(value):
            raise EnvelopeError(f"a number has too many digits ({value[:40]})")
    elif isinstance(value, str):
        if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise EnvelopeError("a text holds a NUL or half a surrogate pair")
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unstorable(key, depth)
            _refuse_unstorable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _refuse_unstorable(item, depth + 1)


def _time(value: Any, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise EnvelopeError(f"timestamp is not ISO 8601 (found {str(value)[:40]!r})") from error
    if at.tzinfo is None:
        raise EnvelopeError("timestamp has no time zone: write Z for UTC")
    if not _OLDEST <= at <= now + _MAX_AHEAD:
        raise EnvelopeError(f"timestamp is before 2009 or more than a day ahead (found {value[:40]!r})")
    return at.astimezone(UTC)


class _Fields:
    """The fields of `data`, each checked when it is read."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def text(self, name: str) -> str:
        value = self.optional_text(name)
        if value is None:
            raise EnvelopeError(f"data.{name} is missing")
        return value

    def optional_text(self, name: str) -> str | None:
        """The field as text. Numbers are accepted too, as some programs use numbers as ids."""
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not is_id(value):
            raise EnvelopeError(f"data.{name} is not a text of 1 to {LONGEST_ID} printable characters")
        return str(value)

    def number(self, name: str, *, negative: bool = False) -> str:
        value = self.optional_number(name, negative=negative)
        if value is None:
            raise EnvelopeError(f"data.{name} is missing")
        return value

    def optional_number(self, name: str, *, negative: bool = False) -> str | None:
        value = self.data.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not _NUMBER(value) or (not negative and value.startswith("-")):
            kind = "a number" if negative else "a number that is not negative"
            raise EnvelopeError(f"data.{name} is not {kind} (found {str(value)[:40]!r})")
        return str(value)

    def side(self, *, required: bool) -> str | None:
        value = self.text("side") if required else self.optional_text("side")
        side = None if value is None else _SIDES.get(value.lower())
        if value is not None and side is None:
            raise EnvelopeError(f"data.side is neither buy nor sell (found {value[:40]!r})")
        return side


_SIDES = {"buy": "buy", "sell": "sell", "long": "buy", "short": "sell"}


def _identity(event_type: str, headers: Headers, at: str, fields: _Fields) -> uuid.UUID:
    for name, value in headers:
        if name == EVENT_ID_HEADER:
            return uuid.uuid5(_NAMESPACE, f"{event_type} id {_header_text(value)}")
    given = fields.optional_text("event_id")
    if given is not None:
        return uuid.uuid5(_NAMESPACE, f"{event_type} id {given}")
    said = {name: _meaning(name, value) for name, value in fields.data.items()}
    return uuid.uuid5(_NAMESPACE, f"{event_type} {at} {json.dumps(said, sort_keys=True)}")


def _header_text(value: bytes | None) -> str:
    """The event id of the header. An empty one is refused, as all such events would be taken for the same."""
    try:
        text = (value or b"").decode()
    except UnicodeDecodeError as error:
        raise EnvelopeError(f"the header {EVENT_ID_HEADER} is not UTF-8") from error
    if not text:
        raise EnvelopeError(f"the header {EVENT_ID_HEADER} is empty")
    return text


def _meaning(name: str, value: Any) -> str:
    """The canonical text of a field: as a price, 0.1, 0.10 and "0.1" are equal; as an id, 7 and "7" are equal, "07"
    differs."""
    if name in NUMBER_FIELDS and isinstance(value, str) and _NUMBER(value):
        number = Decimal(value)
        return format(number.normalize(_EXACT), "f") if number else "0"
    if name in _TEXT_FIELDS and isinstance(value, str):
        return str(value)
    return _written(value, sort=True)


def _rest_of(timestamp: str) -> str:
    found = _beyond_us(timestamp)
    return found[1].rstrip("0") if found else ""


def _submitted(identity: uuid.UUID, at: datetime, fields: _Fields, data: str) -> Submitted:
    side = fields.side(required=True)
    assert side is not None, "it is required"
    return Submitted(
        id=identity,
        at=at,
        exchange=fields.optional_text("exchange"),
        symbol=fields.text("symbol"),
        order_id=fields.text("order_id"),
        side=side,
        quantity=fields.number("quantity"),
        price=fields.optional_number("price", negative=True),
        order_type=fields.optional_text("order_type"),
        strategy=fields.optional_text("strategy"),
        client_id=fields.optional_text("client_id"),
        data=data,
    )


def _executed(identity: uuid.UUID, at: datetime, fields: _Fields, data: str) -> Executed:
    return Executed(
        id=identity,
        at=at,
        exchange=fields.optional_text("exchange"),
        symbol=fields.text("symbol"),
        order_id=fields.text("order_id"),
        side=fields.side(required=False),
        quantity=fields.number("executed_quantity"),
        price=fields.number("executed_price", negative=True),
        fee=fields.optional_number("fee", negative=True),
        order_type=fields.optional_text("order_type"),
        strategy=fields.optional_text("strategy"),
        data=data,
    )


def _completed(identity: uuid.UUID, at: datetime, fields: _Fields, data: str) -> Completed:
    return Completed(
        id=identity,
        at=at,
        exchange=fields.optional_text("exchange"),
        symbol=fields.text("symbol"),
        trade_id=fields.text("trade_id"),
        side=fields.side(required=False),
        quantity=fields.optional_number("quantity"),
        entry_price=fields.number("entry_price", negative=True),
        exit_price=fields.number("exit_price", negative=True),
        pnl=fields.number("pnl", negative=True),
        strategy=fields.optional_text("strategy"),
        data=data,
    )


_READERS: dict[str, Callable[[uuid.UUID, datetime, _Fields, str], Event]] = {
    "ORDER_SUBMITTED": _submitted,
    "ORDER_EXECUTED": _executed,
    "TRADE_COMPLETED": _completed,
}
