"""Measures each stage from records to rows: intake, journal, COPY text, COPY and the sink; psql in the same rounds."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingestd.clock import monotonic_s
from ingestd.config.loading import parse
from ingestd.config.models import Config, DatabaseConfig, JournalConfig
from ingestd.config.values import SymbolStyle
from ingestd.intake.intake import Intake
from ingestd.journal.journal import Journal
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures
from ingestd.lab.bench.rig import Plan, Server
from ingestd.lab.bench.sample import portions, trades
from ingestd.lab.demo.processes import LabError, connected
from ingestd.lifecycle import Tasks
from ingestd.ops.metrics import Metrics
from ingestd.records import Record, Trade
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage.database import Database
from ingestd.storage.retention import accepted_window
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.tables import TABLES
from ingestd.venues.market_names import Names

_BATCH_RECORDS = 2000
BATCH_SIZES = (500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
QUICK_BATCH_SIZES = (1000, 10_000)


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure rows per second of each stage, in turn, so that other load on the machine affects all stages alike."""
    records = trades(plan.rows)
    rates: dict[str, list[float]] = {
        key: [] for key in ("psql", "intake", "journal", "text", "copy", "sink", "compact")
    }
    async with server.database() as dsn:
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
            file = Path(folder) / "trades.copy"
            file.write_bytes(_payload(records))
            config = parse({"database": {"dsn": dsn}, "instance": {"state_dir": folder}}, {})
            assert config.database is not None, "it was given"
            for number in range(plan.rounds):
                plan.say(f"stages, round {number + 1} of {plan.rounds}: {plan.rows:,} trades")
                home = Path(folder) / str(number)
                rates["intake"].append(await _intake(config, home / "intake", records))
                rates["journal"].append(await _journal(home / "journal", records))
                rates["text"].append(_text(records, config.database.max_flush_records))
                rates["psql"].append(plan.rows / await rig.psql_copy(dsn, file, plan.rows))
                rates["copy"].append(await _copy(dsn, records, config.database.max_flush_records))
                rates["sink"].append(await drained(dsn, home / "sink", records, config.database))
                rates["compact"].append(await drained(dsn, home / "compact", records, config.database, style="compact"))
    figures.rate("store.intake", "intake and journal: put, validated, sealed, durable", rates["intake"])
    figures.rate("store.journal", f"journal alone, batches of {_BATCH_RECORDS:,}", rates["journal"])
    figures.rate("store.text", "COPY text", rates["text"])
    figures.rate("store.psql", "psql \\copy, one transaction", rates["psql"])
    figures.rate("store.copy", "COPY of ready text, a transaction each flush", rates["copy"], limit="store.psql")
    figures.rate("store.sink", "the sink, from the journal's disk to the commit", rates["sink"], limit="store.psql")
    figures.rate("store.sink_compact", "the same with compact symbols", rates["compact"], limit="store.sink")


async def batch_sizes(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure the sink's rate by the number of rows per commit."""
    records = trades(plan.rows)
    async with server.database() as dsn:
        for size in QUICK_BATCH_SIZES if plan.quick else BATCH_SIZES:
            plan.say(f"the sink with {size:,} rows a commit")
            database = DatabaseConfig(dsn=dsn, max_flush_records=size)
            with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
                rate = await drained(dsn, Path(folder), records, database, min(size, _BATCH_RECORDS))
            figures.add(f"batch.{size}", f"the sink, {size:,} rows a commit", rate, "/s", "store.psql")


@contextlib.contextmanager
def _journal_in(state_dir: Path, metrics: Metrics) -> Iterator[Journal]:
    journal = Journal(state_dir, JournalConfig(), metrics)
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


async def _intake(config: Config, state_dir: Path, records: list[Record]) -> float:
    metrics = Metrics()
    with _journal_in(state_dir, metrics) as journal:
        intake = Intake(journal, config.intake, accepted_window(config), metrics)
        tasks = Tasks()
        tasks.spawn("intake", intake.run())
        started_s = monotonic_s()
        for portion in portions(records, _BATCH_RECORDS):
            await intake.writable()
            for record in portion:
                assert type(record) is Trade, "it was made up so"
                intake.put(record)
        tasks.release("intake")
        intake.close()
        if await tasks.finished(["intake"], 600.0):
            raise LabError("the intake did not end")
        return len(records) / (monotonic_s() - started_s)


async def _journal(state_dir: Path, records: list[Record]) -> float:
    with _journal_in(state_dir, Metrics()) as journal:
        started_s = monotonic_s()
        for portion in portions(records, _BATCH_RECORDS):
            await journal.append(portion)
        return len(records) / (monotonic_s() - started_s)


def _payload(records: Sequence[Record]) -> bytes:
    return copy_text.payload(
        copy_text.lines(records, [copy_text.market(record.exchange, record.symbol) for record in records])
    )


def _text(records: list[Record], flush_records: int) -> float:
    started_s = monotonic_s()
    for portion in portions(records, flush_records):
        _payload(portion)
    return len(records) / (monotonic_s() - started_s)


async def _copy(dsn: str, records: list[Record], flush_records: int) -> float:
    payloads = [_payload(portion) for portion in portions(records, flush_records)]
    async with connected(dsn) as database:
        await rig.emptied(database)
        started_s = monotonic_s()
        for payload in payloads:
            async with database.transaction():
                await database.copy_text("trades", TABLES["trades"].columns, payload)
        took_s = monotonic_s() - started_s
        await rig.check_stored(database, len(records))
    return len(records) / took_s


async def drained(
    dsn: str,
    state_dir: Path,
    records: list[Record],
    config: DatabaseConfig,
    batch_records: int = _BATCH_RECORDS,
    style: SymbolStyle = "unified",
) -> float:
    """Rows per second at which the sink drains a journal that was filled before the clock started."""
    metrics = Metrics()
    with _journal_in(state_dir, metrics) as journal:
        cursor = journal.cursor("timescale")
        for portion in portions(records, batch_records):
            await journal.append(portion)
        names = Names(style)
        sink = TimescaleSink(
            cursor,
            lambda: journal.journal_ids,
            lambda: Database.connect(dsn, names=names),
            config,
            metrics,
            names=names,
        )
        sink.finish()
        async with connected(dsn) as database:
            await rig.emptied(database)
            started_s = monotonic_s()
            await sink.run()
            took_s = monotonic_s() - started_s
            await rig.check_stored(database, len(records))
        return len(records) / took_s
