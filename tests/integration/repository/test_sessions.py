"""The document's example, the variable DATABASE_URL, and what a session does for its caller."""

from __future__ import annotations

import os
import re
import textwrap
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from ingestd.errors import DatabaseError, SchemaError
from ingestd.repository import (
    CandlePayload,
    aio,
    dispose_engines,
    fetch_candles,
    make_engine,
    session_scope,
    upsert_candles,
)
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest, Server, temporary_database

SOURCES = Path(__file__).resolve().parents[4] / "shared" / "sources"
REPOSITORY_PAGE = Path(__file__).resolve().parents[3] / "docs" / "repository.md"
MINUTE = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
CANDLE = CandlePayload("BTCUSDT", MINUTE, "1", "2", "1", "1.5", "7")


@pytest.fixture
def _address(database: DatabaseForTest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """DATABASE_URL as the document writes it, with SQLAlchemy's driver."""
    monkeypatch.setenv("DATABASE_URL", database.dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    yield
    dispose_engines()


def example_of_the_document() -> str:
    """The Python block with `upsert_candles` of the ingestion package's page, outside of this project."""
    for file in sorted(SOURCES.glob("*.txt")):
        blocks = re.findall(r"^( *)```python\n(.*?)^\1```", file.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        for _, block in blocks:
            if "upsert_candles(" in block:
                return textwrap.dedent(block)
    pytest.skip("the documents of the systems to serve are not here (../shared/sources)")


def run(program: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of datetime.utcnow(), which the document calls
        exec(compile(program, "example", "exec"), names)
    return names


@pytest.mark.usefixtures("_address")
async def test_the_document_s_example_runs_with_another_import(db: Database) -> None:
    program = example_of_the_document()
    ours, count = re.subn(
        r"^from db(\.repository)? import", "from ingestd.repository import", program, flags=re.MULTILINE
    )
    assert count == 2
    names = run(ours)
    (candle,) = names["latest"]
    assert candle.symbol == "BTCUSDT"
    assert candle.bucket_start == names["horizon"].replace(second=0, microsecond=0, tzinfo=UTC)
    prices = ["64000.12", "64120.55", "63950.02", "64080.10", "152.4"]
    assert [candle.open, candle.high, candle.low, candle.close, candle.volume] == [Decimal(price) for price in prices]
    row = await db.fetchrow("SELECT exchange, symbol, timeframe, time, open::text, close::text FROM ohlcv_data")
    assert row is not None
    assert tuple(row.values()) == ("binance", "BTC/USDT", "1m", candle.bucket_start, "64000.12", "64080.10")
    assert len(run(ours)["latest"]) in (1, 2), "it runs again, perhaps in the next minute"


@pytest.mark.usefixtures("_address")
async def test_our_own_example_runs(db: Database) -> None:
    page = REPOSITORY_PAGE.read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "fetch_candles(" in block)
    (candle,) = run(block)["candles"]
    assert candle.close == Decimal("3010.75")
    assert await db.fetchval("SELECT symbol FROM ohlcv_data") == "ETH/USDT"


@pytest.mark.usefixtures("_address")
async def test_asyncpg_takes_the_variable_too(db: Database) -> None:
    async with aio.session_scope() as session:
        assert await aio.upsert_candles(session, [CANDLE]) == 1
        assert await db.fetchval("SELECT count(*) FROM ohlcv_data") == 0, "not committed yet"
    assert await db.fetchval("SELECT count(*) FROM ohlcv_data") == 1


async def test_any_session_will_do_and_is_not_committed(db: Database, database: DatabaseForTest) -> None:
    engine = create_engine(database.dsn.replace("postgresql://", "postgresql+psycopg://", 1))
    with Session(engine) as session:
        upsert_candles(session, [CANDLE])
        assert len(fetch_candles(session, "BTC-USDT", MINUTE, MINUTE)) == 1
        session.rollback()
        assert fetch_candles(session, "BTC-USDT", MINUTE, MINUTE) == []
        session.execute(text("CREATE TEMP TABLE own (x integer) ON COMMIT DROP"))
        upsert_candles(session, [CANDLE])
        session.execute(text("INSERT INTO own VALUES (1)"))
        session.commit()
    engine.dispose()
    assert await db.fetchval("SELECT count(*) FROM ohlcv_data") == 1


async def test_a_caller_may_commit_within_the_scope(db: Database, database: DatabaseForTest) -> None:
    engine = make_engine(database.dsn)

    def work() -> None:
        with session_scope(engine=engine) as session:
            upsert_candles(session, [CANDLE])
            session.commit()
            upsert_candles(session, [CandlePayload("ETHUSDT", MINUTE, "1", "2", "1", "1.5", "7")])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    engine.dispose()
    assert [row["symbol"] for row in await db.fetch("SELECT symbol FROM ohlcv_data")] == ["BTC/USDT"]


@pytest.fixture
def direct(postgres_server: Server) -> Iterator[DatabaseForTest]:
    """Without a pooler, which invents the numbers of the server's processes."""
    with temporary_database(postgres_server.direct()) as created:
        yield created


async def test_a_pooled_connection_that_the_server_has_ended_is_replaced(direct: DatabaseForTest) -> None:
    engine = make_engine(direct.dsn, pool_size=1, max_overflow=0)
    with session_scope(engine=engine) as session:
        before = session.connection().connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
    other = await direct.connect()
    await other.fetchval("SELECT pg_terminate_backend($1::integer, 5000)", before)
    await other.close()
    with session_scope(engine=engine) as session:
        after = session.connection().connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        assert upsert_candles(session, [CANDLE]) == 1
    engine.dispose()
    assert after != before


async def test_connections_say_whose_they_are(postgres_database: DatabaseForTest) -> None:
    """`ingestd migrate --rename-symbols` waits for nobody whom it cannot see."""
    engine = make_engine(postgres_database.dsn)
    name = "SELECT current_setting('application_name')"
    with session_scope(engine=engine) as session:
        assert session.execute(text(name)).scalar() == "ingestd repository"
    engine.dispose()
    async with aio.session_scope(postgres_database.dsn) as db:
        assert await db.fetchval(name) == "ingestd repository"


async def test_writing_without_a_transaction_is_refused(postgres_database: DatabaseForTest) -> None:
    db = await aio.connect(postgres_database.dsn)
    with pytest.raises(RuntimeError, match="no transaction is open"):
        await aio.upsert_candles(db, [CANDLE])
    assert await aio.fetch_candles(db, "BTCUSDT", MINUTE, MINUTE) == []
    async with db.transaction():
        assert await aio.upsert_candles(db, [CANDLE]) == 1
    await db.close()


async def test_a_database_without_the_schema_says_what_to_run(empty_database: DatabaseForTest) -> None:
    engine = make_engine(empty_database.dsn)
    with pytest.raises(SchemaError, match="run `ingestd migrate`"), session_scope(engine=engine) as session:
        upsert_candles(session, [CANDLE])
    engine.dispose()
    with pytest.raises(DatabaseError, match="ingestd migrate"):
        async with aio.session_scope(empty_database.dsn) as db:
            await aio.upsert_candles(db, [CANDLE])


def test_an_engine_is_not_shared_with_a_child_process(direct: DatabaseForTest) -> None:
    """The child's own connection leaves the parent's as it was."""
    try:
        with session_scope(direct.dsn) as session:
            mine = session.connection().connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with session_scope(direct.dsn) as session:
                    other = session.connection().connection.driver_connection.info.backend_pid  # type: ignore[union-attr]
                status = 0 if other != mine else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with session_scope(direct.dsn) as session:
            assert session.connection().connection.driver_connection.info.backend_pid == mine  # type: ignore[union-attr]
    finally:
        dispose_engines()
