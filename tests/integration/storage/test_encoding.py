"""A database that is not UTF-8 cannot hold what a venue sends: it is refused before anything is stored in it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingestd.cli import main
from ingestd.config import dsn as config_dsn
from ingestd.config.loading import parse
from ingestd.config.toml_text import to_toml
from ingestd.errors import SchemaError
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.database import Database
from tests.support.postgres import Server


@pytest.fixture(params=["LATIN1", "SQL_ASCII", "EUC_JP"])
def database_of_another_encoding(request: pytest.FixtureRequest, postgres_server: Server) -> Iterator[tuple[str, str]]:
    """Its DSN and its encoding."""
    name = f"ingestd_test_{uuid.uuid4().hex[:12]}"

    async def administer(sql: str) -> None:
        server = await Database.connect(postgres_server.admin_dsn)
        await server.execute(sql)
        await server.close()

    locale = "LOCALE 'C' LC_COLLATE 'C' LC_CTYPE 'C'"
    asyncio.run(administer(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{request.param}' {locale}"))
    yield config_dsn.changed(postgres_server.admin_dsn, dbname=name), request.param
    asyncio.run(administer(f"DROP DATABASE {name} WITH (FORCE)"))


def test_it_is_refused_by_every_command_and_at_the_start(
    database_of_another_encoding: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dsn, encoding = database_of_another_encoding
    file = tmp_path / "ingestd.toml"
    file.write_text(to_toml({"database": {"dsn": dsn}}), encoding="utf-8")
    for arguments in (["migrate"], ["migrate", "--dry-run"], ["migrate", "--engine", "postgres"]):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "-c", str(file)])
        words = capsys.readouterr().err
        assert ended.value.code == 1, words
        assert f"its encoding is {encoding}, which cannot hold every text" in words
        assert "ENCODING 'UTF8'" in words
    access = DatabaseAccess(parse({"database": {"dsn": dsn}}, {}))
    with pytest.raises(SchemaError, match=f"its encoding is {encoding}"):  # as `run` and a sink look before they start
        asyncio.run(access.look(tmp_path))
