"""What the documents' reads cost: `python -m benchmarks.reads [rounds] [symbols]`.

Every read of a view that a document prints or describes (`tests/sources/*/*.toml`) against the same read on the tables
behind it: 8,000 rows a symbol in each market table, on TimescaleDB all but the last day columnar. A view of several
tables is compared with reading one after the other. View and tables take turns, and the medians count. `processor` is
the time that the server's process computed; other work on the machine changes it less than the latency.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.market import CONFIG, load
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from ingestd.storage.migrations import read_sql
from tests.support.postgres import (
    ENGINES,
    DatabaseForTest,
    default_config,
    has_timescaledb,
    running_server,
    temporary_database,
)
from tests.support.sources import DOCUMENTS, Fixture, fixtures

ROUNDS = 21
SYMBOLS = 200
_LONGEST_S = 20.0  # a read that takes long is repeated for so long, or runs once

_MILLIONS = {"45_minutes_since_2020"}  # more rows than a client keeps in memory beside the servers


@dataclass
class Measured:
    """Milliseconds of one read, in each round: until the rows are here, and of the server's processor."""

    latency: list[float]
    processor: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.latency), statistics.median(self.processor)


class Client:
    """A connection that reads rows and looks at none."""

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._processor = Path(f"/proc/{self._connection.info.backend_pid}/schedstat")
        self._connection.execute("SET timezone = 'UTC'")

    def close(self) -> None:
        self._connection.close()

    def look_in(self, search_path: str) -> None:
        self._connection.pgconn.exec_(f"SET search_path = {search_path}".encode())

    def read(self, statements: Sequence[str], into: Measured, *, streamed: bool) -> int:
        """Run them one after the other. Returns the number of rows. `streamed`: the server writes them to nowhere."""
        before, started_s, rows = self._computed_ms(), time.perf_counter(), 0
        for sql in statements:
            if streamed:
                sql = f"COPY ({sql.strip().rstrip(';')}) TO '/dev/null'"
            result = self._connection.pgconn.exec_(sql.encode())
            if result.status not in (psycopg.pq.ExecStatus.TUPLES_OK, psycopg.pq.ExecStatus.COMMAND_OK):
                raise RuntimeError(f"{sql}: {result.error_message.decode()}")
            rows += result.command_tuples or 0
        into.latency.append((time.perf_counter() - started_s) * 1000)
        into.processor.append(self._computed_ms() - before)
        return rows

    def _computed_ms(self) -> float:
        return int(self._processor.read_text(encoding="ascii").split()[0]) / 1e6


def statement(fixture: Fixture) -> str:
    return fixture.sql if fixture.verdict == "read" else fixture.replacement


def fetched_candles() -> str:
    """What `fetch_candles` of the repository sends, for three days of minutes."""
    values = ("'binance'", "'BTCUSDT'", "NOW() - INTERVAL '3 days'", "NOW()", "'trades'")
    sql = read_sql("queries/repository/candles.sql")
    for number, value in enumerate(values, 1):
        sql = sql.replace(f"${number}::", f"({value})::")
    return sql


FETCHED = (
    "SELECT * FROM public.candles_1m WHERE exchange = 'binance' AND symbol = 'BTCUSDT'"
    " AND bucket_start >= NOW() - INTERVAL '3 days' AND bucket_start <= NOW() ORDER BY bucket_start",
    "SELECT * FROM public.ohlcv_data WHERE exchange = 'binance' AND symbol = 'BTCUSDT' AND timeframe = '1m'"
    " AND time >= NOW() - INTERVAL '3 days' AND time <= NOW() ORDER BY time",
)
"""The same minutes in both of its tables."""


def compare(client: Client, view: str, tables: Sequence[str], rounds: int, *, streamed: bool = False) -> str:
    """A row of the table."""
    of_view, of_tables, warm = Measured([], []), Measured([], []), Measured([], [])
    rows = client.read([view], warm, streamed=streamed)
    client.read(tables, warm, streamed=streamed)
    until_s = time.monotonic() + _LONGEST_S
    for number in range(rounds):
        if number and time.monotonic() > until_s:
            break
        client.read([view], of_view, streamed=streamed)
        client.read(tables, of_tables, streamed=streamed)
    (view_ms, view_processor), (tables_ms, tables_processor) = of_view.medians, of_tables.medians
    return (
        f"{rows:,} | {view_ms:,.2f} ms | {tables_ms:,.2f} ms{' (two)' if len(tables) == 2 else ''} |"
        f" {view_ms / tables_ms:.2f} | {view_processor / tables_processor:.2f} |"
    )


def measure(database: DatabaseForTest, rounds: int) -> None:
    print(f"\n| read ({database.engine}) | rows | view | tables | latency | processor |\n|---|---|---|---|---|---|")
    client = Client(database.dsn)
    for name, document in DOCUMENTS.items():
        client.look_in(document.search_path)
        for fixture in fixtures(name):
            if fixture.tables:
                streamed = fixture.name in _MILLIONS
                row = compare(client, statement(fixture), fixture.tables, rounds, streamed=streamed)
                print(f"| {name} `{fixture.name}` | {row}", flush=True)
    client.look_in("public")
    print(f"| `repository.fetch_candles` | {compare(client, fetched_candles(), FETCHED, rounds)}")
    client.close()


async def prepare(database: DatabaseForTest, symbols: int) -> None:
    db = await Database.connect(database.dsn, call_timeout_s=1800)
    try:
        await migrate(db, default_config(**CONFIG), engine=database.choice)
        await load(db, symbols)
    finally:
        await db.close()


def main(rounds: int, symbols: int) -> None:
    for engine in ENGINES:
        if engine == "timescaledb" and not has_timescaledb():
            print("timescaledb: not measured, there is none here")
            continue
        settings = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
        with running_server(engine, **settings) as server, temporary_database(server, migrated=False) as database:
            asyncio.run(prepare(database, symbols))
            measure(database, rounds)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*(given + [ROUNDS, SYMBOLS][len(given) :]))
