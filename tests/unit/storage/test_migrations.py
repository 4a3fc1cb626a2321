"""The migration files: their names, their order, their checksums, and what a database may record of them."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingestd.config.packs import PACKS
from ingestd.errors import SchemaError
from ingestd.storage import migrations, phases
from ingestd.storage.doctor.description import described
from ingestd.storage.engine import Engine
from ingestd.storage.migrations import Applied, Migration, read_sql
from ingestd.storage.writer.positions import WRITES_AS

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
        assert re.fullmatch(r"\d{4}_[a-z0-9_]+(\.down|\.backfill)?\.sql", name), name
        if ".backfill." in name:
            assert name.replace(".backfill", "") in names
            continue
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
    assert FILES[0].checksum != replace(FILES[0], backfill="UPDATE a SET b = 1 WHERE b IS NULL").checksum


@pytest.mark.parametrize("engine", Engine)
def test_what_expands_is_contracted_later_and_can_be_done_in_batches(engine: Engine) -> None:
    loaded = migrations.load(engine)
    expanding = [migration for migration in loaded if migration.is_expand]
    contracting = [migration for migration in loaded if migration.is_contract]
    assert {phases.expanding_of(migration, loaded).version for migration in contracting} == {
        migration.version for migration in expanding
    }
    assert expanding[-1].version == WRITES_AS  # else `ingestd migrate` takes this program for one of before
    for migration in loaded:
        if migration.backfill:
            assert migration.is_expand
            assert f"ALTER TABLE {migration.backfilled_table} ADD COLUMN" in migration.up
            condition = migration.backfill.partition("WHERE")[2]
            assert condition  # to which the batch is added: AND exchange = …
            assert " OR " not in condition


def test_a_contracting_migration_follows_the_expanding_one_of_its_name() -> None:
    contracting = Migration(3, "contract_a", "", "")
    for earlier in (Migration(2, "expand_b", "", ""), Migration(4, "expand_a", "", "")):
        with pytest.raises(SchemaError, match="needs one before it that is named expand_a"):
            phases.expanding_of(contracting, [earlier, contracting])


def test_a_contracting_migration_may_wait_while_later_ones_are_applied() -> None:
    waiting, later = Migration(2, "contract_a", "", ""), Migration(3, "later", "", "")
    files = [FILES[0], waiting, later]
    assert migrations.pending(Engine.POSTGRES, files, [applied(FILES[0]), applied(later)]) == [waiting]
    other = replace(waiting, name="one_more")
    with pytest.raises(SchemaError, match="0002_one_more was never applied"):
        migrations.pending(Engine.POSTGRES, [FILES[0], other, later], [applied(FILES[0]), applied(later)])


def test_a_newer_expanding_migration_is_no_obstacle_for_a_program_of_before() -> None:
    newer = applied(Migration(9, "expand_a", "", ""))
    assert migrations.pending(Engine.POSTGRES, FILES, [*map(applied, FILES), newer]) == []
    with pytest.raises(SchemaError, match="newer than this program knows"):
        migrations.pending(Engine.POSTGRES, FILES, [*map(applied, FILES), replace(newer, name="contract_a")])


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
    versions = [migration.version for migration in loaded]
    assert versions == sorted(set(versions))
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
    newest = max(migration.version for migration in migrations.load(engine) if not migration.is_contract)
    assert found.version == newest, "run python -m tests.support.described"
