"""What is in no journal, on real servers: events, indicators and metrics as points, each once whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.clock import now_us
from ingestd.config.indicators import IndicatorsConfig
from ingestd.events.messages import Event
from ingestd.events.tables import store_events
from ingestd.sinks.influx.indicators import IndicatorValues
from ingestd.sinks.influx.own_metrics import OwnMetrics
from ingestd.sinks.influx.points import Told, flush_of
from ingestd.sinks.influx.refused import FILE_NAME
from ingestd.sinks.influx.server import InfluxServer
from ingestd.status import MarketInfo
from ingestd.storage import indicator_rows, trade_log
from ingestd.storage.database import Database
from ingestd.storage.indicator_rows import Value
from ingestd.storage.symbols import upsert_symbols
from ingestd.venues.market_names import Names
from tests.support.influx_reports import event, reading, running, trade_events
from tests.support.influx_servers import Bucket, Influx1, QuestDb, questdb_tables
from tests.support.postgres import DatabaseForTest
from tests.support.time_limits import limit_s

AT = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
AT_NS = int(AT.timestamp()) * 10**9
ALL = 'SELECT * FROM "{}" GROUP BY *'
ORDER = {"order_id": "o 1", "symbol": "BTC-USD"}


async def store(db: Database, *events: Event) -> None:
    async with db.transaction():
        await store_events(db, events, "kraken")


def rows_of(bucket: Bucket, measurement: str = "trade_event") -> list[dict[str, Any]]:
    """Every point, without the fields that it lacks, by time."""
    rows = bucket.query(ALL.format(measurement))
    return sorted(
        ({name: value for name, value in row.items() if value not in (None, "")} for row in rows),
        key=lambda row: (row["time"], str(row)),
    )


def a_day() -> list[Event]:
    """One event of each kind; the two executions in one microsecond, and alike but for their digits."""
    filled: dict[str, Any] = {**ORDER, "executed_price": 50000.5, "executed_quantity": "0.25"}
    return [
        event("ORDER_SUBMITTED", AT, **ORDER, side="LONG", quantity="0.5", price="50000", order_type="LIMIT"),
        event("ORDER_EXECUTED", AT + timedelta(seconds=1), **filled, fee="0.1", fee_currency="BNB"),
        event("ORDER_EXECUTED", AT + timedelta(seconds=1), **{**filled, "executed_price": "50000.50"}, event_id="2"),
        event("ORDER_REJECTED", AT + timedelta(seconds=2), order_id="o2", symbol="BTC-USD", reason="no funds"),
        event("ORDER_CANCELLED", AT + timedelta(seconds=3), order_id="o3", symbol="BTC-USD", status="EXPIRED"),
        event(
            "TRADE_COMPLETED", AT + timedelta(seconds=4), trade_id="t1", symbol="BTC-USD", exchange="binance",
            entry_price="1", exit_price="2", quantity="3", pnl="-3.5", side="sell", fee="0.2", duration=240,
        ),
    ]  # fmt: skip


def event_point(second: int, event_type: str, status: str, **said: Any) -> dict[str, Any]:
    tags = {"event_type": event_type, "status": status, "exchange": "kraken", "product": "BTC-USD"}
    return {"second": second, **tags, **said}


async def test_every_event_is_a_point(postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path) -> None:
    bucket, db = influx1.database("DURATION 30d"), await postgres_database.connect()
    await store(db, *a_day())
    source = trade_events(postgres_database, default_exchange="kraken")
    async with running(source, bucket.config(), tmp_path) as run:
        await run.until(lambda: run.outcomes().get("stored") == 6)
    rows = rows_of(bucket)
    ids = {str(row["id"]) for row in await db.fetch("SELECT id FROM audit.trade_logs")}
    assert {row.pop("event_id") for row in rows} == ids
    times = [row.pop("time") for row in rows]
    assert len(set(times)) == 6
    seconds = [(time - AT_NS) // 10**9 for time in times]
    assert all(time % 10**9 < 1000 for time in times)
    filled = {"order_id": "o 1", "price": 50000.5, "size": 0.25}
    expected = [
        event_point(0, "order_submitted", "pending", order_id="o 1", side="buy", price=50000, size=0.5),
        event_point(1, "order_executed", "filled", **filled, fee=0.1, fee_currency="BNB"),
        event_point(1, "order_executed", "filled", **filled),
        event_point(2, "order_rejected", "rejected", order_id="o2"),
        event_point(3, "order_cancelled", "expired", order_id="o3"),
        event_point(4, "position_closed", "filled", exchange="binance", side="sell", price=2, size=3, pnl=-3.5,
                    fee=0.2, duration=240),
    ]  # fmt: skip
    found = [{"second": second, **row} for second, row in zip(seconds, rows, strict=True)]
    assert sorted(map(str, map(sorted, map(dict.items, found)))) == sorted(str(sorted(row.items())) for row in expected)
    await db.close()


async def test_events_sent_again_change_nothing_though_more_is_known(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    """An execution came before its order, whose side and exchange the log has by now."""
    bucket, db = influx1.database(), await postgres_database.connect()
    market = MarketInfo("kraken", "BTC/USD", "XXBTZUSD", "BTC", "USD", "spot", True)
    await upsert_symbols(db, [market])
    executed = {"order_id": "o", "executed_price": "1", "executed_quantity": "1", "symbol": "XXBTZUSD"}
    await store(db, event("ORDER_EXECUTED", AT, **executed), event("ORDER_EXECUTED", AT, **executed, event_id="2"))
    async with running(trade_events(postgres_database, default_exchange="kraken"), bucket.config(), tmp_path) as run:
        await run.until(lambda: run.outcomes().get("stored") == 2)
    before = rows_of(bucket)
    assert {row["product"] for row in before} == {"BTC-USD"}, "the market's name in the style of the section"
    await store(
        db, event("ORDER_SUBMITTED", AT, order_id="o", symbol="BTC-USD", exchange="gemini", side="sell", quantity="2")
    )
    assert await db.fetchval("SELECT count(*) FROM audit.trade_logs WHERE action = 'ORDER_SELL'") == 3
    await db.execute("UPDATE ingest_positions SET position = 0 WHERE source = 'influx:test'")
    async with running(trade_events(postgres_database, default_exchange="kraken"), bucket.config(), tmp_path) as run:
        await run.until(lambda: run.outcomes().get("stored") == 3)
    assert [row for row in rows_of(bucket) if row["event_type"] == "order_executed"] == before
    await db.close()


async def test_the_first_start_begins_thirty_days_back(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    """What is older is sent if a person asks for it, and put aside if the server does not keep it."""
    bucket, db = influx1.database("DURATION 30d"), await postgres_database.connect()
    old = [trade(number, AT - timedelta(days=40)) for number in range(3)]
    await store(db, *old)
    await store(db, trade(3, AT))
    async with running(trade_events(postgres_database), bucket.config(), tmp_path) as run:
        await run.until(lambda: run.outcomes().get("stored"))
        assert run.outcomes() == {"stored": 1}
        await db.execute("UPDATE ingest_positions SET position = 0 WHERE source = 'influx:test'")
        await run.until(lambda: run.outcomes().get("stored") == 2)
        assert run.outcomes() == {"stored": 2, "influx_older_than_retention": 3}
        assert "beyond retention policy" in (run.report.status().problem or "")
    assert [row["pnl"] for row in rows_of(bucket)] == [3]
    refused = [json.loads(line) for line in (tmp_path / FILE_NAME).read_text().splitlines()]
    assert {(line["channel"], line["reason"]) for line in refused} == {("trade_event", "influx_older_than_retention")}
    assert sorted(line["record"]["numbers"]["pnl"] for line in refused) == ["0", "1", "2"]
    await db.close()


def trade(number: int, at: datetime = AT, symbol: str = "BTC-USD", **more: Any) -> Event:
    said = {"trade_id": str(number), "symbol": symbol, "entry_price": "1", "exit_price": "1", "pnl": str(number)}
    return event("TRADE_COMPLETED", at, **said, **more)


async def test_kills_lose_and_double_no_event(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    """Cut anywhere while two programs store; all of one microsecond and series."""
    bucket, dice = influx1.database(), random.Random(now_us())
    writers = [await postgres_database.connect(call_timeout_s=60) for _ in range(2)]

    async def write(db: Database, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), 5):
            await store(db, *[trade(number) for number in numbers[start : start + 5]])

    async def all_written() -> None:
        await asyncio.gather(*(write(db, range(first, 400, 2)) for first, db in enumerate(writers)))

    writing = asyncio.create_task(all_written())
    for _ in range(8):
        async with running(trade_events(postgres_database, count=7), bucket.config(), tmp_path) as run:
            await run.until(lambda: run.outcomes().get("stored", 0) >= 7 or writing.done())
            await asyncio.sleep(dice.random() / 20)
            await run.crash()
    await writing
    async with running(trade_events(postgres_database, count=50), bucket.config(), tmp_path):
        pass
    # The last turn sends one portion; the rest is a new start's.
    async with running(trade_events(postgres_database), bucket.config(), tmp_path):
        pass
    assert sorted(row["pnl"] for row in rows_of(bucket)) == list(range(400))
    assert not (tmp_path / FILE_NAME).exists()
    for db in writers:
        await db.close()


async def test_rows_can_be_seen_in_the_order_of_their_numbers(postgres_database: DatabaseForTest) -> None:
    """Otherwise a reader would pass one that is committed later."""
    slow, fast, reader = [await postgres_database.connect() for _ in range(3)]
    position = await trade_log.position(reader, "a reader")
    async with slow.transaction():
        await store_events(slow, [trade(1)])
        storing = asyncio.create_task(store(fast, trade(2)))
        await asyncio.wait({storing}, timeout=0.3)
        assert [row["seq"] for row in await trade_log.rows_after(reader, position, None, 9)] == []
        assert not storing.done()
    await storing
    found = await trade_log.rows_after(reader, position, None, 9)
    assert [json.loads(row["metadata"])["trade_id"] for row in found] == ["1", "2"]
    for db in (slow, fast, reader):
        await db.close()


async def test_a_server_that_hangs_holds_up_no_stop(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    db = await postgres_database.connect()
    with Influx1() as server:
        bucket = server.database()
        config = bucket.config(request_timeout_s=60, connect_timeout_s=60)
        async with running(trade_events(postgres_database), config, tmp_path) as run:
            await run.until(lambda: run.report.status().up)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGSTOP)
            try:
                await store(db, trade(1))
                await asyncio.sleep(1.5)  # a turn has begun
                async with asyncio.timeout(limit_s(10)):
                    run.report.finish()
                    await run.task
            finally:
                os.kill(server.pid, signal.SIGCONT)
            assert run.outcomes().get("stored", 0) == 0
        async with running(trade_events(postgres_database), config, tmp_path) as run:
            await run.until(lambda: run.outcomes().get("stored") == 1)
        assert [row["pnl"] for row in rows_of(bucket)] == [1]
    await db.close()


async def test_a_thousand_events_of_one_microsecond_are_a_thousand_and_no_more(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    bucket, db = influx1.database(), await postgres_database.connect()
    await store(db, *[trade(number) for number in range(1003)])
    async with running(trade_events(postgres_database, count=300), bucket.config(), tmp_path) as run:
        await run.until(lambda: sum(run.outcomes().values()) == 1003)
        assert run.outcomes() == {"stored": 1000, "influx_same_nanosecond": 3}
    assert len(rows_of(bucket)) == 1000
    await db.close()


async def test_rows_that_other_programs_insert_are_sent_too(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    """As the log's document prints it: BUY and SELL, and metadata of any form."""
    bucket, db = influx1.database(), await postgres_database.connect()
    for metadata in (None, "[1]", '{"fee": "free", "duration": true}'):
        await db.execute(
            "INSERT INTO audit.trade_logs (id, timestamp, exchange, symbol, action, quantity, price, status, order_id,"
            " metadata) VALUES (gen_random_uuid(), $1, 'gemini', 'BTC-USD', 'BUY', 1e70, 2, 'filled', 'x', $2::jsonb)",
            AT,
            metadata,
        )
    async with running(trade_events(postgres_database, default_exchange="kraken"), bucket.config(), tmp_path) as run:
        await run.until(lambda: run.outcomes().get("stored") == 3)
    for row in rows_of(bucket):
        assert row["event_type"] == "order_executed"
        assert (row["exchange"], row["side"], row["size"]) == ("gemini", "buy", 1e70)
        assert row.keys().isdisjoint({"fee", "duration"})
    await db.close()


