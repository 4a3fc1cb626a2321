"""The same candles on both engines, to the digit, as plain Python makes of the same trades."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.storage import engine as engines
from ingestd.storage import rollups
from ingestd.storage.database import Database
from tests.support.candles import BUCKETS, COLUMNS, TradeRow, expected_candles
from tests.support.postgres import DatabaseForTest, Server, run_apart, temporary_database
from tests.support.time_limits import examples

TRADE_COLUMNS = (
    "time",
    "exchange",
    "symbol",
    "trade_id",
    "seq",
    "side",
    "price",
    "quantity",
    "received_at",
    "in_candles",
    "contract_size",
    "contract_currency",
)

# Sunday 2026-05-31 to Monday 2026-06-01: a week and a month begin in the same instant.
MIDNIGHT = datetime(2026, 6, 1, tzinfo=UTC)


def at(offset_ms: int) -> datetime:
    return MIDNIGHT + timedelta(milliseconds=offset_ms)


moments = st.one_of(
    st.integers(-3_000, 3_000).map(lambda tick: at(tick - tick % 500)),  # ties, on both sides of every boundary
    st.integers(-3 * 86_400_000, 3 * 86_400_000).map(at),
    st.integers(-40, 40).map(lambda days: MIDNIGHT + timedelta(days=days)),
)
decimals = st.tuples(st.integers(1, 10**9), st.integers(0, 8)).map(lambda pair: f"{pair[0] / 10**5:.{pair[1]}f}")
positive = decimals.filter(lambda text: float(text) > 0)
trade_rows = st.builds(
    TradeRow,
    time=moments,
    symbol=st.sampled_from(["BTC/USDT", "ETH/USDT", "ETH/USDT:USDT", "BTC/USD:BTC-260626"]),
    trade_id=st.sampled_from(["1", "2", "10", "a", "B"]),
    seq=st.integers(0, 2),
    side=st.sampled_from(["buy", "sell", None]),
    price=positive,
    quantity=positive,
    in_candles=st.sampled_from([True, True, True, False]),
    contract_size=st.sampled_from([None, None, "0.001", "10", "100.0"]),
    contract_currency=st.sampled_from([None, None, None, "base", "quote", "unknown"]),
)
batches = st.lists(
    st.lists(trade_rows, min_size=1, max_size=25), min_size=1, max_size=3
)  # later batches are late trades: the earlier ones have been refreshed by then


async def store(db: Database, trades: Sequence[TradeRow]) -> None:
    lines = [
        "\t".join(
            (
                trade.time.isoformat(),
                "binance",
                trade.symbol,
                trade.trade_id,
                str(trade.seq),
                trade.side or "\\N",
                trade.price,
                trade.quantity,
                trade.time.isoformat(),
                "t" if trade.in_candles else "f",
                trade.contract_size or "\\N",
                trade.contract_currency or "\\N",
            )
        )
        + "\n"
        for trade in trades
    ]
    assert await db.copy_text("trades", TRADE_COLUMNS, "".join(lines).encode()) == len(trades)


async def refresh_after(db: Database, trades: Sequence[TradeRow]) -> None:
    """What the daemon does after these trades on either engine."""
    engine = await engines.detect(db)
    if engine.has_continuous_aggregates:
        await rollups.refresh_window(
            db, min(trade.time for trade in trades), max(trade.time for trade in trades) + timedelta(microseconds=1)
        )
    await rollups.refresh(db, engine)


async def candles(db: Database, relation: str) -> list[tuple[str | None, ...]]:
    columns = ", ".join(f"{column.strip()}::text" for column in COLUMNS.split(","))
    async with db.transaction():
        await db.script("SET LOCAL timezone = 'UTC'")
        rows = await db.fetch(f"SELECT {columns} FROM {relation} ORDER BY {relation}.bucket_start, symbol")
    return [tuple(row.values()) for row in rows]


def distinct(rows: Sequence[TradeRow], known: set[tuple[str, str, datetime]]) -> list[TradeRow]:
    """Without the rows whose unique key is taken already; `known` is extended."""
    fresh = []
    for row in rows:
        key = (row.symbol, row.trade_id, row.time)
        if key not in known:
            known.add(key)
            fresh.append(row)
    return fresh


async def compare(database: DatabaseForTest, generated: Sequence[Sequence[TradeRow]], *, refreshed: bool) -> None:
    db = await database.connect()
    try:
        stored: list[TradeRow] = []
        known: set[tuple[str, str, datetime]] = set()
        for batch in generated:
            fresh = distinct(batch, known)
            if fresh:
                await store(db, fresh)
                stored += fresh
                if refreshed:
                    await refresh_after(db, fresh)
        for relation, bucket in BUCKETS.items():
            assert await candles(db, relation) == expected_candles(stored, bucket), relation
    finally:
        await db.close()


def test_same_candles_as_plain_python(database_server: Server) -> None:
    @settings(max_examples=examples(15), deadline=None, suppress_health_check=list(HealthCheck))
    @given(batches)
    def check(generated: list[list[TradeRow]]) -> None:
        with temporary_database(database_server) as database:
            run_apart(compare(database, generated, refreshed=True))

    check()


async def test_open_buckets_are_computed_when_read(timescaledb_database: DatabaseForTest) -> None:
    now = datetime.now(UTC)
    fresh = [TradeRow(now - timedelta(seconds=n), "BTC/USDT", str(n), -n, "buy", "1.50", "2") for n in range(3)]
    await compare(timescaledb_database, [fresh], refreshed=False)
    await compare_after_refresh_of_now(timescaledb_database, fresh)


async def compare_after_refresh_of_now(database: DatabaseForTest, fresh: list[TradeRow]) -> None:
    """A refresh up to now leaves the open bucket to be computed: a trade after it still shows."""
    db = await database.connect()
    now = datetime.now(UTC)
    await rollups.refresh_window(db, now - timedelta(hours=1), now)
    late = TradeRow(now, "BTC/USDT", "last", 99, "sell", "9.999", "1")
    await store(db, [late])
    assert await candles(db, '"candles_1M"') == expected_candles([*fresh, late], BUCKETS['"candles_1M"'])
    await db.close()


async def test_ohlcv_1h_from_ticks(database: DatabaseForTest) -> None:
    db = await database.connect()
    engine = await engines.detect(db)
    columns = ("time", "exchange", "symbol", "bid_price", "bid_volume", "ask_price", "ask_volume", "received_at")
    lines = (
        "2026-05-31 23:59:59.5+00\tbinance\tBTC/USDT\t10.0\t1\t10.10\t2\t2026-06-01 00:00:00+00\n"
        "2026-06-01 00:00:00+00\tbinance\tBTC/USDT\t\\N\t\\N\t11\t3\t2026-06-01 00:00:00+00\n"
        "2026-06-01 00:00:01+00\tbinance\tBTC/USDT\t10.2\t1.5\t10.3\t2\t2026-06-01 00:00:03+00\n"
        "2026-06-01 00:00:01+00\tbinance\tBTC/USDT\t10.1\t1\t10.20\t2\t2026-06-01 00:00:02+00\n"
        "2026-06-01 00:30:01+00\tbinance\tBTC/USDT\t10.05\t1\t\\N\t\\N\t2026-06-01 00:00:02+00\n"
    )
    await db.copy_text("market_ticks", columns, lines.encode())
    await rollups.refresh(db, engine)
    await rollups.refresh_window(db, MIDNIGHT - timedelta(hours=1), MIDNIGHT + timedelta(hours=2))
    rows = await db.fetch(
        "SELECT bucket_start, open::text, high::text, low::text, close::text, volume::text, ticks_count"
        " FROM ohlcv_1h ORDER BY bucket_start"
    )
    assert [tuple(row.values()) for row in rows] == [
        (MIDNIGHT - timedelta(hours=1), "10.0", "10.10", "10.0", "10.10", "1.5", 1),
        (MIDNIGHT, "10.1", "11.00", "10.05", "10.3", "5.25", 4),
    ]
    await db.close()


async def test_refresh_loses_no_mark_of_concurrent_writers(postgres_database: DatabaseForTest) -> None:
    """Writers that commit while a refresh runs, and long after its snapshot, are all found by a later refresh."""
    writers, batches_each, size = 4, 12, 20
    stop = asyncio.Event()

    async def write(writer: int) -> list[TradeRow]:
        db = await postgres_database.connect()
        rows: list[TradeRow] = []
        for batch in range(batches_each):
            fresh = [
                TradeRow(at(writer + 7 * n + 60_000 * (n % 3)), "BTC/USDT", f"{writer}-{batch}-{n}", n, "buy", "1", "1")
                for n in range(size)
            ]
            async with db.transaction():
                await store(db, fresh)
                await asyncio.sleep(0.003 * (writer + 1))  # refreshes start and end while this is not yet committed
            rows += fresh
        await db.close()
        return rows

    async def refresh() -> None:
        db = await postgres_database.connect()
        engine = await engines.detect(db)
        while not stop.is_set():
            await rollups.refresh(db, engine)
            await asyncio.sleep(0)
        await rollups.refresh(db, engine)
        await db.close()

    refreshers = [asyncio.create_task(refresh()) for _ in range(2)]
    written = await asyncio.gather(*(write(writer) for writer in range(writers)))
    stop.set()
    await asyncio.gather(*refreshers)
    db = await postgres_database.connect()
    await rollups.refresh(db, await engines.detect(db))
    everything = [row for rows in written for row in rows]
    assert len(everything) == writers * batches_each * size
    assert await candles(db, "candles_1m") == expected_candles(everything, BUCKETS["candles_1m"])
    assert await candles(db, "candles_1d") == expected_candles(everything, BUCKETS["candles_1d"])
    assert await db.fetchval("SELECT count(*) FROM candles_marks") == 0
    await db.close()
