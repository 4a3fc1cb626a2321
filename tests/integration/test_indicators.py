"""Indicators of stored trades, on both engines: the whole way from trades over candles to rows and caches."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog.testing

from ingestd.indicators.series import Candles
from ingestd.indicators.task import Indicators
from ingestd.ops.metrics import Metrics
from ingestd.storage import engine as engines
from ingestd.storage import indicator_rows, migrate, retention, rollups
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from ingestd.storage.indicator_rows import Value
from ingestd.venues.market_names import Names
from tests.support.indicators import expected
from tests.support.postgres import DatabaseForTest, default_config

MINUTES = 240
RULE = {"names": ["sma_5", "macd_3_6_3"], "timeframes": ["1m"], "symbols": ["*/USDT"]}
MACD_WINDOW = 8 + 62 + 30  # (5/7)^62 and (1/2)^30 are below 1e-9


def beginning() -> datetime:
    """Of the generated minutes, which end now."""
    return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=MINUTES)


def price_of(minute: int) -> float:
    return 100 + (minute * 7919 % 101) / 10 + minute / 50


class Market:
    """A market with a trade each minute, the task that computes its indicators, and what it showed."""

    def __init__(self, database: DatabaseForTest, *rules: dict[str, Any], **options: Any) -> None:
        self.database, self.start = database, beginning()
        self.prices = {minute: [price_of(minute)] for minute in range(MINUTES)}
        indicators = {"rules": list(rules or (RULE,)), "seed_weight": 1e-9, "history_candles": MINUTES}
        style = options.get("symbol_style", "unified")
        self.config = default_config(database={"dsn": database.dsn, "symbol_style": style}, indicators=indicators)
        self.shown: dict[str, tuple[str, int]] = {}
        self.now = self.start + timedelta(minutes=MINUTES, seconds=5)
        self.metrics = Metrics()
        self.tasks: list[Indicators] = []
        self.task = self.new_task()

    def new_task(self) -> Indicators:
        """The task of a daemon that has just been started."""
        access = DatabaseAccess(self.config)
        self.tasks.append(Indicators(self.config, access, lambda *_: True, self.metrics, self._show, lambda: self.now))
        return self.tasks[-1]

    def problem(self) -> str | None:
        return self.task.problem

    async def close(self, db: Database) -> None:
        for task in self.tasks:
            task.close()
        await db.close()

    def _show(self, exchange: str, symbol: str, name: str, value: str, time_us: int) -> None:
        assert (exchange, symbol) == ("binance", "BTC/USDT")
        self.shown[name] = (value, time_us)

    async def trade(self, db: Database, minutes: Iterable[int], prices: dict[int, float] | None = None) -> None:
        """Store a trade in the middle of each minute, and refresh the candles."""
        rows = []
        for minute in minutes:
            if prices is not None:
                self.prices[minute].append(prices[minute])
            second = 20 + len(self.prices[minute])
            rows.append((self.start + timedelta(minutes=minute, seconds=second), self.prices[minute][-1]))
        await db.execute(
            "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
            " SELECT time, 'binance', $3, time::text, 1, 'buy', price, 1, now()"
            " FROM unnest($1::timestamptz[], $2::float8[]) AS made (time, price)",
            [time for time, _ in rows],
            [price for _, price in rows],
            db.names.name("binance", "BTC/USDT"),
        )
        await rollups.refresh(db, await engines.detect(db))

    def candles(self) -> Candles:
        """The candles of what was stored, computed here."""
        made = [self.prices[minute] for minute in range(MINUTES)]
        times = [self.start + timedelta(minutes=minute) for minute in range(MINUTES)]
        return Candles(
            times,
            [prices[0] for prices in made],
            [max(prices) for prices in made],
            [min(prices) for prices in made],
            [prices[-1] for prices in made],
            [float(len(prices)) for prices in made],
        )

    def wanted(self) -> dict[str, list[float | None]]:
        """The values of every minute but the last, which has no later one."""
        candles = self.candles()
        macd = expected("macd", (3, 6, 3), candles)
        made = {"sma_5@1m": [row[0] for row in expected("sma", (5,), candles)]}
        for place, output in enumerate(("macd", "signal", "hist")):
            made[f"macd_3_6_3.{output}@1m"] = [
                row[place] if minute >= MACD_WINDOW - 1 else None for minute, row in enumerate(macd)
            ]
        return {name: values[:-1] for name, values in made.items()}


async def stored(db: Database) -> dict[str, list[float | None]]:
    rows = await db.fetch("SELECT indicator_name, value::float8 AS value FROM indicators_cache ORDER BY 1, time")
    found: dict[str, list[float | None]] = {}
    for row in rows:
        found.setdefault(row["indicator_name"], []).append(row["value"])
    return found


def same(found: dict[str, list[float | None]], wanted: dict[str, list[float | None]]) -> None:
    assert set(found) == set(wanted)
    for name, values in wanted.items():
        assert [value is None for value in found[name]] == [value is None for value in values], name
        numbers = [value for value in found[name] if value is not None]
        assert numbers == pytest.approx([value for value in values if value is not None], rel=1e-9, abs=1e-7), name


async def test_values_of_all_closed_candles_are_stored_and_the_newest_shown(database: DatabaseForTest) -> None:
    db, market = await database.connect(), Market(database)
    await market.trade(db, range(MINUTES))
    with structlog.testing.capture_logs() as logs:
        await market.task.turn()
    assert [line for line in logs if line["log_level"] != "debug"] == []
    wanted = market.wanted()
    same(await stored(db), wanted)
    last_us = int((market.start + timedelta(minutes=MINUTES - 2)).timestamp()) * 1_000_000
    assert {name: float(value) for name, (value, _) in market.shown.items()} == pytest.approx(
        {name: values[-1] for name, values in wanted.items()}, abs=1e-7
    )
    assert {time_us for _, time_us in market.shown.values()} == {last_us}
    metadata = await db.fetch(
        "SELECT DISTINCT indicator_metadata->>'window' AS window, timeframe, exchange, symbol FROM indicators_cache"
        " WHERE indicator_name LIKE 'macd%'"
    )
    assert [tuple(row.values()) for row in metadata] == [(str(MACD_WINDOW), "1m", "binance", "BTC/USDT")]
    market.now += timedelta(minutes=1)  # nobody trades any more: the last minute is closed all the same
    await market.task.turn()
    assert len((await stored(db))["sma_5@1m"]) == MINUTES
    await market.close(db)


async def test_a_late_trade_changes_the_values_whose_windows_hold_it(database: DatabaseForTest) -> None:
    db, market = await database.connect(), Market(database)
    await market.trade(db, range(MINUTES))
    await market.task.turn()
    await db.execute("UPDATE indicators_cache SET created_at = '2026-01-01'")
    late = MINUTES - 30
    await market.trade(db, [late], {late: 250.0})
    market.now += timedelta(seconds=20)
    await market.task.turn()
    same(await stored(db), market.wanted())
    changed = await db.fetch(
        "SELECT time FROM indicators_cache WHERE indicator_name = 'sma_5@1m' AND created_at > '2026-01-01' ORDER BY 1"
    )
    assert [row["time"] for row in changed] == [market.start + timedelta(minutes=late + number) for number in range(5)]
    await market.close(db)


async def test_what_a_backfill_changed_long_ago_is_computed_again(database: DatabaseForTest) -> None:
    """The change is older than what is checked after each candle; the mark says where it is."""
    db, market = await database.connect(), Market(database)
    hole = range(20, 40)
    await market.trade(db, [minute for minute in range(MINUTES) if minute not in hole])
    await market.task.turn()
    assert len((await stored(db))["sma_5@1m"]) == MINUTES - 1 - len(hole)
    await market.trade(db, hole)
    market.now += timedelta(seconds=20)
    await market.task.turn()
    assert len((await stored(db))["sma_5@1m"]) == MINUTES - 1 - len(hole), "nobody has said it yet"
    first, last = (market.start + timedelta(minutes=minute) for minute in (hole[0], hole[-1]))
    await indicator_rows.mark(db, "binance", "BTC/USDT", first, last)
    another = market.new_task()
    market.shown.clear()
    await another.turn()
    same(await stored(db), market.wanted())
    assert await db.fetchval("SELECT count(*) FROM indicator_marks") == 1, "it is looked at once more, in an hour"
    await db.execute("UPDATE indicator_marks SET marked_at = now() - interval '2 hours'")
    await market.new_task().turn()
    assert await db.fetchval("SELECT count(*) FROM indicator_marks") == 0
    await market.close(db)


async def test_a_repair_of_a_long_past_ends_at_what_the_change_can_reach(
    postgres_database: DatabaseForTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts of a few candles, with a history that is not computed at the start."""
    monkeypatch.setattr("ingestd.indicators.repair.CANDLES_A_STEP", 7)
    db = await postgres_database.connect()
    market = Market(postgres_database, {"names": ["sma_5"], "timeframes": ["1m"]})
    short = market.config.indicators.model_copy(update={"history_candles": 3})
    market.config = market.config.model_copy(update={"indicators": short})
    await market.trade(db, range(MINUTES))
    await indicator_rows.mark(db, "binance", "BTC/USDT", *(market.start + timedelta(minutes=m) for m in (50, 70)))
    await market.new_task().turn()
    rows = await db.fetch("SELECT time, value::float8 AS value FROM indicators_cache ORDER BY time")
    minutes = [round((row["time"] - market.start).total_seconds() / 60) for row in rows]
    values = market.wanted()["sma_5@1m"]
    assert [row["value"] for row in rows] == pytest.approx([values[minute] for minute in minutes])
    assert minutes[-3:] == [MINUTES - 4, MINUTES - 3, MINUTES - 2]
    repaired = minutes[:-3]
    assert repaired == list(range(50, 50 + len(repaired)))
    assert 74 <= repaired[-1] < 74 + 2 * 7
    await market.close(db)


