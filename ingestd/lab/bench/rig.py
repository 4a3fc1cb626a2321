"""The processes under measurement: a database server, a venue and the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from ingestd.clock import monotonic_s
from ingestd.config import dsn as config_dsn
from ingestd.config import loading as configuration
from ingestd.config.toml_text import to_toml
from ingestd.lab.demo import run
from ingestd.lab.demo.run import DemoError
from ingestd.lab.sim.child import free_port
from ingestd.lab.sim.embedded import EmbeddedPostgres, wheel_binaries
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate

Say = Callable[[str], None]
Sections = Mapping[str, Any]

_READY_S = 60.0
_POLL_S = 0.1
_NO_PROGRESS_S = 20.0  # if nothing arrives for this long, nothing more will
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
        name = f"ingestd_bench_{secrets.token_hex(4)}"
        await self._administer(f'CREATE DATABASE "{name}"')
        try:
            dsn = config_dsn.changed(self.dsn, dbname=name)
            async with connected(dsn) as database:
                await migrate(database, configuration.parse({"database": {"dsn": dsn}, **(sections or {})}, {}))
            yield dsn
        finally:
            await self._administer(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def admit(self, dsn: str, *, admitted: bool) -> None:
        """Allow or refuse connections to the database; refusing also ends the existing ones."""
        name = config_dsn.read(dsn)["dbname"]
        await self._administer(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS {"true" if admitted else "false"}')
        if not admitted:
            async with connected(self.dsn) as database:
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
                )

    async def _administer(self, sql: str) -> None:
        async with connected(self.dsn) as database:
            await database.execute(sql)


@contextlib.asynccontextmanager
async def server(dsn: str | None, say: Say) -> AsyncIterator[Server]:
    """The given server, or an embedded one for this run."""
    if dsn is not None:
        yield await _described(dsn)
        return
    say("starting an embedded PostgreSQL")
    embedded = EmbeddedPostgres(settings={"track_commit_timestamp": "on", "max_wal_size": "4GB"})
    await asyncio.to_thread(embedded.start)
    try:
        yield await _described(embedded.dsn())
    finally:
        await asyncio.to_thread(embedded.stop)


async def _described(dsn: str) -> Server:
    async with connected(dsn) as database:
        version = str(await database.fetchval("SHOW server_version")).split()[0]
        extension = await database.fetchval(
            "SELECT default_version FROM pg_available_extensions WHERE name = 'timescaledb'"
        )
        stamps = await database.fetchval("SHOW track_commit_timestamp") == "on"
    return Server(dsn, f"PostgreSQL {version}" + (f", TimescaleDB {extension}" if extension else ""), stamps)


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Database]:
    """A connection for the benchmark's own queries."""
    database = await Database.connect(dsn, application_name="ingestd bench", call_timeout_s=600)
    try:
        yield database
    finally:
        await database.close()


async def emptied(database: Database, table: str = "trades") -> None:
    """Empty the table and run a checkpoint, so that no writes are pending."""
    await database.execute(f"TRUNCATE {table}")
    await database.execute("CHECKPOINT")


async def psql(dsn: str, command: str) -> float:
    """Seconds that psql takes to run `command`. Raises DemoError if it fails."""
    started_s = monotonic_s()
    options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1")
    # Not as an argument: every user of the machine can see a process's arguments.
    parameters = config_dsn.read(dsn)
    environment = os.environ | {"PGPASSWORD": parameters.pop("password", os.environ.get("PGPASSWORD", ""))}
    process = await asyncio.create_subprocess_exec(
        str(wheel_binaries() / "psql"), *options, "--command", command, config_dsn.render(parameters), env=environment
    )
    if await process.wait() != 0:
        raise DemoError("psql failed; its message is above")
    return monotonic_s() - started_s


@dataclass(frozen=True, slots=True)
class Venue:
    """A running simulator."""

    url_map: dict[str, str]
    control: str
    exchange: str
    symbols: list[str]
    http: aiohttp.ClientSession

    async def start(self) -> None:
        """Start sending (the simulator was started with `--hold`)."""
        async with self.http.post(f"{self.control}/_sim/start") as reply:
            reply.raise_for_status()

    async def ledger(self) -> dict[str, Any]:
        """What the venue sent, and when."""
        async with self.http.get(f"{self.control}/_sim/ledger") as reply:
            reply.raise_for_status()
            document: dict[str, Any] = await reply.json()
            return document

    async def until(self, holds: Callable[[dict[str, Any]], bool], within_s: float = _READY_S) -> dict[str, Any]:
        """Wait until the condition holds for the ledger, and return it. Raises DemoError on a timeout."""
        deadline_s = monotonic_s() + within_s
        while not holds(ledger := await self.ledger()):
            if monotonic_s() > deadline_s:
                raise DemoError(f"the simulator's ledger stayed at {ledger} for {within_s:g} s")
            await asyncio.sleep(_POLL_S)
        return ledger

    def feed(self, decoder: str, channels: Sequence[str] = ("trades",)) -> dict[str, Any]:
        """The `[[feeds]]` section that reads this venue."""
        return {
            "exchange": self.exchange,
            "decoder": decoder,
            "channels": list(channels),
            "symbols": self.symbols,
            "url_map": self.url_map,
        }


