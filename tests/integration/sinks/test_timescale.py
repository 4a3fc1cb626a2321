"""The timescale sink against real servers: exactly once, whatever the rows and whatever the connection does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from ingestd.clock import to_datetime
from ingestd.config.models import DatabaseConfig, JournalConfig
from ingestd.errors import ConnectionLost, DatabaseError, JournalError
from ingestd.journal.journal import Batch, Cursor, Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import (
    Candle,
    FeedGap,
    Funding,
    Liquidation,
    MarketRecord,
    MarkPrice,
    OpenInterest,
    Record,
    Rejected,
    Tick,
)
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage.database import Database
from tests.support.database_doubles import LosesReplies
from tests.support.postgres import DatabaseForTest
from tests.support.records import NOW_US, book, tick, trade

Connect = Callable[[], Awaitable[Database]]


class Rig:
    """A journal and the sink on one database."""

    def __init__(
        self, state_dir: Path, database: DatabaseForTest, connect: Connect | None = None, **settings: Any
    ) -> None:
        self.metrics = Metrics()
        self.database = database
        self.journal = Journal(state_dir, JournalConfig(), self.metrics)
        self.journal.open()
        self.cursor = self.journal.cursor("timescale")
        self.sink = TimescaleSink(
            cursor=self.cursor,
            journal_ids=lambda: self.journal.journal_ids,
            connect=connect or self.connect,
            config=DatabaseConfig(dsn=database.dsn, **{"flush_ms": 5, "flush_timeout_s": 1, **settings}),
            metrics=self.metrics,
        )

    async def connect(self) -> Database:
        return await Database.connect(self.database.dsn, call_timeout_s=5)

    def total(self, name: str) -> dict[str, int]:
        return {channel: count for channel, count in self.metrics.totals(getattr(self.metrics, name)).items() if count}


@asynccontextmanager
async def rig(state_dir: Path, database: DatabaseForTest, connect: Connect | None = None) -> AsyncIterator[Rig]:
    """Runs the sink; leaving the block drains it."""
    made = Rig(state_dir, database, connect)
    task = asyncio.create_task(made.sink.run())
    try:
        yield made
        made.sink.finish()
        await asyncio.wait_for(task, 60)
    finally:
        task.cancel()
        await asyncio.wait({task})
        made.journal.close()


async def store(state_dir: Path, database: DatabaseForTest, *batches: list[Record]) -> Rig:
    async with rig(state_dir, database) as made:
        for records in batches:
            await made.journal.append(records)
    return made


async def stored_some(made: Rig) -> None:
    async with asyncio.timeout(60):
        while not made.total("stored"):
            await asyncio.sleep(0.01)


async def rows(db: Database, sql: str) -> list[tuple[object, ...]]:
    return [tuple(row.values()) for row in await db.fetch(sql)]


async def test_the_exchanges_digits_arrive_as_they_are(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    await store(
        tmp_path,
        database,
        [
            trade(1, price="64000.10", quantity="0.00100000"),
            trade(2, price="1e-8", quantity="123456789012345678901234567890.123456789", trade_id="a\\b", side=None),
            tick(3, bid_price=None, bid_volume=None),
            book(4, bids=(("64000.10", "1.50"), ("1e-7", "2")), asks=()),
            OpenInterest("binance", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "12.50", None, "-0.10"),
            Funding("binance", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "-0.00010000", NOW_US + 28_800_000_000),
            Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1m", "1.0", "2.0", "0.5", "1.50", "10", None, 7),
            Liquidation("binance", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "sell", "9910.00", "0.0140", "a\\b"),
            MarkPrice("okx", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "11794.15000000"),
            MarkPrice("bybit", "BTC/USDT:USDT", NOW_US, NOW_US + 1, "17217.33", "17227.360"),
        ],
    )
    assert await rows(db, "SELECT price::text, quantity::text, trade_id, side FROM trades ORDER BY seq") == [
        ("64000.10", "0.00100000", "1", "buy"),
        ("0.00000001", "123456789012345678901234567890.123456789", "a\\b", None),
    ]
    assert await rows(db, "SELECT bid_price, ask_price::text, ask_volume::text FROM market_ticks") == [
        (None, "64000.20", "0")
    ]
    ((bids, asks, valid),) = await rows(db, "SELECT bids::text, asks::text, valid FROM order_book")
    assert bids == '[{"price": 64000.10, "amount": 1.50}, {"price": 0.0000001, "amount": 2}]'
    assert (asks, valid) == ("[]", True)
    assert await rows(db, "SELECT open_interest::text, open_interest_usd, basis::text FROM oi_snapshots") == [
        ("12.50", None, "-0.10")
    ]
    assert await rows(db, "SELECT funding_rate::text, next_funding_time - time FROM funding") == [
        ("-0.00010000", timedelta(hours=8))
    ]
    assert await rows(db, "SELECT close::text, trades_count, timeframe FROM ohlcv_data") == [("1.50", 7, "1m")]
    assert await rows(
        db, "SELECT side, price::text, quantity::text, order_id, received_at - time FROM liquidations"
    ) == [("sell", "9910.00", "0.0140", "a\\b", timedelta(microseconds=1))]
    assert await rows(db, "SELECT mark_price::text, index_price::text FROM mark_prices ORDER BY exchange") == [
        ("17217.33", "17227.360"),
        ("11794.15000000", None),
    ]


async def test_times_are_exact_to_the_microsecond(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    times = [NOW_US, NOW_US + 1, NOW_US + 999_999, NOW_US + 1_000_000, 1_609_459_199_999_999]
    await store(tmp_path, database, [trade(number, time=time) for number, time in enumerate(times)])
    stored = await rows(db, "SELECT (extract(epoch FROM time) * 1000000)::bigint FROM trades ORDER BY seq")
    assert [value for (value,) in stored] == times


async def test_a_liquidation_that_two_sockets_bring_is_stored_once(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """Two are the same if time, side, price and quantity are, however the numbers are written."""
    at = ("binance", "BTC/USDT:USDT", NOW_US)
    first: list[Record] = [Liquidation(*at, NOW_US, "sell", "9910", "1"), Liquidation(*at, NOW_US, "buy", "9910", "1")]
    again: list[Record] = [
        Liquidation(*at, NOW_US + 9, "sell", "9910.0", "1.0"),
        Liquidation(*at, NOW_US, "sell", "9910", "2"),
    ]
    made = await store(tmp_path, database, first, again, [*first, *again])
    assert made.total("stored") == {"liquidations": 3}
    assert made.total("duplicate") == {"liquidations": 5}
    assert await rows(db, "SELECT side, price::text, quantity::text FROM liquidations ORDER BY side, quantity") == [
        ("buy", "9910", "1"),
        ("sell", "9910", "1"),
        ("sell", "9910", "2"),
    ]
    assert await db.fetchval("SELECT count(*) FROM candles_1m") == 0


async def test_duplicates_are_absorbed_and_counted(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    first: list[Record] = [trade(number) for number in range(100)]
    again: list[Record] = [trade(number, received_at=NOW_US * 2) for number in range(50, 150)]
    made = await store(tmp_path, database, first, again, [trade(7), trade(500), trade(500)])
    assert await db.fetchval("SELECT count(*) FROM trades") == 151
    assert made.total("stored") == {"trades": 151}
    assert made.total("duplicate") == {"trades": 52}
    assert await db.fetchval("SELECT count(*) FROM trades WHERE received_at > now() + interval '1 year'") == 50


@pytest.mark.parametrize("exchange", ["backpack", "bitstamp", "coincheck", "deepcoin", "whitebit"])
@pytest.mark.parametrize("first", ["streamed", "fetched"])
async def test_a_trade_with_two_times_is_one_row(
    db: Database, database: DatabaseForTest, tmp_path: Path, exchange: str, first: str
) -> None:
    """These venues' sockets and REST differ in the precision of a trade's time: the one that came first is kept."""
    second = NOW_US // 1_000_000 * 1_000_000
    exact = [trade(number, exchange=exchange, time=second + number * 370_123) for number in range(1, 9)]
    cut: list[Record] = [replace(one, time=one.time // 1_000_000 * 1_000_000) for one in exact]
    # The same ids long before and in another market are other trades.
    others: list[Record] = [replace(exact[0], time=second - 2_000_000), replace(exact[0], symbol="ETH/USDT")]
    of_another_venue: list[Record] = [trade(1, time=second), trade(1, time=second + 1)]
    batches: list[list[Record]] = [[*exact[:5], *others, *of_another_venue], [cut[0]], cut[2:7], [exact[7], cut[7]]]
    if first == "fetched":
        batches = [cut[:5], [exact[0]], [*others, *exact[2:7], *of_another_venue], [exact[7], cut[7]]]
    made = await store(tmp_path, database, *batches)
    stored = await rows(db, "SELECT exchange, symbol, trade_id FROM trades WHERE symbol = 'BTC/USDT' ORDER BY seq")
    assert [row for row in stored if row[0] == exchange] == [
        (exchange, "BTC/USDT", number) for number in ("1", "1", *"2345678")
    ]
    assert await db.fetchval("SELECT count(*) FROM trades") == 8 + len(others) + len(of_another_venue)
    assert made.total("stored") == {"trades": 12}
    assert made.total("duplicate") == {"trades": sum(map(len, batches)) - 12}
    times = await rows(db, f"SELECT time FROM trades WHERE exchange = '{exchange}' AND trade_id = '3'")
    assert times == [(to_datetime((exact if first == "streamed" else cut)[2].time),)]


async def test_a_candle_or_gap_that_grew_replaces_its_row(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    def candle(close: str) -> Candle:
        return Candle("binance", "BTC/USDT", NOW_US, NOW_US, "1m", "1", "2", "1", close, "10")

    def gap(ended_at: int | None) -> FeedGap:
        return FeedGap("binance", "BTC/USDT", NOW_US, NOW_US, "trades", ended_at, "disconnect", "1006")

    made = await store(tmp_path, database, [candle("1.1"), candle("1.2"), gap(None)], [candle("1.3"), gap(NOW_US + 5)])
    assert await rows(db, "SELECT close::text FROM ohlcv_data") == [("1.3",)]
    assert await rows(db, "SELECT status, ended_at - started_at FROM feed_gaps") == [
        ("closed", timedelta(microseconds=5))
    ]
    # One flush or two: either way every record is stored or counted as one that a newer one replaced.
    stored, replaced = made.total("stored"), made.total("duplicate")
    assert stored["candles"] + replaced.get("candles", 0) == 3
    assert stored["gaps"] + replaced.get("gaps", 0) == 2


def gap_record(ended_at: int | None, detail: str = "1006") -> FeedGap:
    return FeedGap("binance", "BTC/USDT", NOW_US, NOW_US, "trades", ended_at, "disconnect", detail)


@pytest.mark.parametrize("judged", ["filled", "unfillable"])
@pytest.mark.parametrize("again", [None, NOW_US + 5], ids=["opened again", "ended again"])
async def test_what_a_backfill_said_of_a_gap_stays(
    db: Database, database: DatabaseForTest, tmp_path: Path, judged: str, again: int | None
) -> None:
    await store(tmp_path / "a", database, [gap_record(None)], [gap_record(NOW_US + 5)])
    await db.execute("UPDATE feed_gaps SET status = $1, recovered_rows = 7, detail = 'ids 1 to 7'", judged)
    await store(tmp_path / "b", database, [gap_record(again, "late")])
    assert await rows(db, "SELECT status, recovered_rows, detail, ended_at - started_at FROM feed_gaps") == [
        (judged, 7, "ids 1 to 7", timedelta(microseconds=5))
    ]


async def test_a_gap_filled_before_its_end_was_known_gets_the_end(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    await store(tmp_path / "a", database, [gap_record(None)])
    await db.execute("UPDATE feed_gaps SET status = 'filled', detail = 'ids 1 to 7'")
    await store(tmp_path / "b", database, [gap_record(NOW_US + 5)])
    assert await rows(db, "SELECT status, detail, ended_at - started_at FROM feed_gaps") == [
        ("filled", "ids 1 to 7", timedelta(microseconds=5))
    ]


async def test_a_filled_gap_that_lasted_longer_is_to_be_filled_again(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    await store(tmp_path / "a", database, [gap_record(NOW_US + 5)])
    await db.execute("UPDATE feed_gaps SET status = 'filled', recovered_rows = 7")
    await store(tmp_path / "b", database, [gap_record(NOW_US + 9)])
    assert await rows(db, "SELECT status, recovered_rows, ended_at - started_at FROM feed_gaps") == [
        ("closed", 7, timedelta(microseconds=9))
    ]


async def test_a_late_record_opens_no_gap_again_and_makes_none_shorter(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    await store(tmp_path / "a", database, [gap_record(NOW_US + 9, "as it was")])
    await store(tmp_path / "b", database, [gap_record(None, "late")], [gap_record(NOW_US + 5, "late")])
    assert await rows(db, "SELECT status, detail, ended_at - started_at FROM feed_gaps") == [
        ("closed", "as it was", timedelta(microseconds=9))
    ]


async def test_a_remark_that_comes_after_the_end_is_kept(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    await store(tmp_path, database, [gap_record(None)], [gap_record(NOW_US + 5), gap_record(NOW_US + 5, "3 missing")])
    assert await rows(db, "SELECT status, detail FROM feed_gaps") == [("closed", "3 missing")]


def bad_trade(number: int) -> MarketRecord:
    """Passes nothing: the server refuses its price. Validation would have stopped it; this is the second net."""
    return trade(number, price="1e200000")


async def test_one_bad_row_costs_no_good_one(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    records: list[Record] = [bad_trade(number) if number == 777 else trade(number) for number in range(1000)]
    made = await store(tmp_path, database, [*records, tick(1)])
    assert await db.fetchval("SELECT count(*) FROM trades") == 999
    ((table, reason, state, record),) = await rows(
        db, "SELECT table_name, reason, sqlstate, record->>'trade_id' FROM rejected_records"
    )
    assert (table, reason, state, record) == ("trades", "server", "22003", "777")
    assert made.total("stored") == {"trades": 999, "ticks": 1}
    assert made.total("rejected") == {"trades": 1}


async def test_many_bad_rows_are_all_found(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    records: list[Record] = [bad_trade(number) if number % 7 == 0 else trade(number) for number in range(700)]
    duplicates: list[Record] = [trade(1), bad_trade(0), trade(2)]
    made = await store(tmp_path, database, records, duplicates)
    assert await db.fetchval("SELECT count(*) FROM trades") == 600
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 101
    assert made.total("stored") == {"trades": 600}
    assert made.total("duplicate") == {"trades": 2}


async def test_a_batch_of_only_bad_rows_ends(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    made = await store(tmp_path, database, [bad_trade(number) for number in range(1500)])
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 1500
    assert made.total("rejected") == {"trades": 1500}
    assert made.total("stored") == {}


async def test_rejections_from_validation_are_stored(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    await store(tmp_path, database, [Rejected("x", "y", NOW_US, NOW_US, "trades", "price", '{"price": "N\\\\aN"}')])
    assert await rows(db, "SELECT table_name, reason, sqlstate, record->>'price' FROM rejected_records") == [
        ("trades", "price", None, "N\\aN")
    ]


async def refuse_once(state_dir: Path, database: DatabaseForTest) -> None:
    """A start that reaches no server."""
    refused = asyncio.Event()

    async def connect() -> Database:
        refused.set()
        raise ConnectionLost("nothing listens")

    made = Rig(state_dir, database, connect)
    task = asyncio.create_task(made.sink.run())
    await asyncio.wait_for(refused.wait(), 60)
    task.cancel()
    await asyncio.wait({task})
    made.journal.close()


async def test_a_restart_stores_what_was_left_and_nothing_twice(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    await store(tmp_path, database, [tick(number) for number in range(10)])
    left = Rig(tmp_path, database)
    await left.journal.append([tick(number) for number in range(10, 20)])
    left.journal.close()
    with capture_logs() as lines:
        await refuse_once(tmp_path, database)
    assert [(line["records_waiting"], line["of_an_earlier_run_and_maybe_stored"]) for line in lines] == [(20, 20)]
    made = await store(tmp_path, database, [tick(20)])
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == 21
    assert made.cursor.recovered == {"ticks": 10}
    assert made.total("stored") == {"ticks": 11}


async def test_killed_after_the_commit_nothing_is_stored_twice(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """The files are still there, the rows too: only the position row knows."""
    made = Rig(tmp_path, database)
    keep = made.journal.cursor("a sink that keeps the files")
    await made.journal.append([tick(number) for number in range(10)])
    task = asyncio.create_task(made.sink.run())
    made.sink.finish()
    await asyncio.wait_for(task, 60)
    assert keep.pending_records == 10
    made.journal.close()
    again = await store(tmp_path, database)
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == 10
    assert again.total("stored") == {}


async def test_a_lost_commit_reply_is_resolved_by_the_position(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    LosesReplies.lose(repeat(True, 3))

    async def connect() -> Database:
        return await LosesReplies.connect(database.dsn, call_timeout_s=5)

    async with rig(tmp_path, database, connect) as made:
        number = 0
        while LosesReplies.lost < 3:
            await made.journal.append([tick(number), trade(number)])
            await asyncio.sleep(0.01)
            number += 1
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == number
    assert made.total("stored") == {"ticks": number, "trades": number}
    assert made.total("duplicate") == {}
    assert made.metrics.totals(made.metrics.commits_resolved, "outcome") == {"committed": 3}


async def test_terminated_backends_lose_and_double_nothing(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    async with rig(tmp_path, database) as made:
        for number in range(60):
            await made.journal.append([tick(number), trade(number)])
            if number % 6 == 0:
                await db.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )
            await asyncio.sleep(0.01)
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == 60
    assert await db.fetchval("SELECT count(*) FROM trades") == 60
    assert made.total("stored") == {"ticks": 60, "trades": 60}


@pytest.mark.parametrize("error", [ConnectionLost("down"), DatabaseError("no", sqlstate="28P01"), OSError("odd")])
async def test_while_the_database_is_away_records_stay_in_the_journal(
    postgres_database: DatabaseForTest, tmp_path: Path, error: Exception
) -> None:
    async def never() -> Database:
        raise error

    async with rig(tmp_path, postgres_database, never) as made:
        await made.journal.append([trade(1)])
        await asyncio.sleep(0.05)
        assert made.sink.status().problem
    assert made.total("stored") == {}
    assert made.journal.size_bytes > 0


async def test_a_frozen_server_is_given_up_after_the_call_limit(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """A lock held by somebody else stops the COPY: the sink times out, and stores once the lock is gone."""

    async def connect() -> Database:
        return await Database.connect(database.dsn, call_timeout_s=0.2, lock_timeout_s=None)

    async with rig(tmp_path, database, connect) as made:
        async with db.transaction():
            await db.execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
            await made.journal.append([trade(1)])
            async with asyncio.timeout(60):
                while not made.sink.status().attempts_failed:
                    await asyncio.sleep(0.05)
        await stored_some(made)
    assert await db.fetchval("SELECT count(*) FROM trades") == 1
    assert made.total("stored") == {"trades": 1}


async def test_a_session_that_the_network_swallowed_does_not_keep_its_row_for_ever(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    """Cut off without a word in the middle of a flush: to the server its client only thinks, and the row is locked."""

    async def connect() -> Database:
        return await Database.connect(database.dsn, call_timeout_s=0.3, lock_timeout_s=None)

    lost = await Database.connect(database.dsn, application_name="ingestd lost", lock_timeout_s=None)
    async with rig(tmp_path, database, connect) as made:
        await made.journal.append([trade(1)])
        await stored_some(made)
        await lost.script("BEGIN; UPDATE ingest_positions SET updated_at = now()")
        await made.journal.append([trade(2)])
        async with asyncio.timeout(60):
            while made.total("stored") != {"trades": 2}:
                await asyncio.sleep(0.05)
    assert await db.fetchval("SELECT count(*) FROM trades") == 2
    await lost.close()


async def test_direct_compression_changes_no_row(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    """Into columnar chunks at once where the server offers it and the table has no unique index; else as ever."""
    made = Rig(tmp_path, database, direct_compress=True)
    task = asyncio.create_task(made.sink.run())
    batches: list[list[Record]] = [
        [tick(n), book(n), trade(n)] for n in range(2000)
    ]  # fmt: skip
    for batch in batches:
        await made.journal.append(batch)
    await made.journal.append([trade(7), trade(8)])
    made.sink.finish()
    await asyncio.wait_for(task, 60)
    made.journal.close()
    assert made.total("stored") == {"ticks": 2000, "order_book": 2000, "trades": 2000}
    assert made.total("duplicate") == {"trades": 2}
    wanted = [(item.time, item.bid_price) for batch in batches for item in batch if isinstance(item, Tick)]
    found = await rows(
        db, "SELECT (extract(epoch FROM time) * 1000000)::bigint, bid_price::text FROM market_ticks ORDER BY 1"
    )
    assert found == wanted
    assert await db.fetchval("SELECT count(DISTINCT trade_id) FROM trades") == 2000
    if database.engine == "timescaledb":
        query = "SELECT hypertable_name::text AS name, is_compressed FROM timescaledb_information.chunks"
        compressed = {row["name"] for row in await db.fetch(query) if row["is_compressed"]}
        assert compressed == {"market_ticks", "order_book"}  # trades have a unique index


async def test_late_rows_with_a_huge_number_are_exact(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    text = "0." + "0" * 50 + "1234567890"
    await store(tmp_path, database, [trade(1, price=text)])
    assert await db.fetchval("SELECT price FROM trades") == Decimal(text)


async def test_a_row_that_only_the_merge_refuses_is_put_aside(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """A rule of the user's own, which no staging table knows: the row is found all the same."""
    db = await postgres_database.connect()
    await db.script(
        "CREATE FUNCTION no_thirteen() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.trade_id = '13' THEN RAISE EXCEPTION 'thirteen' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER no_thirteen BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION no_thirteen()"
    )
    first: list[Record] = [trade(number) for number in range(5)]
    made = await store(tmp_path, postgres_database, first, [trade(number) for number in range(20)])
    assert await db.fetchval("SELECT count(*) FROM trades") == 19
    assert await rows(db, "SELECT record->>'trade_id', sqlstate FROM rejected_records") == [("13", "23514")]
    assert made.total("stored")["trades"] + made.total("duplicate")["trades"] == 24
    await db.close()


