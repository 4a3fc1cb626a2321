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
from typing import Any, ClassVar, NoReturn, TypeAlias

from ingestd.errors import EnvelopeError
from ingestd.validation import LONGEST_ID, is_id

EVENT_ID_HEADER = "ingestd-event-id"

_NAMESPACE = uuid.UUID("8b0d3bd5-6a3c-5f0b-9c53-2f1f0f3f7f6a")
_NUMBER = re.compile(r"-?(?:[0-9]{1,60}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,2})?").fullmatch
_OLDEST = datetime(2009, 1, 1, tzinfo=UTC)
_MAX_AHEAD = timedelta(days=1)
_MAX_DEPTH = 64  # far below the recursion limits here and in the server
_EXACT = Context(prec=400)  # more digits than _NUMBER allows
_MOST_BALANCES = 10_000
_ENDINGS = ("CANCELLED", "EXPIRED")
SIDES = {"buy": "buy", "sell": "sell", "long": "buy", "short": "sell"}
# Digits after the microseconds, which ISO 8601 allows and a timestamp of the database cannot hold.
_beyond_us = re.compile(r"[.,][0-9]{6}([0-9]+)").search


@dataclass(frozen=True, slots=True)
class _Event:
    """The fields that every event has. A class names the fields of the JSON `data` that it `needs` and `may_have`.

    An attribute is named like its field, without `executed_`. `topic` lacks the prefix. `table` is the table that
    `rejected_records` names if the event is put aside.
    """

    topic: ClassVar[str]
    table: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    may_have: ClassVar[tuple[str, ...]]

    id: uuid.UUID
    at: datetime
    exchange: str | None
    data: str


@dataclass(frozen=True, slots=True)
class _OfMarket(_Event):
    """An event of one market. `symbol` is the text that the event has for it."""

    symbol: str
    strategy: str | None


@dataclass(frozen=True, slots=True)
class Submitted(_OfMarket):
    """An order was sent to an exchange."""

    topic = "orders.submitted"
    table = "orders"
    needs = ("order_id", "symbol", "side", "quantity")
    may_have = ("exchange", "price", "order_type", "strategy", "client_id")

    order_id: str
    side: str
    quantity: str
    price: str | None
    order_type: str | None
    client_id: str | None


@dataclass(frozen=True, slots=True)
class Executed(_OfMarket):
    """A part of an order, or all of it, was executed. `fee` is in `fee_currency`; None: in the quote currency."""

    topic = "orders.executed"
    table = "executions"
    needs = ("order_id", "symbol", "executed_price", "executed_quantity")
    may_have = ("exchange", "side", "fee", "fee_currency", "order_type", "strategy")

    order_id: str
    side: str | None
    quantity: str
    price: str
    fee: str | None
    order_type: str | None
    fee_currency: str | None = None


@dataclass(frozen=True, slots=True)
class _Ended(_OfMarket):
    """An order will not be filled further. `reason` is for people."""

    table = "order_endings"
    needs = ("order_id", "symbol")

    order_id: str
    side: str | None
    quantity: str | None
    price: str | None
    order_type: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Refused(_Ended):
    """The exchange did not accept an order."""

    topic = "orders.rejected"
    may_have = ("exchange", "side", "quantity", "price", "order_type", "strategy", "reason")

    @property
    def ending(self) -> str:
        return "REJECTED"


@dataclass(frozen=True, slots=True)
class Cancelled(_Ended):
    """An order was cancelled, or expired if `status` says so."""

    topic = "orders.cancelled"
    may_have = ("exchange", "side", "quantity", "price", "order_type", "strategy", "reason", "status")

    status: str | None

    @property
    def ending(self) -> str:
        return self.status or "CANCELLED"


