"""The journal under what disks do: no room, failed syncs, damage, hanging."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingestd import failpoints, files
from ingestd.config.models import JournalConfig
from ingestd.errors import JournalDamaged, JournalError, JournalFull, JournalLocked, JournalVersion
from ingestd.journal import disk, recovery, salvage
from ingestd.journal import files as journal_files
from ingestd.journal.batch import StoredBatch
from ingestd.journal.disk import translated
from ingestd.journal.file import FORMAT_VERSION, FileName, JournalFile
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import WIRE_VERSION
from tests.support.exposed import exposed
from tests.unit.journal.test_journal import append, filled, numbers, opened, read_all


def only_file(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "journal").glob("*.journal")
    return path


def change(path: Path, statement: str) -> None:
    """As damage would: the totals no longer speak for the rows."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM totals")
        connection.execute(statement)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_no_room_whoever_says_it(tmp_path: Path, error: int) -> None:
    with pytest.raises(JournalFull), translated(tmp_path / "file"):
        raise OSError(error, os.strerror(error))
    with pytest.raises(JournalError) as other, translated(tmp_path / "file"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert not isinstance(other.value, JournalFull)


async def test_appends_that_find_no_room_leave_no_empty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(_file: JournalFile, _batch: StoredBatch) -> None:
        raise JournalFull("no room")

    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        await append(journal, 1)
        with monkeypatch.context() as full:
            full.setattr(JournalFile, "append", no_room)
            for _ in range(5):
                with pytest.raises(JournalFull):
                    await append(journal, 4)
        await append(journal, 4)
        assert numbers(await read_all(cursor)) == [1, 2, 3, 4, 5, 6]
    assert len(list((tmp_path / "journal").glob("*.journal"))) == 2


@contextlib.contextmanager
def armed(environ: dict[str, str]) -> Iterator[None]:
    failpoints.arm(environ)
    try:
        yield
    finally:
        failpoints.arm({})


async def test_a_file_whose_sync_failed_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log may hold the batch all the same: a start counts and reads it once."""
    real = JournalFile.append
    asked: list[str] = []

    def noted(file: JournalFile, batch: StoredBatch) -> None:
        asked.append(file.path.name)
        real(file, batch)

    monkeypatch.setattr(JournalFile, "append", noted)
    third_fails = {failpoints.VARIABLE: "journal.append.after:3:raise", failpoints.TEST_FLAG: "1"}
    with opened(tmp_path) as journal, armed(third_fails):
        cursor = journal.cursor("one")
        for first in range(1, 16, 3):
            await append(journal, first)
        assert numbers(await read_all(cursor)) == list(range(1, 16))
    assert [asked.count(name) for name in sorted(set(asked))] == [3, 3]
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        assert cursor.pending == {"trades": 15}
        batches = await read_all(cursor)
    assert [batch.position for batch in batches] == [1, 2, 3, 4, 5]


async def test_a_failed_file_stays_ended_when_the_next_cannot_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> JournalFile:
        raise JournalError("no new file")

    def failing(_file: JournalFile, _batch: StoredBatch) -> None:
        raise JournalError("the sync failed")

    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        await append(journal, 1)
        with monkeypatch.context() as broken:
            broken.setattr(JournalFile, "append", failing)
            broken.setattr(JournalFile, "create", refused)
            with pytest.raises(JournalError, match="no new file"):
                await append(journal, 4)
        batch = await append(journal, 4)
        assert batch.file_sequence > 1
        assert numbers(await read_all(cursor)) == [1, 2, 3, 4, 5, 6]


def test_a_finished_rewriting_wins_over_the_old_log(tmp_path: Path) -> None:
    """The crash came after the new file was durable and before the old one's log was gone."""
    path = asyncio.run(filled(tmp_path, 2))
    new = path.with_name(path.name.replace(".journal", ".new.journal"))
    path.rename(new)
    path.write_bytes(b"the old file")
    path.with_name(path.name + "-wal").write_bytes(b"its log")
    salvage.sweep(path.parent)
    assert [kept.name for kept in path.parent.iterdir()] == [path.name]

    async def after() -> None:
        with opened(tmp_path) as journal:
            assert numbers(await read_all(journal.cursor("one"))) == [1, 2, 3, 4, 5, 6]

    asyncio.run(after())


async def test_what_belongs_to_no_file_is_swept_at_the_start(tmp_path: Path) -> None:
    path = await filled(tmp_path, 2)
    directory = path.parent
    for orphan in (
        "00000009-feed.journal-wal",
        "00000009-feed.journal-shm",
        "00000001-feed.part.journal",
        "00000001-feed.part.journal-wal",
    ):
        (directory / orphan).write_bytes(b"left over")
    (directory / "notes.txt").write_text("not ours")
    with opened(tmp_path) as journal:
        assert numbers(await read_all(journal.cursor("one"))) == [1, 2, 3, 4, 5, 6]
    assert sorted(kept.name for kept in directory.iterdir()) == sorted([path.name, "notes.txt"])


async def test_a_file_that_cannot_be_deleted_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig.model_validate({"file_bytes": 100}), metrics)
    journal.open()
    cursor = journal.cursor("one")
    refused: list[Path] = []

    def stuck(file: JournalFile) -> None:
        refused.append(file.path)
        raise JournalError("busy")

    with monkeypatch.context() as broken:
        broken.setattr(JournalFile, "unlink", stuck)
        for first in range(1, 10, 3):
            await append(journal, first)
        cursor.acknowledge(await cursor.read(3))
        await wait_for(lambda: "\ningestd_journal_errors_total 0.0\n" not in exposed(metrics))
    assert refused[0].exists()
    cursor.acknowledge(await read_all(cursor))
    await wait_for(lambda: not refused[0].exists())
    journal.close()