async def test_a_raised_epoch_is_taken_up(db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    async with rig(tmp_path, database) as made:
        await made.journal.append([tick(1)])
        await stored_some(made)
        await db.execute("UPDATE ingest_positions SET epoch = epoch + 1")
        await made.journal.append([tick(2)])
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == 2


async def test_an_error_nobody_foresaw_is_retried_and_alarmed(
    db: Database, database: DatabaseForTest, tmp_path: Path
) -> None:
    surprises = [KeyError("surprise"), UnicodeDecodeError("utf-8", b"", 0, 1, "password file")]

    async def connect() -> Database:
        if surprises:
            raise surprises.pop()
        return await Database.connect(database.dsn)

    async with rig(tmp_path, database, connect) as made:
        await made.journal.append([tick(1)])
        await stored_some(made)
    assert await db.fetchval("SELECT count(*) FROM market_ticks") == 1
    assert sum(made.metrics.totals(made.metrics.sink_alarms, "sink").values()) == 2


async def test_a_disk_that_fails_to_read_is_asked_again(
    postgres_database: DatabaseForTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [JournalError("disk I/O error"), JournalError("disk I/O error")]
    read = Cursor.read

    async def failing(cursor: Cursor, max_records: int) -> list[Batch]:
        if failures:
            raise failures.pop()
        return await read(cursor, max_records)

    monkeypatch.setattr(Cursor, "read", failing)
    made = await store(tmp_path, postgres_database, [tick(1)])
    assert made.total("stored") == {"ticks": 1}


@pytest.mark.parametrize("staged", [False, True], ids=["copied", "staged"])
async def test_rows_that_the_table_does_not_take_are_no_duplicates(
    db: Database, database: DatabaseForTest, tmp_path: Path, staged: bool
) -> None:
    """A trigger that returns NULL: the COPY says that fewer rows were stored, and nothing else says so."""
    await db.script(
        "CREATE FUNCTION keeps_out() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN IF NEW.symbol = 'ETH/USDT' THEN RETURN NULL; END IF; RETURN NEW; END$$;"
        "CREATE TRIGGER keeps_out BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION keeps_out();"
        "CREATE TRIGGER keeps_out BEFORE INSERT ON market_ticks FOR EACH ROW EXECUTE FUNCTION keeps_out()"
    )
    kept: list[Record] = [trade(number) for number in range(10)]
    lost: list[Record] = [trade(number, symbol="ETH/USDT") for number in range(100, 107)]
    again = kept[:3] if staged else []
    made = await store(tmp_path, database, kept, [*again, *lost, tick(1), tick(2, symbol="ETH/USDT")])

    assert await db.fetchval("SELECT count(*) FROM trades") == 10
    assert made.total("stored") == {"trades": 10, "ticks": 1}
    assert made.total("duplicate") == ({"trades": 3} if staged else {})
    assert made.total("rejected") == {"trades": 7, "ticks": 1}
    assert made.metrics.missing.by_channel() == {"trades": 7, "ticks": 1}
