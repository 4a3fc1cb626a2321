"""What a bad DSN says, and what a driver's error becomes."""

from __future__ import annotations

import socket

import asyncpg
import pytest

from ingestd.config.dsn import shown
from ingestd.errors import ConfigError, ConnectionLost, DatabaseError
from ingestd.storage.database import Database
from ingestd.storage.dsn import describe_target


@pytest.mark.parametrize(
    "dsn",
    ["mysql://u:secret@h/db", "host=h dbname=db password=a secret", "", "postgresql://u:secret@h/d@b"],
)
async def test_what_is_no_postgresql_url(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await Database.connect(dsn)
    assert "database.dsn" in str(caught.value)
    assert "write postgresql://user@host:5432/database" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_nothing_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        dsn = f"postgresql://me:secret@127.0.0.1:{taken.getsockname()[1]}/market"
        with pytest.raises(ConnectionLost, match="nothing listens there") as caught:
            await Database.connect(dsn)
    assert "'market'" in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_an_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(asyncpg, "connect", unknown)
    with pytest.raises(ConnectionLost, match=r"no-such-host:5432.*the host name is not known"):
        await Database.connect("postgresql://me@no-such-host/market")


async def test_a_server_that_says_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dsn = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/market"
        with pytest.raises(ConnectionLost, match=r"did not answer within 0\.2 s"):
            await Database.connect(dsn, connect_timeout_s=0.2)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (asyncpg.InvalidPasswordError("password authentication failed"), "check the password"),
        (asyncpg.InvalidCatalogNameError('database "market" does not exist'), "CREATE DATABASE"),
        (asyncpg.TooManyConnectionsError("too many clients"), "max_connections"),
    ],
)
async def test_a_refusal_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: asyncpg.PostgresError, advice: str
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asyncpg, "connect", refuse)
    with pytest.raises(DatabaseError, match=advice) as caught:
        await Database.connect("postgresql://me:secret@db1/market")
    assert caught.value.sqlstate == error.sqlstate
    assert caught.value.__cause__ is error
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://me:a%40b:c@db1:6432/market", "PostgreSQL at db1:6432, database 'market', user 'me'"),
        ("postgresql://me@[::1]:6432/market", "PostgreSQL at ::1:6432, database 'market', user 'me'"),
        ("postgresql://me@/market?host=/run/postgresql", "PostgreSQL at /run/postgresql, database 'market', user 'me'"),
        ("postgresql://me@db1,db2/market", "PostgreSQL at db1:5432,db2:5432, database 'market', user 'me'"),
        ("host=db1 port=6432 user=me dbname=market", "PostgreSQL at db1:6432, database 'market', user 'me'"),
    ],
)
def test_targets(dsn: str, shown: str) -> None:
    assert str(describe_target(dsn)) == shown


@pytest.mark.parametrize("dsn", ["postgresql://me:p@ss:w/rd@db1/market", "postgresql://db1/market?password=secret"])
def test_passwords_are_never_shown(dsn: str) -> None:
    assert "rd" not in shown(dsn).replace("password", "")
    assert "secret" not in shown(dsn)