@dataclass(frozen=True, slots=True)
class Completed(_OfMarket):
    """A trade was closed. `side` is that of its entry."""

    topic = "trades.completed"
    table = "completed_trades"
    needs = ("trade_id", "symbol", "entry_price", "exit_price", "pnl")
    may_have = ("exchange", "side", "quantity", "strategy")

    trade_id: str
    side: str | None
    quantity: str | None
    entry_price: str
    exit_price: str
    pnl: str


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account holds of an asset: what it may use, and what its open orders lock."""

    asset: str
    available: str
    locked: str


@dataclass(frozen=True, slots=True)
class Snapshot(_Event):
    """The balances of some assets at one time, as the exchange reports them. Assets that it lacks did not change."""

    topic = "balances.snapshot"
    table = "balance_snapshots"
    needs = ("balances",)
    may_have = ("exchange",)

    balances: tuple[Balance, ...]


OrderEvent: TypeAlias = Submitted | Executed | Refused | Cancelled
Event: TypeAlias = OrderEvent | Completed | Snapshot
EVENT_TYPES: dict[str, type[Event]] = {
    "ORDER_SUBMITTED": Submitted,
    "ORDER_EXECUTED": Executed,
    "ORDER_REJECTED": Refused,
    "ORDER_CANCELLED": Cancelled,
    "TRADE_COMPLETED": Completed,
    "BALANCE_SNAPSHOT": Snapshot,
}

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]


def read_event(event_type: str, value: bytes, headers: Headers, now: datetime) -> Event:
    """Parse a message of the topic of this event type. Raises EnvelopeError, which says what is wrong with it."""
    document = _parsed(value)
    if document.get("event_type") != event_type:
        raise EnvelopeError(f"event_type is not {event_type} (found {str(document.get('event_type'))[:40]!r})")
    data = document.get("data")
    if not isinstance(data, dict):
        raise EnvelopeError("data is not an object")
    _refuse_unstorable(data, 0)
    timestamp = document.get("timestamp")
    at = _time(timestamp, now)
    identity = _identity(event_type, headers, f"{at.isoformat()}{_rest_of(str(timestamp))}", data)
    event = EVENT_TYPES[event_type]
    said: dict[str, Any] = {name.removeprefix("executed_"): _field(data, name, needed=True) for name in event.needs}
    said |= {name: _field(data, name) for name in event.may_have}
    return event(id=identity, at=at, data=_written(data), **said)


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


def _field(data: dict[str, Any], name: str, *, needed: bool = False) -> Any:
    """What a field says, None if it is absent. Raises EnvelopeError if it is not valid, or needed and missing."""
    value = data.get(name)
    if value is None and needed:
        raise EnvelopeError(f"data.{name} is missing")
    return None if value is None else _CHECKS[name](name, value)


def _text(name: str, value: Any) -> str:
    """The text of a name or id; also of a JSON number, as some programs use numbers as ids."""
    if not isinstance(value, str) or not is_id(value):
        raise EnvelopeError(f"data.{name} is not a text of 1 to {LONGEST_ID} printable characters")
    return str(value)


def _side(name: str, value: Any) -> str:
    side = SIDES.get(_text(name, value).lower())
    if side is None:
        raise EnvelopeError(f"data.{name} is neither buy nor sell (found {value[:40]!r})")
    return side


def _number(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _NUMBER(value):
        raise EnvelopeError(f"data.{name} is not a number (found {str(value)[:40]!r})")
    return str(value)


def _amount(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _NUMBER(value) or value.startswith("-"):
        raise EnvelopeError(f"data.{name} is not a number that is not negative (found {str(value)[:40]!r})")
    return str(value)


def _reason(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise EnvelopeError(f"data.{name} is not a text")
    return str(value)


def _status(name: str, value: Any) -> str:
    status = _text(name, value).upper()
    if status not in _ENDINGS:
        raise EnvelopeError(f"data.{name} is neither cancelled nor expired (found {value[:40]!r})")
    return status


def _balances(name: str, value: Any) -> tuple[Balance, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MOST_BALANCES:
        raise EnvelopeError(f"data.{name} is not a list of 1 to {_MOST_BALANCES} balances")
    rows = tuple(_balance(f"{name}[{number}]", item) for number, item in enumerate(value))
    if len({row.asset for row in rows}) < len(rows):
        raise EnvelopeError(f"data.{name} has an asset twice")
    return rows


def _balance(name: str, item: Any) -> Balance:
    if not isinstance(item, dict):
        raise EnvelopeError(f"data.{name} is not an object")
    for field in ("asset", "available"):
        if item.get(field) is None:
            raise EnvelopeError(f"data.{name}.{field} is missing")
    locked = item.get("locked")
    return Balance(
        _text(f"{name}.asset", item["asset"]),
        _number(f"{name}.available", item["available"]),
        "0" if locked is None else _number(f"{name}.locked", locked),
    )


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("exchange", "symbol", "strategy", "order_id", "trade_id", "order_type", "client_id"), _text),
    **dict.fromkeys(("event_id", "fee_currency"), _text),
    "side": _side,
    "reason": _reason,
    "status": _status,
    "balances": _balances,
    **dict.fromkeys(("quantity", "executed_quantity"), _amount),
    **dict.fromkeys(("price", "executed_price", "entry_price", "exit_price", "pnl", "fee"), _number),
}
# Fields that are compared by value; all others are compared as written.
NUMBER_FIELDS = frozenset(name for name, check in _CHECKS.items() if check in (_amount, _number))


def _identity(event_type: str, headers: Headers, at: str, data: dict[str, Any]) -> uuid.UUID:
    for name, value in headers:
        if name == EVENT_ID_HEADER:
            return uuid.uuid5(_NAMESPACE, f"{event_type} id {_header_text(value)}")
    if (given := _field(data, "event_id")) is not None:
        return uuid.uuid5(_NAMESPACE, f"{event_type} id {given}")
    said = {name: _meaning(name, value) for name, value in data.items()}
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
    """A field's canonical text: as a price, 0.1, 0.10 and "0.1" are equal; as an id, 7 and "7" are, "07" differs."""
    if name in NUMBER_FIELDS and isinstance(value, str) and _NUMBER(value):
        number = Decimal(value)
        return format(number.normalize(_EXACT), "f") if number else "0"
    if name in _CHECKS and name not in NUMBER_FIELDS and isinstance(value, str):
        return str(value)
    return _written(value, sort=True)


def _rest_of(timestamp: str) -> str:
    found = _beyond_us(timestamp)
    return found[1].rstrip("0") if found else ""
