"""Writes records as PostgreSQL's COPY text, with the exchange's own digits: no Decimal and no datetime in between.

Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2 (tab between columns, newline after a
row, `\\N` for NULL, backslash escapes). Valid texts have no control characters, so only the backslash needs escaping.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

from ingestd.channels import ROWS, ChannelRow
from ingestd.records import BookSnapshot, FeedGap, FieldRule, Level, Record, Rejected, Tick, Trade, field_rules
from ingestd.validation import storable_text

_Lines: TypeAlias = Callable[[Sequence[Any], Sequence[str]], list[str]]

_MICROSECONDS = tuple(f"{number:03d}+00" for number in range(1000))  # the end of a timestamp
_NULL = "\\N"
_BACKSLASH = "\\"
ORDINARY_END = f"\t{_NULL}\tt\t{_NULL}\t{_NULL}\n"
"""How the line of an ordinary trade ends: no kind, in the candles, counted in the base currency. These values
are also the defaults of their columns."""


def timestamp(time_us: int) -> str:
    """Write a time as `2026-01-06 22:00:00.000123+00`. The text of a second is kept for the next times within it."""
    second, fraction = divmod(time_us, 1_000_000)
    return f"{_second(second)}.{fraction:06d}+00"


def table_of(record: Record) -> str:
    """The table a record goes to."""
    return _LINES[type(record)][0]


def market(exchange: str, name: str) -> str:
    """The columns exchange and symbol, as every table of a channel has them side by side.

    Sorted by this text, rows are in the order of the tables' indexes: the tab is less than any character of a name.
    """
    return f"{escaped(exchange)}\t{escaped(name)}"


def lines(records: Sequence[Record], markets: Sequence[str]) -> list[str]:
    """Records of one kind as COPY lines, in order; `markets` has the text of `market` for each."""
    if not records:
        return []
    return _LINES[type(records[0])][1](records, markets)


def ordinary_trades(records: Sequence[Any], markets: Sequence[str]) -> list[str] | None:
    """Trades as COPY lines without the columns of `ORDINARY_END`; None if a trade needs them."""
    marked: list[Trade] = []
    made = _trade_lines(records, markets, "\n", marked)
    return None if marked else made


def payload(rows: Iterable[str]) -> bytes:
    """Lines as the bytes that COPY takes."""
    return "".join(rows).encode()


def split(rows: bytes) -> list[bytes]:
    """The lines of a payload with their newlines. Newlines inside a row are escaped, so each line is a row."""
    return [line + b"\n" for line in rows.split(b"\n")[:-1]]


def rejected(at_us: int, table: str, reason: str, sqlstate: str | None, document: str, error: str | None) -> str:
    """The COPY line of a rejected record for `rejected_records`; `document` is JSON text that JSONB accepts."""
    answer = _NULL if error is None else escaped(storable_text(error))
    return (
        f"{timestamp(at_us)}\t{escaped(table)}\t{escaped(reason)}\t{_optional(sqlstate)}\t{escaped(document)}\t"
        f"{answer}\n"
    )


def escaped(text: str) -> str:
    """The text with COPY's special characters escaped."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return text


@lru_cache(maxsize=10_000)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))


class _Milliseconds(dict[int, str]):
    """A cache of the text of milliseconds, counted from `start_us`: `2026-01-06 22:00:00.000`.

    Most records of a flush lie within a second or two. So offsets from `start_us` are small integers, and arithmetic on
    small integers is twice as fast.
    """

    def __init__(self, near_us: int) -> None:
        self._start_s = near_us // 1_000_000
        self.start_us = self._start_s * 1_000_000

    def __missing__(self, millisecond: int) -> str:
        second, rest = divmod(millisecond, 1000)
        text = self[millisecond] = f"{_second(self._start_s + second)}.{rest:03d}"
        return text


def _optional(value: str | int | None) -> str:
    return _NULL if value is None else str(value)


def _optional_time(time_us: int | None) -> str:
    return _NULL if time_us is None else timestamp(time_us)


def _optional_text(text: str | None) -> str:
    return _NULL if text is None else escaped(text)


# Nearly everything stored is of the next three kinds. Each is one comprehension without a function call per record.
# Text of a venue is escaped only if it has a backslash, the one special character that validation accepts.


def _ticks(records: Sequence[Tick], markets: Sequence[str]) -> list[str]:
    text = _Milliseconds(records[0].time)
    start, end, null = text.start_us, _MICROSECONDS, _NULL
    return [
        f"{text[(at := tick.time - start) // 1000]}{end[at % 1000]}\t"
        f"{market}\t"
        f"{null if (number := tick.bid_price) is None else number}\t"
        f"{null if (number := tick.bid_volume) is None else number}\t"
        f"{null if (number := tick.ask_price) is None else number}\t"
        f"{null if (number := tick.ask_volume) is None else number}\t"
        f"{text[(at := tick.received_at - start) // 1000]}{end[at % 1000]}\n"
        for tick, market in zip(records, markets, strict=True)
    ]


