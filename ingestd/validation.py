"""Decides which records may enter the journal, by pure checks on the exchange's own text.

PostgreSQL would take `NaN` as a price (even past `CHECK (price > 0)`) and would open a chunk for the year 2262; a text
with a NUL or half a surrogate pair would fail the whole COPY. Such records are put aside here, with a reason.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

import msgspec

from ingestd.clock import MICROSECONDS_PER_DAY
from ingestd.records import (
    OPEN_INTEREST_UNITS,
    TRADE_KINDS,
    BookSnapshot,
    FeedGap,
    MarketRecord,
    OpenInterest,
    Rejected,
    Tick,
    Trade,
    field_rules,
)

# A B-tree of PostgreSQL takes at most 2,704 bytes of a row; more is SQLSTATE 54000:
# https://www.postgresql.org/docs/current/btree.html. Our indexes hold up to three names, or one id, besides numbers and
# times: at four bytes a character that is 1,536 bytes, or 800, plus the numbers and times.
LONGEST_NAME = 128
"""Maximum characters of a text that shares an index: exchange, symbol, channel, timeframe, the venue's trade id."""
LONGEST_ID = 200
"""Maximum characters of a text that has an index to itself, such as an order's id."""

# No record can be older than Bitcoin; some venues send the time 0 to mean "none".
OLDEST_TIME_US = 1_230_768_000_000_000  # 2009-01-01
_MAX_BIGINT = 2**63 - 1
_MAX_INTEGER = 2**31 - 1
_MAX_TIME_US = 253_402_300_799_000_000  # the end of the year 9999, the limit of datetime
_MAX_LEVELS = 10_000  # on one side of a book
_MAX_REJECTION_CHARACTERS = 16_000
_SIDES = frozenset({"buy", "sell", None})
_KINDS = frozenset({*TRADE_KINDS, None})
_UNITS = frozenset({*OPEN_INTEREST_UNITS, None})

_DIGITS = r"(?:[0-9]{1,60}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,2})?"
_positive = re.compile(rf"(?=[0.]*[1-9]){_DIGITS}").fullmatch
_unit = re.compile(rf"(?:(?=[0.]*[1-9]){_DIGITS} )?(?:base|quote)|unknown").fullmatch
_not_negative = re.compile(_DIGITS).fullmatch
_finite = re.compile(rf"-?{_DIGITS}").fullmatch
# A level's price may be negative or zero (spreads, some options), its amount may not. Both become JSON numbers, which
# have no bare point and no leading zero.
_JSON_NUMBER = r"(?:0|[1-9][0-9]{0,59})(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,2})?"
_levels = re.compile(rf"(?:-?{_JSON_NUMBER} (?=[0.]*[1-9]){_JSON_NUMBER} )*").fullmatch


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """The exchange times a table accepts, in microseconds since the epoch. Records older than the retention are
    refused, since they would re-create chunks that retention has dropped."""

    oldest: dict[type, int]
    newest: int


def time_window(now_us: int, max_ahead_s: float, retention_days: dict[type, int]) -> TimeWindow:
    """The time window at `now_us`; a retention of 0 days keeps rows for ever, so no record is too old."""
    oldest = {kind: now_us - days * MICROSECONDS_PER_DAY for kind, days in retention_days.items() if days}
    return TimeWindow(oldest, now_us + int(max_ahead_s * 1e6))


def rejection_reason(record: MarketRecord, window: TimeWindow) -> str | None:
    """Return a short fixed reason why `record` cannot be stored, or None if it can."""
    reason = _CHECKS[type(record)](record)
    if reason is not None:
        return reason
    if not is_name(record.exchange) or not is_name(record.symbol):
        return "text"
    if not OLDEST_TIME_US <= record.received_at <= _MAX_TIME_US:
        return "received_at"
    if record.time > window.newest:
        return "too_far_ahead"
    if record.time < OLDEST_TIME_US:
        return "time_missing"
    if record.time < window.oldest.get(type(record), OLDEST_TIME_US):
        return "older_than_retention"
    return None


