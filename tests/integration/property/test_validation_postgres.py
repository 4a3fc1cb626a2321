"""Whatever passes validation, PostgreSQL stores: no hostile text, number or time gets past it to fail a whole COPY."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.errors import DatabaseError
from ingestd.records import (
    OPEN_INTEREST_UNITS,
    TRADE_KINDS,
    FeedGap,
    MarketRecord,
    Record,
    Trade,
)
from ingestd.storage.database import Database
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.tables import TABLES
from ingestd.validation import OLDEST_TIME_US, rejection, rejection_reason, storable_gap, time_window
from tests.support.postgres import DatabaseForTest
from tests.support.records import NOW_US, copy_lines, market_records
from tests.support.time_limits import examples

FOREVER = time_window(NOW_US, 10**9, {})

odd_numbers = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "inf", "-1", "0", "-0", "0.0", "", ".", "1.", ".5", "1e99", "9e-99", "1E+5", "0e0",
     "9" * 60, f"{'9' * 60}.{'9' * 60}e99", f"0.{'0' * 59}1e-99", "01", "1_0", "٣", "1\n", "\\N", "\\.", "0x1"]
)  # fmt: skip
numbers = st.one_of(
    st.decimals(0, 10**12, allow_nan=False, places=8).map(str), st.from_regex(r"-?[0-9.eE+]{1,12}"), odd_numbers
)
texts = st.one_of(
    st.sampled_from(
        ["BTC/USDT", "a\tb", "a\\", "\\N", "\\.", "'; DROP TABLE trades; --", '"', "é", "𝕏", "\x00", "\ud800"]
    ),
    st.text(st.characters(codec=None), max_size=10),
    st.text("𝕏", min_size=100, max_size=129),
)
times = st.one_of(
    st.integers(NOW_US - 10**12, NOW_US),
    st.sampled_from([0, -1, OLDEST_TIME_US, OLDEST_TIME_US - 1, 2**63, 253_402_300_799_999_999, FOREVER.newest]),
)
levels = st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple)
large = st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**63])

ODD: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(["exchange", "symbol", "trade_id", "timeframe"], texts),
    **dict.fromkeys(["time", "received_at", "next_funding_time"], times),
    **dict.fromkeys(["seq", "sequence", "trades_count"], large),
    **dict.fromkeys(["bids", "asks"], levels),
    "side": st.sampled_from(["buy", None, "BUY"]),
    "kind": st.sampled_from([*TRADE_KINDS, None, "RPI", ""]),
    "unit": st.sampled_from([*OPEN_INTEREST_UNITS, None, "lots", "0.01 base", "0 base", "1 \x00"]),
    **dict.fromkeys(["valid", "in_candles"], st.booleans()),
}


@st.composite
def mostly_sound(draw: st.DrawFn) -> MarketRecord:
    """A valid record of which one field, at most, is replaced by one near what a check lets through."""
    record = draw(market_records())
    name = draw(st.none() | st.sampled_from(record.__struct_fields__))
    return record if name is None else msgspec.structs.replace(record, **{name: draw(ODD.get(name, numbers))})


gaps = st.builds(FeedGap, texts, texts, st.just(NOW_US), st.just(NOW_US), st.just("trades"), st.none(),
                 st.just("stale"), st.none() | texts)  # fmt: skip


class _Undone(Exception):
    """Ends a transaction whose rows nobody needs."""


async def stored(db: Database, kept: list[Record]) -> int:
    """Rows the server took, table by table, with every CHECK and every index; then undone."""
    taken = 0
    try:
        async with db.transaction():
            for name in {copy_text.table_of(record) for record in kept}:
                table = TABLES[name]
                lines = copy_lines([record for record in kept if copy_text.table_of(record) == name])
                target = table.staging if table.key else name
                if table.key:
                    await db.execute(table.create_staging())
                taken += await db.copy_text(target, table.columns, copy_text.payload(lines))
                if table.key:
                    await db.execute(table.merge_staging())
            raise _Undone
    except _Undone:
        return taken


@contextmanager
def connection(database: DatabaseForTest) -> Iterator[tuple[asyncio.Runner, Database]]:
    with asyncio.Runner() as runner:
        db = runner.run(database.connect())
        yield runner, db
        runner.run(db.close())


def test_what_passes_validation_is_accepted_by_postgresql(postgres_database: DatabaseForTest) -> None:
    with connection(postgres_database) as (runner, db):

        @settings(max_examples=examples(200), deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(mostly_sound(), min_size=3, max_size=15), st.lists(gaps, max_size=2))
        def check(made: list[MarketRecord], some_gaps: list[FeedGap]) -> None:
            kept: list[Record] = [record for record in made if rejection_reason(record, FOREVER) is None]
            refused = [rejection(record, "trades", "price") for record in made if record not in kept]
            everything = [*kept, *refused, *map(storable_gap, some_gaps)]
            assert runner.run(stored(db, everything)) == len(everything)

        check()


def test_the_server_would_have_refused_some_of_them(postgres_database: DatabaseForTest) -> None:
    """The property above says something: without validation the same texts fail."""
    with connection(postgres_database) as (runner, db):
        at = ("binance", "BTC/USDT", NOW_US, NOW_US)
        for record in (Trade(*at, "a\x00b", 1, "buy", "1", "1"), Trade(*at, "1", 1, "buy", "NaN", "1")):
            with pytest.raises(DatabaseError):
                runner.run(stored(db, [record]))