async def wait_for(condition: Callable[[], bool]) -> None:
    """What another thread does."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


async def test_the_loss_found_at_the_start_is_counted(tmp_path: Path) -> None:
    """By records where the totals tell them; else by batches, from the gaps in the positions."""
    path = await filled(tmp_path)
    change(path, "UPDATE batches SET counts = CAST('x' AS BLOB) WHERE position = 20")
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig(), metrics)
    journal.open()
    cursor = journal.cursor("one")
    journal.close()
    assert metrics.totals(metrics.dropped) == {"unknown": 1}
    assert metrics.totals(metrics.dropped, "reason") == {"journal_damaged": 1}
    assert cursor.pending == {"trades": 117}
    assert cursor.recovered == {"trades": 117, "unknown": 1}


async def test_a_lost_end_is_counted_from_the_totals(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM batches WHERE position > 38")
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig(), metrics)
    journal.open()
    cursor = journal.cursor("one")
    journal.close()
    assert metrics.totals(metrics.dropped) == {"trades": 6}
    assert cursor.pending == {"trades": 114}
    assert cursor.recovered == {"trades": 120}


async def test_a_damaged_file_on_a_full_disk_waits_for_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await filled(tmp_path)
    change(path, "UPDATE batches SET counts = CAST('x' AS BLOB) WHERE position = 20")

    def no_room(*_: object) -> None:
        raise JournalFull("no room left")

    with monkeypatch.context() as full:
        full.setattr(recovery, "salvage", no_room)
        with opened(tmp_path) as journal:
            assert await read_all(journal.cursor("one")) == []
            await append(journal, 1000)
    with opened(tmp_path) as journal:
        assert len(numbers(await read_all(journal.cursor("one")))) == 117 + 3


async def test_damage_behind_one_sink_is_lost_to_the_other_only(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batches SET crc = 1 WHERE position = 20")
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig(), metrics)
    journal.open()
    ahead, behind = journal.cursor("ahead"), journal.cursor("behind")
    await ahead.skip_to(journal.journal_ids[0], 30)
    assert len(await read_all(behind)) == 39
    assert ahead.pending == {"trades": 30}
    assert behind.pending == {"trades": 117}
    assert len(await read_all(ahead)) == 10
    assert metrics.totals(metrics.dropped) == {"trades": 3}
    journal.close()


async def test_a_read_that_fails_may_be_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(tmp_path, 2)

    def failing(*_: object) -> list[StoredBatch]:
        raise JournalError("the disk is away")

    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        with monkeypatch.context() as broken:
            broken.setattr(JournalFile, "read", failing)
            with pytest.raises(JournalError, match="away"):
                await cursor.read(10)
        assert numbers(await read_all(cursor)) == [1, 2, 3, 4, 5, 6]


async def test_salvaging_does_not_hold_the_loop(tmp_path: Path) -> None:
    path = await filled(tmp_path, 60)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batches SET crc = 1 WHERE position = 20")
    threads: set[str] = set()
    real = files.sync_directory

    def noted(directory: Path) -> None:
        threads.add(threading.current_thread().name)
        real(directory)

    with opened(tmp_path) as journal, pytest.MonkeyPatch.context() as watched:
        watched.setattr(files, "sync_directory", noted)  # once the sound batches are in a file of their own
        assert len(await read_all(journal.cursor("one"))) == 59
    assert threads == {"journal-reader"}


async def test_a_disk_that_hangs_does_not_hold_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread ends with the process, and so does the lock: until then nobody else may write there."""
    monkeypatch.setattr(journal_files, "CLOSE_S", 0.1)
    journal = Journal(tmp_path, JournalConfig(), Metrics())
    journal.open()
    journal.cursor("one")
    await append(journal, 1)
    hangs, go_on = threading.Event(), threading.Event()

    def hanging(_file: JournalFile, _batch: StoredBatch) -> None:
        hangs.set()
        go_on.wait()

    monkeypatch.setattr(JournalFile, "append", hanging)
    appending = asyncio.create_task(append(journal, 4))
    await asyncio.to_thread(hangs.wait)
    began = time.monotonic()
    journal.close()
    assert time.monotonic() - began < 2
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "journal-writer"]
    assert thread.daemon
    with pytest.raises(JournalLocked), opened(tmp_path):
        pass
    appending.cancel()
    await asyncio.wait({appending})
    go_on.set()
    thread.join(5)
    journal.close()
    with opened(tmp_path) as again:
        assert numbers(await read_all(again.cursor("one"))) == [1, 2, 3]