def all_valid(records: Sequence[MarketRecord | FeedGap], window: TimeWindow) -> bool:
    """Whether no record of a batch has a `rejection_reason`; takes half the time of checking each record alone.

    Also False if the batch contains a gap, which is not a market record.
    """
    by_type: defaultdict[type, list[Any]] = defaultdict(list)
    for record in records:
        by_type[type(record)].append(record)
    if FeedGap in by_type:
        return False
    trades, ticks = by_type.pop(Trade, ()), by_type.pop(Tick, ())
    return (
        (not trades or _all_trades(trades, window))
        and (not ticks or _all_ticks(ticks, window))
        and all(rejection_reason(record, window) is None for others in by_type.values() for record in others)
    )


def _all_trades(trades: Sequence[Trade], window: TimeWindow) -> bool:
    numbers = [trade.seq for trade in trades]
    return (
        all(map(_positive, [trade.price for trade in trades]))
        and all(map(_positive, [trade.quantity for trade in trades]))
        and all(map(is_name, [trade.trade_id for trade in trades]))
        and {trade.side for trade in trades} <= _SIDES
        and {trade.kind for trade in trades} <= _KINDS
        and all(unit is None or _unit(unit) for unit in {trade.unit for trade in trades})
        and min(numbers) >= 0
        and max(numbers) <= _MAX_BIGINT
        and _has_valid_header(trades, window)
    )


def _all_ticks(ticks: Sequence[Tick], window: TimeWindow) -> bool:
    prices = [price for tick in ticks for price in (tick.bid_price, tick.ask_price)]
    volumes = [volume for tick in ticks for volume in (tick.bid_volume, tick.ask_volume)]
    return (
        not any(tick.bid_price is None and tick.ask_price is None for tick in ticks)
        and all(map(_positive, [price for price in prices if price is not None]))
        and all(map(_not_negative, [volume for volume in volumes if volume is not None]))
        and _has_valid_header(ticks, window)
    )


def _has_valid_header(records: Sequence[Trade] | Sequence[Tick], window: TimeWindow) -> bool:
    """Check what all market records share: valid names and two plausible times."""
    received = [record.received_at for record in records]
    times = [record.time for record in records]
    oldest = max(OLDEST_TIME_US, window.oldest.get(type(records[0]), OLDEST_TIME_US))
    return (
        all(map(is_name, {record.exchange for record in records}))
        and all(map(is_name, {record.symbol for record in records}))
        and min(received) >= OLDEST_TIME_US
        and max(received) <= _MAX_TIME_US
        and min(times) >= oldest
        and max(times) <= window.newest
    )


def storable_gap(gap: FeedGap) -> FeedGap:
    """Return the gap with texts that every database accepts; `detail` may hold a venue's close reason."""
    return msgspec.structs.replace(
        gap,
        detail=None if gap.detail is None else storable_text(gap.detail)[:1000],
        exchange=storable_text(gap.exchange)[:LONGEST_NAME],
        symbol=storable_text(gap.symbol)[:LONGEST_NAME],
    )


def rejection(record: MarketRecord | FeedGap, table: str, reason: str) -> Rejected:
    """Build the row of `rejected_records` for a refused record; a very long record is truncated."""
    return Rejected(
        exchange=storable_text(record.exchange),
        symbol=storable_text(record.symbol),
        time=min(max(record.time, 0), _MAX_TIME_US),
        received_at=min(max(record.received_at, 0), _MAX_TIME_US),
        table=table,
        reason=reason,
        record=as_short_json(record),
    )


