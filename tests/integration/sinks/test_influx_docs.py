"""docs/influx.md: its tables name what is there, and its queries give what is computed beside them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import fmean

import pytest

from ingestd.clock import now_us, to_datetime
from ingestd.config.indicators import IndicatorsConfig
from ingestd.events.messages import Event
from ingestd.events.tables import store_events
from ingestd.records import Candle, Record
from ingestd.sinks.influx import delivery, lines, points
from ingestd.sinks.influx.indicators import IndicatorValues
from ingestd.sinks.influx.options import InfluxConfig
from ingestd.storage import indicator_rows, trade_log
from ingestd.storage.database import Database
from ingestd.storage.indicator_rows import Value
from ingestd.venues.market_names import Names
from tests.support.influx_reports import event, reading, running, trade_events
from tests.support.influx_rig import InfluxRig, influx_rig
from tests.support.influx_servers import Influx1, QuestDb, questdb_tables
from tests.support.line_protocol import read_line
from tests.support.postgres import DatabaseForTest
from tests.support.records import NOW_US, tick, trade

PAGE = (Path(__file__).parents[3] / "docs" / "influx.md").read_text(encoding="utf-8")
MINUTE_US = 60 * 10**6
HOUR_US = 60 * MINUTE_US


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def row_of(name: str) -> str:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | `")]
    return row


def test_every_measurement_is_described_as_it_is_written() -> None:
    marked = trade(1, kind="rpi", in_candles=False, unit="base")
    written = {
        "candle": f"candle,x=y {lines.candle_fields(candle(0, '1'))} 0",
        "trade": f"trade,x=y {lines.trade_fields(marked)} 0",
        "tick": f"tick,x=y {lines.tick_fields(tick(1))} 0",
    }
    for name, line in written.items():
        assert [field for field in read_line(line).fields if f"`{field}`" not in row_of(name)] == []


def test_every_reason_is_explained() -> None:
    source = "".join(Path(str(module.__file__)).read_text() for module in (lines, points, delivery))
    reasons = set(re.findall(r'Unwritable\("(\w+)"', source))
    reasons |= set(re.findall(r'^    "(\w+)": re\.compile', source, re.MULTILINE))
    assert reasons >= {"text", "number", "time", "timeframe", "field_type", "older_than_retention", "unreadable"}
    for reason in {*reasons, "too_large", "unknown_market", points.SAME_NANOSECOND}:
        assert f"`influx_{reason}`" in PAGE


def test_the_example_is_the_default() -> None:
    (toml,) = blocks("toml")
    assert f'bucket = "{InfluxConfig().bucket}"' in toml
    assert f'url = "{InfluxConfig().url}"' in toml


def candle(opens_us: int, volume: str, symbol: str = "BTC/USDT", timeframe: str = "1m") -> Candle:
    return Candle("binance", symbol, opens_us, opens_us, timeframe, "1", "2", "0.5", "1.5", volume)


def two_days(now: int) -> list[Candle]:
    """A candle every ten minutes, the first of which has not ended; another interval, which is not asked for. None ends
    within minutes of what the queries ask for, so that it does not matter how long a test takes."""
    opens = now - now % MINUTE_US + 5 * MINUTE_US
    made = []
    for number in range(290):
        opens_us = opens - number * 10 * MINUTE_US
        made.append(candle(opens_us, f"{number}.25"))
        made.append(candle(opens_us, f"{number * 3}.5", "ETH/USDT"))
        made.append(candle(opens_us, "1000000", timeframe="1h"))
    return made


def expected_means(candles: Sequence[Candle], now: int) -> dict[str, float]:
    """By symbol, the average of the one-minute candles that ended within the last day."""
    volumes = defaultdict(list)
    for each in candles:
        if each.timeframe == "1m" and now - 24 * HOUR_US <= each.time + MINUTE_US < now:
            volumes[each.symbol].append(float(each.volume))
    return {symbol: fmean(of) for symbol, of in volumes.items()}


async def test_the_average_volume_in_influxql(influx1: Influx1, tmp_path: Path) -> None:
    bucket = influx1.database("DURATION 30d")
    now = now_us()
    candles = two_days(now)
    async with influx_rig(tmp_path, bucket.config()) as rig:
        await rig.journal.append(list(candles))
    rows = bucket.query(blocks("influxql")[0])
    found = {row["symbol"].replace("-", "/"): row["mean"] for row in rows}
    assert found == pytest.approx(expected_means(candles, now))


@pytest.fixture
def tables(questdb: QuestDb) -> QuestDb:
    """QuestDB with the tables of the page."""
    for statement in questdb_tables():
        questdb.query(statement)
    return questdb


async def test_the_average_volume_in_questdb(tables: QuestDb, tmp_path: Path) -> None:
    now = now_us()
    candles = two_days(now)
    async with influx_rig(tmp_path, tables.config(candle_interval="all")) as rig:
        await rig.journal.append(list(candles))
    rows = tables.query(blocks("questdb")[1])
    found = {row["symbol"].replace("-", "/"): row["mean"] for row in rows if row["interval"] == "1m"}
    assert found == pytest.approx(expected_means(candles, now))
    assert {row["mean"] for row in rows if row["interval"] == "1h"} == {1_000_000}


async def test_questdb_s_tables_keep_every_trade_and_tick_once(tables: QuestDb, tmp_path: Path) -> None:
    """Also those of one microsecond, and if all of it is sent again."""
    records: list[Record] = [trade(number, time=NOW_US) for number in range(500)]
    records += [tick(number) for number in range(100)]
    config = tables.config(trades=True, ticks=True)
    first = InfluxRig(tmp_path, config)
    first.journal.cursor("slow")
    await first.journal.append(records)
    await first.drain()
    (tmp_path / "influx.cursor").unlink()
    await InfluxRig(tmp_path, config).drain()
    found = tables.query("SELECT trade_id, price, in_candles, kind FROM trade ORDER BY timestamp")
    assert [row["trade_id"] for row in found] == [str(number) for number in range(500)]
    assert found[0] == {"trade_id": "0", "price": 64000.1, "in_candles": True, "kind": None}
    assert len(tables.query("SELECT * FROM tick")) == 100


async def test_a_point_that_questdb_refuses_costs_no_other(questdb: QuestDb, tmp_path: Path) -> None:
    """It stores nothing of a request that has one."""
    questdb.query(
        "CREATE TABLE trade (timestamp TIMESTAMP_NS, symbol SYMBOL, kind DOUBLE)"
        " TIMESTAMP(timestamp) PARTITION BY DAY WAL"
    )
    records: list[Record] = [trade(number, kind="rpi" if number == 7 else None) for number in range(20)]
    async with influx_rig(tmp_path, questdb.config(trades=True)) as rig:
        await rig.journal.append(records)
        await rig.until(lambda: rig.cursor.pending_records == 0)
        assert rig.metrics.totals(rig.metrics.rejected, "reason") == {"influx_field_type": 1}
    found = {row["trade_id"] for row in questdb.query("SELECT trade_id FROM trade")}
    assert found == {str(number) for number in range(20)} - {"7"}


async def test_the_average_volume_in_sql(db: Database) -> None:
    now = now_us()
    candles = two_days(now)
    columns = ("time", "symbol", "timeframe", "volume")
    values = [(to_datetime(each.time), each.symbol, each.timeframe, Decimal(each.volume)) for each in candles]
    await db.execute(
        f"INSERT INTO ohlcv_data ({', '.join(columns)}, exchange, open, high, low, close)"
        " SELECT *, 'binance', 1, 2, 0.5, 1.5 FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::numeric[])",
        *map(list, zip(*values, strict=True)),
    )
    rows = await db.fetch(blocks("sql")[3])
    assert {row["symbol"]: float(row["mean"]) for row in rows} == pytest.approx(expected_means(candles, now))


def closed_trades(now: int) -> list[tuple[int, str, Decimal]]:
    """When, which symbol, and with what result positions were closed, over ten days."""
    symbols = ("BTC/USDT", "ETH/USDT")
    return [
        (now - number * 37 * MINUTE_US - 1, symbols[number % 3 == 0], Decimal(number % 7 - 3) / 4)
        for number in range(400)
    ]


def expected_sums(trades: Sequence[tuple[int, str, Decimal]], now: int) -> dict[tuple[int, str], float]:
    """By the hour's beginning and the symbol, over the last week."""
    sums: dict[tuple[int, str], float] = defaultdict(float)
    for at_us, symbol, pnl in trades:
        if now - 7 * 24 * HOUR_US <= at_us < now:
            sums[at_us - at_us % HOUR_US, symbol] += float(pnl)
    return dict(sums)