MINUTE = timedelta(minutes=1)
RULES = IndicatorsConfig.model_validate(
    {"rules": [{"names": ["sma_5", "macd_12_26_9"], "timeframes": ["1m"], "symbols": ["*/USDT"]}]}
)
NAMES = ["sma_5@1m", "macd_12_26_9.macd@1m", "macd_12_26_9.signal@1m", "macd_12_26_9.hist@1m"]


def values(database: DatabaseForTest, count: int = 1000, holds: bool = True) -> IndicatorValues:
    return IndicatorValues(reading(database), RULES, lambda *_: holds, Names("dash"), count=count)


async def note(db: Database, minutes: Sequence[int], shift: int = 0, symbol: str = "BTC/USDT") -> None:
    """Store a value of each indicator and minute, as the task of indicators does."""
    rows = [
        Value(AT + minute * MINUTE, name, Decimal(minute + place + shift), 5, 5)
        for minute in minutes
        for place, name in enumerate(NAMES)
    ]
    await indicator_rows.store(db, "binance", symbol, "1m", rows, notes_changes=True)


def indicator_points(minutes: Sequence[int], shift: int = 0) -> list[tuple[int, str, float]]:
    """By the ends of their candles."""
    return sorted(
        (AT_NS + (minute + 1) * 60 * 10**9, name, float(minute + place + shift))
        for minute in minutes
        for place, name in enumerate(NAMES)
    )