@contextlib.asynccontextmanager
async def venue(*arguments: object) -> AsyncIterator[Venue]:
    """Run `python -m ingestd.lab.sim` with these arguments."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingestd.lab.sim", *map(str, arguments), stdout=asyncio.subprocess.PIPE, limit=2**20
    )
    assert process.stdout is not None, "it was asked for"
    try:
        async with asyncio.timeout(_READY_S):
            line = await process.stdout.readline()
        if not line:
            raise DemoError("the simulator ended before it served; its own message is above")
        ready = json.loads(line)
        async with aiohttp.ClientSession() as http:
            yield Venue(ready["url_map"], ready["control"], ready["exchange"], ready["symbols"], http)
    finally:
        await run.end(process, signal.SIGTERM)


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


@dataclass(frozen=True, slots=True)
class Daemon:
    """The real daemon in a separate process."""

    process: asyncio.subprocess.Process
    metrics_url: str
    log_file: Path
    http: aiohttp.ClientSession

    @property
    def pid(self) -> int:
        return self.process.pid

    async def counted(self, counter: str, by: str = "") -> dict[str, int]:
        """One of the daemon's counters by one of its labels."""
        if self.process.returncode is not None:
            raise DemoError(f"the daemon ended with {self.process.returncode}\n{self._last_words()}")
        return await run.totals(self.http, self.metrics_url, counter, by)

    async def received(self) -> int:
        return sum((await self.counted("ingestd_records_received_total")).values())

    async def stored(self, sink: str = "timescale") -> int:
        return (await self.counted("ingestd_records_stored_total", "sink")).get(sink, 0)

    async def until_stored(self, count: int, sinks: Sequence[str] = ("timescale",)) -> float:
        """Wait until each sink has stored that many records; return the monotonic time of the last (to 0.1 s).

        Raises DemoError if the sinks stop before that.
        """
        last, since_s = -1, monotonic_s()
        while True:
            found = await self.counted("ingestd_records_stored_total", "sink")
            least = min(found.get(sink, 0) for sink in sinks)
            if least >= count:
                return monotonic_s()
            if least != last:
                last, since_s = least, monotonic_s()
            elif monotonic_s() - since_s > _NO_PROGRESS_S:
                raise DemoError(f"stored {found}, not {count}\n{self._last_words()}")
            await asyncio.sleep(_POLL_S)

    def _last_words(self) -> str:
        return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])


@contextlib.asynccontextmanager
async def daemon(
    feeds: Sequence[Sections], sections: Sections, *, shard: str | None = None, folder: Path | None = None
) -> AsyncIterator[Daemon]:
    """Run `ingestd run`, killed at the end. `folder` keeps its state beyond this run."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as temporary:
        home = folder or Path(temporary)
        port = free_port()
        document = {
            "instance": {"name": "bench", "state_dir": str(home / "state")},
            "log": {"format": "json"},
            "http": {"listen": f"127.0.0.1:{port}"},
            "backfill": {"enabled": False},
            **sections,
            "feeds": list(feeds),
        }
        config_file = home / "bench.toml"
        config_file.write_text(to_toml(document), encoding="utf-8")
        log_file = home / "daemon.log"
        arguments = ["-m", "ingestd", "run", "-c", str(config_file), *(["--shard", shard] if shard else [])]
        with log_file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *arguments, stdout=log, stderr=log, env=run.environment()
            )
        try:
            async with aiohttp.ClientSession() as http:
                yield Daemon(process, f"http://127.0.0.1:{port}/metrics", log_file, http)
        finally:
            await run.end(process, signal.SIGKILL)


async def commit_ages_ms(
    database: Database, table: str, since_us: int, shares: Sequence[float], column: str = "time"
) -> list[float]:
    """Time from `column` to the commit of the table's rows, by the server's timestamps; in milliseconds at these
    percentile shares (1: the maximum)."""
    ages = await database.fetchval(
        f"SELECT percentile_disc($2::float8[]) WITHIN GROUP (ORDER BY extract(epoch FROM"  # noqa: S608 - names of ours
        f" pg_xact_commit_timestamp(xmin) - {column}) * 1000)"
        f" FROM {table} WHERE {column} >= to_timestamp($1::float8 / 1e6)",
        since_us,
        list(shares),
    )
    return [float(age) for age in ages or ()]


async def last_commit_us(database: Database, table: str) -> int:
    """Commit time of the newest row, in microseconds since the epoch."""
    seconds = await database.fetchval(
        f"SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin))) FROM {table}"  # noqa: S608 - a name of ours
    )
    return int(float(seconds) * 1e6)