async def test_symbols_are_stored_in_the_style_of_the_database(postgres_database: DatabaseForTest) -> None:
    market = Market(postgres_database, symbol_style="compact")
    db = await postgres_database.connect(names=Names("compact"))
    await db.execute("UPDATE ingestd_settings SET value = 'compact' WHERE name = 'symbol_style'")
    await market.trade(db, range(MINUTES))
    await indicator_rows.mark(db, "binance", "BTC/USDT", market.start, market.start)
    await market.task.turn()
    same(await stored(db), market.wanted())
    for table in ("indicators_cache", "indicator_marks"):
        assert await db.fetchval(f"SELECT DISTINCT symbol FROM {table}") == "BTCUSDT"
    assert set(market.shown) == set(market.wanted())
    await market.close(db)


async def test_a_number_is_not_replaced_by_null(database: DatabaseForTest) -> None:
    db = await database.connect()
    at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    series = ("binance", "BTC/USDT", "1h")

    def row(value: Any) -> Value:
        return Value(at, "sma_5@1h", value, 5, 5)

    changed = [await indicator_rows.store(db, *series, [row(value)]) for value in (None, 1, 1, None, 2)]
    assert changed == [1, 1, 0, 0, 1]
    if database.engine == "timescaledb":
        assert await db.fetch("SELECT compress_chunk(chunk) FROM show_chunks('indicators_cache') AS chunk")
        assert await indicator_rows.store(db, *series, [row(3)]) == 1
        assert await indicator_rows.store(db, *series, [row(3)]) == 0
    await db.close()