async def test_the_directory_is_durable_before_anything_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(recovery, "sync_directory", synced.append)
    with opened(tmp_path / "state"):
        pass
    assert synced[:2] == [tmp_path / "state", tmp_path]


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ((FORMAT_VERSION + 1) * 1000 + WIRE_VERSION, f"format {FORMAT_VERSION + 1} "),
        (FORMAT_VERSION * 1000 + WIRE_VERSION + 1, f"records of version {WIRE_VERSION + 1}"),
    ],
)
async def test_newer_tables_or_records_are_refused(tmp_path: Path, version: int, text: str) -> None:
    path = await filled(tmp_path, 2)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == FORMAT_VERSION * 1000 + WIRE_VERSION
        connection.execute(f"PRAGMA user_version={version}")
    with pytest.raises(JournalVersion, match=text), opened(tmp_path):
        pass


async def test_files_from_before_the_totals_are_read(tmp_path: Path) -> None:
    path = await filled(tmp_path, 2)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE totals")
        connection.execute("PRAGMA user_version=1")
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        assert cursor.pending == {"trades": 6}
        assert numbers(await read_all(cursor)) == [1, 2, 3, 4, 5, 6]


async def test_a_start_does_not_look_at_every_row(tmp_path: Path) -> None:
    """The totals are there. Rows that say something else are not found out, and no file is left open."""
    with opened(tmp_path, file_bytes=1000) as journal:
        journal.cursor("one")
        for first in range(1, 61, 3):
            await append(journal, first)
        size = journal.size_bytes

    paths = list((tmp_path / "journal").glob("*.journal"))
    for path in paths:
        with contextlib.closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE batches SET counts = CAST('x' AS BLOB)")
    with opened(tmp_path) as journal:
        assert journal.cursor("one").pending == {"trades": 60}
        assert journal.size_bytes == size
        assert len(paths) > 3
        assert opened_files() & {str(path) for path in paths} == set()


def opened_files() -> set[str]:
    """Of this process."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return found


@pytest.mark.parametrize("size", [100, 700, 1400, 2100, 3000, 4000, 6200, 20_000])
def test_the_size_is_that_on_disk(tmp_path: Path, size: int) -> None:
    file = JournalFile.create(tmp_path, FileName(1, "a"), 1000)
    for position in range(1, 801):
        file.append(StoredBatch(position, 1_790_000_000_000_000, {"ticks": 5, "trades": 3}, os.urandom(size)))
    log = Path(f"{file.path}-wal").stat().st_size
    assert file.size_bytes >= file.totals.rows_bytes + log - 2**18
    file.finish()
    on_disk = file.path.stat().st_size
    file.close()
    assert on_disk - 20_000 <= file.size_bytes <= 1.35 * on_disk


def test_the_size_holds_for_rows_that_do_not_share_pages(tmp_path: Path) -> None:
    file = JournalFile.create(tmp_path, FileName(1, "a"), 1000)
    for position in range(1, 801):
        payload = os.urandom(3000 if position % 2 else 1000 + position)
        file.append(StoredBatch(position, 1_790_000_000_000_000, {"ticks": 5}, payload))
    file.finish()
    on_disk = file.path.stat().st_size
    file.close()
    assert on_disk - 20_000 <= file.size_bytes <= 1.35 * on_disk


@pytest.mark.parametrize("is_there", [True, False])
def test_a_row_for_which_memory_is_said_to_lack_is_damaged_where_memory_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    if not is_there:
        monkeypatch.setattr(disk, "LARGE_BATCH_BYTES", 2**62)
    with pytest.raises(JournalError) as caught, translated(tmp_path):
        raise MemoryError
    assert isinstance(caught.value, JournalDamaged) == is_there