def found_indicators(bucket: Bucket) -> list[tuple[int, str, float]]:
    rows = rows_of(bucket, "indicator")
    assert all((row["exchange"], row["symbol"]) == ("binance", "BTC-USDT") for row in rows)
    return sorted((row["time"], row["indicator_name"], row["value"]) for row in rows)


async def test_values_of_indicators_replace_themselves(
    db: Database, database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    """Computed anew in the middle, cut while they are sent, in small portions; one has no value."""
    bucket = influx1.database()
    await note(db, range(40))
    nothing = Value(AT, "sma_5@1m", None, 5, 2)
    await indicator_rows.store(db, "binance", "ETH/USDT", "1m", [nothing], notes_changes=True)
    async with running(values(database, count=7), bucket.config(), tmp_path) as run:
        await run.until(lambda: run.outcomes().get("stored", 0) >= 30)
        await run.crash()
    assert await db.fetchval("SELECT count(*) FROM indicator_changes") >= 1, "it begins anew"
    async with running(values(database, count=7), bucket.config(), tmp_path) as run:
        await run.until(lambda: run.outcomes().get("stored", 0) >= 60)
        await note(db, range(3, 6), shift=1000)  # of what is sent already
        await run.until(lambda: found_indicators(bucket) == sorted(
            indicator_points([*range(3), *range(6, 40)]) + indicator_points(range(3, 6), 1000)
        ))  # fmt: skip
    assert await db.fetchval("SELECT count(*) FROM indicator_changes") == 0


async def test_what_was_noted_is_forgotten_only_if_it_has_not_changed_since(
    postgres_database: DatabaseForTest,
) -> None:
    db = await postgres_database.connect()
    source = values(postgres_database)
    await note(db, [1])
    assert len((await source.read()).points["indicator"]) == 4
    await note(db, [3], shift=5)
    await source.sent()
    (kept,) = await indicator_rows.changes(db)
    assert (kept.started_at, kept.ended_at) == (AT + MINUTE, AT + 3 * MINUTE)
    assert len((await source.read()).points["indicator"]) == 8
    await source.sent()
    assert await indicator_rows.changes(db) == []
    await note(db, [1])  # nothing has changed, so there is nothing to send
    assert await indicator_rows.changes(db) == []
    await note(db, [9])
    others = values(postgres_database, holds=False)
    assert (await others.read()).points == {}
    await others.sent()
    assert len(await indicator_rows.changes(db)) == 1, "another shard's"
    for one in (source, others):
        await one.close()
    await db.close()


async def test_metrics_of_an_outage_are_written_after_it(tmp_path: Path) -> None:
    figures = {"records_stored": 0.0, "journal_bytes": 1e12}
    with Influx1(directory=tmp_path / "influxdb") as server:
        bucket = server.database()

        def sample() -> dict[str, float]:
            figures["records_stored"] += 1
            return figures

        source = OwnMetrics("ingestd-1", sample, every_s=0.05)
        async with running(source, bucket.config(), tmp_path) as run:
            await run.until(lambda: run.outcomes().get("stored"))
            await asyncio.to_thread(server.stop)
            await run.until(lambda: not run.report.status().up)
            await asyncio.to_thread(server.start)
            await run.until(lambda: run.report.status().up)
            rows = rows_of(bucket, "metric")
    assert {(row["component"], row["metric_type"]) for row in rows} == {
        ("ingestd-1", "records_stored"),
        ("ingestd-1", "journal_bytes"),
    }
    stored = [row["value"] for row in rows if row["metric_type"] == "records_stored"]
    assert stored == list(range(1, len(stored) + 1)), "none of the outage is missing, and none is double"


async def test_questdb_s_tables_keep_each_once(
    postgres_database: DatabaseForTest, questdb: QuestDb, tmp_path: Path
) -> None:
    """Also if all of it is sent again."""
    for statement in questdb_tables():
        questdb.query(statement)
    db = await postgres_database.connect()
    await store(db, *a_day())
    for _ in range(2):
        await note(db, range(5))
        async with running(trade_events(postgres_database), questdb.config(), tmp_path) as run:
            await run.until(lambda: run.outcomes().get("stored") == 6)
        async with running(values(postgres_database), questdb.config(), tmp_path) as run:
            await run.until(lambda: run.outcomes().get("stored") == 20)
        await db.execute("DELETE FROM ingest_positions WHERE source = 'influx:test'")
        await db.execute("DELETE FROM indicators_cache")
    own = OwnMetrics("ingestd-1", lambda: {"journal_bytes": 7.5})
    flush = await own.read()
    await own.close()
    server = await InfluxServer.connect(questdb.config())
    for _ in range(2):
        await server.write(b"".join(f"{point.line}\n".encode() for point in flush.points["metric"]))
    await server.close()
    events = questdb.query("SELECT event_type, price, size, fee, pnl, duration, event_id FROM trade_event")
    assert len({row["event_id"] for row in events}) == len(events) == 6
    (closed,) = [row for row in events if row["event_type"] == "position_closed"]
    assert (closed["price"], closed["size"], closed["pnl"], closed["duration"]) == (2, 3, -3.5, 240)
    found = questdb.query("SELECT indicator_name, value FROM indicator")
    assert sorted((row["indicator_name"], row["value"]) for row in found) == sorted(
        (name, value) for _, name, value in indicator_points(range(5))
    )
    assert [row["value"] for row in questdb.query("SELECT value FROM metric")] == [7.5]
    await db.close()


texts = st.text(st.sampled_from(",= \"\\é#'") | st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=20)
tellings = st.lists(
    st.tuples(texts.filter(bool), texts.filter(bool), texts, st.decimals(allow_nan=False, allow_infinity=False)),
    min_size=5,
    max_size=60,
)


@pytest.fixture(scope="module")
def texts_bucket(influx1: Influx1) -> Bucket:
    return influx1.database()


@given(said=tellings, run=st.uuids())
@settings(max_examples=5, deadline=None)
def test_any_text_is_read_back(texts_bucket: Bucket, said: list[tuple[str, str, str, Decimal]], run: object) -> None:
    """In tags and in fields."""
    told = [
        Told("t", {"a": one, "b": two, "run": str(run)}, {"value": str(number)}, {"text": text}, AT_NS + place)
        for place, (one, two, text, number) in enumerate(said)
    ]
    flush = flush_of(told)
    sent = [point.record for point in flush.points.get("t", [])]
    assert len(sent) + len(flush.refusals) == len(told)

    async def write() -> None:
        server = await InfluxServer.connect(texts_bucket.config())
        await server.write(b"".join(f"{point.line}\n".encode() for point in flush.points.get("t", [])))
        await server.close()

    asyncio.run(write())
    rows = texts_bucket.query(f'SELECT "value", "text" FROM "t" WHERE "run" = \'{run}\' GROUP BY *')
    found = {(row["time"] - AT_NS, row["a"], row["b"], row["text"]) for row in rows}
    assert all(isinstance(each, Told) for each in sent)
    assert found == {
        (each.time_ns - AT_NS, each.tags["a"], each.tags["b"], each.texts["text"])
        for each in sent
        if isinstance(each, Told)
    }


async def test_a_measurement_that_is_refused_holds_up_no_other(
    postgres_database: DatabaseForTest, influx1: Influx1, tmp_path: Path
) -> None:
    """Another program has written trade_event with a text for its size."""
    bucket, db = influx1.database(), await postgres_database.connect()
    bucket.write(f'trade_event,product=x size="text" {AT_NS}')
    await store(db, trade(1, quantity="1"))
    await note(db, [1])
    async with running(trade_events(postgres_database), bucket.config(), tmp_path) as stuck:
        async with running(values(postgres_database), bucket.config(), tmp_path) as run:
            await run.until(lambda: run.outcomes().get("stored") == 4)
        await stuck.until(lambda: stuck.report.status().attempts_failed >= 1)
        assert "field type conflict" in (stuck.report.status().problem or "")
        assert stuck.outcomes() == {}
        bucket.query('DROP MEASUREMENT "trade_event"')
        await stuck.until(lambda: stuck.outcomes() == {"stored": 1})
    await db.close()
