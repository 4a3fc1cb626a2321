"""What the server refuses, by rules that whoever runs the database has made: the row is put aside, or nothing is."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingestd.channels import TABLE_OF
from ingestd.clock import now_us, to_datetime
from ingestd.errors import DatabaseError
from ingestd.events.messages import EVENT_ID_HEADER
from ingestd.events.publisher import envelope as event_envelope
from ingestd.kafka import envelope
from ingestd.kafka.messages import Message
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle, FeedGap, Funding, Liquidation, MarkPrice, OpenInterest, Record, Rejected
from ingestd.sources.base import Item, Prepared
from ingestd.sources.market_topics import MarketStore
from ingestd.sources.trading_events import EventTopics
from ingestd.storage.database import Database
from ingestd.storage.writer.positions import Mark, Move
from ingestd.storage.writer.writer import Flush, prepare, write
from ingestd.validation import TimeWindow
from ingestd.venues.market_names import Names
from tests.integration.sinks.test_timescale import Rig, rig, rows, store
from tests.support.postgres import DatabaseForTest
from tests.support.records import NOW_US, book, tick, trade
from tests.support.topics import topic_of

# A trigger that raises what a row of `rule` says of an id; '*' is every id.
RULE = """
CREATE TABLE rule (id text, code text);
CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE found_code text;
BEGIN
    SELECT code INTO found_code FROM rule WHERE id IN ('*', to_jsonb(NEW)->>TG_ARGV[0]);
    IF found_code IS NOT NULL THEN RAISE EXCEPTION 'a rule of the user' USING ERRCODE = found_code; END IF;
    RETURN NEW;
