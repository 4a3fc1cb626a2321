"""Database servers for tests: embedded PostgreSQL always, TimescaleDB where this machine has it.

`database` gives a migrated, empty database of its own to each test, on each engine. What cannot run is skipped with
the reason.
"""

from __future__ import annotations

import asyncio
import functools
import os
import subprocess
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from ingestd.config.loading import parse
from ingestd.config.models import Config
from ingestd.lab.sim.embedded import EmbeddedPostgres
from ingestd.storage.database import Database
from ingestd.storage.engine import EngineChoice
from ingestd.storage.migrate import migrate
from tests.support.fast_disk import fastest_folder
from tests.support.pgbouncer import WANTED, pooled
from tests.support.server_kinds import kinds_for

Result = TypeVar("Result")

ENGINES = ("postgres", "timescaledb")
_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "max_wal_size": "128MB",
}
_TIMESCALE = {
    "shared_preload_libraries": "timescaledb",
    "timescaledb.telemetry_level": "off",
    # No policy runs by itself: a test that wants a job's work calls it, and no worker holds a template open.
    "timescaledb.max_background_workers": "0",
}


@dataclass
class Server:
    """A running server: where it is, and its migrated template (made on first use)."""

    engine: str
    admin_dsn: str
    template: str | None = None
    pooler_dsn: str | None = None  # of the PgBouncer in front of it, where there is one
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def dsn(self, database: str) -> str:
        return urlunsplit(urlsplit(self.admin_dsn)._replace(path=f"/{database}"))

    def dsn_for_tests(self, database: str) -> str:
        """By way of the pooler where there is one."""
        return urlunsplit(urlsplit(self.pooler_dsn or self.admin_dsn)._replace(path=f"/{database}"))

    def direct(self) -> Server:
        """The same without its pooler: for other roles, and for what is set on a session."""
        return self if self.pooler_dsn is None else Server(self.engine, self.admin_dsn, self.template)

    def migrated_template(self) -> str:
        """The name of a database that holds the whole schema, to be cloned."""
        with self._lock:
            if self.template is None:
                name = _new_name("template")
                run_apart(_admin(self.admin_dsn, f'CREATE DATABASE "{name}"'))
                run_apart(_migrate(self.dsn(name), self.engine))
                self.template = name
        return self.template


@dataclass(frozen=True)
class DatabaseForTest:
    """A database of one test. `engine` is `postgres` or `timescaledb`."""

    dsn: str
    engine: str

    @property
    def choice(self) -> EngineChoice:
        """What to ask `migrate` for."""
        return "timescaledb" if self.engine == "timescaledb" else "postgres"

    async def connect(self, **options: Any) -> Database:
        """A connection the test closes itself."""
        return await Database.connect(self.dsn, **options)


def default_config(**sections: Any) -> Config:
    """The default configuration with some sections replaced: `default_config(retention={"trades_days": 7})`."""
    return parse(dict(sections), environ={})


def run_apart(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end in a thread of its own, so that fixtures of any scope may."""
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as exc:
            failure.append(exc)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def timescaledb_binaries() -> Path | None:
    """The folder of a PostgreSQL server on this machine that has the TimescaleDB extension, or None."""
    for binaries in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        config = binaries / "pg_config"
        if not config.exists() or not (binaries / "initdb").exists():
            continue
        share = subprocess.run([config, "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
        if (Path(share) / "extension" / "timescaledb.control").exists():
            return binaries
    return None


@functools.cache
def has_timescaledb() -> bool:
    """Whether there is one to test with."""
    return "INGESTD_TEST_DSN" in os.environ or timescaledb_binaries() is not None


@contextmanager
def running_server(engine: str, **settings: str) -> Iterator[Server]:
    """A server of this engine, behind PgBouncer if that is asked for; skips the test, with the reason, where there is
    none."""
    with ExitStack() as stack:
        server = stack.enter_context(_server(engine, **settings))
        if WANTED:
            server.pooler_dsn = stack.enter_context(pooled(server.admin_dsn))
        yield server


@contextmanager
def _server(engine: str, **settings: str) -> Iterator[Server]:
    binaries = None
    settings = {**_FAST, **settings}
    if engine == "timescaledb":
        external = os.environ.get("INGESTD_TEST_DSN")
        if external is not None:
            yield Server(engine, external)
            return
        binaries = timescaledb_binaries()
        if binaries is None:
            pytest.skip("no TimescaleDB: no server on this machine has the extension and INGESTD_TEST_DSN is not set")
        settings = {**_TIMESCALE, **settings}
    with (
        tempfile.TemporaryDirectory(prefix="ingestd-postgres-", dir=fastest_folder()) as folder,
        EmbeddedPostgres(Path(folder), binaries=binaries, settings=settings) as server,
    ):
        yield Server(engine, server.dsn())


@contextmanager
def temporary_database(server: Server, *, migrated: bool = True) -> Iterator[DatabaseForTest]:
    """A database of its own on a server, dropped at the end."""
    name = _new_name("test")
    template = server.migrated_template() if migrated else None
    clause = f' TEMPLATE "{template}"' if template else ""
    run_apart(_admin(server.admin_dsn, f'CREATE DATABASE "{name}"{clause} STRATEGY FILE_COPY'))
    try:
        yield DatabaseForTest(server.dsn_for_tests(name), server.engine)
    finally:
        run_apart(_admin(server.admin_dsn, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The embedded PostgreSQL of this run."""
    with running_server("postgres") as server:
        yield server


@pytest.fixture(scope="session")
def timescaledb_server() -> Iterator[Server]:
    """The TimescaleDB server of this run, or a skip with the reason."""
    with running_server("timescaledb") as server:
        yield server


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each engine in turn."""
    if "database_server" in metafunc.fixturenames:
        preferred = "timescaledb" if has_timescaledb() else "postgres"
        metafunc.parametrize("database_server", kinds_for(metafunc, ENGINES, preferred), indirect=True)


@pytest.fixture
def database_server(request: pytest.FixtureRequest) -> Server:
    """One engine's server."""
    found: Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def database(database_server: Server) -> Iterator[DatabaseForTest]:
    """A migrated database, on each engine in turn."""
    with temporary_database(database_server) as created:
        yield created


@pytest.fixture
def empty_database(database_server: Server) -> Iterator[DatabaseForTest]:
    """A database without any schema, on each engine in turn."""
    with temporary_database(database_server, migrated=False) as created:
        yield created


@pytest.fixture
def postgres_database(postgres_server: Server) -> Iterator[DatabaseForTest]:
    """A migrated database on the embedded PostgreSQL only."""
    with temporary_database(postgres_server) as created:
        yield created


@pytest.fixture
def timescaledb_database(timescaledb_server: Server) -> Iterator[DatabaseForTest]:
    """A migrated database on TimescaleDB only, or a skip with the reason."""
    with temporary_database(timescaledb_server) as created:
        yield created


@pytest.fixture
async def db(database: DatabaseForTest) -> AsyncIterator[Database]:
    """A connection to `database`."""
    connection = await database.connect(application_name="test")
    yield connection
    await connection.close()


def _new_name(kind: str) -> str:
    return f"ingestd_{kind}_{uuid.uuid4().hex[:12]}"


async def _migrate(dsn: str, engine: str) -> None:
    db = await Database.connect(dsn)
    try:
        await migrate(db, default_config(), engine="timescaledb" if engine == "timescaledb" else "postgres")
    finally:
        await db.close()


async def _admin(dsn: str, sql: str) -> None:
    db = await Database.connect(dsn, connect_timeout_s=20)
    try:
        await db.execute(sql)
    finally:
        await db.close()