def _trades(records: Sequence[Trade], markets: Sequence[str]) -> list[str]:
    return _trade_lines(records, markets, ORDINARY_END, [])


def _trade_lines(records: Sequence[Trade], markets: Sequence[str], ordinary_end: str, marked: list[Trade]) -> list[str]:
    """Write trades as COPY lines, and add those that are not ordinary to `marked`."""
    text = _Milliseconds(records[0].time)
    start, end, null, special = text.start_us, _MICROSECONDS, _NULL, _BACKSLASH
    return [
        f"{text[(at := trade.time - start) // 1000]}{end[at % 1000]}\t"
        f"{market}\t"
        f"{name if special not in (name := trade.trade_id) else escaped(name)}\t"
        f"{trade.seq}\t{null if (side := trade.side) is None else side}\t{trade.price}\t{trade.quantity}\t"
        f"{text[(at := trade.received_at - start) // 1000]}{end[at % 1000]}"
        f"{ordinary_end if trade.kind is None and trade.unit is None and trade.in_candles else _end(trade, marked)}"
        for trade, market in zip(records, markets, strict=True)
    ]


def _end(trade: Trade, marked: list[Trade]) -> str:
    """The last columns of a trade that is not ordinary: counted in contracts, or marked by the venue."""
    marked.append(trade)
    return _marks(trade.kind, trade.in_candles, trade.unit)


@lru_cache(maxsize=10_000)
def _marks(kind: str | None, in_candles: bool, unit: str | None) -> str:
    size, _, currency = ("", "", _NULL) if unit is None else unit.rpartition(" ")
    return f"\t{_optional(kind)}\t{'t' if in_candles else 'f'}\t{size or _NULL}\t{currency}\n"


def _books(records: Sequence[BookSnapshot], markets: Sequence[str]) -> list[str]:
    text = _Milliseconds(records[0].time)
    start, end, null = text.start_us, _MICROSECONDS, _NULL
    return [
        f"{text[(at := book.time - start) // 1000]}{end[at % 1000]}\t"
        f"{market}\t"
        f"{_levels(book.bids)}\t{_levels(book.asks)}\t"
        f"{null if (sequence := book.sequence) is None else sequence}\t{'t' if book.valid else 'f'}\t"
        f"{text[(at := book.received_at - start) // 1000]}{end[at % 1000]}\t"
        f"{bids[0][0] if (bids := book.bids) else null}\t{asks[0][0] if (asks := book.asks) else null}\n"
        for book, market in zip(records, markets, strict=True)
    ]


def _levels(levels: tuple[Level, ...]) -> str:
    """`[{"price":1.5,"amount":2},…]`, joined without a loop over levels, which takes a third less time."""
    if not levels:
        return "[]"
    return '[{"price":' + '},{"price":'.join(map(',"amount":'.join, levels)) + "}]"


_FAST: dict[type, _Lines] = {Tick: _ticks, Trade: _trades, BookSnapshot: _books}


def _gap(record: FeedGap, market: str) -> str:
    status = "open" if record.ended_at is None else "closed"
    return (
        f"{market}\t{escaped(record.channel)}\t{timestamp(record.time)}\t"
        f"{_optional_time(record.ended_at)}\t{escaped(record.cause)}\t{status}\t"
        f"{_optional_text(record.detail)}\n"
    )


def _rejected(record: Rejected, _: str) -> str:
    return rejected(record.received_at, record.table, record.reason, None, record.record, None)


def _each(line: Callable[[Any, str], str]) -> _Lines:
    """Make a writer of many records from a writer of one. It is for rare kinds: it calls a function per record."""
    return lambda records, markets: [line(*row) for row in zip(records, markets, strict=True)]


def _by_columns(row: ChannelRow) -> _Lines:
    """Make a writer of a rare channel's records, which writes each field as the field's rule says."""
    rules = field_rules(row.record)
    assert row.table_columns[:3] == ("time", "exchange", "symbol"), "every channel's table begins so"
    columns = [(name, _written_as(rules.get(name))) for name in row.table_columns[3:]]

    def line(record: Any, market: str) -> str:
        texts = [write(getattr(record, name)) for name, write in columns]
        return "\t".join([timestamp(record.time), market, *texts]) + "\n"

    return _each(line)


def _written_as(rule: FieldRule | None) -> Callable[[Any], str]:
    if rule is not None and rule.allows == "time":
        return _optional_time
    is_number = rule is not None and (rule.is_decimal or rule.allows == "count")
    return _optional if is_number else _optional_text


_LINES: dict[type, tuple[str, _Lines]] = {
    **{row.record: (row.table, _FAST.get(row.record) or _by_columns(row)) for row in ROWS},
    FeedGap: ("feed_gaps", _each(_gap)),
    Rejected: ("rejected_records", _each(_rejected)),
}