def as_short_json(record: msgspec.Struct) -> str:
    """Convert a record as `as_json` does; of a very long one only the beginning is kept."""
    text = as_json(record)
    if len(text) > _MAX_REJECTION_CHARACTERS:
        return json.dumps({"characters": len(text), "begins": text[: _MAX_REJECTION_CHARACTERS // 2]})
    return text


def as_json(record: msgspec.Struct) -> str:
    """Convert a record to a JSON object that PostgreSQL's JSONB accepts, whatever its texts contain."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return json.dumps(_cleaned(values), ensure_ascii=True, separators=(",", ":"))


def storable_text(text: str) -> str:
    """Escape the characters that no database accepts (NUL, half surrogate pairs)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, int) and not -_MAX_BIGINT <= value <= _MAX_BIGINT:
        return hex(value)  # hexadecimal text has no limit on digits, unlike JSON integers
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return value


def _tick(record: Tick) -> str | None:
    if record.bid_price is None and record.ask_price is None:
        return "no_price"
    for price in (record.bid_price, record.ask_price):
        if price is not None and not _positive(price):
            return "price"
    for volume in (record.bid_volume, record.ask_volume):
        if volume is not None and not _not_negative(volume):
            return "quantity"
    return None


def _trade(record: Trade) -> str | None:
    if not _positive(record.price):
        return "price"
    if not _positive(record.quantity):
        return "quantity"
    if not is_name(record.trade_id):
        return "trade_id"
    if record.side not in _SIDES:
        return "side"
    if record.kind not in _KINDS:
        return "kind"
    if record.unit is not None and _unit(record.unit) is None:
        return "unit"
    return None if 0 <= record.seq <= _MAX_BIGINT else "seq"


def _book(record: BookSnapshot) -> str | None:
    for side in (record.bids, record.asks):
        if len(side) > _MAX_LEVELS:
            return "size"
        if not _levels("".join([f"{price} {amount} " for price, amount in side])):
            return "level"
    if record.sequence is not None and not 0 <= record.sequence <= _MAX_BIGINT:
        return "sequence"
    return None


def _open_interest(record: OpenInterest) -> str | None:
    sides = (record.open_interest, record.open_interest_usd)
    if sides == (None, None) or not all(side is None or _not_negative(side) for side in sides):
        return "open_interest"
    if record.unit not in _UNITS:
        return "unit"
    return None if record.basis is None or _finite(record.basis) else "basis"


def is_name(text: str) -> bool:
    """Whether the text may be stored as a name. `isprintable` is false for control characters and for half surrogate
    pairs, which cannot be encoded."""
    return 0 < len(text) <= LONGEST_NAME and text.isprintable()


def is_id(text: str) -> bool:
    """Whether the text may be stored as an id."""
    return 0 < len(text) <= LONGEST_ID and text.isprintable()


_ALLOWED: Mapping[str, Callable[[Any], object]] = {
    "positive": _positive,
    "not_negative": _not_negative,
    "any_number": _finite,
    "time": lambda time_us: OLDEST_TIME_US <= time_us <= _MAX_TIME_US,
    "count": lambda count: 0 <= count <= _MAX_INTEGER,
    "name": is_name,
    "id": is_id,
    "side": _SIDES.__contains__,
}


def _by_rules(record_type: type) -> Callable[[Any], str | None]:
    """Build the check of a record whose fields can be checked independently."""
    hints = get_type_hints(record_type)
    rules = list(field_rules(record_type).items())[2:]  # `rejection_reason` checks time and received_at
    checks = [
        (name, _ALLOWED[rule.allows], type(None) in get_args(hints[name]), rule.reason or name) for name, rule in rules
    ]

    def check(record: Any) -> str | None:
        for name, is_allowed, may_be_none, reason in checks:
            value = getattr(record, name)
            if not (may_be_none if value is None else is_allowed(value)):
                return reason
        return None

    return check


_CHECKS: dict[type, Callable[[Any], str | None]] = {
    **{record_type: _by_rules(record_type) for record_type in get_args(MarketRecord)},
    Tick: _tick,
    Trade: _trade,
    BookSnapshot: _book,
    OpenInterest: _open_interest,
}
