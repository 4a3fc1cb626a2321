"""The schema changes while a daemon of the version before stores, and one of this version begins to.

What was sent is what is stored: nothing is lost or doubled, and every book has its best prices, whoever stored it and
whenever. The long form (`make fault`, or INGESTD_TEST_AT_LENGTH=1) measures the longest stall of a flush.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pytest

from ingestd import failpoints
from ingestd.clock import monotonic_s
from ingestd.errors import SchemaError
from ingestd.records import BookSnapshot, MarketRecord, Trade
from ingestd.storage import migrate
from ingestd.storage.database import Database
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.positions import Move
from ingestd.storage.writer.tables import TABLES
from ingestd.storage.writer.writer import Flush, prepare, write
from ingestd.venues.market_names import Names
from tests.support.daemon import ingestd, write_config
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.records import book, trade
from tests.support.time_limits import AT_LENGTH

DAYS, MARKETS = 4, 3
BOOKS_A_DAY = 21_600 if AT_LENGTH else 500  # of each market
FLUSH = (200, 40)  # trades, books
BEFORE = 25  # the newest migration that the older version knows


@dataclass
class Writer:
    """Stores one flush after the other, as a daemon does, and keeps what it has sent and how long each flush took."""

    source: str
    first: int  # the numbers of its records begin here
    db: Database
    store: Callable[[Database, Flush], object]
    sent: list[MarketRecord] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    flushes: int = 0

    async def flush(self) -> None:
        number, now_us = self.first + len(self.sent), int(await self.now() * 1_000_000)
        records: list[MarketRecord] = [trade(number + place, time=now_us + place) for place in range(FLUSH[0])]
        records += [
            book(
                number + FLUSH[0] + place,
                time=now_us + place,
                bids=((f"{number}.10", "1"), ("0.5", "2")) if place % 5 else (),
                asks=((f"{number}.2{place}0", "1"),),
            )
            for place in range(FLUSH[1])
        ]
        moves = [Move(self.source, self.flushes, self.flushes + 1, 0)]
        started_s = monotonic_s()
        await self.store(self.db, prepare(moves, records, Names()))  # type: ignore[misc] # a coroutine
        self.took_s.append(monotonic_s() - started_s)
        self.sent += records
        self.flushes += 1

    async def now(self) -> float:
        return float(await self.db.fetchval("SELECT extract(epoch FROM now())"))


async def store_as_before(db: Database, flush: Flush) -> None:
    """The statements of the version before, which knows neither the columns of a book nor those of a position."""
    columns = ("time", "exchange", "symbol", "bids", "asks", "sequence", "valid", "received_at")
    (move,) = flush.moves
    async with db.transaction():
        moved = await db.execute(
            "UPDATE ingest_positions SET position = $2, updated_at = now() WHERE source = $1 AND position = $3",
            move.source,
            move.to_position,
            move.from_position,
        )
        assert moved == 1
        trades, books = flush.tables["trades"], flush.tables["order_book"]
        await db.copy_text("trades", trades.columns, trades.payload)
        lines = copy_text.split(books.payload)
        known = b"".join(b"\t".join(line.split(b"\t")[: len(columns)]) + b"\n" for line in lines)
        assert TABLES["order_book"].columns[: len(columns)] == columns
        await db.copy_text("order_book", columns, known)


@asynccontextmanager
async def storing(
    database: DatabaseForTest, source: str, first: int, store: Callable[..., object]
) -> AsyncIterator[Writer]:
    db = await database.connect(call_timeout_s=60)
    await db.execute("INSERT INTO ingest_positions (source, position) VALUES ($1, 0)", source)
    writer = Writer(source, first, db, store)

    async def run() -> None:
        while True:
            await writer.flush()
            await asyncio.sleep(0.01)

    task = asyncio.create_task(run())
    try:
        yield writer
        target = writer.flushes + 2  # of the schema as it is by now
        while writer.flushes < target and not task.done():
            await asyncio.sleep(0.01)
    finally:
        if not task.done():
            task.cancel()
        await asyncio.wait([task])
    assert task.cancelled(), task.exception()
    # A flush that was cancelled may or may not be stored; its position says so, and it was not counted as sent.
    writer.db.terminate()


async def fill(db: Database, is_hypertable: bool) -> None:
    """Books of some days: the older ones in columnar chunks where there are any, none with its best prices."""
    await db.execute(
        "INSERT INTO order_book (time, exchange, symbol, bids, asks, valid, received_at)"
        " SELECT at, 'old', 'M' || market || '/USDT', CASE WHEN n % 7 = 0 THEN '[]' ELSE"
        " jsonb_build_array(jsonb_build_object('price', (n % 1000 + 0.50)::numeric, 'amount', 1)) END,"
        " jsonb_build_array(jsonb_build_object('price', (n % 1000 + 1.250)::numeric, 'amount', n)), true, at"
        " FROM generate_series(1, $1::integer) AS n, generate_series(1, $2::integer) AS market,"
        " LATERAL (SELECT now() - n * INTERVAL '1 day' / $3::integer) AS made (at)",
        DAYS * BOOKS_A_DAY,
        MARKETS,
        BOOKS_A_DAY,
    )
    if is_hypertable:
        await db.fetch(
            "SELECT compress_chunk(c)::text FROM show_chunks('order_book', older_than => INTERVAL '1 day') c"
        )


async def stored_books(db: Database) -> dict[int, tuple[Decimal | None, Decimal | None]]:
    rows = await db.fetch("SELECT sequence, bid_price, ask_price FROM order_book WHERE exchange = 'binance'")
    found = {row["sequence"]: (row["bid_price"], row["ask_price"]) for row in rows}
    assert len(found) == len(rows)
    return found


def books_of(writers: Sequence[Writer]) -> dict[int, tuple[Decimal | None, Decimal | None]]:
    def best(levels: Sequence[tuple[str, str]]) -> Decimal | None:
        return Decimal(levels[0][0]) if levels else None

    sent = [record for writer in writers for record in writer.sent if isinstance(record, BookSnapshot)]
    return {record.sequence or 0: (best(record.bids), best(record.asks)) for record in sent}


async def test_books_get_new_columns_while_two_versions_store(
    database: DatabaseForTest, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    db = await database.connect()
    await migrate.down(db, BEFORE)
    await fill(db, database.engine == "timescaledb")
    feed = {"exchange": "binance", "symbols": ["BTC/USDT"]}
    file = str(write_config(tmp_path, {"database": {"dsn": database.dsn}, "feeds": [feed]}))

    async def migrated(**environ: str) -> tuple[int, str]:
        code, out, err = await ingestd("migrate", "-c", file, env=environ, timeout_s=600)
        return code, out + err

    async with storing(database, "journal:older", 1, store_as_before) as older:
        killed = {failpoints.VARIABLE: "migrate.backfilled:5:kill", failpoints.TEST_FLAG: "1"}
        code, said = await migrated(**killed)
        assert code == -signal.SIGKILL, said
        half = await db.fetchval("SELECT sum(rows) FROM ingestd_backfills")
        assert 0 < half < DAYS * MARKETS * BOOKS_A_DAY
        (note,) = [line.note for line in await migrate.status(db) if line.name == "contract_book_prices"]
        assert note.startswith("waits for the backfill: "), note
        async with storing(database, "journal:newer", 10_000_000, write) as newer:
            code, said = await migrated()
            assert code == 0, said
            assert "0027_contract_book_prices waits" in said
            assert "journal:older" in said
            assert "journal:newer" not in said
            assert await db.fetchval("SELECT sum(rows) FROM ingestd_backfills") >= DAYS * MARKETS * BOOKS_A_DAY
            assert await db.fetchval("SELECT bool_and(done_at IS NOT NULL) FROM ingestd_backfills")
    async with storing(database, "journal:newest", 20_000_000, write) as newest:
        await db.execute(
            "UPDATE ingest_positions SET updated_at = updated_at - INTERVAL '11 minutes' WHERE source = 'journal:older'"
        )
        code, said = await migrated()
        assert code == 0, said
        assert "applied 0027_contract_book_prices" in said

    writers = (older, newer, newest)
    sent = books_of(writers)
    stored = await stored_books(db)
    assert sent == {sequence: stored[sequence] for sequence in sent}
    assert {str(price[1]) for price in sent.values()} == {str(stored[sequence][1]) for sequence in sent}  # every digit
    await judge_rest(db, database, writers, stored)
    longest = [max(writer.took_s) for writer in writers]
    record_property(
        "measured",
        f"{database.engine}: {DAYS * MARKETS * BOOKS_A_DAY:,} books backfilled under {sum(w.flushes for w in writers)} "
        f"flushes; the longest took {longest[0]:.2f} s (version before), {max(longest[1:]):.2f} s (this version)",
    )
    await db.close()


async def judge_rest(
    db: Database, database: DatabaseForTest, writers: Sequence[Writer], stored: Mapping[int, object]
) -> None:
    """Trades, the books that were there before, and the chunks. A flush that was cancelled at the end may be stored."""
    trades = {record.seq for writer in writers for record in writer.sent if isinstance(record, Trade)}
    there = await db.fetch("SELECT seq FROM trades")
    surplus = len(there) - len(trades)
    assert trades <= {row["seq"] for row in there}
    assert surplus in {flushes * FLUSH[0] for flushes in range(len(writers) + 1)}
    assert len(stored) - len(books_of(writers)) == surplus // FLUSH[0] * FLUSH[1]
    wrong = await db.fetchval(
        "SELECT count(*) FROM order_book WHERE bid_price::text IS DISTINCT FROM bids->0->>'price'"
        " OR ask_price::text IS DISTINCT FROM asks->0->>'price'"
    )
    assert wrong == 0
    assert await db.fetchval("SELECT count(*) FROM order_book WHERE exchange = 'old'") == DAYS * MARKETS * BOOKS_A_DAY
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 0
    if database.engine == "timescaledb":
        partly = await db.fetchval(
            "SELECT count(*) FROM show_chunks('order_book') AS chunk,"
            " LATERAL (SELECT _timescaledb_functions.chunk_status(chunk) AS status) AS of WHERE status & 8 <> 0"
        )
        assert partly == 0


@pytest.mark.one_server
async def test_a_program_of_before_may_start_after_an_expanding_migration_and_not_after_a_contracting_one(
    db: Database,
) -> None:
    """As seen from a database that a later version has changed."""
    insert = (
        "INSERT INTO ingestd_migrations (version, name, checksum, engine, program_version)"
        " SELECT $1::integer, $2::text, 'x', engine, '9' FROM ingestd_migrations LIMIT 1"
    )
    await db.execute(insert, 9001, "expand_something")
    await migrate.check_schema(db)
    assert await migrate.migrate(db, default_config()) == []
    with pytest.raises(SchemaError, match="9001_expand_something is newer than this program"):
        await migrate.down(db, 0)
    await db.execute(insert, 9002, "contract_something")
    with pytest.raises(SchemaError, match="newer than this program knows"):
        await migrate.check_schema(db)