async def test_values_expire_with_their_candles(database: DatabaseForTest) -> None:
    db = await database.connect()
    now = datetime.now(UTC)
    for timeframe, days in {"1m": 3, "1h": 40, "1d": 40, "1M": 400}.items():
        for age in (days, 1):
            at = now - timedelta(days=age)
            await indicator_rows.store(db, "x", "A/B", timeframe, [Value(at, f"sma_5@{timeframe}", None, 5, 1)])
    await indicator_rows.mark(db, "x", "A/B", now, now)
    await db.execute("UPDATE indicator_marks SET marked_at = now() - interval '8 days'")
    kept_for = {"candles_1m_days": 2, "candles_1h_days": 30, "candles_1d_days": 0, "candles_1month_days": 500}
    deleted = await retention.purge(db, await engines.detect(db), default_config(retention=kept_for))
    assert deleted == {"indicators_cache": 2, "indicator_marks": 1}
    kept = await db.fetch("SELECT timeframe, count(*) AS rows FROM indicators_cache GROUP BY 1 ORDER BY 1")
    assert {row["timeframe"]: row["rows"] for row in kept} == {"1M": 2, "1d": 2, "1h": 1, "1m": 1}
    await db.close()


async def test_too_few_candles_are_null_and_said_once(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    market = Market(postgres_database, {"names": ["sma_300"], "timeframes": ["1m"]})
    await market.trade(db, range(MINUTES))
    with structlog.testing.capture_logs() as logs:
        await market.task.turn()
        market.now += timedelta(minutes=1)
        await market.task.turn()
    said = [line for line in logs if line["event"] == "indicator_is_null"]
    assert [(line["name"], line["candles"], line["needed"]) for line in said] == [("sma_300@1m", MINUTES - 1, 300)]
    assert set((await stored(db))["sma_300@1m"]) == {None}
    assert market.shown == {}
    newest = await db.fetchval("SELECT indicator_metadata::text FROM indicators_cache ORDER BY time DESC LIMIT 1")
    assert newest == f'{{"window": 300, "candles": {MINUTES}}}'
    await market.close(db)


async def test_what_fails_is_said_and_does_not_stop_the_rest(postgres_database: DatabaseForTest) -> None:
    db = await postgres_database.connect()
    market = Market(postgres_database, {"names": ["sma_5"], "timeframes": ["1m", "5m"]})
    await market.trade(db, range(MINUTES))
    await db.execute("ALTER TABLE candles_5m RENAME TO candles_away")
    await market.task.turn()
    assert market.problem() is None, "one failure may be a lock that was held"
    market.now += timedelta(minutes=5)
    await market.task.turn()
    assert '(5m, 2 failures in a row): relation "candles_5m" does not exist' in (market.problem() or "")
    assert market.metrics.totals(market.metrics.upkeep_failures, "step") == {"indicators": 2}
    assert set(await stored(db)) == {"sma_5@1m"}
    await db.execute("ALTER TABLE candles_away RENAME TO candles_5m")
    market.now += timedelta(minutes=5)
    await market.task.turn()
    assert market.problem() is None
    assert set(await stored(db)) == {"sma_5@1m", "sma_5@5m"}
    await market.close(db)


async def test_the_tables_come_and_go_with_their_migration(database: DatabaseForTest) -> None:
    db = await database.connect()
    await migrate.down(db, 17)
    assert await db.fetchval("SELECT to_regclass('indicators_cache')") is None
    await migrate.migrate(db, default_config())
    assert await db.fetchval("SELECT count(*) FROM indicators_cache") == 0
    await db.close()
