"""The migration files: their names, their order, their checksums, and what a database may record of them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestd.config.packs import PACKS
from ingestd.errors import SchemaError
from ingestd.storage import migrations
from ingestd.storage.doctor.description import described
from ingestd.storage.engine import Engine
from ingestd.storage.migrations import Applied, Migration, read_sql

SQL = Path(__file__).parents[3] / "sql"
FOLDERS = (
    *("migrations", "timescaledb", "timescaledb-apache", "postgres"),
    *(file.relative_to(SQL).as_posix() for file in sorted((SQL / "packs").rglob("*")) if file.is_dir()),
)

FILES = [Migration(1, "one", "CREATE TABLE a ()", "DROP TABLE a"), Migration(2, "two", "SELECT 2", "SELECT -2")]


def applied(migration: Migration) -> Applied:
    return Applied(migration.version, migration.name, migration.checksum, "postgres", datetime(2026, 11, 1, tzinfo=UTC))


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_is_named_and_has_its_way_back(folder: str) -> None:
    names = {file.name for file in (SQL / folder).iterdir() if file.is_file()}
    for name in names:
        assert re.fullmatch(r"\d{4}_[a-z0-9_]+(\.down)?\.sql", name), name
        pair = name.replace(".down.sql", ".sql") if ".down." in name else name.replace(".sql", ".down.sql")
        assert pair in names


@pytest.mark.parametrize("engine", Engine)
def test_versions_rise_and_every_engine_has_the_same_tables(engine: Engine) -> None:
    loaded = migrations.load(engine)
    versions = [migration.version for migration in loaded]
    assert versions == sorted(set(versions))
    assert "CREATE TABLE market_ticks" in loaded[0].up
    assert ("create_hypertable" in loaded[0].up) == engine.has_hypertables
    assert ("timescaledb.continuous" in loaded[1].up) == engine.has_continuous_aggregates


def test_the_way_back_runs_in_the_opposite_order() -> None:
    first = migrations.load(Engine.TIMESCALEDB)[0]
    assert first.up.index("CREATE TABLE") < first.up.index("create_hypertable")


def test_the_checksum_is_of_the_way_up_only() -> None:
    assert FILES[0].checksum == replace(FILES[0], down="").checksum
    assert FILES[0].checksum != replace(FILES[0], up="CREATE TABLE a (b integer)").checksum


def test_pending_is_what_is_not_recorded() -> None:
    assert migrations.pending(Engine.POSTGRES, FILES, []) == FILES
    assert migrations.pending(Engine.POSTGRES, FILES, [applied(FILES[0])]) == [FILES[1]]
    assert migrations.pending(Engine.POSTGRES, FILES, [applied(file) for file in FILES]) == []


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ([replace(applied(FILES[0]), checksum="x")], "0001_one has changed since it was applied on 2026-11-01"),
        ([replace(applied(FILES[0]), version=3)], "newer than this program knows: upgrade ingestd"),
        ([replace(applied(FILES[0]), version=0)], "its file is missing"),
        ([applied(FILES[1])], "0001_one was never applied although 0002 was"),
        ([replace(applied(FILES[0]), engine="timescaledb")], "set up for timescaledb but is now postgres"),
    ],
)
def test_contradictions(recorded: list[Applied], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        migrations.pending(Engine.POSTGRES, FILES, recorded)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0001_a.sql": "", "0001_b.sql": "", "0001_a.down.sql": "", "0001_b.down.sql": ""}, "two migrations"),
        ({"0001_a.sql": ""}, r"needs both \.sql and \.down\.sql"),
        ({"1_a.sql": ""}, "name it NNNN_name.sql"),
    ],
)
def test_wrong_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], message: str
) -> None:
    (tmp_path / "migrations").mkdir()
    for name, text in files.items():
        (tmp_path / "migrations" / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(migrations, "sql_root", lambda: tmp_path)
    with pytest.raises(SchemaError, match=message):
        migrations.load(Engine.POSTGRES)


def test_every_pack_has_its_folder() -> None:
    assert sorted(PACKS) == sorted(folder.name for folder in (SQL / "packs").iterdir() if folder.is_dir())


@pytest.mark.parametrize("engine", Engine)
@pytest.mark.parametrize("pack", PACKS)
def test_packs_have_numbers_of_their_own(pack: str, engine: Engine) -> None:
    loaded = migrations.load_pack(engine, pack)
    assert [migration.version for migration in loaded] == list(range(1, len(loaded) + 1))
    assert str(loaded[0]).startswith(f"{pack}/0001_")
    assert all("\n\\ir" not in migration.up for migration in loaded)  # what they include is there
    makes_time_functions = any("CREATE FUNCTION time_bucket" in migration.up for migration in loaded)
    # The tables of wolfinch are in schemas that its SQL names; no program of it has one of them on its search_path.
    assert makes_time_functions == (engine is Engine.POSTGRES and pack != "wolfinch")


def test_the_checksum_of_a_pack_covers_what_it_includes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packs" / "a"
    folder.mkdir(parents=True)
    (folder / "0001_x.sql").write_text("SELECT 1;\n\\ir ../shared.sql\nSELECT 3;\n", encoding="utf-8")
    (folder / "0001_x.down.sql").write_text("", encoding="utf-8")
    (tmp_path / "packs" / "shared.sql").write_text("SELECT 2;\n", encoding="utf-8")
    monkeypatch.setattr(migrations, "sql_root", lambda: tmp_path)
    (before,) = migrations.load_pack(Engine.POSTGRES, "a")
    assert before.up.split() == ["SELECT", "1;", "SELECT", "2;", "SELECT", "3;"]
    (tmp_path / "packs" / "shared.sql").write_text("SELECT 4;\n", encoding="utf-8")
    (after,) = migrations.load_pack(Engine.POSTGRES, "a")
    assert before.checksum != after.checksum
    with pytest.raises(SchemaError, match="the pack b is not part of this program"):
        migrations.load_pack(Engine.POSTGRES, "b")


def test_queries_are_found() -> None:
    assert read_sql("queries/upsert_symbols.sql").startswith("INSERT INTO symbols")


@pytest.mark.parametrize("engine", Engine)
def test_the_description_of_the_schema_is_of_the_newest_migration(engine: Engine) -> None:
    """What it says is compared on a server (tests/integration/storage/doctor)."""
    found = described(engine)
    assert found is not None
    assert found.version == migrations.load(engine)[-1].version, "run python -m tests.support.described"
