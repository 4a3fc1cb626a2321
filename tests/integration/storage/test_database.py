"""The connection seam against a real server: counts, timeouts, lost connections, transactions that failed quietly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ingestd.config import dsn
from ingestd.errors import ConnectionLost, DatabaseError
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest

COLUMNS = ("source", "position")


@pytest.fixture
async def other(postgres_database: DatabaseForTest) -> AsyncIterator[Database]:
    """A second connection to the same database."""
    connection = await postgres_database.connect(application_name="other")
    yield connection
    await connection.close()


@pytest.fixture
async def one(postgres_database: DatabaseForTest) -> AsyncIterator[Database]:
    connection = await postgres_database.connect(application_name="one")
    yield connection
    await connection.close()


async def test_counts(one: Database) -> None:
    assert await one.copy_text("ingest_positions", COLUMNS, b"a\t1\nb\t2\nc\t3\n") == 3
    assert await one.copy_text("ingest_positions", COLUMNS, b"") == 0
    assert await one.execute("UPDATE ingest_positions SET position = $1 WHERE position > $2", 9, 1) == 2
    assert await one.execute("DELETE FROM ingest_positions") == 3
    assert await one.execute("SET application_name = 'x'") == 0
    assert await one.execute("INSERT INTO ingest_positions (source, position) VALUES ('a', $1), ('b', $2)", 1, 2) == 2
    assert await one.fetchval("SELECT count(*) FROM ingest_positions") == 2


async def test_copy_takes_an_iterator(one: Database) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"a\t1\nb"
        yield b"\t2\n"

    assert await one.copy_text("ingest_positions", COLUMNS, parts()) == 2
    rows = await one.fetch("SELECT source, position FROM ingest_positions WHERE position > $1 ORDER BY 1", 0)
    assert [(row["source"], row["position"]) for row in rows] == [("a", 1), ("b", 2)]


async def test_a_swallowed_error_does_not_pass_for_a_commit(one: Database) -> None:
    async def swallow() -> None:
        async with one.transaction():
            with pytest.raises(DatabaseError):
                await one.execute("SELECT 1/0")

    with pytest.raises(DatabaseError, match="was rolled back") as caught:
        await swallow()
    assert caught.value.sqlstate == "25P02"
    assert await one.fetchval("SELECT 1") == 1


async def test_a_failed_block_is_rolled_back(one: Database) -> None:
    async def fail() -> None:
        async with one.transaction():
            await one.execute("INSERT INTO ingest_positions (source, position) VALUES ('a', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert not one.in_transaction
    assert await one.fetchval("SELECT count(*) FROM ingest_positions") == 0


async def test_settings_hold_inside_the_transaction_only(one: Database) -> None:
    async with one.transaction(lock_timeout_s=1.5):
        assert await one.fetchval("SHOW lock_timeout") == "1500ms"
    assert await one.fetchval("SHOW lock_timeout") == "0"


async def test_a_lock_is_not_waited_for_longer_than_allowed(one: Database, other: Database) -> None:
    async with other.transaction():
        await other.execute("LOCK TABLE ingest_positions")
        with pytest.raises(DatabaseError) as caught:
            async with one.transaction(lock_timeout_s=0.1):
                await one.copy_text("ingest_positions", COLUMNS, b"a\t1\n")
    assert caught.value.sqlstate == "55P03"
    assert not one.is_closed


async def test_a_copy_nobody_reads_ends_in_time(postgres_database: DatabaseForTest, other: Database) -> None:
    one = await postgres_database.connect(call_timeout_s=1)
    started = asyncio.get_running_loop().time()
    async with other.transaction():
        await other.execute("LOCK TABLE ingest_positions")
        with pytest.raises(ConnectionLost, match="did not answer in time"):
            async with one.transaction(lock_timeout_s=60):
                await one.copy_text("ingest_positions", COLUMNS, b"a\t1\n" * 4_000_000)
    assert asyncio.get_running_loop().time() - started < 5
    assert one.is_closed


async def test_a_terminated_backend(one: Database, other: Database) -> None:
    async def work() -> None:
        async with one.transaction():  # behind a pooler, a connection has a backend for no longer than that
            backend = await one.fetchval("SELECT pg_backend_pid()")
            await other.execute("SELECT pg_terminate_backend($1)", backend)
            await one.fetchval("SELECT pg_sleep(1)")

    with pytest.raises((ConnectionLost, DatabaseError)):
        await work()
    assert one.is_closed
    with pytest.raises(ConnectionLost):
        await one.fetchval("SELECT 1")


async def test_a_cancelled_transaction_leaves_no_connection(one: Database, other: Database) -> None:
    async def work() -> None:
        async with one.transaction():
            await one.execute("INSERT INTO ingest_positions (source, position) VALUES ('a', 1)")
            await one.execute("SELECT pg_sleep(30)")

    task = asyncio.create_task(work())
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.is_closed
    assert await other.fetchval("SELECT count(*) FROM ingest_positions") == 0


async def test_an_argument_of_the_wrong_type_keeps_the_connection(one: Database) -> None:
    with pytest.raises(DatabaseError) as caught:
        await one.fetchval("SELECT $1::integer", "text")
    assert caught.value.sqlstate == "22000"
    assert await one.fetchval("SELECT 1") == 1


async def test_the_wrong_password_and_database(postgres_database: DatabaseForTest) -> None:
    with pytest.raises(DatabaseError, match="check the password") as caught:
        await Database.connect(dsn.changed(postgres_database.dsn, password="wrong"))
    assert caught.value.sqlstate == "28P01"
    with pytest.raises(DatabaseError, match="CREATE DATABASE") as missing:
        await Database.connect(postgres_database.dsn.rpartition("/")[0] + "/nowhere")
    assert missing.value.sqlstate == "3D000"
