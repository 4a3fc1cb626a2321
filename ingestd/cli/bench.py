"""`ingestd bench`: how fast this machine takes trades, each figure a ratio against psql's own COPY in the same run."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import click
import orjson
import uvloop

from ingestd.cli import bench_fanout, bench_kafka, bench_redis, demo_run
from ingestd.cli.demo_fanout import Say
from ingestd.cli.demo_run import DemoError, Plan
from ingestd.cli.options import json_option
from ingestd.clock import monotonic_s, now_us
from ingestd.config import Config, LogConfig, parse
from ingestd.journal import Journal
from ingestd.ops import logs
from ingestd.ops.metrics import Metrics
from ingestd.records import Record, Trade
from ingestd.sim.embedded import wheel_binaries
from ingestd.sinks.timescale import copy_text
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.sinks.timescale.tables import TABLES
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate

_BATCH_RECORDS = 2000
_SYMBOLS = 20
_MORE_THAN_IT_TAKES = 40_000.0  # events a second offered by the simulator


@dataclass(frozen=True, slots=True)
class Results:
    """Rows a second: medians over the rounds of one run, and the rounds themselves."""

    psql_rows_per_s: list[float]
    sink_rows_per_s: list[float]
    wire_rows_per_s: float

    def document(self) -> dict[str, object]:
        psql = statistics.median(self.psql_rows_per_s)
        sink = statistics.median(self.sink_rows_per_s)
        return {
            "psql_copy_rows_per_s": round(psql),
            "sink_rows_per_s": round(sink),
            "sink_to_psql_copy": round(sink / psql, 3),
            "ccxt_wire_to_committed_rows_per_s": round(self.wire_rows_per_s),
            "ccxt_wire_to_psql_copy": round(self.wire_rows_per_s / psql, 3),
            "rounds": {
                "psql_copy": [round(rate) for rate in self.psql_rows_per_s],
                "sink": [round(rate) for rate in self.sink_rows_per_s],
            },
        }


@click.command()
@click.option("--rows", type=click.IntRange(min=1000), default=200_000, show_default=True, help="Trades a round.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Paired rounds.")
@click.option("--seconds", type=click.FloatRange(min=2), default=15.0, show_default=True, help="Of the ccxt feed.")
@click.option(
    "--part",
    "parts",
    type=click.Choice(["database", "kafka", "redis", "redis-frozen", "fanout"]),
    multiple=True,
    default=("database", "kafka", "redis"),
    show_default=True,
    help="What to measure; repeat for several. redis-frozen and fanout take minutes.",
)
@click.option("--dsn", help="Use this server; a database of its own is created on it.")
@click.option("--kafka", help="Use the broker at this host:port; else one of the wheel is started.")
@json_option
def bench(
    rows: int, rounds: int, seconds: float, parts: tuple[str, ...], dsn: str | None, kafka: str | None, as_json: bool
) -> None:
    """Measure the sinks, the database's against psql's COPY, and the ccxt feed from the wire to the commit."""
    logs.configure(LogConfig(level="error"))
    plan = Plan(seconds, _MORE_THAN_IT_TAKES, 6, None, dsn, keep=False, live=False, decoder="ccxt")
    results: dict[str, object] = {}
    if "database" in parts:
        results |= uvloop.run(_measure(plan, rows, rounds)).document()
    if "kafka" in parts:
        results |= uvloop.run(bench_kafka.measure(kafka, _trades(rows), rounds, _say)).document()
    if "redis" in parts:
        results |= uvloop.run(bench_redis.latencies(plan))
    if "redis-frozen" in parts:
        results |= uvloop.run(bench_redis.frozen(plan, seconds_frozen=30.0, rounds=rounds))
    if "fanout" in parts:
        results |= uvloop.run(bench_fanout.measure(plan, rounds, _say))
    for name, value in results.items():
        click.echo(f"{name:36} {value}")
    if as_json:
        click.echo(orjson.dumps(results))


def _say(text: str) -> None:
    click.echo(f"… {text}", err=True)


async def _measure(plan: Plan, rows: int, rounds: int) -> Results:
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        async with demo_run.database(plan, _say) as dsn:
            config = parse({"database": {"dsn": dsn, "flush_ms": 250}}, {})
            database = await Database.connect(dsn, application_name="ingestd bench", call_timeout_s=600)
            try:
                await migrate(database, config)
                psql, sink = await _sink_rounds(database, config, Path(folder), rows, rounds, _say)
            finally:
                await database.close()
            wire = await _wire_rate(plan, Path(folder), dsn, _say)
    return Results(psql, sink, wire)


async def _sink_rounds(
    database: Database, config: Config, folder: Path, rows: int, rounds: int, say: Say
) -> tuple[list[float], list[float]]:
    """Alternating, so that what else the machine does meets both alike."""
    trades = _trades(rows)
    file = folder / "trades.copy"
    file.write_bytes(copy_text.payload(copy_text.lines(trades)))
    psql: list[float] = []
    sink: list[float] = []
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {rows} trades by psql, then by the sink")
        psql.append(await _timed(database, rows, lambda: _psql_copy(config, file)))
        sink.append(await _sink_run(database, config, folder / f"state-{number}", trades))
    return psql, sink


async def _timed(database: Database, rows: int, work: Callable[[], Awaitable[None]]) -> float:
    await _emptied(database)
    started_s = monotonic_s()
    await work()
    took_s = monotonic_s() - started_s
    stored = await database.fetchval("SELECT count(*) FROM trades")
    if stored != rows:
        raise DemoError(f"{stored} of {rows} rows were stored: the measurement means nothing")
    return rows / took_s


async def _emptied(database: Database) -> None:
    await database.execute("TRUNCATE trades")
    await database.execute("CHECKPOINT")


async def _psql_copy(config: Config, file: Path) -> None:
    assert config.database is not None, "it was given"
    columns = ", ".join(TABLES["trades"].columns)
    process = await asyncio.create_subprocess_exec(
        str(wheel_binaries() / "psql"),
        "--no-psqlrc",
        "--quiet",
        "--set=ON_ERROR_STOP=1",
        "--command",
        f"\\copy trades ({columns}) FROM '{file}'",
        config.database.resolved_dsn(),
    )
    if await process.wait() != 0:
        raise DemoError("psql failed; its message is above")


async def _sink_run(database: Database, config: Config, state_dir: Path, trades: list[Record]) -> float:
    """The sink drains a journal that was filled before the clock started."""
    assert config.database is not None, "it was given"
    metrics = Metrics()
    journal = Journal(state_dir, config.journal, metrics)
    journal.open()
    try:
        cursor = journal.cursor("timescale")
        for start in range(0, len(trades), _BATCH_RECORDS):
            await journal.append(trades[start : start + _BATCH_RECORDS])
        dsn = config.database.resolved_dsn()
        sink = TimescaleSink(
            cursor, lambda: journal.journal_ids, lambda: Database.connect(dsn), config.database, metrics
        )
        sink.finish()
        return await _timed(database, len(trades), sink.run)
    finally:
        journal.close()


async def _wire_rate(plan: Plan, folder: Path, dsn: str, say: Say) -> float:
    """Rows committed a second by the daemon on the ccxt feed, offered more than it takes, from socket to commit."""
    async with (
        demo_run.venue(plan, say) as venue,
        demo_run.daemon(plan, say, folder, venue, dsn) as running,
        aiohttp.ClientSession() as http,
    ):
        await demo_run.until_first_record(http, running)
        say(f"measuring the ccxt feed for {plan.seconds:g} s")
        await asyncio.sleep(3)
        before, started_s = await _stored(http, running), monotonic_s()
        await asyncio.sleep(plan.seconds)
        after, took_s = await _stored(http, running), monotonic_s() - started_s
    return (after - before) / took_s


async def _stored(http: aiohttp.ClientSession, running: demo_run.Daemon) -> int:
    return await demo_run.total(http, running.metrics_url, "ingestd_records_stored_total")


def _trades(count: int) -> list[Record]:
    """Trades of some symbols over the last minutes, as a busy venue sends them."""
    start = now_us() - count * 100
    return [
        Trade(
            exchange="bench",
            symbol=f"SYM{number % _SYMBOLS}/USDT",
            time=start + number * 100,
            received_at=start + number * 100 + 1500,
            trade_id=str(4_000_000_000 + number),
            seq=4_000_000_000 + number,
            side="buy" if number % 3 else "sell",
            price=f"{64_000 + number % 977}.{number % 100:02d}000000",
            quantity=f"0.{number % 99_999 + 1:05d}000",
        )
        for number in range(count)
    ]
