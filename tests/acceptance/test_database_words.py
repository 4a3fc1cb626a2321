"""What each command says of a database that refuses it: which one, as whom, what to do; no traceback, no password."""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from ingestd.lab.sim.child import free_port
from ingestd.lab.sim.embedded import EmbeddedPostgres
from ingestd.storage.migrations import read_sql
from tests.acceptance.test_process import feed, market
from tests.support.daemon import ingestd, running, write_config
from tests.support.postgres import DatabaseForTest, Server, temporary_database

PASSWORD = "hunter2"
FEED = {"exchange": "binance", "channels": ["trades"], "symbols": ["BTC/USDT"]}
BACKFILL = ("backfill", "--exchange", "binance", "--symbol", "BTC/USDT", "--channel", "trades", "--from", "2026-01-01")
COMMANDS = (
    ("migrate",),
    ("migrate", "--dry-run"),
    ("migrate", "status"),
    ("migrate", "down", "--to", "0", "--yes"),
    ("gaps",),
    ("doctor",),
    BACKFILL,
    ("run",),
)


@pytest.fixture
def postgres_database(postgres_server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(postgres_server.direct()) as created:
        yield created


async def superuser(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def said(tmp_path: Path, dsn: str, command: tuple[str, ...]) -> str:
    """Standard error of a command that fails, which every one does in the same manner."""
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    config = write_config(folder, {"database": {"dsn": dsn, "connect_timeout_s": 2}, "feeds": [FEED]})
    code, _, error = await ingestd(*command, "-c", str(config))
    assert code == 1, (command, error)
    assert "Traceback" not in error, error
    assert PASSWORD not in error, error
    return error


def as_role(database: DatabaseForTest, role: str) -> str:
    return f"postgresql://{role}:{PASSWORD}@{database.dsn.rpartition('@')[2]}"


@pytest.fixture
async def role(postgres_database: DatabaseForTest) -> AsyncIterator[str]:
    """A role without any right, in a database that only its owner may change."""
    name = f"role_{uuid.uuid4().hex[:8]}"
    await superuser(
        postgres_database.dsn,
        f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",  # as of PostgreSQL 15
    )
    yield name
    await superuser(postgres_database.dsn, f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_who_may_nothing_is_told_the_grant(postgres_database: DatabaseForTest, tmp_path: Path, role: str) -> None:
    dsn, name = as_role(postgres_database, role), postgres_database.dsn.rpartition("/")[2]
    for command, grant in (
        (("gaps",), f'GRANT SELECT ON public.ingestd_settings TO "{role}"'),
        (("migrate",), f'GRANT SELECT ON public.ingestd_migrations TO "{role}"'),
        (("migrate", "status"), f'GRANT SELECT ON public.ingestd_migrations TO "{role}"'),
        (("run",), f'GRANT SELECT ON public.ingestd_settings TO "{role}"'),
        (BACKFILL, f'GRANT SELECT ON public.ingestd_migrations TO "{role}"'),
    ):
        error = await said(tmp_path, dsn, command)
        assert grant in error, (command, error)
        assert f"database '{name}', user '{role}'" in error
    await superuser(postgres_database.dsn, f"GRANT pg_read_all_data TO {role}")
    error = await said(tmp_path, dsn, ("migrate", "down", "--to", "0", "--yes"))
    assert re.search(r"only the owner of \S+ may do that: connect as it", error), error
    await superuser(
        postgres_database.dsn, f"REVOKE pg_read_all_data FROM {role}; REVOKE ALL ON SCHEMA public FROM PUBLIC"
    )
    for command in (("gaps",), ("run",)):
        assert f'GRANT USAGE ON SCHEMA "public" TO "{role}"' in await said(tmp_path, dsn, command)
    await superuser(postgres_database.dsn, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    assert f'GRANT CONNECT ON DATABASE "{name}" TO "{role}"' in await said(tmp_path, dsn, ("gaps",))


async def test_an_empty_database(postgres_server: Server, tmp_path: Path) -> None:
    with temporary_database(postgres_server.direct(), migrated=False) as database:
        for command in (("gaps",), ("run",), BACKFILL):
            assert "run `ingestd migrate -c FILE`" in await said(tmp_path, database.dsn, command)
        # Only the owner of the database may make anything in it, as of PostgreSQL 15.
        name = f"role_{uuid.uuid4().hex[:8]}"
        await superuser(
            database.dsn,
            f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        )
        grant = f'GRANT USAGE, CREATE ON SCHEMA "public" TO "{name}"'
        assert grant in await said(tmp_path, as_role(database, name), ("migrate",))
        # As much as it takes, one step after the other: nothing is asked for that is not needed.
        await superuser(database.dsn, grant)
        grant = f'GRANT CREATE ON DATABASE "{database.dsn.rpartition("/")[2]}" TO "{name}"'
        assert grant in await said(tmp_path, as_role(database, name), ("migrate",))
        await superuser(database.dsn, grant)
        config = write_config(tmp_path, {"database": {"dsn": as_role(database, name)}})
        code, out, error = await ingestd("migrate", "-c", str(config))
        assert (code, error) == (0, ""), error
        assert "applied 0012_symbol_names" in out


@pytest.mark.parametrize("command", COMMANDS)
async def test_a_connection_that_is_refused(
    postgres_database: DatabaseForTest, tmp_path: Path, role: str, command: tuple[str, ...]
) -> None:
    parts = urlsplit(postgres_database.dsn)
    server = f"{parts.hostname}:{parts.port}"
    wrong = f"postgresql://{role}:not-{PASSWORD}@{server}{parts.path}"
    assert "check the password (database.dsn) and the user" in await said(tmp_path, wrong, command)
    missing = f"postgresql://{role}:{PASSWORD}@{server}/nowhere"
    error = await said(tmp_path, missing, command)
    assert "create it with CREATE DATABASE, or correct database.dsn" in error
    assert f"database 'nowhere', user '{role}'" in error
    if command == ("run",):
        return  # the others are outages to it, which it waits out
    await superuser(postgres_database.dsn, f"ALTER ROLE {role} CONNECTION LIMIT 0")
    assert "raise the server's max_connections" in await said(tmp_path, as_role(postgres_database, role), command)
    nobody = f"postgresql://{role}:{PASSWORD}@127.0.0.1:{free_port()}/market"
    error = await said(tmp_path, nobody, command)
    assert "nothing listens there; is the server running, and on this port?" in error
    assert f"database 'market', user '{role}'" in error


async def test_a_standby_is_read_and_not_written(tmp_path: Path) -> None:
    data = Path(tempfile.mkdtemp(prefix="ingestd-standby-"))
    try:
        await _as_primary_and_as_standby(data, tmp_path)
    finally:
        shutil.rmtree(data)


async def _as_primary_and_as_standby(data: Path, tmp_path: Path) -> None:
    with EmbeddedPostgres(data) as primary:
        config = write_config(tmp_path, {"database": {"dsn": primary.dsn()}})
        assert (await ingestd("migrate", "-c", str(config)))[0] == 0
    (data / "data" / "standby.signal").touch()
    with EmbeddedPostgres(data, settings={"hot_standby": "on"}) as standby:
        config = write_config(tmp_path, {"database": {"dsn": standby.dsn()}})
        assert (await ingestd("gaps", "-c", str(config)))[:2] == (
            0,
            "No gap: nothing has been captured into this database yet.\n",
        )
        code, listed, error = await ingestd("migrate", "status", "-c", str(config))
        assert (code, error) == (0, "")
        assert "not applied" not in listed
        code, _, error = await ingestd("migrate", "down", "--to", "0", "--yes", "-c", str(config))
        assert code == 1
        assert "a standby, or default_transaction_read_only is on: let database.dsn name the primary" in error
        assert "Traceback" not in error


@asynccontextmanager
async def forwarded(port: int, dsn: str) -> AsyncIterator[None]:
    """The server of `dsn`, answering on another port."""
    target = urlsplit(dsn)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.hostname, target.port)

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except OSError:
                pass
            sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield


async def test_a_first_start_waits_for_the_database_and_says_so(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    port = free_port()
    parts = urlsplit(postgres_database.dsn)
    dsn = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
    async with market() as venue:
        config = write_config(tmp_path, {"database": {"dsn": dsn}, "feeds": [feed(venue)]})
        async with running(config) as daemon:
            async with asyncio.timeout(60):
                while "nothing listens there" not in (await daemon.get("/readyz"))[1]:
                    assert daemon.process.returncode is None, daemon.log()
                    await asyncio.sleep(0.05)
            status, body = await daemon.get("/readyz")
            assert status == 503
            assert f"127.0.0.1:{port}" in body
            assert "database_unreachable_at_start" in daemon.log()
            async with forwarded(port, dsn.replace(f":{port}", f":{parts.port}")):
                await daemon.until(lambda received: received.get("trades", 0) > 10, timeout_s=60)
                assert await daemon.stop() == 0


async def test_the_roles_can_be_printed(tmp_path: Path) -> None:
    code, out, error = await ingestd("migrate", "roles")
    assert (code, out, error) == (0, read_sql("roles/roles.sql"), "")
    for command in (("migrate",), ("migrate", "status"), ("migrate", "down"), ("migrate", "roles"), ("gaps",)):
        assert (await ingestd(*command, "--help"))[0] == 0