END $$;
"""
OF_A_ROW = ["22012", "54000", "21000", "23503", "23514", "44000", "P0001"]
OF_ANYTHING = ["XX000", "38000", "39001", "0A000", "2F002", "HV000", "P0ABC"]
NEVER_OF_A_ROW = ["25006", "28000", "40001", "42501", "42P01", "42703", "53100", "55P03", "57014", "58030"]


@pytest.fixture
async def plain(postgres_database: DatabaseForTest) -> AsyncIterator[Database]:
    """Where it is not the engine that matters."""
    connection = await postgres_database.connect()
    yield connection
    await connection.close()


@pytest.fixture
async def compressed(timescaledb_database: DatabaseForTest) -> AsyncIterator[Database]:
    """Where chunks can be compressed."""
    connection = await timescaledb_database.connect()
    yield connection
    await connection.close()


async def judged(db: Database, table: str, column: str, when: str = "BEFORE") -> None:
    await db.script(
        f"{RULE} CREATE TRIGGER judge {when} INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION judge('{column}')"
    )


async def flush_of(db: Database, records: list[Record], **more: Any) -> Flush:
    """A flush from a position of its own."""
    source = f"test:{random.random()}"
    await db.execute("INSERT INTO ingest_positions (source, position, epoch) VALUES ($1, 0, 1)", source)
    return prepare([Move(source, 0, 1, 1)], records, Names(), **more)


async def tried(db: Database, flush: Flush | Prepared, times: int) -> list[str]:
    """The SQLSTATEs of so many attempts in a row, of those that failed."""
    failures: list[str] = []
    for _ in range(times):
        try:
            await (write(db, flush) if isinstance(flush, Flush) else flush.write(db))
        except DatabaseError as error:
            failures.append(error.sqlstate)
        else:
            break
    return failures


async def count(db: Database, table: str) -> int:
    return int(await db.fetchval(f"SELECT count(*) FROM {table}"))


async def aside(db: Database) -> list[str]:
    return [str(row["sqlstate"]) for row in await db.fetch("SELECT sqlstate FROM rejected_records ORDER BY id")]


async def test_a_refused_row_is_put_aside_among_others(db: Database, database: DatabaseForTest) -> None:
    """At once where the error is of a row, after a few attempts where nobody knows."""
    await judged(db, "trades", "trade_id", "BEFORE" if database.engine == "postgres" else "AFTER")
    for step, code in enumerate([*OF_A_ROW, *OF_ANYTHING]):
        bad = f"{step}-3"
        await db.execute("INSERT INTO rule VALUES ($1, $2)", bad, code)
        records: list[Record] = [trade(step * 10 + number, trade_id=f"{step}-{number}") for number in range(7)]
        failures = await tried(db, await flush_of(db, [*records, tick(step)]), 5)
        assert failures == ([] if code in OF_A_ROW else [code] * 2), code
    codes = [*OF_A_ROW, *OF_ANYTHING]
    assert await aside(db) == codes
    assert await count(db, "trades") == 6 * len(codes)
    assert await count(db, "market_ticks") == len(codes)


async def test_no_row_is_given_up_for_what_the_server_lacks(db: Database, database: DatabaseForTest) -> None:
    await judged(db, "trades", "trade_id")
    for step, code in enumerate(NEVER_OF_A_ROW):
        await db.execute("TRUNCATE rule")
        await db.execute("INSERT INTO rule VALUES ('3', $1)", code)
        flush = await flush_of(db, [trade(number) for number in range(7)])
        assert await tried(db, flush, 6) == [code] * 6
        await db.execute("TRUNCATE rule")
        assert await tried(db, flush, 1) == []
        assert await count(db, "trades") == 7, step
    assert await aside(db) == []


@pytest.mark.parametrize("code", ["P0001", "23514", "23502", "XX000", "38000", "22012", "22P02", "54000"])
async def test_where_every_row_is_refused_none_is_given_up(
    plain: Database, postgres_database: DatabaseForTest, tmp_path: Path, code: str
) -> None:
    """A rule that refuses all is wrong itself: it is told, and everything is stored once it is mended."""
    await judged(plain, "trades", "trade_id")
    await plain.execute("INSERT INTO rule VALUES ('*', $1)", code)
    async with rig(tmp_path, postgres_database) as made:
        await made.journal.append([*(trade(number) for number in range(20)), tick(1)])
        await until_it_stands_still(made)
        assert "trades" in (made.sink.status().problem or "")
        assert "a rule of the user" in (made.sink.status().problem or "")
        assert (await count(plain, "trades"), await count(plain, "market_ticks"), await aside(plain)) == (0, 0, [])
        assert sum(made.metrics.totals(made.metrics.sink_alarms, "sink").values()) >= 1
        await plain.execute("TRUNCATE rule")
    assert (await count(plain, "trades"), await count(plain, "market_ticks"), await aside(plain)) == (20, 1, [])
    assert made.sink.status().problem is None
    assert not made.sink.status().is_stuck


async def test_a_lone_row_is_put_aside_for_a_rule_and_not_for_what_nobody_knows(plain: Database) -> None:
    await judged(plain, "funding", "exchange")
    await plain.execute("INSERT INTO rule VALUES ('known', '23514'), ('raised', 'P0001'), ('unknown', 'XX000')")
    lone = {name: await flush_of(plain, [Funding(name, "X", NOW_US, NOW_US, "0.1")]) for name in ("known", "raised")}
    for flush in lone.values():
        assert await tried(plain, flush, 1) == []
    unknown = await flush_of(plain, [Funding("unknown", "X", NOW_US, NOW_US, "0.1")])
    assert await tried(plain, unknown, 6) == ["XX000"] * 6
    assert await aside(plain) == ["23514", "P0001"]
    await plain.execute("TRUNCATE rule")
    assert await tried(plain, unknown, 1) == []
    assert await count(plain, "funding") == 1


async def test_what_comes_later_tells_whether_a_row_is_at_fault(
    plain: Database, postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """A table that refuses all there is of it waits for more, and not for ever in front of it."""
    await judged(plain, "funding", "exchange")
    await plain.execute("INSERT INTO rule VALUES ('unknown', 'XX000'), ('known', '23514')")
    async with rig(tmp_path, postgres_database) as made:
        for name, refused in (("unknown", 1), ("known", 2)):
            await made.journal.append([Funding(name, str(at), NOW_US, NOW_US, "0.1") for at in range(refused)])
            await until_it_stands_still(made)
            await made.journal.append([Funding(name + " good", "X", NOW_US, NOW_US, "0.1"), tick(1)])
            async with asyncio.timeout(30):
                while made.sink.status().is_stuck:
                    await asyncio.sleep(0.01)
    assert await rows(plain, "SELECT exchange FROM funding ORDER BY 1") == [("known good",), ("unknown good",)]
    assert await aside(plain) == ["XX000", "23514", "23514"]
    assert made.total("stored") == {"funding": 2, "ticks": 2}


async def test_constraints_that_are_checked_at_the_commit(db: Database, database: DatabaseForTest) -> None:
    await db.script(
        "CREATE TABLE listed (symbol text PRIMARY KEY); INSERT INTO listed VALUES ('A'), ('B');"
        "ALTER TABLE oi_snapshots ADD FOREIGN KEY (symbol) REFERENCES listed DEFERRABLE INITIALLY DEFERRED"
    )
    records: list[Record] = [OpenInterest("x", symbol, NOW_US, NOW_US, "1") for symbol in "ABCD"]
    assert await tried(db, await flush_of(db, records), 1) == []
    assert await rows(db, "SELECT symbol FROM oi_snapshots ORDER BY symbol") == [("A",), ("B",)]
    assert await aside(db) == ["23503", "23503"]


async def test_unique_indexes_of_the_users_own(db: Database, database: DatabaseForTest) -> None:
    """A table without a key of ours keeps the first; elsewhere the row that our key would let in is put aside."""
    await db.script(
        "CREATE UNIQUE INDEX ON market_ticks (exchange, symbol, time);"
        "CREATE UNIQUE INDEX ON trades (exchange, symbol, seq, time);"
        "CREATE UNIQUE INDEX ON feed_gaps (detail)"
    )
    flush = await flush_of(
        db,
        [
            *(tick(number) for number in (1, 2, 2, 3)),
            *(trade(number, seq=number, time=NOW_US) for number in range(5)),
            trade(9, seq=3, time=NOW_US),
            *(FeedGap("x", str(at), NOW_US, NOW_US, "trades", None, "c", detail) for at, detail in enumerate("aba")),
        ],
    )
    assert await tried(db, flush, 1) == []
    assert (await count(db, "market_ticks"), await count(db, "trades"), await count(db, "feed_gaps")) == (3, 5, 2)
    assert sorted(await aside(db)) == ["23505", "23505"]
    assert flush.outcome.duplicate["ticks"] == 1
    assert not flush.outcome.missing


async def test_a_replay_into_compressed_chunks_with_a_refused_row(compressed: Database) -> None:
    kept: list[Record] = [trade(number) for number in range(50)]
    assert await tried(compressed, await flush_of(compressed, kept), 1) == []
    await compressed.fetch("SELECT compress_chunk(chunk) FROM show_chunks('trades') AS chunk")
    await judged(compressed, "trades", "trade_id")
    await compressed.execute("INSERT INTO rule VALUES ('55', 'P0001')")
    flush = await flush_of(compressed, [*kept, *(trade(number) for number in range(50, 60))])
    assert await tried(compressed, flush, 1) == []
    assert (await count(compressed, "trades"), await aside(compressed)) == (59, ["P0001"])
    assert (flush.outcome.stored["trades"], flush.outcome.duplicate["trades"]) == (9, 50)


async def test_candles_that_replace_many_compressed_ones(
    compressed: Database, timescaledb_database: DatabaseForTest
) -> None:
    """The server unpacks no more than 100,000 rows for a statement, unless it is told otherwise: here 10."""
    start_us = NOW_US // 86_400_000_000 * 86_400_000_000
    kept: list[Record] = [
        Candle("x", f"S{symbol}", start_us + minute * 60_000_000, NOW_US, "1m", "1", "1", "1", "1", "1")
        for symbol in range(20)
        for minute in range(20)
    ]
    assert await tried(compressed, await flush_of(compressed, kept), 1) == []
    await compressed.fetch("SELECT compress_chunk(chunk) FROM show_chunks('ohlcv_data') AS chunk")
    await compressed.script(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET"
        " timescaledb.max_tuples_decompressed_per_dml_transaction = 10', current_database()); END $$"
    )
    another = await timescaledb_database.connect()
    newer = [msgspec.structs.replace(candle, high="2") for candle in kept if isinstance(candle, Candle)][::20]
    assert await tried(another, await flush_of(another, [*newer, tick(1)]), 1) == []
    await another.close()
    assert await compressed.fetchval("SELECT count(*) FROM ohlcv_data WHERE high = 2") == 20
    assert (await count(compressed, "ohlcv_data"), await count(compressed, "market_ticks")) == (400, 1)
    assert await aside(compressed) == []


async def test_columns_that_the_server_makes(plain: Database) -> None:
    for table, made in (("trades", "price * quantity"), ("ohlcv_data", "high - low"), ("feed_gaps", "length(cause)")):
        await plain.script(f"ALTER TABLE {table} ADD COLUMN made numeric NOT NULL GENERATED ALWAYS AS ({made}) STORED")
    gap = FeedGap("x", "y", NOW_US, NOW_US, "trades", None, "c")
    candle = Candle("x", "y", NOW_US, NOW_US, "1m", "1", "3", "1", "1", "1")
    records: list[Record] = [*(trade(number) for number in (1, 2, 2)), candle, gap]
    assert await tried(plain, await flush_of(plain, records), 1) == []
    assert (await count(plain, "trades"), await count(plain, "feed_gaps"), await aside(plain)) == (2, 1, [])
    assert await plain.fetchval("SELECT made FROM ohlcv_data") == 2


async def test_an_index_of_the_users_own_that_a_row_is_too_long_for(plain: Database) -> None:
    """54000, alone in its table: no table could take it, so nothing waits for company."""
    await plain.execute("CREATE INDEX ON feed_gaps (detail)")
    long = chinese(1_000)
    flush = await flush_of(plain, [FeedGap("x", "y", NOW_US, NOW_US, "trades", None, "c", long), tick(1)])
    assert await tried(plain, flush, 1) == []
    assert (await aside(plain), await count(plain, "market_ticks")) == (["54000"], 1)


async def test_what_rejected_records_refuses_is_kept_in_short(
    plain: Database, postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    await plain.execute("ALTER TABLE rejected_records ADD CONSTRAINT short CHECK (length(record::text) < 1000)")
    long = json.dumps({"text": "x" * 2000})
    rejections: list[Record] = [Rejected("", "", NOW_US, NOW_US, "trades", "price", text) for text in ("{}", long)]
    wide: list[Record] = [trade(number, price="1e200000", trade_id="t" * 900) for number in range(2)]
    made = await store(tmp_path, postgres_database, [*rejections, *wide, trade(7)])
    found = await rows(
        plain, "SELECT table_name, reason, record->>'characters' IS NULL FROM rejected_records ORDER BY id"
    )
    assert sorted(found) == [
        ("rejected_records", "server", False),
        ("trades", "price", True),
        ("trades", "server", False),
        ("trades", "server", False),
    ]
    assert await count(plain, "trades") == 1
    assert made.total("rejected") == {"trades": 2, "rejections": 1}


async def test_what_rejected_records_lacks_empties_nothing(plain: Database) -> None:
    """Where the refused row cannot be kept, it waits with the others."""
    await judged(plain, "rejected_records", "table_name")
    flush = await flush_of(plain, [trade(1), trade(2, price="1e200000"), tick(1)])
    for code in ("42501", "53100", "P0001"):
        await plain.execute("INSERT INTO rule VALUES ('*', $1)", code)
        assert await tried(plain, flush, 5) == [code] * 5
        assert (await count(plain, "trades"), await aside(plain)) == (0, [])
        await plain.execute("TRUNCATE rule")
    assert await tried(plain, flush, 1) == []
    assert (await count(plain, "trades"), await aside(plain)) == (1, ["22003"])


async def test_marks_and_positions_outlive_a_mark_that_cannot_be(plain: Database) -> None:
    sources = {"good": 7, "a\x00b": 8, chinese(3_000): 9}
    marks = {f"kafka-replay:t:0:{name}": Mark(place, NOW_US) for name, place in sources.items()}
    flush = await flush_of(plain, [tick(1)], marks=marks)
    assert await tried(plain, flush, 1) == []
    assert await rows(plain, "SELECT source, position FROM ingest_positions WHERE source LIKE 'kafka-replay%'") == [
        ("kafka-replay:t:0:good", 7)
    ]
    assert await count(plain, "market_ticks") == 1


async def test_the_longest_texts_fit_in_every_index(db: Database, database: DatabaseForTest) -> None:
    """Every character takes four bytes, and none can be compressed away."""
    exchange, symbol, other = (long_name(128) for _ in range(3))
    records: list[Record] = [
        trade(1, exchange=exchange, symbol=symbol, trade_id=other),
        tick(1, exchange=exchange, symbol=symbol),
        book(1, exchange=exchange, symbol=symbol),
        OpenInterest(exchange, symbol, NOW_US, NOW_US, "1"),
        Funding(exchange, symbol, NOW_US, NOW_US, "0.1"),
        Candle(exchange, symbol, NOW_US, NOW_US, other, "1", "1", "1", "1", "1"),
        Liquidation(
            exchange, symbol, NOW_US, NOW_US, "buy", f"{'9' * 60}.{'9' * 60}", f"{'9' * 60}e39", long_name(200)
        ),
        MarkPrice(exchange, symbol, NOW_US, NOW_US, "1"),
        FeedGap(exchange, symbol, NOW_US, NOW_US, other, None, "c", chinese(2_000)),
    ]
    market = MarketStore("p", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=Names(), stored=Names())
    items = market.read([message_of(record, offset) for offset, record in enumerate(records)])
    assert [item.rejected for item in items] == [None] * len(items)
    assert await tried(db, market.prepare(items, await moves(db), {}), 1) == []
    for table in (*TABLE_OF.values(), "feed_gaps"):
        assert await count(db, table) == 1, table

    ids = {name: long_name(200) for name in ("order_id", "symbol", "exchange", "strategy", "client_id", "trade_id")}
    made, items = events(
        ("ORDER_SUBMITTED", {**ids, "side": "buy", "quantity": "1"}),
        ("ORDER_EXECUTED", {**ids, "executed_price": "1", "executed_quantity": "1"}),
        ("TRADE_COMPLETED", {**ids, "entry_price": "1", "exit_price": "1", "pnl": "0"}),
    )
    assert [item.rejected for item in items] == [None] * 3
    assert await tried(db, made.prepare(items, await moves(db), {}), 1) == []
    for table in ("orders", "executions", "completed_trades"):
        assert await count(db, table) == 1, table
    assert await aside(db) == []


@pytest.mark.parametrize("name", ["exchange", "symbol", "channel"])
def test_a_gap_with_a_name_too_long_for_an_index_is_put_aside(name: str) -> None:
    names = {"exchange": "x", "symbol": "y", "channel": "trades", name: chinese(1_900)}
    gap = FeedGap(**names, time=NOW_US, received_at=NOW_US, ended_at=None, cause="c")
    market = MarketStore("p", lambda _now: TimeWindow({}, 10**16), Metrics(), sent=Names(), stored=Names())
    assert [item.rejected for item in market.read([message_of(gap, 0)])] == ["text"]


async def test_a_refused_event_is_put_aside_among_others(db: Database, database: DatabaseForTest) -> None:
    await judged(db, "executions", "order_id")
    await db.execute("CREATE UNIQUE INDEX ON executions (fee)")
    for step, code in enumerate(["P0001", "23514", "54000", "XX000", "38000", "23505"]):
        if code != "23505":
            await db.execute("INSERT INTO rule VALUES ($1, $2)", f"{step}-1", code)
        fees = ["1", "1", "2"] if code == "23505" else [f"{step}{number}.5" for number in range(3)]
        made, items = events(*(executed(f"{step}-{number}", fee) for number, fee in enumerate(fees)))
        flush = made.prepare(items, await moves(db), {})
        assert await tried(db, flush, 5) == ([code] * 2 if code in OF_ANYTHING else []), code
        assert (await aside(db))[step:] == [code]
    assert await count(db, "executions") == 12
    assert {row["t"] for row in await db.fetch("SELECT table_name AS t FROM rejected_records")} == {"executions"}


async def test_a_refused_event_is_found_by_halves(plain: Database) -> None:
    """One by one, a large flush took many minutes; meanwhile it held its positions."""
    await judged(plain, "executions", "order_id")
    await plain.script(
        "INSERT INTO rule VALUES ('300', 'P0001'); CREATE SEQUENCE statements;"
        "CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM nextval('statements'); RETURN NULL; END $$;"
        "CREATE TRIGGER counted AFTER UPDATE ON audit.trade_logs FOR EACH STATEMENT EXECUTE FUNCTION counted()"
    )
    made, items = events(*(executed(str(number), None) for number in range(512)))
    assert await tried(plain, made.prepare(items, await moves(plain), {}), 1) == []
    assert (await count(plain, "executions"), await aside(plain)) == (511, ["P0001"])
    assert await plain.fetchval("SELECT last_value FROM statements") <= 10


async def test_where_every_event_is_refused_none_is_given_up(plain: Database) -> None:
    await judged(plain, "executions", "order_id", "AFTER")
    for code in ("P0001", "XX000", "22012", "42501", "53100"):
        await plain.execute("INSERT INTO rule VALUES ('*', $1)", code)
        made, items = events(*(executed(f"{code}-{number}", None) for number in range(3)))
        flush = made.prepare(items, await moves(plain), {})
        assert await tried(plain, flush, 5) == [code] * 5
        await plain.execute("TRUNCATE rule")
        assert await tried(plain, flush, 1) == []
    assert (await count(plain, "executions"), await aside(plain)) == (15, [])


async def until_it_stands_still(made: Rig) -> None:
    async with asyncio.timeout(60):
        while not made.sink.status().is_stuck:
            await asyncio.sleep(0.01)


def chinese(length: int) -> str:
    """Three bytes each, and nothing in it twice that could be made shorter."""
    dice = random.Random(length)
    return "".join(chr(dice.randrange(0x4E00, 0x9FA5)) for _ in range(length))


def long_name(length: int) -> str:
    """Four bytes each."""
    return "".join(chr(random.randrange(0x20000, 0x2A6D0)) for _ in range(length))


def message_of(record: Record, offset: int) -> Message:
    return Message(topic_of("p", record), 0, offset, None, envelope.encode(record))


def executed(order_id: str, fee: str | None) -> tuple[str, dict[str, Any]]:
    return "ORDER_EXECUTED", {
        "order_id": order_id, "symbol": "X", "executed_price": "1", "executed_quantity": "1", "fee": fee,
    }  # fmt: skip


TOPICS = {
    "ORDER_SUBMITTED": "p.orders.submitted",
    "ORDER_EXECUTED": "p.orders.executed",
    "TRADE_COMPLETED": "p.trades.completed",
}


def events(*said: tuple[str, dict[str, Any]]) -> tuple[EventTopics, list[Item]]:
    """The store, and what it reads from messages that say this."""
    made = EventTopics("p", Metrics())
    at = to_datetime(now_us()) - timedelta(minutes=1)
    messages = []
    for offset, (kind, data) in enumerate(said):
        wanted = {name: value for name, value in data.items() if value is not None}
        _, value = event_envelope(kind, at, wanted)
        identity = [(EVENT_ID_HEADER, f"{data.get('order_id')} {kind}".encode())]
        messages.append(Message(TOPICS[kind], 0, offset, None, value, identity))
    return made, made.read(messages)


async def moves(db: Database) -> list[Move]:
    return list((await flush_of(db, [])).moves)