async def closed_in(database: DatabaseForTest, config: InfluxConfig, state_dir: Path) -> list[tuple[int, str, Decimal]]:
    """Report the closed trades, and an execution, as trading programs do; their points are in the server then."""
    trades, db = closed_trades(now_us()), await database.connect()
    events: list[Event] = [
        event(
            "TRADE_COMPLETED",
            to_datetime(at_us),
            trade_id=str(number),
            symbol=symbol,
            pnl=str(pnl),
            entry_price="1",
            exit_price="1",
        )
        for number, (at_us, symbol, pnl) in enumerate(trades)
    ]
    executed = {"order_id": "x", "symbol": "BTC/USDT", "executed_price": "1", "executed_quantity": "1"}
    events.append(event("ORDER_EXECUTED", datetime.now(UTC), **executed))
    async with db.transaction():
        await store_events(db, events, "binance")
    async with running(trade_events(database, default_exchange="binance"), config, state_dir) as run:
        await run.until(lambda: run.outcomes().get("stored") == len(events))
    await db.close()
    return trades


async def test_the_result_by_the_hour_in_influxql(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    bucket = influx1.database("DURATION 30d")
    trades = await closed_in(postgres_database, bucket.config(), tmp_path)
    rows = bucket.query(blocks("influxql")[1])
    found = {
        (row["time"] // 1000, row["product"].replace("-", "/")): row["sum"] for row in rows if row["sum"] is not None
    }
    now = now_us()
    assert found == pytest.approx(expected_sums(trades, now))
    assert max(row["time"] for row in rows) // 1000 <= now


async def test_the_result_by_the_hour_in_questdb(
    postgres_database: DatabaseForTest, tables: QuestDb, tmp_path: Path
) -> None:
    trades = await closed_in(postgres_database, tables.config(), tmp_path)
    rows = tables.query(blocks("questdb")[2])
    found = {
        (us_of(row["hour"]), row["product"].replace("-", "/")): row["sum"] for row in rows if row["sum"] is not None
    }
    assert found == pytest.approx(expected_sums(trades, now_us()))


async def test_what_the_page_says_sends_all_again(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    """Events older than thirty days, and values that nothing has noted."""
    bucket, db = influx1.database(), await postgres_database.connect()
    said = {"trade_id": "1", "symbol": "BTC-USD", "entry_price": "1", "exit_price": "1", "pnl": "1"}
    async with db.transaction():
        await store_events(db, [event("TRADE_COMPLETED", datetime.now(UTC) - timedelta(days=90), **said)])
    rows = [
        Value(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour), "rsi_14@1h", Decimal(hour), 9, 9)
        for hour in range(9)
    ]
    await indicator_rows.store(db, "binance", "BTC/USDT", "1h", rows)
    rules = {"rules": [{"names": ["rsi_14"], "timeframes": ["1h"], "symbols": ["*"]}]}
    source = IndicatorValues(
        reading(postgres_database), IndicatorsConfig.model_validate(rules), lambda *_: True, Names("dash"), count=5
    )
    async with (
        running(trade_events(postgres_database), bucket.config(), tmp_path) as events,
        running(source, bucket.config(), tmp_path) as values,
    ):
        await events.until(lambda: events.report.status().up and values.report.status().up)
        for source_of in ("test", "another"):  # a daemon's is made at its first turn
            await trade_log.position(db, f"influx:{source_of}")
        for statement in (*blocks("sql")[1:3], blocks("sql")[2]):
            await db.execute(statement)
        await events.until(lambda: events.outcomes().get("stored") == 1)
        await values.until(lambda: values.outcomes().get("stored", 0) >= 9)
    assert bucket.values("trade_event", "pnl") == [1]
    assert bucket.values("indicator", "value") == list(range(9))
    await db.close()


def us_of(iso: str) -> int:
    return int(datetime.fromisoformat(iso).timestamp()) * 10**6


async def test_the_result_by_the_hour_in_sql(db: Database) -> None:
    now = now_us()
    trades = closed_trades(now)
    values = [(str(number), symbol, pnl, to_datetime(at_us)) for number, (at_us, symbol, pnl) in enumerate(trades)]
    await db.execute(
        "INSERT INTO completed_trades"
        " (trade_id, symbol, pnl, completed_at, exchange, entry_price, exit_price, event_id)"
        " SELECT *, 'binance', 1, 1, gen_random_uuid()"
        " FROM unnest($1::text[], $2::text[], $3::numeric[], $4::timestamptz[])",
        *map(list, zip(*values, strict=True)),
    )
    rows = await db.fetch(blocks("sql")[4])
    found = {(int(row["hour"].timestamp()) * 10**6, row["symbol"]): float(row["sum"]) for row in rows}
    assert found == pytest.approx(expected_sums(trades, now))


def test_the_flux_is_said_not_to_be_run() -> None:
    assert len(blocks("flux")) == len(blocks("influxql")) == len(blocks("questdb")[1:]) == 2
    assert "Flux was not run" in PAGE.replace("\n", " ")
