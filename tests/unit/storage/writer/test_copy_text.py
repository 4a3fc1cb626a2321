"""COPY text, read back by the rules of PostgreSQL's manual: every value is what the record holds."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ingestd.records import BookSnapshot, Record, Tick, Trade
from ingestd.storage.writer import copy_text
from tests.support.records import NOW_US, book, copy_lines, tick

_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}

# What validation lets through: anything printable, a backslash too. Times far from each other, and before 1970.
names = st.text(st.characters(categories=("L", "N", "P", "S")) | st.sampled_from("\\N"), min_size=1, max_size=8)
times = st.one_of(
    st.integers(NOW_US, NOW_US + 3_000_000),
    st.integers(NOW_US - 10**15, NOW_US + 10**15),
    st.integers(-(10**12), 10**12),
)
numbers = st.decimals(0, 10**9, places=4).map(lambda number: format(number, "f"))
maybe = st.none() | numbers
counts = st.none() | st.integers(0, 2**63 - 1)
levels = st.lists(st.tuples(numbers, numbers), max_size=4).map(tuple)

ticks = st.builds(Tick, names, names, times, times, maybe, maybe, maybe, maybe)
trades = st.builds(
    Trade, names, names, times, times, names, st.integers(0, 2**63 - 1), st.sampled_from(["buy", "sell", None]),
    numbers, numbers,
)  # fmt: skip
books = st.builds(BookSnapshot, names, names, times, times, levels, levels, counts, st.booleans())


def read_row(line: str) -> list[str | None]:
    """A line's columns as the server reads them: \\N alone is NULL, a backslash takes the meaning from the next."""
    assert line.endswith("\n")
    return [
        None if field == "\\N" else re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), field)
        for field in line[:-1].split("\t")
    ]


def instant(text: str | None) -> int:
    """Microseconds since the epoch, by the library's own calendar."""
    assert text is not None
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(st.lists(ticks, max_size=5))
def test_ticks_are_read_back(records: list[Tick]) -> None:
    rows = [read_row(line) for line in copy_lines(records)]
    assert [(instant(row[0]), *row[1:7], instant(row[7])) for row in rows] == [
        (r.time, r.exchange, r.symbol, r.bid_price, r.bid_volume, r.ask_price, r.ask_volume, r.received_at)
        for r in records
    ]


@given(st.lists(trades, max_size=5))
def test_trades_are_read_back(records: list[Trade]) -> None:
    rows = [read_row(line) for line in copy_lines(records)]
    assert [(instant(row[0]), *row[1:8], instant(row[8])) for row in rows] == [
        (r.time, r.exchange, r.symbol, r.trade_id, str(r.seq), r.side, r.price, r.quantity, r.received_at)
        for r in records
    ]


@given(st.lists(books, max_size=5))
def test_books_are_read_back(records: list[BookSnapshot]) -> None:
    for record, line in zip(records, copy_lines(records), strict=True):
        at, exchange, symbol, bids, asks, sequence, valid, received_at, bid_price, ask_price = read_row(line)
        assert (instant(at), exchange, symbol, instant(received_at)) == (
            record.time, record.exchange, record.symbol, record.received_at,
        )  # fmt: skip
        assert sequence == (None if record.sequence is None else str(record.sequence))
        assert valid == ("t" if record.valid else "f")
        for text, best, side in ((bids, bid_price, record.bids), (asks, ask_price, record.asks)):
            assert text is not None
            assert best == (side[0][0] if side else None)
            assert json.loads(text, parse_float=Decimal, parse_int=Decimal) == [
                {"price": Decimal(price), "amount": Decimal(amount)} for price, amount in side
            ]


def test_a_level_keeps_its_digits() -> None:
    (line,) = copy_lines([book(1, bids=(("64000.10", "1.50"), ("1e-7", "2")), asks=())])
    assert '\t[{"price":64000.10,"amount":1.50},{"price":1e-7,"amount":2}]\t[]\t' in line


@given(st.lists(ticks | trades | books, max_size=8), st.data())
def test_rows_are_split_where_they_end(records: list[Record], data: st.DataObject) -> None:
    lines = [copy_lines([record])[0] for record in records]
    assert copy_text.split(copy_text.payload(lines)) == [line.encode() for line in lines]


def test_a_second_is_written_alike_wherever_a_flush_begins() -> None:
    far: list[Record] = [tick(0), tick(0, time=NOW_US - 86_400_000_000, received_at=NOW_US + 3_599_999_999)]
    together, alone = copy_lines(far)[1], copy_lines(far[1:])[0]
    assert together == alone
    assert together.startswith("2026-09-20 14:13:20.000000+00\t")
    assert together.endswith("\t2026-09-21 15:13:19.999999+00\n")
