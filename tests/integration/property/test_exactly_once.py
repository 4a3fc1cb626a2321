"""Any sequence of records, crashes and restarts leaves the tables equal to what was journaled.

A crash here is the worst kind that one process can simulate: the sink is cut at any await, its connection is dropped
without a word, the files stay as they are, and a new process opens the same directory. In some runs a commit succeeds
and its reply is lost. The model is a dictionary; it knows nothing of COPY, staging or positions.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from itertools import repeat
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.channels import TABLE_OF
from ingestd.config.models import DatabaseConfig, JournalConfig
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import Candle, Funding, Liquidation, MarkPrice, OpenInterest, Record, Tick, Trade
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage.database import Database
from tests.support.database_doubles import LosesReplies
from tests.support.postgres import DatabaseForTest
from tests.support.records import market_records, trade
from tests.support.time_limits import examples

TABLES = (*TABLE_OF.values(), "rejected_records")


@dataclass(frozen=True)
class Append:
    """Append one batch."""

    records: tuple[Record, ...]


@dataclass(frozen=True)
class Crash:
    """Let the sink run for a moment, then cut it; a new process begins."""

    after_ms: float


@dataclass(frozen=True)
class LoseReplies:
    """The next commits succeed and say nothing."""

    count: int


refused = st.integers(1, 40).map(lambda number: trade(number, price="1e200000"))
batches = st.lists(market_records() | refused, min_size=1, max_size=25).map(lambda records: Append(tuple(records)))
steps = st.lists(
    batches | st.floats(0, 25).map(Crash) | st.integers(1, 2).map(LoseReplies),
    min_size=1,
    max_size=8,
)
journal_options = st.sampled_from([{}, {"file_bytes": 800}, {"memory_bytes": 1, "file_bytes": 2000}])


class Process:
    """One life of the daemon's durable part."""

    def __init__(self, state_dir: Path, dsn: str, options: dict[str, int]) -> None:
        self.metrics = Metrics()
        self.journal = Journal(state_dir, JournalConfig.model_validate(options), self.metrics)
        self.journal.open()
        self.cursor = self.journal.cursor("timescale")
        self.sink = TimescaleSink(
            cursor=self.cursor,
            journal_ids=lambda: self.journal.journal_ids,
            connect=lambda: LosesReplies.connect(dsn, call_timeout_s=5),
            config=DatabaseConfig(dsn=dsn, flush_ms=1, max_flush_records=40),
            metrics=self.metrics,
        )
        self.task = asyncio.create_task(self.sink.run())

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        self.journal.close()

    async def drain(self) -> None:
        self.sink.finish()
        await asyncio.wait_for(self.task, 60)
        self.journal.close()


async def play(script: list[object], options: dict[str, int], dsn: str) -> tuple[list[Record], Process]:
    """Carry the steps out; every journaled record, and the last process."""
    journaled: list[Record] = []
    LosesReplies.lose(iter(()))
    with tempfile.TemporaryDirectory() as folder:
        process = Process(Path(folder), dsn, options)
        for step in script:
            if isinstance(step, Append):
                await process.journal.append(list(step.records))
                journaled += step.records
            elif isinstance(step, Crash):
                await asyncio.sleep(step.after_ms / 1000)
                await process.crash()
                process = Process(Path(folder), dsn, options)
            elif isinstance(step, LoseReplies):
                LosesReplies.lose(repeat(True, step.count))
        await process.drain()
        return journaled, process


def expected(journaled: list[Record]) -> dict[str, Counter[tuple[object, ...]]]:
    """What each table must hold: the first of a key stays, the last candle of a key stays, the rest is kept whole."""
    keyed: dict[str, dict[tuple[object, ...], tuple[object, ...]]] = {name: {} for name in TABLES}
    whole: dict[str, list[tuple[object, ...]]] = {name: [] for name in TABLES}
    for record in journaled:
        if isinstance(record, Trade) and record.price == "1e200000":
            whole["rejected_records"].append((record.trade_id,))
        elif isinstance(record, Trade):
            key = (record.symbol, record.trade_id, record.time)
            keyed["trades"].setdefault(key, (*key, record.price, record.quantity, record.side))
        elif isinstance(record, Tick):
            whole["market_ticks"].append((record.symbol, record.time, record.bid_price, record.ask_price))
        elif isinstance(record, OpenInterest):
            keyed["oi_snapshots"].setdefault((record.symbol, record.time), (record.time, record.open_interest))
        elif isinstance(record, Funding):
            keyed["funding"].setdefault((record.symbol, record.time), (record.time, record.funding_rate))
        elif isinstance(record, Candle):
            keyed["ohlcv_data"][(record.symbol, record.time)] = (record.time, record.close, record.volume)
        elif isinstance(record, Liquidation):
            numbers = (Decimal(record.price), Decimal(record.quantity))
            row = (record.time, record.side, *numbers, record.order_id)
            keyed["liquidations"].setdefault((record.symbol, record.time, record.side, *numbers), row)
        elif isinstance(record, MarkPrice):
            whole["mark_prices"].append((record.time, record.mark_price, record.index_price))
        else:
            whole["order_book"].append((record.time,))
    return {name: Counter([*keyed[name].values(), *whole[name]]) for name in TABLES}


_MICROSECONDS = "(extract(epoch FROM time) * 1000000)::bigint"
_QUERIES = {
    "trades": f"SELECT symbol, trade_id, {_MICROSECONDS}, price::text, quantity::text, side FROM trades",
    "market_ticks": f"SELECT symbol, {_MICROSECONDS}, bid_price::text, ask_price::text FROM market_ticks",
    "order_book": f"SELECT {_MICROSECONDS} FROM order_book",
    "oi_snapshots": f"SELECT {_MICROSECONDS}, open_interest::text FROM oi_snapshots",
    "funding": f"SELECT {_MICROSECONDS}, funding_rate::text FROM funding",
    "ohlcv_data": f"SELECT {_MICROSECONDS}, close::text, volume::text FROM ohlcv_data",
    "liquidations": f"SELECT {_MICROSECONDS}, side, price, quantity, order_id FROM liquidations",
    "mark_prices": f"SELECT {_MICROSECONDS}, mark_price::text, index_price::text FROM mark_prices",
    "rejected_records": "SELECT record->>'trade_id' FROM rejected_records",
}


async def stored(db: Database) -> dict[str, Counter[tuple[object, ...]]]:
    return {name: Counter(tuple(row.values()) for row in await db.fetch(_QUERIES[name])) for name in TABLES}


async def check(script: list[object], options: dict[str, int], dsn: str) -> None:
    db = await Database.connect(dsn)
    try:
        await db.execute(f"TRUNCATE {', '.join(TABLES)}, ingest_positions")
        journaled, process = await play(script, options, dsn)
        assert await stored(db) == expected(journaled)
        metrics, totals = process.metrics, process.metrics.totals
        came = sum(totals(metrics.journaled).values()) + sum(process.cursor.recovered.values())
        went = [sum(totals(counter).values()) for counter in (metrics.stored, metrics.duplicate, metrics.rejected)]
        assert came == sum(went), "the last process counted wrongly"
    finally:
        await db.close()


@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=steps, options=journal_options)
def test_the_tables_equal_the_journal(database: DatabaseForTest, script: list[object], options: dict[str, int]) -> None:
    asyncio.run(check(script, options, database.dsn))
