"""Records to PostgreSQL's COPY text format, without a Decimal or a datetime: the exchange's own digits go through.

Format: https://www.postgresql.org/docs/current/sql-copy.html#id-1.9.3.55.9.2 (tab between columns, newline after a
row, `\\N` for NULL, backslash escapes). A text that validation let through holds no control character, so only the
backslash itself needs escaping.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ingestd.records import (
    BookSnapshot,
    Candle,
    FeedGap,
    Funding,
    Level,
    OpenInterest,
    Record,
    Rejected,
    Tick,
    Trade,
)
from ingestd.validation import as_json, printable

_seconds: dict[int, str] = {}
_SECONDS_KEPT = 10_000


def timestamp(time_us: int) -> str:
    """`2026-01-06 22:00:00.000123+00`. The second's text is computed once and kept."""
    second, fraction = divmod(time_us, 1_000_000)
    text = _seconds.get(second)
    if text is None:
        if len(_seconds) >= _SECONDS_KEPT:
            _seconds.clear()
        text = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
        _seconds[second] = text
    return f"{text}.{fraction:06d}+00"


def table_of(record: Record) -> str:
    """The table a record goes to."""
    return _LINES[type(record)][0]


def lines(records: Sequence[Record]) -> list[str]:
    """Records of one kind as COPY lines, in order."""
    if not records:
        return []
    line = _LINES[type(records[0])][1]
    return [line(record) for record in records]


def payload(rows: list[str]) -> bytes:
    """Lines as the bytes that COPY takes."""
    return "".join(rows).encode()


def rejected_row(record: Record, table: str, sqlstate: str, error: str) -> str:
    """The `rejected_records` line of a row that the server refused."""
    return rejected_document(record.received_at, as_json(record), table, sqlstate, error)


def rejected_document(at_us: int, document: str, table: str, sqlstate: str, error: str) -> str:
    """The same of what is no record: a JSON text that JSONB takes."""
    return f"{timestamp(at_us)}\t{table}\tserver\t{sqlstate}\t{escaped(document)}\t{escaped(printable(error))}\n"


def escaped(text: str) -> str:
    """The text with COPY's special characters escaped."""
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\t" in text or "\r" in text:
        text = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return text


def _optional(value: str | int | None) -> str | int:
    return "\\N" if value is None else value


def _optional_time(time_us: int | None) -> str:
    return "\\N" if time_us is None else timestamp(time_us)


def _tick(record: Tick) -> str:
    return (
        f"{timestamp(record.time)}\t{escaped(record.exchange)}\t{escaped(record.symbol)}\t"
        f"{_optional(record.bid_price)}\t{_optional(record.bid_volume)}\t"
        f"{_optional(record.ask_price)}\t{_optional(record.ask_volume)}\t{timestamp(record.received_at)}\n"
    )


def _trade(record: Trade) -> str:
    return (
        f"{timestamp(record.time)}\t{escaped(record.exchange)}\t{escaped(record.symbol)}\t"
        f"{escaped(record.trade_id)}\t{record.seq}\t{_optional(record.side)}\t{record.price}\t{record.quantity}\t"
        f"{timestamp(record.received_at)}\n"
    )


def _levels(levels: tuple[Level, ...]) -> str:
    return "[" + ",".join([f'{{"price":{price},"amount":{amount}}}' for price, amount in levels]) + "]"


def _book(record: BookSnapshot) -> str:
    return (
        f"{timestamp(record.time)}\t{escaped(record.exchange)}\t{escaped(record.symbol)}\t"
        f"{_levels(record.bids)}\t{_levels(record.asks)}\t{_optional(record.sequence)}\t"
        f"{'t' if record.valid else 'f'}\t{timestamp(record.received_at)}\n"
    )


def _open_interest(record: OpenInterest) -> str:
    return (
        f"{timestamp(record.time)}\t{escaped(record.exchange)}\t{escaped(record.symbol)}\t{record.open_interest}\t"
        f"{_optional(record.open_interest_usd)}\t{_optional(record.basis)}\t{timestamp(record.received_at)}\n"
    )


def _funding(record: Funding) -> str:
    return (
        f"{timestamp(record.time)}\t{escaped(record.exchange)}\t{escaped(record.symbol)}\t{record.funding_rate}\t"
        f"{_optional(record.annualised_rate)}\t{_optional(record.payment)}\t{_optional(record.mark_price)}\t"
        f"{_optional_time(record.next_funding_time)}\t{timestamp(record.received_at)}\n"
    )


def _candle(record: Candle) -> str:
    return (
        f"{timestamp(record.time)}\t{escaped(record.exchange)}\t{escaped(record.symbol)}\t"
        f"{escaped(record.timeframe)}\t{record.open}\t{record.high}\t{record.low}\t{record.close}\t{record.volume}\t"
        f"{_optional(record.quote_volume)}\t{_optional(record.trades_count)}\t"
        f"{_optional(record.taker_buy_base_volume)}\t{_optional(record.taker_buy_quote_volume)}\n"
    )


def _gap(record: FeedGap) -> str:
    detail = "\\N" if record.detail is None else escaped(record.detail)
    status = "open" if record.ended_at is None else "closed"
    return (
        f"{escaped(record.exchange)}\t{escaped(record.symbol)}\t{escaped(record.channel)}\t{timestamp(record.time)}\t"
        f"{_optional_time(record.ended_at)}\t{escaped(record.cause)}\t{status}\t{detail}\n"
    )


def _rejected(record: Rejected) -> str:
    return (
        f"{timestamp(record.received_at)}\t{escaped(record.table)}\t{escaped(record.reason)}\t\\N\t"
        f"{escaped(record.record)}\t\\N\n"
    )


_LINES: dict[type, tuple[str, Callable[[Any], str]]] = {
    Tick: ("market_ticks", _tick),
    Trade: ("trades", _trade),
    BookSnapshot: ("order_book", _book),
    OpenInterest: ("oi_snapshots", _open_interest),
    Funding: ("funding", _funding),
    Candle: ("ohlcv_data", _candle),
    FeedGap: ("feed_gaps", _gap),
    Rejected: ("rejected_records", _rejected),
}
