"""The pack fks: what follows from candles and gaps (`sync_status`) and from events (`balance_history`)."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from ingestd.config.models import Config
from ingestd.events.messages import Event, read_event
from ingestd.events.tables import store_events
from ingestd.ops.metrics import Metrics
from ingestd.status import MarketInfo
from ingestd.storage import engine as engines
from ingestd.storage import packs, rollups
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from ingestd.storage.symbols import upsert_symbols
from ingestd.storage.upkeep import Upkeep
from tests.support.postgres import DatabaseForTest, default_config

NOW = datetime.now(UTC).replace(minute=30, second=5, microsecond=0)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
T0 = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)


def fks(dsn: str = "postgresql://u@h/db") -> Config:
    return default_config(
        database={"dsn": dsn, "packs": ["fks"]},
        feeds=[{"exchange": "binance", "symbols": ["BTC/USDT"]}],
        packs={"fks": {"exchange": "binance"}},
    )


async def store_trade(db: Database, symbol: str, at: datetime, exchange: str = "binance") -> None:
    await db.execute(
        "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
        " VALUES ($1, $2, $3, $4, 1, 'buy', 5, 1, $1)",
        at,
        exchange,
        symbol,
        str(at),
    )


async def store_candle(db: Database, symbol: str, timeframe: str, at: datetime) -> None:
    await db.execute(
        "INSERT INTO ohlcv_data (time, exchange, symbol, timeframe, open, high, low, close, volume)"
        " VALUES ($1, 'binance', $2, $3, 1, 1, 1, 1, 1)",
        at,
        symbol,
        timeframe,
    )


async def store_gap(
    db: Database, symbol: str, channel: str, status: str, began: datetime, ended: datetime | None, detail: str = ""
) -> None:
    await db.execute(
        "INSERT INTO feed_gaps (exchange, symbol, channel, started_at, ended_at, cause, status, detail)"
        " VALUES ('binance', $1, $2, $3, $4, 'disconnect', $5, $6)",
        *(symbol, channel, began, ended, status, detail),
    )


def bucket(at: datetime, timeframe: str) -> datetime:
    """The start of the candle that contains this time."""
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if timeframe == "1M":
        return day.replace(day=1)
    if timeframe == "1w":
        return day - timedelta(days=at.weekday())
    minutes = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}[timeframe]
    return day + (at - day) // timedelta(minutes=minutes) * timedelta(minutes=minutes)


async def synced(db: Database) -> dict[tuple[str, str], tuple[Any, ...]]:
    rows = await db.fetch("SELECT * FROM fks.sync_status")
    return {
        (row["symbol"], row["timeframe"]): (
            *(row[name] for name in ("sync_status", "oldest_time", "newest_time", "error_message")),
        )
        for row in rows
    }


class TestSyncStatus:
    async def test_says_what_is_there_and_what_is_missing(self, database: DatabaseForTest) -> None:
        db = await database.connect()
        config = fks(database.dsn)
        await migrate(db, config)
        for symbol in ("WHOLE", "FILLING", "LOST", "OLD"):
            await store_trade(db, symbol, NOW - 30 * HOUR)
            await store_trade(db, symbol, NOW - 3 * MINUTE)
        await store_trade(db, "ELSEWHERE", NOW, exchange="kraken")
        await store_candle(db, "WHOLE", "1h", bucket(NOW - 300 * HOUR, "1h"))  # the exchange's reach further back
        await store_candle(db, "THEIRS", "2h", bucket(NOW - 4 * HOUR, "1h"))
        await store_candle(db, "THEIRS", "2h", bucket(NOW - 2 * HOUR, "1h"))
        began, ended = NOW - 20 * HOUR, NOW - 19 * HOUR
        await store_gap(db, "WHOLE", "trades", "filled", began, ended)
        await store_gap(db, "WHOLE", "ticks", "open", began, None)
        await store_gap(db, "FILLING", "trades", "unfillable", began, ended)
        await store_gap(db, "FILLING", "trades", "closed", began + HOUR, ended + HOUR)
        await store_gap(db, "LOST", "trades", "unfillable", began - HOUR, ended - HOUR, "of before")
        await store_gap(db, "LOST", "trades", "unfillable", began, ended, "the venue keeps a day")
        await store_gap(db, "OLD", "trades", "unfillable", NOW - 900 * HOUR, NOW - 899 * HOUR)
        await store_gap(db, "NEW", "trades", "open", NOW - HOUR, None)
        await store_gap(db, "THEIRS", "candles", "closed", began + 17 * HOUR, ended + 17 * HOUR)
        await db.execute(
            "INSERT INTO fks.sync_status (symbol, timeframe, sync_status) VALUES ('MINE', '1m', 'syncing')"
        )
        await rollups.refresh(db, await engines.detect(db))
        upkeep = Upkeep(DatabaseAccess(config), config, list, Metrics())
        await upkeep.turn()
        assert upkeep.problems() == []

        message = f"2 gaps could not be filled, the last from {stamp(began)} to {stamp(ended)}: the venue keeps a day"
        frames = ("1m", "5m", "15m", "30m", "1h", "4h", "1d", "1w", "1M")
        wanted: dict[tuple[str, str], tuple[Any, ...]] = {("MINE", "1m"): ("syncing", None, None, None)}
        for frame in frames:
            oldest, newest = bucket(NOW - 30 * HOUR, frame), bucket(NOW - 3 * MINUTE, frame)
            wanted["WHOLE", frame] = ("completed", oldest, newest, None)
            wanted["FILLING", frame] = ("syncing", oldest, newest, None)
            wanted["LOST", frame] = ("error", oldest, newest, message)
            wanted["OLD", frame] = ("completed", oldest, newest, None)
            wanted["NEW", frame] = ("pending", None, None, None)
        wanted["WHOLE", "1h"] = ("completed", bucket(NOW - 300 * HOUR, "1h"), bucket(NOW - 3 * MINUTE, "1h"), None)
        wanted["THEIRS", "2h"] = ("syncing", bucket(NOW - 4 * HOUR, "1h"), bucket(NOW - 2 * HOUR, "1h"), None)
        assert await synced(db) == wanted

        # A new trade, a gap that is filled, a market that is there no longer; and what did not change is not written.
        await db.execute("UPDATE fks.sync_status SET updated_at = '2020-01-01'")
        await store_trade(db, "FILLING", NOW)
        await db.execute("UPDATE feed_gaps SET status = 'filled' WHERE symbol IN ('FILLING', 'NEW')")
        await rollups.refresh(db, await engines.detect(db))
        await db.execute("SELECT fks.note_sync()")
        for frame in frames:
            del wanted["NEW", frame]
            wanted["FILLING", frame] = ("completed", bucket(NOW - 30 * HOUR, frame), bucket(NOW, frame), None)
        assert await synced(db) == wanted
        changed = "SELECT array_agg(DISTINCT symbol) FROM fks.sync_status WHERE updated_at > '2020-01-01'"
        assert await db.fetchval(changed) == ["FILLING"]
        await upkeep.close(within_s=5)
        await db.close()


def stamp(at: datetime) -> str:
    return at.isoformat()


def event(event_type: str, second: float, **data: Any) -> Event:
    at = (T0 + timedelta(seconds=second)).isoformat()
    value = json.dumps({"event_type": event_type, "timestamp": at, "data": data})
    return read_event(event_type, value.encode(), [], T0 + timedelta(days=3))


def snapshot(second: float, exchange: str = "binance", **held: tuple[str, str]) -> Event:
    rows = [{"asset": asset, "available": row[0], "locked": row[1]} for asset, row in held.items()]
    return event("BALANCE_SNAPSHOT", second, exchange=exchange, balances=rows)


def completed(trade_id: str, second: float, pnl: str, symbol: str = "BTC/USDT", exchange: str = "binance") -> Event:
    said = {"trade_id": trade_id, "symbol": symbol, "exchange": exchange}
    return event("TRADE_COMPLETED", second, **said, entry_price="1", exit_price="1", pnl=pnl)


async def store(db: Database, *events: Event) -> None:
    for each in events:
        async with db.transaction():
            await store_events(db, [each])


async def history(db: Database) -> list[tuple[Any, ...]]:
    rows = await db.fetch(
        "SELECT accounts.exchange, time, balance, equity, margin_used, daily_pnl, cumulative_pnl"
        " FROM fks.balance_history JOIN fks.accounts ON accounts.id = account_id ORDER BY 1, 2"
    )
    return [tuple(row.values()) for row in rows]


DAY_S = 86400.0
STORY = [
    snapshot(0, USDT=("1000", "50.5")),
    completed("a", 10, "5"),
    completed("b", 20, "-7", symbol="ETH-BTC"),  # of another currency
    completed("c", 20, "11", exchange="kraken"),
    snapshot(30, USDT=("1100", "0"), BTC=("0", "0")),
    completed("d", DAY_S, "2.25", symbol="BTCUSDT"),  # a contract that `symbols` knows
    snapshot(DAY_S, USDT=("90", "10"), BTC=("1", "1"), ETH=("0", "0")),
    snapshot(DAY_S + 1, DOGE=("4", "0"), USDT=("1", "0")),
    snapshot(DAY_S + 2, BTC=("3", "0")),  # says nothing of the account's currency
    snapshot(7, exchange="kraken", USDT=("3", "0")),
    completed("a", 12, "99"),  # a later report of a trade counts for nothing
]


def by_hand() -> list[tuple[Any, ...]]:
    def row(exchange: str, second: float, *numbers: str | None) -> tuple[Any, ...]:
        return exchange, T0 + timedelta(seconds=second), *(None if n is None else Decimal(n) for n in numbers)

    return [
        row("binance", 0, "1050.5", "1050.5", "50.5", "0", "0"),
        row("binance", 30, "1100", "1100", "0", "5", "5"),
        row("binance", DAY_S, "100", "60100", "10", "2.25", "7.25"),  # and two coins at 30000
        row("binance", DAY_S + 1, "1", None, "0", "2.25", "7.25"),
        row("kraken", 7, "3", "3", "0", "0", "0"),
    ]


async def prepared(db: Database) -> None:
    await migrate(db, fks())
    await upsert_symbols(
        db,
        [
            MarketInfo("binance", "BTC/USDT", "BTCUSDT_SPOT", "BTC", "USDT", "spot", True),
            MarketInfo("binance", "BTC/USDT:USDT", "BTCUSDT", "BTC", "USDT", "swap", True, linear=True),
        ],
    )
    for number, (second, price) in enumerate([(DAY_S - 90, 30000), (DAY_S, 1), (-DAY_S, 7)]):
        await db.execute(
            "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
            " VALUES ($1, 'binance', 'BTC/USDT', $2, 1, 'buy', $3, 1, $1)",
            *(T0 + timedelta(seconds=second), str(number), Decimal(price)),
        )
    await rollups.refresh(db, await engines.detect(db))


class TestBalanceHistory:
    async def test_is_that_of_the_reports_in_any_order(self, db: Database) -> None:
        await prepared(db)
        draw = random.Random(11)
        for number in range(6):
            events = draw.sample(STORY, len(STORY)) if number else list(STORY)
            await store(db, *events, *draw.choices(STORY, k=4))
            assert await history(db) == by_hand(), [STORY.index(each) for each in events]
            await db.execute(
                "TRUNCATE balance_snapshots, balances, completed_trades, audit.trade_logs, fks.balance_history"
            )

    async def test_of_trades_that_are_stored_at_once(self, database: DatabaseForTest) -> None:
        first, second = await database.connect(), await database.connect()
        try:
            await prepared(first)
            trades = [completed(str(n), n, "1") for n in range(30)]
            reports = [snapshot(n + 0.5, USDT=(str(n), "0")) for n in range(30)]
            await asyncio.gather(store(first, *trades), store(second, *reports))
            assert [row[-1] for row in await history(first)] == [Decimal(n + 1) for n in range(30)]
        finally:
            await first.close()
            await second.close()

    async def test_what_was_there_before_counts(self, db: Database) -> None:
        """Before the pack, and before the account was known."""
        await store(db, *STORY)
        await prepared(db)
        await db.execute("UPDATE fks.accounts SET currency = 'EUR'")
        assert await history(db) == []
        await db.execute("UPDATE fks.accounts SET currency = 'USDT'")
        assert await history(db) == by_hand()

    async def test_events_mean_the_first_account_of_their_exchange(self, db: Database) -> None:
        await prepared(db)
        await db.execute(
            "INSERT INTO fks.accounts (id, name, currency) VALUES (70, 'mine', 'BTC'), (71, 'other', 'USDT')"
        )
        await db.execute(
            "INSERT INTO fks.balance_history (time, account_id, balance, equity) VALUES ($1, 71, 5, 5)", T0
        )
        await store(db, *STORY)
        rows = await db.fetch("SELECT account_id, balance FROM fks.balance_history ORDER BY account_id, time, balance")
        assert [tuple(row.values()) for row in rows if row["account_id"] >= 70] == [
            *((70, Decimal(n)) for n in (0, 2, 3)),
            (71, Decimal(5)),
        ]
        names = await db.fetch("SELECT name, exchange FROM fks.accounts WHERE id < 70")
        assert [tuple(row.values()) for row in names] == [("kraken", "kraken")]

    async def test_the_way_back_leaves_what_is_the_applications(self, db: Database) -> None:
        await prepared(db)
        await store(db, *STORY)
        await db.execute("SELECT fks.note_sync()")
        await db.execute(
            "INSERT INTO fks.balance_history (time, account_id, balance, equity)"
            " SELECT now(), min(id), 5, 5 FROM fks.accounts"
        )
        engine = await engines.detect(db)
        await packs.down(db, engine, "fks", 4, 5.0)
        assert await db.fetchval("SELECT array_agg(balance) FROM fks.balance_history") == [Decimal(5)]
        assert await db.fetchval("SELECT count(*) FROM fks.sync_status") == 0
        await store(db, snapshot(DAY_S + 9, USDT=("6", "0")))
        await migrate(db, fks())
        assert len(await history(db)) == 7
