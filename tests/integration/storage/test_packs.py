"""Packs: applied, undone, refused; and what their SQL computes, against Python."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import statistics
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingestd import cli
from ingestd.config.packs import PACKS
from ingestd.errors import DatabaseError, SchemaError
from ingestd.events.messages import Executed, Refused, Submitted
from ingestd.events.tables import store_events
from ingestd.storage import engine as engines
from ingestd.storage import migrate, rollups
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest, Server, default_config, temporary_database
from tests.support.sources import DOCUMENTS

KAIROS = default_config(database={"dsn": "postgresql://u@h/db", "packs": ["kairos"]})
READ_ONLY = "55000"
NAMESPACE = uuid.UUID("8b0d3bd5-6a3c-5f0b-9c53-2f1f0f3f7f6a")
T0 = datetime(2026, 11, 5, 10, 0, tzinfo=UTC)


@asynccontextmanager
async def connected(database: DatabaseForTest) -> AsyncIterator[Database]:
    db = await database.connect()
    try:
        yield db
    finally:
        await db.close()


async def relations(db: Database, *schemas: str) -> set[str]:
    rows = await db.fetch(
        "SELECT nspname || '.' || relname AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
        " WHERE nspname = ANY ($1::text[]) AND relkind IN ('r', 'v')",
        list(schemas),
    )
    return {row["name"] for row in rows}


class TestApplied:
    async def test_once_and_undone_without_a_trace(self, db: Database) -> None:
        before = await relations(db, "public", "audit")
        done = await migrate.migrate(db, KAIROS)
        assert done[0] == "applied kairos/0001_market_data"
        assert {"kairos.market_ticks", "kairos.ohlcv_1h", "kairos.orders"} <= await relations(db, "kairos")
        assert await migrate.migrate(db, KAIROS) == []
        assert await migrate.plan(db, KAIROS) == ""
        undone = await migrate.down(db, 0, pack="kairos")
        assert undone[-1] == "undid kairos/0001_market_data"
        assert len(undone) == len(done)
        assert await db.fetchval("SELECT to_regnamespace('kairos')::text") is None
        assert await relations(db, "public", "audit") == before | {"public.ingestd_pack_migrations"}
        assert await migrate.migrate(db, KAIROS) == done

    async def test_each_step_can_be_undone_alone(self, db: Database) -> None:
        for pack in PACKS:
            config = default_config(**DOCUMENTS[pack].config)
            await migrate.migrate(db, config)
            applied = [line for line in await migrate.status(db, [pack]) if line.pack]
            for steps_before, line in reversed([*enumerate(applied)]):
                await migrate.down(db, line.version - 1, pack=pack)
                left = [one for one in await migrate.status(db, [pack]) if one.pack and one.applied_at is not None]
                assert len(left) == steps_before
            assert await migrate.migrate(db, config) != []
            assert await migrate.down(db, 0, pack=pack) != []

    async def test_what_is_not_configured_stays_and_is_told(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        assert await migrate.migrate(db, default_config()) == []
        lines = [line for line in await migrate.status(db) if line.pack]
        assert {line.note for line in lines} == {"not in database.packs"}
        assert {line.note for line in await migrate.status(db, ["kairos"])} == {""}

    async def test_the_plan_has_their_sql(self, empty_database: DatabaseForTest) -> None:
        async with connected(empty_database) as db:
            text = await migrate.plan(db, KAIROS, engine=empty_database.choice)
            assert text.index("CREATE TABLE market_ticks") < text.index("CREATE VIEW kairos.market_ticks")
            assert "\\ir" not in text

    async def test_the_command_line_knows_them(self, database: DatabaseForTest, tmp_path: Path) -> None:
        file = tmp_path / "ingestd.toml"
        file.write_text(f'[database]\ndsn = "{database.dsn}"\npacks = ["kairos"]\n', encoding="utf-8")

        async def run(*words: str) -> str:
            result = await asyncio.to_thread(CliRunner().invoke, cli.cli, ["migrate", *words, "-c", str(file)])
            assert result.exit_code == 0, result.output
            return result.output

        assert re.search(r"0001 kairos/market_data +not applied", await run("status"))
        assert "applied kairos/0001_market_data" in await run()
        assert re.search(r"0001 kairos/market_data +applied 20", await run("status"))
        assert "undid kairos/0001_market_data" in await run("down", "--pack", "kairos", "--to", "0", "--yes")

    @pytest.mark.parametrize("engine_choice", ["postgres"])
    async def test_a_later_extension_is_not_blocked(self, timescaledb_server: Server, engine_choice: Any) -> None:
        with temporary_database(timescaledb_server.direct(), migrated=False) as database:
            async with connected(database) as db:
                await migrate.migrate(db, KAIROS, engine=engine_choice)
                assert await db.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'time_bucket'") == 1
                await db.execute("CREATE EXTENSION timescaledb")


class TestRefused:
    async def test_the_schema_does_not_go_back_under_them(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        with pytest.raises(SchemaError, match=r"first undo kairos with `ingestd migrate down --pack kairos --to 0`"):
            await migrate.down(db, 0)
        await migrate.check_schema(db, ["kairos"])  # nothing was undone

    async def test_what_others_made_is_not_dropped_with_a_pack(self, db: Database) -> None:
        theirs = {
            "table fks.theirs": ("CREATE TABLE fks.theirs (a integer)", "DROP TABLE fks.theirs"),
            "view public.theirs": ("CREATE VIEW public.theirs AS TABLE fks.ohlcv_data", "DROP VIEW public.theirs"),
            "default value for column a of table public.theirs": (
                "CREATE TABLE public.theirs (a text DEFAULT fks.option_prefer())",
                "DROP TABLE public.theirs",
            ),
        }
        config = default_config(**DOCUMENTS["fks"].config)
        for what, (make, drop) in theirs.items():
            await migrate.migrate(db, config)
            await db.execute(make)
            with pytest.raises(SchemaError, match=f"would be dropped: {what}; drop it, or move it elsewhere"):
                await migrate.down(db, 0, pack="fks")
            await db.execute(drop)
            assert (await migrate.down(db, 0, pack="fks"))[-1] == "undid fks/0001_candles"

    async def test_a_daemon_without_its_pack_does_not_start(self, db: Database) -> None:
        with pytest.raises(SchemaError, match=r"so kairos/0001_market_data.* must be there: run `ingestd migrate"):
            await migrate.check_schema(db, ["kairos"])

    async def test_a_changed_file(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        await db.execute("UPDATE ingestd_pack_migrations SET checksum = 'x' WHERE version = 1")
        for refused in (migrate.migrate(db, KAIROS), migrate.check_schema(db, ["kairos"])):
            with pytest.raises(SchemaError, match="kairos/0001_market_data has changed since it was applied"):
                await refused


class TestViews:
    async def test_writes_are_refused_in_words(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        await db.execute(
            "INSERT INTO market_ticks (time, exchange, symbol, bid_price, received_at)"
            " VALUES (now(), 'a', 'B', 1, now())"
        )
        for sql in (
            "DELETE FROM kairos.market_ticks",
            "UPDATE kairos.market_ticks SET bid_price = 2",
            "INSERT INTO kairos.market_ticks (symbol, exchange, timestamp) VALUES ('A', 'b', now())",
            "INSERT INTO kairos.ohlcv_1h (symbol, exchange, timestamp) VALUES ('A', 'b', now())",
        ):
            with pytest.raises(
                DatabaseError, match=r"kairos\.\w+ is read-only: ingestd writes the table behind it"
            ) as caught:
                await db.execute(sql)
            assert caught.value.sqlstate == READ_ONLY

    @pytest.mark.parametrize(
        ("view", "table"),
        [
            *(
                (
                    f"SELECT {columns} FROM ingestion.{view} WHERE symbol = 'BTCUSDT' AND {time} >= '2026-01-01'"
                    f" ORDER BY {time} DESC LIMIT 100",
                    f"SELECT {columns} FROM {view} WHERE exchange = 'binance' AND symbol = 'BTCUSDT'"
                    f" AND {base} >= '2026-01-01' ORDER BY {base} DESC LIMIT 100",
                )
                for view, columns, time, base in (
                    ("trades", "price, quantity", "trade_ts", "time"),
                    ("candles_1m", "open, close", "bucket_start", "bucket_start"),
                    ("oi_snapshots", "open_interest", "snapshot_ts", "time"),
                    ("funding", "funding_rate", "funding_ts", "time"),
                )
            ),
            (
                "SELECT bid_price, timestamp FROM kairos.market_ticks WHERE exchange = 'binance' AND symbol = 'BTCUSDT'"
                " ORDER BY timestamp DESC LIMIT 100",
                "SELECT bid_price, time FROM market_ticks WHERE exchange = 'binance' AND symbol = 'BTCUSDT'"
                " ORDER BY time DESC LIMIT 100",
            ),
            (
                "SELECT close, timestamp FROM kairos.ohlcv_1h WHERE exchange = 'binance' AND symbol = 'BTCUSDT'"
                " AND timestamp >= '2026-01-01' ORDER BY timestamp DESC LIMIT 100",
                "SELECT close, bucket_start FROM ohlcv_1h WHERE exchange = 'binance' AND symbol = 'BTCUSDT'"
                " AND bucket_start >= '2026-01-01' ORDER BY bucket_start DESC LIMIT 100",
            ),
        ],
    )
    async def test_are_planned_as_the_table(self, db: Database, view: str, table: str) -> None:
        for pack in ("kairos", "ingestion"):
            await migrate.migrate(db, default_config(**DOCUMENTS[pack].config))
        await store_market_data(db)
        planned = await plan_of(db, view)
        # Both order and select: the comparison would say nothing of plans that read everything.
        assert any("Cond: " in line or "Columnar" in line or "Filter: " in line for line in planned)
        assert without_names(planned) == without_names(await plan_of(db, table))


async def store_market_data(db: Database) -> None:
    """Five thousand minutes, of which the older ones are columnar where there are hypertables."""
    for sql in (
        "INSERT INTO market_ticks (time, exchange, symbol, bid_price, bid_volume, received_at)"
        " SELECT now() - n * INTERVAL '1 minute', 'binance', 'BTCUSDT', n, 1, now() FROM generate_series(1, 5000) AS n",
        "INSERT INTO trades (time, exchange, symbol, trade_id, seq, side, price, quantity, received_at)"
        " SELECT now() - n * INTERVAL '1 minute', 'binance', 'BTCUSDT', n::text, n, 'buy', n, 1, now()"
        " FROM generate_series(1, 5000) AS n",
        "INSERT INTO funding (time, exchange, symbol, funding_rate, received_at)"
        " SELECT now() - n * INTERVAL '8 hours', 'binance', 'BTCUSDT', n, now() FROM generate_series(1, 200) AS n",
        "INSERT INTO oi_snapshots (time, exchange, symbol, open_interest, received_at)"
        " SELECT now() - n * INTERVAL '1 minute', 'binance', 'BTCUSDT', n, now() FROM generate_series(1, 5000) AS n",
    ):
        await db.execute(sql)
    engine = await engines.detect(db)
    if engine.has_continuous_aggregates:
        for table in ("market_ticks", "trades"):
            await db.fetch(f"SELECT compress_chunk(c) FROM show_chunks('{table}', older_than => INTERVAL '1 day') AS c")
    await rollups.refresh(db, engine)
    await db.execute("ANALYZE")


def without_names(plan: Sequence[str]) -> list[str]:
    """The plan without the names of columns that a view renames, and without those of views."""
    names = r"(\w+\.)?\b(trade_ts|snapshot_ts|funding_ts|timestamp|bucket_start|time)\b"
    return [re.sub(names, "time", line) for line in plan]


async def plan_of(db: Database, sql: str) -> Sequence[str]:
    return [row["QUERY PLAN"] for row in await db.fetch(f"EXPLAIN (COSTS OFF) {sql}")]


class TestOptions:
    async def test_follow_the_configuration(self, db: Database) -> None:
        document = DOCUMENTS["ingestion"]
        config = default_config(**document.config)
        done = await migrate.migrate(db, config)
        assert done == ["applied ingestion/0001_market_data", "packs.ingestion.exchange: none -> binance"]
        await db.execute(
            "INSERT INTO funding (time, exchange, symbol, funding_rate, received_at)"
            " VALUES (now(), 'binance', 'BTCUSDT', 1, now()), (now(), 'kraken', 'BTCUSD', 2, now())"
        )
        assert await db.fetchval("SELECT array_agg(symbol) FROM ingestion.funding") == ["BTCUSDT"]
        other = {**document.config, "packs": {"ingestion": {"exchange": "kraken"}}, "feeds": []}
        change = "packs.ingestion.exchange: binance -> kraken"
        assert change in await migrate.plan(db, default_config(**other))
        assert await migrate.migrate(db, default_config(**other)) == [change]
        assert await migrate.migrate(db, default_config(**other)) == []
        assert await db.fetchval("SELECT array_agg(symbol) FROM ingestion.funding") == ["BTCUSD"]


class TestPerformance:
    """analytics.performance_metrics, against the same figures computed in Python."""

    async def test_of_trades_in_any_order_late_and_corrected(self, db: Database) -> None:
        draw = random.Random(11)
        trades = {f"t{number}": drawn_trade(draw) for number in range(60)}
        before, after = list(trades)[:20], list(trades)[20:]
        await store_trades(db, {name: trades[name] for name in before})
        await migrate.migrate(db, default_config(**DOCUMENTS["wolfinch"].config))
        draw.shuffle(after)
        for names in (after[:9], after[9:]):
            await store_trades(db, {name: trades[name] for name in names})
        for name in draw.sample(list(trades), 15):  # reported again, otherwise
            trades[name] = drawn_trade(draw)
            await store_trades(db, {name: trades[name]})
        rows = await db.fetch("SELECT * FROM analytics.performance_metrics")
        found = {(row["timestamp"], row["strategy"], row["symbol"]): measures(row) for row in rows}
        assert found == expected_measures(trades)
        assert any(sharpe is not None for *_, sharpe in found.values())

    async def test_two_at_once_are_both_counted(self, database: DatabaseForTest) -> None:
        async with connected(database) as one, connected(database) as two:
            await migrate.migrate(one, default_config(**DOCUMENTS["wolfinch"].config))
            trade = (T0, "s", "BTC-USD", Decimal(1), Decimal(10), Decimal(2))
            async with one.transaction():
                await store_trades(one, {"a": trade})
                waiting = asyncio.create_task(store_trades(two, {"b": trade}))
                await asyncio.sleep(0.3)
                assert not waiting.done()
            await waiting
            assert await one.fetchval("SELECT total_trades FROM analytics.performance_metrics") == 2


Trade = tuple[datetime, str | None, str, Decimal | None, Decimal, Decimal]


def drawn_trade(draw: random.Random) -> Trade:
    """When, strategy, symbol, quantity, entry price, pnl."""
    at = T0 + timedelta(days=draw.randrange(2), seconds=draw.randrange(40_000))
    quantity = None if draw.random() < 0.05 else Decimal(draw.randrange(1, 50)) / 10
    pnl = Decimal(draw.randrange(-500, 500)) / 4
    return at, draw.choice(["momentum", None]), draw.choice(["BTC-USD", "ETH-USD"]), quantity, Decimal(1000), pnl


async def store_trades(db: Database, trades: dict[str, Trade]) -> None:
    for name, (at, strategy, symbol, quantity, entry_price, pnl) in trades.items():
        await db.execute(
            "INSERT INTO completed_trades (trade_id, symbol, quantity, entry_price, exit_price, pnl, strategy,"
            " completed_at, event_id) VALUES ($1, $2, $3, $4, 1, $5, $6, $7, gen_random_uuid())"
            " ON CONFLICT (trade_id) DO UPDATE SET symbol = excluded.symbol, quantity = excluded.quantity,"
            " pnl = excluded.pnl, strategy = excluded.strategy, completed_at = excluded.completed_at",
            name,
            symbol,
            quantity,
            entry_price,
            pnl,
            strategy,
            at,
        )


def measures(row: Any) -> tuple[Any, ...]:
    fractions = (row["win_rate"], row["return_pct"], row["sharpe_ratio"])
    return (
        row["pnl"],
        row["total_trades"],
        row["max_drawdown"],
        *(None if figure is None else pytest.approx(float(figure), rel=1e-9, abs=1e-12) for figure in fractions),
    )


def expected_measures(trades: dict[str, Trade]) -> dict[Any, tuple[Any, ...]]:
    groups: dict[Any, list[tuple[datetime, str, Trade]]] = {}
    for name, trade in trades.items():
        day = trade[0].replace(hour=0, minute=0, second=0, microsecond=0)
        groups.setdefault((day, trade[1] or "unknown", trade[2]), []).append((trade[0], name, trade))
    return {key: of_group([trade for *_, trade in sorted(group)]) for key, group in groups.items()}


def of_group(trades: list[Trade]) -> tuple[Any, ...]:
    gains = [pnl for *_, pnl in trades]
    running = list(itertools.accumulate(gains))
    drawdown = max(max([Decimal(0), *running[: place + 1]]) - total for place, total in enumerate(running))
    invested = [float(price * quantity) for _, _, _, quantity, price, _ in trades if quantity is not None]
    known = len(invested) == len(trades)
    returns = [float(gain) / cost for gain, cost in zip(gains, invested, strict=True)] if known else []
    spread = statistics.stdev(returns) if len(returns) > 1 else 0.0
    return (
        sum(gains),
        len(trades),
        drawdown,
        100 * sum(gain > 0 for gain in gains) / len(trades),
        100 * float(sum(gains)) / sum(invested) if known else None,
        statistics.mean(returns) / spread if spread else None,
    )


class TestOrders:
    async def test_are_those_of_the_events_in_any_order(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        for number, places in enumerate(itertools.permutations(range(3))):
            order_id = f"order-{number}"
            events = of_an_order(order_id)
            for place in (*places, *places):
                async with db.transaction():
                    await store_events(db, [events[place]])
            row = await db.fetchrow("SELECT * FROM kairos.orders WHERE id = $1", uuid.uuid5(NAMESPACE, order_id))
            assert row is not None
            assert {name: value for name, value in row.items() if name != "id"} == {
                "symbol": "BTC/USDT",
                "exchange": "binance",
                "side": "BUY",
                "order_type": "LIMIT",
                "quantity": Decimal("0.3"),
                "price": Decimal("50000.10"),
                "filled_quantity": Decimal("0.3"),
                "avg_price": Decimal(50001),
                "status": "FILLED",
                "created_at": T0,
                "filled_at": T0 + timedelta(seconds=2),
                "client_id": uuid.uuid5(NAMESPACE, "mine"),
                "error_message": None,
                "order_id": order_id,
            }

    async def test_one_that_was_refused_says_why(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        said: dict[str, Any] = {
            "order_id": "o",
            "exchange": "binance",
            "symbol": "BTC/USDT",
            "strategy": None,
            "data": "{}",
        }
        refused = Refused(
            id=uuid.uuid4(),
            at=T0,
            **said,
            side="sell",
            quantity="1",
            price=None,
            order_type="MARKET",
            reason="no funds",
        )
        async with db.transaction():
            await store_events(db, [refused])
        row = await db.fetchrow("SELECT id, side, status, error_message, created_at FROM kairos.orders")
        assert row is not None
        assert tuple(row.values()) == (uuid.uuid5(NAMESPACE, "o"), "SELL", "REJECTED", "no funds", T0)

    async def test_those_of_before_are_there(self, db: Database) -> None:
        order_id = str(uuid.uuid4())
        async with db.transaction():
            await store_events(db, of_an_order(order_id)[1:])  # the submission has not arrived
        await migrate.migrate(db, KAIROS)
        row = await db.fetchrow("SELECT id::text, side, quantity, status, created_at FROM kairos.orders")
        assert row is not None
        assert tuple(row.values()) == (order_id, "BUY", None, "PARTIALLY_FILLED", T0 + timedelta(seconds=1))

    async def test_ids_are_those_of_python(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        draw = random.Random(7)
        names = ["", "7", "007", "é€😀", *("".join(draw.choices("abcXYZ-07 ", k=length)) for length in range(1, 200))]
        rows = await db.fetch(
            "SELECT kairos.uuid_of(name)::text AS id FROM unnest($1::text[]) WITH ORDINALITY AS names (name, place)"
            " ORDER BY place",
            names,
        )
        assert [row["id"] for row in rows] == [str(uuid.uuid5(NAMESPACE, name)) for name in names]
        for itself in (uuid.uuid4(), uuid.UUID(int=0)):
            assert await db.fetchval("SELECT kairos.uuid_of($1)", str(itself).upper()) == itself


def of_an_order(order_id: str) -> list[Submitted | Executed]:
    said: dict[str, Any] = {"order_id": order_id, "exchange": "binance", "symbol": "BTC/USDT", "strategy": None}
    one, two, three = (uuid.uuid5(NAMESPACE, f"{order_id} {number}") for number in range(3))
    done: dict[str, Any] = {**said, "side": "buy", "order_type": None, "fee": None, "data": json.dumps({})}
    return [
        Submitted(
            id=one,
            at=T0,
            **said,
            side="buy",
            quantity="0.3",
            price="50000.10",
            order_type="LIMIT",
            client_id="mine",
            data="{}",
        ),
        Executed(id=two, at=T0 + timedelta(seconds=1), **done, quantity="0.1", price="50003"),
        Executed(id=three, at=T0 + timedelta(seconds=2), **done, quantity="0.2", price="50000"),
    ]


class TestTimeFunctions:
    """Of PostgreSQL without TimescaleDB; on TimescaleDB the same calls reach the extension's."""

    @pytest.mark.parametrize(
        "width",
        [
            timedelta(seconds=1),
            timedelta(minutes=5),
            timedelta(hours=1),
            timedelta(hours=4),
            timedelta(days=1),
            timedelta(days=7),
            timedelta(days=3, hours=7),
        ],
    )
    async def test_buckets_begin_as_timescaledb_s_do(self, db: Database, width: timedelta) -> None:
        await migrate.migrate(db, KAIROS)
        monday = datetime(2000, 1, 3, tzinfo=UTC)
        times = [monday + timedelta(seconds=second) for second in random.Random(1).sample(range(-(10**9), 10**9), 50)]
        found = await in_kairos(
            db, "SELECT time_bucket($2::interval, at) FROM unnest($1::timestamptz[]) AS at", times, width
        )
        assert found == [monday + (at - monday) // width * width for at in times]

    @pytest.mark.parametrize(("width", "months"), [("1 month", 1), ("3 months", 3), ("1 year", 12)])
    async def test_months(self, db: Database, width: str, months: int) -> None:
        await migrate.migrate(db, KAIROS)
        times = [T0 + timedelta(days=days) for days in range(-12_000, 2000, 13)]
        counted = [(at.year * 12 + at.month - 1) // months * months for at in times]
        found = await in_kairos(
            db, "SELECT time_bucket($2::text::interval, at) FROM unnest($1::timestamptz[]) AS at", times, width
        )
        assert found == [datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC) for count in counted]

    @pytest.mark.parametrize(
        ("cast", "values"),
        [
            ("numeric", [Decimal("1.50"), Decimal("1.5000"), None, Decimal("NaN")]),
            ("text", ["a", "", "with 'quotes'", "{}"]),
            ("double precision", [0.1, 1e300, -0.0, 5e-324]),
            ("timestamptz", [T0, T0 + timedelta(microseconds=1), None, T0 - timedelta(days=9000)]),
        ],
    )
    async def test_first_and_last(self, db: Database, cast: str, values: list[Any]) -> None:
        await migrate.migrate(db, KAIROS)
        for order in itertools.permutations(range(4)):
            rows: list[tuple[datetime | None, Any]]
            rows = [(T0 + timedelta(microseconds=place), values[place]) for place in order]
            rows.append((None, values[1]))
            (found,) = await in_kairos(
                db,
                f"SELECT ARRAY[first(value, at)::text, last(value, at)::text, min(value::text) FILTER (WHERE at = $3),"
                " min(value::text) FILTER (WHERE at = $4)]"
                f" FROM unnest($1::timestamptz[], $2::{cast}[]) AS rows (at, value)",
                [at for at, _ in rows],
                [value for _, value in rows],
                T0,
                T0 + timedelta(microseconds=3),
            )
            assert found[:2] == found[2:]

    async def test_of_no_row_is_null(self, db: Database) -> None:
        await migrate.migrate(db, KAIROS)
        assert await in_kairos(db, "SELECT first(bid_price, timestamp) FROM market_ticks") == [None]


async def in_kairos(db: Database, sql: str, *args: Any) -> list[Any]:
    """The first column, as a program of the document's team reads it."""
    async with db.transaction():
        await db.execute("SET LOCAL search_path = kairos, public")
        return [next(iter(row.values())) for row in await db.fetch(sql, *args)]
