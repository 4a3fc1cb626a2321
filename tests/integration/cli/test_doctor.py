"""`ingestd doctor` as a command: exit codes, text, JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from ingestd import cli
from ingestd.config.toml_text import to_toml
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from tests.support.postgres import DatabaseForTest, default_config, running_server, temporary_database
from tests.support.time_limits import limit_s


@pytest.fixture
def sound_timescaledb(monkeypatch: pytest.MonkeyPatch) -> Iterator[DatabaseForTest]:
    """On a server whose jobs run, as the doctor wants it; each of them has run once."""
    monkeypatch.delenv("INGESTD_TEST_DSN", raising=False)
    with (
        running_server(
            "timescaledb", **{"timescaledb.max_background_workers": "16", "max_worker_processes": "27"}
        ) as server,
        temporary_database(server.direct(), migrated=False) as database,
    ):
        asyncio.run(_migrated(database))
        yield database


async def _migrated(database: DatabaseForTest) -> None:
    db = await database.connect()
    await migrate(db, default_config(), engine=database.choice)
    async with asyncio.timeout(limit_s(60)):
        while await db.fetchval(
            "SELECT count(*) FROM timescaledb_information.jobs JOIN timescaledb_information.job_stats USING (job_id)"
            " WHERE jobs.hypertable_name IS NOT NULL AND last_run_status IS NULL"
        ):
            await asyncio.sleep(0.2)
    await db.close()


def run(database: DatabaseForTest, folder: Path, *arguments: str) -> Result:
    file = folder / "ingestd.toml"
    file.write_text(to_toml({"database": {"dsn": database.dsn}}), encoding="utf-8")
    return CliRunner().invoke(cli.cli, ["doctor", "-c", str(file), *arguments])


def damage(database: DatabaseForTest, sql: str) -> None:
    async def done() -> None:
        db = await Database.connect(database.dsn)
        await db.script(sql)
        await db.close()

    asyncio.run(done())


def test_a_sound_database_has_no_error(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    result = run(postgres_database, tmp_path)
    assert result.exit_code == 0, result.output
    assert "ERROR" not in result.stdout
    assert "(postgres)" in result.stderr.splitlines()[-1]


def test_a_sound_timescaledb_has_no_error(sound_timescaledb: DatabaseForTest, tmp_path: Path) -> None:
    result = run(sound_timescaledb, tmp_path, "--json")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.stdout.splitlines()[-1])
    assert (told["ok"], told["engine"], told["left_out"]) == (True, "timescaledb", [])
    # Only a TimescaleDB that does not fit PostgreSQL's release may be wrong: its jobs do their work.
    serious = [found["message"] for found in told["findings"] if found["level"] != "note"]
    assert [message for message in serious if "does not fit this release of PostgreSQL" not in message] == []


def test_an_error_is_printed_with_its_remedy_and_exits_with_1(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    damage(postgres_database, "ALTER TABLE trades DROP COLUMN kind")
    result = run(postgres_database, tmp_path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[:2] == [
        "ERROR schema: public.trades.kind: the column is missing",
        '    ALTER TABLE public.trades ADD COLUMN kind text COLLATE "C";',
    ]
    assert result.stderr.startswith("ingestd: 2 errors; ")  # the column, and the constraint that went with it
    as_json = run(postgres_database, tmp_path, "--json")
    assert as_json.exit_code == 1
    told = orjson.loads(as_json.stdout)
    assert told["ok"] is False
    assert ("schema", "error") in [(found["check"], found["level"]) for found in told["findings"]]


def test_a_warning_alone_exits_with_0(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    damage(postgres_database, "DROP INDEX trades_time")
    result = run(postgres_database, tmp_path)
    assert result.exit_code == 0
    assert "WARNING schema: public.trades: the index trades_time is missing" in result.stdout


@pytest.mark.parametrize("text", ["much", "-1", "5 parsecs"])
def test_a_size_that_is_none(postgres_database: DatabaseForTest, tmp_path: Path, text: str) -> None:
    result = run(postgres_database, tmp_path, "--disk-free", text)
    assert result.exit_code == 2
    assert "write a size such as 10GiB" in result.stderr
