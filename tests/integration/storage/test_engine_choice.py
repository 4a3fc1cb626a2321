"""Which engine `migrate` makes, what it says where that is not the one there could be, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import asyncpg
import pytest

from ingestd.errors import SchemaError
from ingestd.storage import rollups
from ingestd.storage.engine import Engine
from ingestd.storage.migrate import check_schema, migrate, plan
from tests.integration.storage.test_candles import candles, store
from tests.integration.storage.test_migrate import connected
from tests.integration.storage.test_role_settings import MIDNIGHT
from tests.support.candles import BUCKETS, TradeRow, expected_candles
from tests.support.postgres import DatabaseForTest, Server, default_config, running_server, temporary_database

PRELOAD = "add timescaledb to shared_preload_libraries in postgresql.conf, and restart the server"


@contextmanager
def empty(server: Server) -> Iterator[DatabaseForTest]:
    with temporary_database(server.direct(), migrated=False) as created:
        yield created


async def test_timescaledb_that_is_installed_and_not_preloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)
    with running_server("timescaledb", shared_preload_libraries="") as server:
        with empty(server) as database:
            async with connected(database) as db:
                for work in (migrate, plan):
                    with pytest.raises(SchemaError, match=PRELOAD):
                        await work(db, default_config(), engine="timescaledb")
                assert PRELOAD in await plan(db, default_config())
                done = await migrate(db, default_config())
                assert done[0].startswith("made for plain PostgreSQL, and stays so: timescaledb is installed, but")
                assert await migrate(db, default_config()) == []
                for work in (migrate, plan):
                    with pytest.raises(SchemaError, match="was set up for plain PostgreSQL"):
                        await work(db, default_config(), engine="timescaledb")
        with empty(server) as database:
            # As it is where the library was taken out of the server's configuration afterwards.
            async with connected(database) as db:
                await db.execute(
                    "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
                    " VALUES (99999, 'timescaledb', 10, 'public'::regnamespace, false, '2.26.4')"
                )
                for later in (migrate(db, default_config()), check_schema(db)):
                    with pytest.raises(SchemaError, match=PRELOAD):
                        await later


async def test_an_engine_that_was_settled_is_not_changed_by_insisting(timescaledb_server: Server) -> None:
    with empty(timescaledb_server) as database:
        async with connected(database) as db:
            assert await migrate(db, default_config(), engine="postgres")
            assert await check_schema(db) is Engine.POSTGRES
            assert await migrate(db, default_config()) == []
            with pytest.raises(SchemaError, match="cannot be added to it any more: migrate a new database"):
                await migrate(db, default_config(), engine="timescaledb")


async def test_the_extension_in_a_schema_of_its_own(timescaledb_server: Server) -> None:
    with empty(timescaledb_server) as database:
        async with connected(database) as db:
            await db.script('CREATE SCHEMA "Time Scale"; CREATE EXTENSION timescaledb SCHEMA "Time Scale"')
            assert "applied 0010_candles_again" in await migrate(db, default_config(), engine="timescaledb")
            assert await migrate(db, default_config()) == []
            rows = [
                TradeRow(
                    MIDNIGHT - timedelta(days=3, seconds=number), "BTC/USDT", f"{number}", number, "buy", "1.5", "2"
                )
                for number in range(4)
            ]
            await store(db, rows)
        async with connected(database) as db:  # one that has not looked where the extension is
            await rollups.refresh_window(db, MIDNIGHT - timedelta(days=5), MIDNIGHT)
            for relation, bucket in BUCKETS.items():
                assert await candles(db, relation) == expected_candles(rows, bucket), relation


async def test_an_extension_whose_library_is_gone(timescaledb_server: Server) -> None:
    with empty(timescaledb_server) as database:
        async with connected(database) as db:
            await db.execute("CREATE EXTENSION timescaledb")
        blind = await asyncpg.connect(database.dsn, server_settings={"timescaledb.disable_load": "on"})
        await blind.execute("UPDATE pg_extension SET extversion = '2.19.0' WHERE extname = 'timescaledb'")
        await blind.close()
        for command in (lambda db: migrate(db, default_config()), check_schema):
            async with connected(database) as db:
                with pytest.raises(SchemaError, match=r"timescaledb-2\.19\.0.*ALTER EXTENSION timescaledb UPDATE"):
                    await command(db)
