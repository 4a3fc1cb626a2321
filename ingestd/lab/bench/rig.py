"""The server and the daemon under measurement, and what the machine says of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestd.clock import monotonic_s
from ingestd.config import dsn as config_dsn
from ingestd.lab.demo import processes
from ingestd.lab.demo.processes import Daemon, LabError, Say, Venue, connected, migrated, new_database
from ingestd.lab.sim.embedded import EmbeddedPostgres, wheel_binaries
from ingestd.lab.sim.embedded_kafka import EmbeddedKafka
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.storage.database import Database
from ingestd.storage.writer.tables import TABLES

Sections = Mapping[str, Any]

COLUMNS = ", ".join(TABLES["trades"].columns)
_PATTERNS = ("market_data:*", "trades:*")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Plan:
    """The benchmark's settings from the command line."""

    quick: bool = False
    rows: int = 600_000
    rounds: int = 3
    seconds: float = 15.0
    outage_s: float = 600.0
    symbols: int = 20
    captures: Path | None = None
    kafka: str | None = None
    say: Say = field(default=lambda _: None)


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server; `stamps_commits`: it records commit timestamps."""

    dsn: str
    version: str
    stamps_commits: bool

    @contextlib.asynccontextmanager
    async def database(self, sections: Sections | None = None) -> AsyncIterator[str]:
        """Create a temporary database with this version's tables and yield its DSN; drop it at the end."""
        async with new_database(self.dsn, "bench") as dsn:
            await migrated(dsn, {"database": {"dsn": dsn}, **(sections or {})})
            yield dsn

    async def admit(self, dsn: str, *, admitted: bool) -> None:
        """Allow or refuse connections to the database; refusing also ends the existing ones."""
        name = config_dsn.read(dsn)["dbname"]
        async with connected(self.dsn) as database:
            await database.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {"true" if admitted else "false"}')
            if not admitted:
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
                )


@contextlib.asynccontextmanager
async def server(dsn: str | None, say: Say) -> AsyncIterator[Server]:
    """The given server, or an embedded one for this run."""
    if dsn is not None:
        yield await _described(dsn)
        return
    say("starting an embedded PostgreSQL")
    async with EmbeddedPostgres(settings={"track_commit_timestamp": "on", "max_wal_size": "4GB"}) as embedded:
        yield await _described(embedded.dsn())


async def _described(dsn: str) -> Server:
    async with connected(dsn) as database:
        version = str(await database.fetchval("SHOW server_version")).split()[0]
        extension = await database.fetchval(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
        )
        stamps = await database.fetchval("SHOW track_commit_timestamp") == "on"
    return Server(dsn, f"PostgreSQL {version}" + (f", TimescaleDB {extension}" if extension else ""), stamps)


async def emptied(database: Database) -> None:
    """Empty the table `trades` and run a checkpoint, so that no writes are pending."""
    await database.execute("TRUNCATE trades")
    await database.execute("CHECKPOINT")


async def psql(dsn: str, command: str) -> float:
    """Seconds that psql takes to run `command`. Raises LabError if it fails."""
    started_s = monotonic_s()
    options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    # Not as an argument: every user of the machine can see a process's arguments.
    parameters = config_dsn.read(dsn)
    environment = os.environ | {"PGPASSWORD": parameters.pop("password", os.environ.get("PGPASSWORD", ""))}
    process = await asyncio.create_subprocess_exec(
        str(wheel_binaries() / "psql"), *options, "--command", command, config_dsn.render(parameters), env=environment
    )
    if await process.wait() != 0:
        raise LabError("psql failed; its message is above")
    return monotonic_s() - started_s


async def psql_copy(dsn: str, file: Path, rows: int) -> float:
    """Seconds that psql takes to copy the file's rows, in one transaction, into the emptied table `trades`."""
    async with connected(dsn) as database:
        await emptied(database)
        took_s = await psql(dsn, f"\\copy trades ({COLUMNS}) FROM '{file}'")
        await check_stored(database, rows)
    return took_s


async def check_stored(database: Database, rows: int, table: str = "trades") -> None:
    """Raises LabError if the table does not have that many rows."""
    stored = await database.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a name of ours
    if stored != rows:
        raise LabError(f"{stored} of {rows} rows were stored in {table}: the measurement means nothing")


@contextlib.contextmanager
def broker(bootstrap: str | None) -> Iterator[dict[str, Any]]:
    """The `[kafka]` section of the given broker, or of an embedded one for this run."""
    if bootstrap is not None:
        yield {"bootstrap_servers": [bootstrap]}
        return
    with EmbeddedKafka() as embedded:
        yield embedded.settings()


def volley(symbols: int, rate: object, *options: object) -> AbstractAsyncContextManager[Venue]:
    """Run a simulator of made-up trades and best prices; `rate` is frames a second, or `max`."""
    return processes.venue("volley", "--symbols", symbols, "--rate", rate, *options)


@contextlib.asynccontextmanager
async def subscriber(port: int) -> AsyncIterator[dict[str, float]]:
    """Run a subscriber in a separate process; after the block, the dict holds its measurements."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingestd.lab.sim.subscriber", str(port), *_PATTERNS, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None, "it was asked for"
    await process.stdout.readline()
    summary: dict[str, float] = {}
    try:
        yield summary
        await asyncio.sleep(0.5)
    finally:
        process.send_signal(signal.SIGTERM)
        answer, _ = await process.communicate()
        summary.update(json.loads(answer))


@contextlib.asynccontextmanager
async def all_sinks(plan: Plan) -> AsyncIterator[dict[str, Any]]:
    """Start a Valkey with a subscriber and a broker; yield their configuration sections."""
    with EmbeddedValkey() as valkey, broker(plan.kafka) as kafka:
        async with subscriber(valkey.port):
            yield {"redis": {"url": valkey.url}, "kafka": kafka}


def processor_s(pid: int) -> float:
    """Processor time used by the process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    """The process's resident memory, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * _PAGE_BYTES / 2**20


def peak_mib(pid: int) -> float:
    """The process's peak resident memory, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@contextlib.asynccontextmanager
async def daemon(
    feeds: Sequence[Sections], sections: Sections, *options: str, folder: Path | None = None
) -> AsyncIterator[Daemon]:
    """Run `ingestd run` without backfill, killed at the end. `folder` keeps its state beyond this run."""
    own = {"instance": {"name": "bench"}, "backfill": {"enabled": False}}
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as temporary:
        document = {**own, **sections, "feeds": list(feeds)}
        async with processes.daemon(folder or Path(temporary), document, *options) as running:
            yield running


async def commit_ages_ms(database: Database, since_us: int, column: str = "time") -> list[float]:
    """Milliseconds from `column` to the commit of the trades since then, by the server's timestamps: median, 99th
    percentile and the maximum. Empty without trades."""
    ages = await database.fetchval(
        f"SELECT percentile_disc(ARRAY[0.5, 0.99, 1]) WITHIN GROUP (ORDER BY extract(epoch FROM"  # noqa: S608 - ours
        f" pg_xact_commit_timestamp(xmin) - {column}) * 1000)"
        f" FROM trades WHERE {column} >= to_timestamp($1::float8 / 1e6)",
        since_us,
    )
    return [float(age) for age in ages or ()]


async def last_commit_us(database: Database) -> int:
    """Commit time of the newest trade, in microseconds since the epoch."""
    seconds = await database.fetchval("SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin))) FROM trades")
    return int(float(seconds) * 1e6)
