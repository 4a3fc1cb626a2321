"""What it costs to tell gaps and rejections in `audit.system_events`: `python -m benchmarks.system_events [trades]`.

Flushes of trades alone, of trades with one gap each, and of gaps or rejections alone, with the triggers of migration
0021 and without them. The rounds alternate, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence

from ingestd.clock import now_us
from ingestd.records import FeedGap, Record, Rejected
from ingestd.storage.database import Database
from ingestd.storage.writer.writer import prepare, write
from tests.support.postgres import has_timescaledb, running_server, temporary_database
from tests.support.records import trade

FLUSH_ROWS = 5000
SYMBOLS = 50
ROUNDS = 7
MANY = 10_000
TRIGGERS = (("feed_gaps", "ingestd_gaps_told"), ("rejected_records", "ingestd_rejections_told"))


def gaps(count: int, began_us: int) -> list[Record]:
    """Gaps that differ by when they began."""
    return [
        FeedGap("binance", f"S{number % SYMBOLS}/USDT", began_us + number, began_us, "trades", None, "disconnect", None)
        for number in range(count)
    ]


def flushes(kind: str, trades: int, began_us: int) -> list[list[Record]]:
    """What the sink would store in one round."""
    if kind == "gaps alone":
        return [gaps(MANY, began_us)]
    if kind == "rejections alone":
        return [[Rejected("binance", "S/USDT", began_us, began_us, "trades", "of a test", "{}") for _ in range(MANY)]]
    made: list[list[Record]] = [
        [trade(first + number, symbol=f"S{number % SYMBOLS}/USDT", time=began_us) for number in range(FLUSH_ROWS)]
        for first in range(0, trades, FLUSH_ROWS)
    ]
    if kind == "trades with a gap a flush":
        for number, records in enumerate(made):
            records += gaps(1, began_us + number)
    return made


async def round_s(db: Database, work: Sequence[Sequence[Record]]) -> float:
    """How long it takes to store this on empty tables; the rows are made before the clock starts."""
    await db.execute("TRUNCATE trades, feed_gaps, rejected_records, audit.system_events")
    ready = [prepare([], records, db.names) for records in work]
    started_s = time.monotonic()
    for flush in ready:
        await write(db, flush)
    return time.monotonic() - started_s


async def measure(engine: str, dsn: str, trades: int) -> None:
    db = await Database.connect(dsn, call_timeout_s=120)
    for kind in ("trades alone", "trades with a gap a flush", "gaps alone", "rejections alone"):
        took: dict[str, list[float]] = {"ENABLE": [], "DISABLE": []}
        for number in range(ROUNDS + 1):
            for state in sorted(took, reverse=bool(number % 2)):
                for table, trigger in TRIGGERS:
                    await db.execute(f"ALTER TABLE {table} {state} TRIGGER {trigger}")
                seconds = await round_s(db, flushes(kind, trades, now_us()))
                if number:  # the first round warms up
                    took[state].append(seconds)
        told, untold = (statistics.median(took[state]) for state in ("ENABLE", "DISABLE"))
        ratios = statistics.median(a / b for a, b in zip(took["ENABLE"], took["DISABLE"], strict=True))
        print(f"{engine}: {kind}: {told:.3f} s told, {untold:.3f} s untold, {ratios:.3f} x", flush=True)
    await db.close()


def main() -> None:
    trades = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for engine in ("postgres", *(("timescaledb",) if has_timescaledb() else ())):
        with running_server(engine) as server, temporary_database(server) as database:
            asyncio.run(measure(engine, database.dsn, trades))


if __name__ == "__main__":
    main()
