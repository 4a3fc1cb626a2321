"""What the server takes by COPY: `python -m benchmarks.copying [rows]`.

One, two and four connections into `trades`, in transactions of 10,000 rows; one with an index by time
(`database.time_indexes`); and ticks with and without `database.direct_compress` on TimescaleDB, with the room that they
take. The rows are text before the clock starts, and the rounds alternate, so that what else the machine does hits all
alike.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence

from ingestd.clock import now_us
from ingestd.records import Record
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from ingestd.storage.writer.rows import RowMaker, Rows
from ingestd.storage.writer.writer import DIRECT_COMPRESS
from ingestd.venues.market_names import Names
from tests.support.postgres import (
    DatabaseForTest,
    default_config,
    has_timescaledb,
    running_server,
    temporary_database,
)
from tests.support.records import tick, trade

TRANSACTION_ROWS = 10_000
SYMBOLS = 20
ROUNDS = 5


def portions(records: Sequence[Record]) -> list[Rows]:
    """The rows of each transaction, as COPY text."""
    made: list[Rows] = []
    for start in range(0, len(records), TRANSACTION_ROWS):
        maker = RowMaker(Names())
        maker.add(records[start : start + TRANSACTION_ROWS])
        made += maker.rows().values()
    return made


async def copy(
    database: DatabaseForTest, table: str, parts: Sequence[Rows], connections: int, *, direct: bool
) -> float:
    """Rows a second with so many connections at once."""
    opened = [await Database.connect(database.dsn, call_timeout_s=60) for _ in range(connections)]
    queue = list(parts)

    async def work(db: Database) -> int:
        stored = 0
        while queue:
            rows = queue.pop()
            async with db.transaction():
                if direct:
                    await db.script(f"SET LOCAL {DIRECT_COMPRESS} = on")
                stored += await db.copy_text(table, rows.columns, rows.payload)
        return stored

    started_s = time.monotonic()
    stored = sum(await asyncio.gather(*(work(db) for db in opened)))
    took_s = time.monotonic() - started_s
    for db in opened:
        await db.close()
    return stored / took_s


async def index_by_time(database: DatabaseForTest) -> None:
    """Make the second index of `trades`."""
    db = await Database.connect(database.dsn)
    await migrate(db, default_config(database={"dsn": database.dsn, "time_indexes": ["trades"]}))
    await db.close()


async def room_bytes(database: DatabaseForTest) -> int:
    """What the ticks take, indexes too."""
    db = await Database.connect(database.dsn)
    found = await db.fetchval("SELECT sum(total_bytes) FROM hypertable_detailed_size('market_ticks')")
    await db.close()
    return int(found)


async def main(rows: int) -> None:
    now = now_us()
    names = [f"S{number}/USDT" for number in range(SYMBOLS)]
    trades = portions([trade(n, symbol=names[n % SYMBOLS], time=now + n, received_at=now + n) for n in range(rows)])
    ticks = portions([tick(n, symbol=names[n % SYMBOLS], time=now + n, received_at=now + n) for n in range(rows)])
    for engine in ("postgres", "timescaledb"):
        if engine == "timescaledb" and not has_timescaledb():
            print("timescaledb: not measured, there is none here")
            continue
        with running_server(engine, fsync="on", synchronous_commit="on", full_page_writes="on") as server:
            rates: dict[str, list[float]] = {}
            room: dict[str, int] = {}
            for _ in range(ROUNDS):
                for connections in (1, 2, 4):
                    with temporary_database(server) as database:
                        rate = await copy(database, "trades", trades, connections, direct=False)
                        rates.setdefault(f"trades, {connections} connections", []).append(rate)
                with temporary_database(server) as database:
                    await index_by_time(database)
                    rate = await copy(database, "trades", trades, 1, direct=False)
                    rates.setdefault("trades, 1 connections, index by time", []).append(rate)
                for direct in (False, True) if engine == "timescaledb" else (False,):
                    with temporary_database(server) as database:
                        name = f"ticks{', direct_compress' if direct else ''}"
                        rate = await copy(database, "market_ticks", ticks, 1, direct=direct)
                        rates.setdefault(name, []).append(rate)
                        if engine == "timescaledb":
                            room[name] = await room_bytes(database)
        for name, found in rates.items():
            size = f", {room[name] / rows:.0f} bytes a row" if name in room else ""
            print(
                f"{engine}: {name}: {statistics.median(found):,.0f} rows/s of {[round(rate) for rate in found]}{size}"
            )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))
