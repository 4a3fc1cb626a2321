"""Every statement that a document of another system prints does what the document says, or its replacement does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import pytest

from ingestd.storage import engine as engines
from ingestd.storage import rollups
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from tests.support.postgres import DatabaseForTest, Server, default_config, temporary_database
from tests.support.sources import (
    DOCUMENTS,
    ROOT,
    VERDICTS,
    Document,
    Fixture,
    as_text,
    expected,
    fixtures,
    names_without_sql,
    printed,
    seed,
    shown,
    statements,
)


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_every_printed_statement(database_server: Server, document: str) -> None:
    with temporary_database(database_server.direct()) as database:
        await prepare(await database.connect(), DOCUMENTS[document])
        failures = [
            f"{fixture.path}: {what}"
            for fixture in fixtures(document)
            if fixture.holds_on(database.engine)
            for what in await mistakes(database, DOCUMENTS[document], fixture)
        ]
    assert not failures, "\n".join(failures)


async def prepare(db: Database, document: Document) -> None:
    """Apply the document's pack and store what its statements read."""
    await migrate(db, default_config(**document.config))
    await db.script(seed(document.name))
    await rollups.refresh(db, await engines.detect(db))
    await db.close()


async def mistakes(database: DatabaseForTest, document: Document, fixture: Fixture) -> list[str]:
    """What is wrong. What it changes is rolled back."""
    path = fixture.search_path if fixture.verdict == "administration" else document.search_path
    async with client(database.dsn, path) as connection:
        outcome = await run(connection, fixture.sql) if fixture.alone else None
        transaction = connection.transaction()
        await transaction.start()
        try:
            return await compared(connection, fixture, fixture.refused_on(database.engine), outcome)
        finally:
            await transaction.rollback()


@asynccontextmanager
async def client(dsn: str, search_path: str) -> AsyncIterator[Any]:
    """A program of the document's team: a connection of its own, with nothing but the document's search_path."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"SET search_path = {search_path}; SET timezone = 'UTC'")
        yield connection
    finally:
        await connection.close()


Outcome: TypeAlias = tuple[str, list[list[str]]]
"""The SQLSTATE with which the server refused a statement, "" if it did not, and the rows."""


async def compared(connection: Any, fixture: Fixture, sqlstate: str, outcome: Outcome | None) -> list[str]:
    today = await connection.fetchval("SELECT current_date")
    if fixture.before:
        await connection.execute(fixture.before)
    refused, found = await run_in_savepoint(connection, fixture.sql) if outcome is None else outcome
    if refused != sqlstate:
        return [f"refused with {refused or 'nothing'}, not with {sqlstate or 'nothing'}"]
    shows = fixture.replacement or fixture.check
    if shows:
        refused, found = await run_in_savepoint(connection, shows)
        if refused:
            return [f"what shows it is refused with {refused}"]
    wanted = expected(fixture.rows, today)
    if "order by" not in (shows or fixture.sql).lower():
        wanted, found = sorted(wanted), sorted(found)
    return [] if found == wanted else [f"returned {shown(found)}, not {shown(wanted)}"]


async def run(connection: Any, sql: str) -> Outcome:
    try:
        rows = await connection.fetch(sql)
    except asyncpg.PostgresError as error:
        return str(error.sqlstate), []
    return "", [[as_text(value) for value in row.values()] for row in rows]


async def run_in_savepoint(connection: Any, sql: str) -> Outcome:
    savepoint = connection.transaction()
    await savepoint.start()
    outcome = await run(connection, sql)
    await (savepoint.rollback() if outcome[0] else savepoint.commit())
    return outcome


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_fixtures_are_complete(document: str) -> None:
    wanted = {
        "read": (False, False),
        "write": (True, False),
        "administration": (True, False),
        "replaced": (False, True),
    }
    for fixture in fixtures(document):
        assert fixture.verdict in VERDICTS, fixture.path
        assert fixture.engine in ("both", "timescaledb", "postgres"), fixture.path
        assert (bool(fixture.check), bool(fixture.replacement)) == wanted[fixture.verdict], fixture.path
        assert fixture.rows, fixture.path
        assert fixture.names, fixture.path
        assert len(statements(fixture.sql)) == 1, fixture.path
        if fixture.verdict == "replaced":
            assert fixture.sqlstate or fixture.why, fixture.path
    for name in names_without_sql(document):
        assert (ROOT / name["test"]).is_file(), name


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_statement_that_the_document_prints_has_a_fixture(document: str) -> None:
    covered = {statement for fixture in fixtures(document) for statement in statements(fixture.sql)}
    missing = [statement for statement in printed(DOCUMENTS[document]) if statement not in covered]
    assert not missing
