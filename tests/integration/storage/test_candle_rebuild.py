"""The candles are made again under another definition, and none is lost, whatever interrupts it.

The database is one whose candles are older than its trades, in every way there is: trades dropped by retention, a hole
in the middle, one-minute candles dropped below the days that are made of them, compressed candles, trades that came
late and were not refreshed. What is right comes from plain Python over all trades there ever were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ingestd import failpoints
from ingestd.errors import SchemaError
from ingestd.storage import candle_rebuild, migrate, rollups
from ingestd.storage import engine as engines
from ingestd.storage.database import Database
from ingestd.venues.market_names import Names
from tests.integration.storage.test_candles import candles, store
from tests.support.candles import BUCKETS, TradeRow, expected_candles
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.time_limits import AT_LENGTH

BEFORE = 9  # the last migration before the candles are made again
DAY = timedelta(days=1)
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
LONG_AGO = TODAY - 800 * DAY
HOLE = TODAY - 40 * DAY
KEPT = TODAY - 3 * DAY
SYMBOLS = ("BTC/USDT", "ETH/USDT:USDT", "BTC/USD:BTC")


def trades_of(day: datetime, **facts: Any) -> list[TradeRow]:
    """A few trades of each market, in three hours of a day."""
    return [
        TradeRow(
            day + timedelta(hours=hour, seconds=20 * number),
            symbol,
            f"{hour}-{number}",
            number,
            (None, "buy", "sell")[number % 3],
            f"{100 + number}.{hour}",
            f"0.{number + 1}",
            **facts,
        )
        for symbol in SYMBOLS
        for hour in (0, 7, 23)
        for number in range(5)
    ]


GONE = [row for day in (LONG_AGO, LONG_AGO + DAY, LONG_AGO + 31 * DAY, HOLE) for row in trades_of(day)]
STORED = [row for day in (HOLE + DAY, KEPT, KEPT + DAY) for row in trades_of(day)]
LATE = [TradeRow(KEPT + timedelta(hours=7), "BTC/USDT", "late", 99, "buy", "99.5", "3")]
LEFT_OUT = [
    TradeRow(KEPT + timedelta(hours=hour), "BTC/USDT", f"fund-{hour}", 98, "sell", "55", "7", in_candles=False)
    for hour in (7, 9)  # beside others, and alone in its minute and hour
]
SIZED = [
    TradeRow(
        KEPT + timedelta(hours=12),
        symbol,
        "sized",
        1,
        "buy",
        "101.5",
        "3",
        contract_size="100",
        contract_currency=currency,
    )
    for symbol, currency in (("ETH/USDT:USDT", "base"), ("BTC/USD:BTC-260626", "quote"), ("ETH/BTC:BTC", "unknown"))
]
EVERYTHING = [*GONE, *STORED, *LATE, *LEFT_OUT, *SIZED]


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm({})


async def test_every_candle_is_kept_whatever_step_is_interrupted(timescaledb_database: DatabaseForTest) -> None:
    """Interrupted after each step, and gone on with by another process each time."""
    db = await old_database(timescaledb_database)
    interruptions = 0
    while True:
        failpoints.arm({failpoints.VARIABLE: "migrate.step:1:raise", failpoints.TEST_FLAG: "1"})
        try:
            await migrate.migrate(db, default_config())
            break
        except OSError:
            interruptions += 1
            db = await again(timescaledb_database, db)
            statuses = {line.version: line for line in await migrate.status(db)}
            assert statuses[10].note
            assert await candles(db, "candles_1d") in (old_days(), new_days()), "neither the old nor the new"
    assert interruptions == 36
    await assert_whole(db)
    await assert_everything_moved(db)
    await db.close()


async def test_every_candle_is_kept_whatever_statement_is_interrupted(timescaledb_database: DatabaseForTest) -> None:
    """The connection is lost within a step: after 9 statements, 18, 27, …; beside other tests after 27, 54, …"""
    db = await old_database(timescaledb_database)
    allowed = 0
    while True:
        allowed += 9 if AT_LENGTH else 27
        try:
            await migrate.migrate(Interrupted(db, allowed), default_config())  # type: ignore[arg-type] # a stand-in
            break
        except ConnectionError:
            db = await again(timescaledb_database, db)
    assert allowed > 100
    await assert_whole(db)
    await assert_everything_moved(db)
    # And back, which loses as little; what one version knew and the other does not stays out.
    failpoints.arm({failpoints.VARIABLE: "migrate.step:20:raise", failpoints.TEST_FLAG: "1"})
    with pytest.raises(OSError, match="failpoint"):
        await migrate.down(db, BEFORE)
    await assert_whole(db)
    assert (
        "going back was interrupted after 20 steps"
        in {line.version: line.note for line in await migrate.status(db)}[10]
    )
    await migrate.down(db, BEFORE)
    back = [without_amounts(row) for row in await candles(db, "candles_1d")]
    assert back == [without_amounts(row) for row in old_days(late=True)]
    await migrate.migrate(db, default_config())
    await assert_whole(db)
    await db.close()


async def test_one_that_is_given_up_leaves_nothing(timescaledb_database: DatabaseForTest) -> None:
    db = await old_database(timescaledb_database)
    before = await relations(db)
    failpoints.arm({failpoints.VARIABLE: "migrate.step:9:raise", failpoints.TEST_FLAG: "1"})
    with pytest.raises(OSError, match="failpoint"):
        await migrate.migrate(db, default_config())
    assert await relations(db) > before
    assert "(done)" in await migrate.plan(db, default_config())
    assert await migrate.down(db, BEFORE) == [
        "dropped what the interrupted migration 0010_candles_again had begun; the schema is as it was before"
    ]
    assert await relations(db) == before
    assert await candles(db, "candles_1d") == old_days()
    await db.close()


async def test_what_reads_the_candles_and_cannot_be_moved_is_named(timescaledb_database: DatabaseForTest) -> None:
    db = await old_database(timescaledb_database)
    await db.script(
        "CREATE MATERIALIZED VIEW of_somebody AS SELECT count(*) FROM candles_1h;"
        "CREATE FUNCTION newest() RETURNS candles_1m LANGUAGE sql AS 'SELECT * FROM candles_1m LIMIT 1'"
    )
    with pytest.raises(SchemaError, match=r"function newest\(\), materialized view of_somebody .* drop it, run"):
        await migrate.migrate(db, default_config())
    await db.script("DROP FUNCTION newest; DROP MATERIALIZED VIEW of_somebody")
    await migrate.migrate(db, default_config())
    await assert_whole(db)
    await db.close()


async def test_on_the_plain_engine(postgres_database: DatabaseForTest) -> None:
    """One transaction there: interrupted, it has not been. Candles stay as they are, but for amounts nobody knew."""
    db = await postgres_database.connect()
    await migrate.down(db, BEFORE)
    engine = await engines.detect(db)
    await store(db, [*GONE, *STORED])
    await rollups.refresh(db, engine)
    await db.execute("DELETE FROM trades WHERE time < $1", HOLE + DAY)
    for place in ("migrate.applied", "migrate.recorded"):
        failpoints.arm({failpoints.VARIABLE: f"{place}:1:raise", failpoints.TEST_FLAG: "1"})
        with pytest.raises(OSError, match="failpoint"):
            await migrate.migrate(db, default_config())
        db = await again(postgres_database, db)
        assert await db.fetchval("SELECT count(*) FROM candles_1d WHERE quote_volume IS NULL") == 0
    await migrate.migrate(db, default_config())
    await store(db, [*LATE, *LEFT_OUT, *SIZED])
    await rollups.refresh(db, engine)
    for relation, bucket in BUCKETS.items():
        assert await candles(db, relation) == expected_candles(EVERYTHING, bucket), relation
    await db.close()


@pytest.mark.parametrize("steps_done", [4, 26], ids=["kept 1m", "kept all"])
async def test_candles_that_the_old_daemon_makes_while_it_is_interrupted_are_kept(
    timescaledb_database: DatabaseForTest, steps_done: int
) -> None:
    """It begins 20 days ago and goes on today. The old daemon captured all the time, and refreshed its own candles; of
    some of what it captured the trades are gone by now, and only those candles know of them."""
    db = await old_database(timescaledb_database, late=())
    failpoints.arm({failpoints.VARIABLE: f"migrate.step:{steps_done}:raise", failpoints.TEST_FLAG: "1"})
    with pytest.raises(OSError, match="failpoint"):
        await migrate.migrate(DaysAgo(db, 20), default_config())  # type: ignore[arg-type] # a stand-in
    db = await again(timescaledb_database, db)
    await db.execute("UPDATE ingestd_migration_steps SET done_at = done_at - INTERVAL '20 days'")
    left_out = [
        TradeRow(KEPT + DAY + timedelta(hours=hour), "BTC/USDT", f"of a fund {hour}", 98, "sell", "55", "7", False)
        for hour in (7, 9)  # beside others, and alone in its minute and hour
    ]
    came_late = [TradeRow(HOLE + DAY + timedelta(hours=7), "BTC/USDT", "late", 99, "buy", "99.5", "3")]
    await store(db, [*left_out, *came_late])
    for level in candle_rebuild.LEVELS:
        await db.execute(
            f"CALL refresh_continuous_aggregate('{level.relation}', $1::timestamptz, $2::timestamptz)",
            HOLE + DAY if level.source == "trades" else HOLE - 8 * DAY,
            TODAY - DAY,
        )
    await db.fetch("SELECT drop_chunks('trades', $1::timestamptz)", KEPT + DAY)
    await migrate.migrate(db, default_config())
    for relation, bucket in BUCKETS.items():
        dropped = relation in ("candles_1m", "candles_5m", "candles_15m", "candles_30m")
        rows = [row for row in [*GONE, *STORED, *came_late] if row.time > HOLE - DAY or not dropped]
        assert await candles(db, relation) == expected_candles(rows, bucket), relation
    await db.close()


@pytest.mark.campaign
@pytest.mark.parametrize("steps_done", [1, 20, 30], ids=["made", "half kept", "old ones not dropped"])
async def test_symbols_are_renamed_after_an_interrupted_rebuild(
    timescaledb_database: DatabaseForTest, steps_done: int
) -> None:
    """One command finishes the one, and then begins the other."""
    db = await old_database(timescaledb_database)
    config = default_config(database={"dsn": "postgresql://x/y", "symbol_style": "compact"})
    failpoints.arm({failpoints.VARIABLE: f"migrate.step:{steps_done}:raise", failpoints.TEST_FLAG: "1"})
    for interrupted in (True, False):
        db.names = Names("compact")
        with pytest.raises(OSError, match="failpoint") if interrupted else nullcontext():
            await migrate.migrate(db, config, rename_symbols=True)
        db = await again(timescaledb_database, db)
    short = dict(zip(SYMBOLS, ("BTCUSDT", "ETHUSDT.P", "BTCUSD.BTC.P"), strict=True))
    short |= {"BTC/USD:BTC-260626": "BTCUSD.BTC-260626", "ETH/BTC:BTC": "ETHBTC.P"}
    for relation, bucket in BUCKETS.items():
        dropped = relation in ("candles_1m", "candles_5m", "candles_15m", "candles_30m")
        rows = [row for row in EVERYTHING if row.time > HOLE - DAY or not dropped]
        renamed = [(*row[:2], short[row[2] or ""], *row[3:]) for row in expected_candles(rows, bucket)]
        assert sorted(await candles(db, relation), key=str) == sorted(renamed, key=str), relation
    await db.close()


async def old_database(database: DatabaseForTest, *, late: Sequence[TradeRow] = (*LATE, *LEFT_OUT, *SIZED)) -> Database:
    """A database of the version before, with all that people add to one; the candles know nothing of `late`."""
    db = await database.connect()
    await migrate.down(db, BEFORE)
    await store(db, [*GONE, *STORED])
    for level in candle_rebuild.LEVELS:
        await db.execute(f"CALL refresh_continuous_aggregate('{level.relation}', NULL, $1::timestamptz)", TODAY - DAY)
    await db.fetch("SELECT drop_chunks('trades', $1::timestamptz)", HOLE)
    await db.fetch("SELECT drop_chunks('trades', $1::timestamptz, $2::timestamptz)", HOLE + DAY, HOLE - DAY)
    for relation in ("candles_1m", "candles_5m", "candles_15m", "candles_30m"):
        await db.fetch(f"SELECT drop_chunks('{relation}', $1::timestamptz)", TODAY - 366 * DAY)
    await store(db, late)
    await db.script(
        "ALTER MATERIALIZED VIEW candles_1d SET (timescaledb.enable_columnstore,"
        " timescaledb.segmentby = 'exchange, symbol');"
        "CALL add_columnstore_policy('candles_1d', after => INTERVAL '400 days');"
        "SELECT compress_chunk(chunk) FROM show_chunks('candles_1d') AS chunk;"
        "SELECT alter_job(job_id, max_retries => 7) FROM timescaledb_information.jobs"
        " WHERE hypertable_name = 'candles_1h' AND proc_name = 'policy_retention';"
        "DO $$ BEGIN CREATE ROLE rebuild_reader; EXCEPTION WHEN duplicate_object THEN NULL; END $$;"
        'GRANT SELECT ON candles_1h, "candles_1M" TO rebuild_reader WITH GRANT OPTION;'
        "COMMENT ON VIEW candles_1h IS 'it''s mine'; COMMENT ON COLUMN candles_1h.close IS 'last';"
        "CREATE INDEX ON candles_1d (symbol, bucket_start);"
        "CREATE VIEW closes WITH (security_barrier = true) AS SELECT symbol, close, quote_volume FROM candles_1d;"
        "CREATE VIEW twice AS SELECT *, close * 2 AS double FROM closes; GRANT SELECT ON closes TO rebuild_reader"
    )
    assert await candles(db, "candles_1d") == old_days()
    return db


def old_days(*, late: bool = False) -> list[tuple[str | None, ...]]:
    """The days as the old definition has them: every trade counts, price x quantity is the amount. Below the newest
    materialised day they are as they were refreshed, so what came late is not in them yet."""
    rows = [*GONE, *STORED]
    if late:
        rows += [*LATE, *LEFT_OUT, *SIZED]
    plain = [
        TradeRow(row.time, row.symbol, row.trade_id, row.seq, row.side, row.price, row.quantity, True, "1", "base")
        for row in rows
    ]
    return expected_candles(plain, BUCKETS["candles_1d"])


def new_days() -> list[tuple[str | None, ...]]:
    return expected_candles(EVERYTHING, BUCKETS["candles_1d"])


def without_amounts(row: Sequence[str | None]) -> list[str | None]:
    """Without quote volumes: an amount that was not true is NULL, and stays so where its trades are gone."""
    return [*row[:8], *row[9:11]]


async def assert_whole(db: Database) -> None:
    """Every candle, in every timeframe, digit for digit; those that had been dropped stay dropped."""
    for relation, bucket in BUCKETS.items():
        dropped = relation in ("candles_1m", "candles_5m", "candles_15m", "candles_30m")
        rows: Sequence[TradeRow] = [row for row in EVERYTHING if row.time > HOLE - DAY or not dropped]
        assert await candles(db, relation) == expected_candles(rows, bucket), relation


async def assert_everything_moved(db: Database) -> None:
    assert await migrate.plan(db, default_config()) == ""
    assert not [
        name for name in await relations(db) if name.startswith(("ingestd_next", "ingestd_old", "ingestd_migration_"))
    ]
    # A refresh of everything finds nothing to be done, so it deletes nothing that cannot be made again.
    for relation in ("candles_1h", "candles_1d"):
        await db.execute(f"CALL refresh_continuous_aggregate('{relation}', NULL, $1::timestamptz)", TODAY - DAY)
    await assert_whole(db)
    row = await db.fetchrow(
        "SELECT has_table_privilege('rebuild_reader', 'candles_1h', 'SELECT WITH GRANT OPTION') AS hours,"
        " has_table_privilege('rebuild_reader', '\"candles_1M\"', 'SELECT') AS months,"
        " has_table_privilege('rebuild_reader', 'candles_5m', 'SELECT') AS others,"
        " has_table_privilege('rebuild_reader', 'closes', 'SELECT') AS view,"
        " obj_description('candles_1h'::regclass) AS comment,"
        " (SELECT reloptions::text FROM pg_class WHERE relname = 'closes') AS options,"
        " (SELECT count(*) FROM closes WHERE quote_volume IS NULL) > 0 AS moved,"
        " (SELECT count(*) FROM twice) AS doubles, (SELECT count(*) FROM candles_1d) AS days,"
        " (SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name = 'candles_1d'"
        "  AND config->>'compress_after' = '400 days') AS compression,"
        " (SELECT max_retries FROM timescaledb_information.jobs WHERE hypertable_name = 'candles_1h'"
        "  AND proc_name = 'policy_retention') AS retries,"
        " (SELECT count(*) FROM timescaledb_information.jobs WHERE hypertable_name LIKE 'candles%') AS jobs,"
        " (SELECT bool_and(NOT materialized_only) FROM timescaledb_information.continuous_aggregates) AS real_time"
    )
    assert row is not None
    found = dict(row)
    assert found.pop("doubles") == found.pop("days")
    assert found == {
        "hours": True,
        "months": True,
        "others": False,
        "view": True,
        "comment": "it's mine",
        "options": "{security_barrier=true}",
        "moved": True,
        "compression": 1,
        "retries": 7,
        "jobs": 17,
        "real_time": True,
    }


async def again(database: DatabaseForTest, db: Database) -> Database:
    """What another process sees after this one is dead."""
    db.terminate()
    failpoints.arm({})
    return await database.connect()


async def relations(db: Database) -> set[str]:
    rows = await db.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace")
    return {row["relname"] for row in rows}


class Interrupted:
    """A connection that is lost after so many statements."""

    def __init__(self, db: Database, statements: int) -> None:
        self._db = db
        self._left = statements

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._db, name)
        if name in ("fetch", "fetchval", "fetchrow", "execute", "script"):
            self._left -= 1
            if self._left < 0:
                self._db.terminate()
                raise ConnectionError("lost")
        return member


class DaysAgo:
    """A connection to a server whose clock shows an earlier time."""

    def __init__(self, db: Database, days: int) -> None:
        self._db = db
        self._earlier = f"(now() - INTERVAL '{days} days')"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    async def fetchval(self, sql: str, *values: Any) -> Any:
        return await self._db.fetchval(sql.replace("now()", self._earlier), *values)
