"""Which database `ingestd migrate` works on: --dsn, the variable DATABASE_URL, or the configuration."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.cli import main
from ingestd.storage.database import Database
from tests.support.postgres import DatabaseForTest, Server, temporary_database

Told = Callable[..., tuple[int, str, str]]
NOWHERE = "postgresql://u@127.0.0.1:1/nowhere"
KEPT = (
    "SELECT config->>'drop_after' FROM timescaledb_information.jobs"
    " WHERE hypertable_name = 'funding' AND proc_name = 'policy_retention'"
)


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """Run a command without any variable: its exit code and what it printed."""
    monkeypatch.delenv("DATABASE_URL", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    return run


def asked(dsn: str, sql: str) -> Any:
    async def ask() -> Any:
        db = await Database.connect(dsn)
        try:
            return await db.fetchval(sql)
        finally:
            await db.close()

    return asyncio.run(ask())


def with_driver(dsn: str) -> str:
    return dsn.replace("postgresql://", "postgresql+psycopg://", 1)


def test_a_dsn_needs_no_file_and_replaces_alembic_s(empty_database: DatabaseForTest, told: Told) -> None:
    dsn = with_driver(empty_database.dsn)
    code, out, err = told("migrate", "--dsn", dsn, "--dry-run")
    assert (code, err) == (0, "")
    assert "CREATE TABLE market_ticks" in out
    code, out, err = told("migrate", "--dsn", dsn)
    assert code == 0
    if empty_database.engine == "postgres":
        assert err == ""
    elif "INGESTD_TEST_DSN" not in os.environ:  # no job runs on the server of the tests, which a person is told
        assert "max_background_workers is 0" in err
    assert "applied 0001_market_tables" in out
    for arguments in (["--dsn", dsn, "status"], ["status", "--dsn", dsn]):
        code, out, _ = told("migrate", *arguments)
        assert code == 0
        assert "not applied" not in out
    code, out, _ = told("migrate", "--dsn", dsn)
    assert (code, out) == (0, "left the policies as they are: there is no configuration file\n")
    assert told("migrate", "down", "--dsn", dsn, "--to", "0", "--yes")[0] == 0
    assert asked(empty_database.dsn, "SELECT to_regclass('public.trades')::text") is None


def test_the_variable_serves_where_no_dsn_is_given(
    empty_database: DatabaseForTest, told: Told, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_URL", with_driver(empty_database.dsn))
    assert told("migrate")[0] == 0
    file = tmp_path / "ingestd.toml"
    file.write_text("[database]\nflush_ms = 100\n")
    code, out, _ = told("migrate", "-c", str(file))
    assert (code, out) == (0, "nothing to do: schema and policies are as configured\n")
    file.write_text(f'[database]\ndsn = "{NOWHERE}"\nconnect_timeout_s = 1\n')
    assert told("migrate", "status", "-c", str(file))[0] == 1, "the configuration's goes before the variable's"


def test_a_dsn_replaces_the_configuration_s_and_its_password(
    database: DatabaseForTest, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("wrong")
    file = tmp_path / "ingestd.toml"
    file.write_text(f'[database]\ndsn = "{NOWHERE}"\npassword_file = "password"\n')
    monkeypatch.setenv("INGESTD_DATABASE__DSN", NOWHERE)
    assert told("migrate", "status", "-c", str(file), "--dsn", database.dsn)[0] == 0


def test_without_a_file_no_policy_of_a_database_is_changed(
    timescaledb_server: Server, told: Told, tmp_path: Path
) -> None:
    """The defaults would delete rows that somebody meant to keep."""
    with temporary_database(timescaledb_server) as database:
        file = tmp_path / "ingestd.toml"
        file.write_text(f'[database]\ndsn = "{database.dsn}"\n[retention]\nfunding_days = 3000\n')
        assert told("migrate", "-c", str(file))[0] == 0
        assert asked(database.dsn, KEPT) == "3000 days"
        assert told("migrate", "--dsn", database.dsn)[0] == 0
        assert asked(database.dsn, KEPT) == "3000 days"
        code, out, _ = told("migrate", "--dsn", database.dsn, "--dry-run")
        assert (code, "retention" in out) == (0, False)


def test_without_a_file_symbols_keep_their_style(
    postgres_database: DatabaseForTest, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default style is nobody's wish."""
    dsn, style = postgres_database.dsn, "SELECT value FROM ingestd_settings WHERE name = 'symbol_style'"
    file = tmp_path / "ingestd.toml"
    file.write_text(f'[database]\ndsn = "{dsn}"\nsymbol_style = "compact"\n')
    assert told("migrate", "-c", str(file), "--rename-symbols")[0] == 0
    for arguments in ([], ["--dry-run"]):
        assert told("migrate", "--dsn", dsn, *arguments)[0] == 0
        code, out, err = told("migrate", "--dsn", dsn, "--rename-symbols", *arguments)
        assert (code, out) == (2, "")
        assert "converts to database.symbol_style, and without a file nothing says which: name it with -c" in err
        assert asked(dsn, style) == "compact"
    monkeypatch.setenv("INGESTD_DATABASE__SYMBOL_STYLE", "dash")
    code, _, err = told("migrate", "--dsn", dsn)
    assert (code, "in the style 'compact', and database.symbol_style is 'dash'" in err) == (1, True)
    code, out, _ = told("migrate", "--dsn", dsn, "--rename-symbols")
    assert (code, "from the style 'compact' to 'dash'" in out) == (0, True)
    assert asked(dsn, style) == "dash"


@pytest.mark.parametrize("dsn", ["mysql://u:hunter2-hunter2@h/d", "postgresql://u:hunter2-hunter2@h:port/d"])
def test_a_mistake_is_told_by_where_it_is_and_without_its_value(
    told: Told, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    code, _, err = told("migrate", "--dsn", dsn)
    assert (code, err.startswith("ingestd: --dsn: "), "hunter2" in err) == (2, True, False)
    monkeypatch.setenv("DATABASE_URL", dsn)
    code, _, err = told("migrate")
    assert (code, err.startswith("ingestd: DATABASE_URL: "), "hunter2" in err) == (2, True, False)


def test_a_section_without_an_address_says_the_three_places(told: Told, tmp_path: Path) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text("[database]\nflush_ms = 100\n")
    for command in ("migrate", "check"):
        code, _, err = told(command, "-c", str(file))
        assert code == 2
        assert "ingestd: database.dsn: is missing; write postgresql://user@host:5432/database, or name its file" in err
        assert "or set the variable DATABASE_URL" in err


def test_without_any_address_the_configuration_is_asked_for(told: Told) -> None:
    code, _, err = told("migrate")
    assert code == 2
    assert "no configuration: give -c FILE" in err
