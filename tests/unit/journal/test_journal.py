"""The journal on a real disk: what was appended is read back, by every cursor, over restarts, damage and limits."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from ingestd.config.models import JournalConfig
from ingestd.errors import JournalError, JournalFull, JournalLocked, JournalVersion
from ingestd.journal.file import FileName, JournalFile
from ingestd.journal.journal import Batch, Cursor, Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import Record, decode_batch, encode_batch
from tests.support.exposed import exposed
from tests.support.records import book, tick, trade


@contextmanager
def opened(state_dir: Path, **options: object) -> Iterator[Journal]:
    journal = Journal(state_dir, JournalConfig.model_validate(options), Metrics())
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


async def read_all(cursor: Cursor, at_most: int = 10_000) -> list[Batch]:
    batches: list[Batch] = []
    while more := await cursor.read(at_most):
        batches.extend(more)
    return batches


def numbers(batches: list[Batch]) -> list[int]:
    return [record.seq for batch in batches for record in batch.records]  # type: ignore[union-attr] # trades only


async def append(journal: Journal, first: int, count: int = 3) -> Batch:
    records: list[Record] = [trade(number) for number in range(first, first + count)]
    return await journal.append(records)


async def test_reads_what_was_appended_in_order(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        await append(journal, 1)
        await append(journal, 4)
        batches = await read_all(cursor)
    assert numbers(batches) == [1, 2, 3, 4, 5, 6]
    assert [batch.position for batch in batches] == [1, 2]
    assert batches[0].counts == {"trades": 3}


async def test_a_cursor_waits_for_the_next_batch(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        waiting = asyncio.create_task(cursor.wait())
        await append(journal, 1)
        await asyncio.wait_for(waiting, 60)
        assert numbers(await cursor.read(10)) == [1, 2, 3]
        assert await cursor.read(10) == []


async def test_each_cursor_reads_everything_at_its_own_pace(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        fast, slow = journal.cursor("fast"), journal.cursor("slow")
        for first in range(1, 31, 3):
            await append(journal, first)
            fast.acknowledge(await fast.read(100))
        assert numbers(await read_all(slow)) == list(range(1, 31))
        assert fast.pending_records == 0
        assert slow.pending_records == 30


async def test_what_fell_out_of_memory_is_read_from_the_files(tmp_path: Path) -> None:
    with opened(tmp_path, memory_bytes=1, file_bytes=2000) as journal:
        cursor = journal.cursor("one")
        for first in range(1, 301, 3):
            await append(journal, first)
        assert len(list((tmp_path / "journal").glob("*.journal"))) > 3
        assert numbers(await read_all(cursor, at_most=7)) == list(range(1, 301))


async def test_memory_is_bounded_by_what_records_take_in_it(tmp_path: Path) -> None:
    """Not by their journaled form, which is much smaller: a sink that is down must not make the process grow."""
    limit = 2**20
    with opened(tmp_path, memory_bytes=limit) as journal:
        cursor = journal.cursor("one")
        tracemalloc.start()
        try:
            for first in range(1, 20_001, 500):
                await journal.append([trade(number, price=f"{number}.5") for number in range(first, first + 500)])
            held_bytes, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert limit / 4 < held_bytes < 1.5 * limit
        assert len(await read_all(cursor)) == 40


async def test_reading_continues_live_after_the_files(tmp_path: Path) -> None:
    with opened(tmp_path, memory_bytes=4500) as journal:
        cursor = journal.cursor("one")
        read: list[int] = []
        for first in range(1, 91, 3):
            await append(journal, first)
            if first % 4 == 0:
                read += numbers(await cursor.read(5))
        read += numbers(await read_all(cursor, 5))
        assert read == list(range(1, 91))


async def test_files_go_when_every_cursor_has_acknowledged_them(tmp_path: Path) -> None:
    with opened(tmp_path, file_bytes=1000) as journal:
        one, two = journal.cursor("one"), journal.cursor("two")
        for first in range(1, 151, 3):
            await append(journal, first)
        before = len(journal.journal_ids), journal.size_bytes
        one.acknowledge(await read_all(one))
        assert (len(journal.journal_ids), journal.size_bytes) == before
        two.acknowledge(await read_all(two))
        assert journal.size_bytes < 1000 + 500
    assert len(list((tmp_path / "journal").glob("*.journal"))) <= 1


async def test_a_restart_finds_what_was_not_acknowledged(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        await append(journal, 1)
        await append(journal, 4)
        first_id = journal.journal_id
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        assert cursor.pending == {"trades": 6}
        await append(journal, 7)
        assert journal.journal_ids == [first_id, journal.journal_id]
        batches = await read_all(cursor)
    assert numbers(batches) == list(range(1, 10))
    assert [batch.journal_id == first_id for batch in batches] == [True, True, False]


async def test_a_restart_skips_what_the_sink_says_it_has(tmp_path: Path) -> None:
    with opened(tmp_path, file_bytes=500) as journal:
        journal.cursor("one")  # without a reader nothing is kept
        for first in range(1, 31, 3):
            await append(journal, first)
        first_id = journal.journal_id
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        await cursor.skip_to(first_id, 7)
        assert cursor.pending == {"trades": 9}
        assert numbers(await read_all(cursor)) == list(range(22, 31))
        await cursor.skip_to(first_id, 10)
        assert cursor.pending == {"trades": 0}


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(JournalLocked, match="another ingestd owns"), opened(tmp_path):
        pass


async def test_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        await append(journal, 1)
    (path,) = (tmp_path / "journal").glob("*.journal")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(JournalVersion, match=r"format 99.*newer ingestd"), opened(tmp_path):
        pass
    assert path.read_bytes() == content


async def test_a_state_directory_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError, match="state directory"), opened(tmp_path / "file"):
        pass


async def test_full_refuses_until_a_sink_catches_up(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=4000, file_bytes=1000) as journal:
        cursor = journal.cursor("one")
        appended = 0
        while journal.size_bytes < 3000:
            await append(journal, appended + 1)
            appended += 3
        with pytest.raises(JournalFull, match="max_bytes"):
            await append(journal, appended + 1, 30)
        cursor.acknowledge(await read_all(cursor))
        await append(journal, appended + 1)
        assert numbers(await read_all(cursor)) == [appended + 1, appended + 2, appended + 3]


async def test_a_full_small_journal_frees_even_its_only_file(tmp_path: Path) -> None:
    with opened(tmp_path, max_bytes=1200) as journal:
        cursor = journal.cursor("one")
        for first in range(1, 200, 3):
            await append(journal, first)
            cursor.acknowledge(await cursor.read(10))
        assert cursor.pending_records == 0


async def test_drop_oldest_gives_up_books_before_ticks_before_trades(tmp_path: Path) -> None:
    metrics = Metrics()
    config = JournalConfig.model_validate(
        {"max_bytes": 40_000, "file_bytes": 4000, "memory_bytes": 1, "when_full": "drop_oldest"}
    )
    journal = Journal(tmp_path, config, metrics)
    journal.open()
    cursor = journal.cursor("one")
    appended = {"trades": 0, "ticks": 0, "order_book": 0}
    for number in range(1, 400):
        await journal.append([trade(number), tick(number), book(number)])
        appended = {channel: count + 1 for channel, count in appended.items()}
    kept: dict[str, int] = {}
    for batch in await read_all(cursor):
        for channel, count in batch.counts.items():
            kept[channel] = kept.get(channel, 0) + count
    dropped = metrics.totals(metrics.dropped)
    journal.close()
    assert {channel: kept.get(channel, 0) + dropped.get(channel, 0) for channel in appended} == appended
    assert dropped["order_book"] >= dropped.get("ticks", 0) >= dropped.get("trades", 0)
    assert dropped["order_book"] > 0
    assert journal.size_bytes <= 40_000


def damaged(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)


async def filled(tmp_path: Path, batches: int = 40) -> Path:
    with opened(tmp_path) as journal:
        for number in range(batches):
            await append(journal, 1 + 3 * number)
    (path,) = (tmp_path / "journal").glob("*.journal")
    return path


@pytest.mark.parametrize("part", [0.0, 0.01, 0.2, 0.4, 0.6, 0.8, 0.999])
async def test_a_flipped_bit_costs_at_most_its_page(tmp_path: Path, part: float) -> None:
    path = await filled(tmp_path)
    damaged(path, int(part * path.stat().st_size))
    with opened(tmp_path) as journal:
        read = numbers(await read_all(journal.cursor("one")))
        await append(journal, 1000)
    assert read == sorted(set(read))
    assert set(read) <= set(range(1, 121))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7])
async def test_a_truncated_file_starts_and_keeps_what_is_readable(tmp_path: Path, part: float) -> None:
    path = await filled(tmp_path)
    with path.open("r+b") as file:
        file.truncate(int(part * path.stat().st_size))
    with opened(tmp_path) as journal:
        read = numbers(await read_all(journal.cursor("one")))
        await append(journal, 1000)
    assert set(read) <= set(range(1, 121))


async def test_a_foreign_file_is_moved_aside_and_said(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    (directory / str(FileName(3, "feedfacefeedface"))).write_bytes(b"not a database, " * 500)
    with opened(tmp_path) as journal:
        await append(journal, 1)
        assert numbers(await read_all(journal.cursor("one"))) == [1, 2, 3]
    assert [path.name for path in (directory / "bad").iterdir()] == [str(FileName(3, "feedfacefeedface"))]


async def test_damage_met_while_reading_keeps_the_other_batches(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    metrics = Metrics()
    with sqlite3.connect(path) as connection:
        sealed = dict(connection.execute("SELECT position, sealed_at FROM batches").fetchall())
        connection.execute("UPDATE batches SET payload = zeroblob(length(payload)) WHERE position = 20")
    connection.close()
    journal = Journal(tmp_path, JournalConfig(), metrics)
    journal.open()
    cursor = journal.cursor("one")
    read = numbers(await read_all(cursor))
    journal.close()
    assert read == [number for number in range(1, 121) if number not in (58, 59, 60)]
    assert metrics.totals(metrics.dropped) == {"trades": 3}
    assert cursor.pending == {"trades": 117}
    assert_gap_around(journal, sealed[19], sealed[21])


def test_the_limit_of_its_size_is_shown(tmp_path: Path) -> None:
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig.model_validate({"max_bytes": 123_456_789}), metrics)
    journal.open()
    journal.close()
    assert "\ningestd_journal_max_bytes 1.23456789e+08\n" in exposed(metrics)


async def test_damage_found_at_the_start_leaves_a_gap(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    with sqlite3.connect(path) as connection:
        sealed = dict(connection.execute("SELECT position, sealed_at FROM batches").fetchall())
        connection.execute("DELETE FROM totals")
        connection.execute("UPDATE batches SET counts = x'c1' WHERE position BETWEEN 20 AND 22")
    connection.close()
    with opened(tmp_path) as journal:
        assert_gap_around(journal, sealed[19], journal_clock_us())


def journal_clock_us() -> int:
    return int(time.time() * 1e6)


def assert_gap_around(journal: Journal, before: int, after: int) -> None:
    """Of the one stream there is: from at most two seconds before the last sound batch to the next one."""
    (gap,) = journal.take_damage_gaps()
    assert (gap.exchange, gap.channel, gap.symbol, gap.cause) == ("binance", "trades", "BTC/USDT", "dropped")
    assert before - 2_000_000 <= gap.time <= before
    assert gap.ended_at is not None
    assert after - 5_000_000 <= gap.ended_at <= after
    assert journal.take_damage_gaps() == []


async def test_a_half_rewritten_file_is_forgotten(tmp_path: Path) -> None:
    path = await filled(tmp_path, 2)
    shutil.copy(path, path.with_name(path.name.replace(".journal", ".part.journal")))
    with opened(tmp_path) as journal:
        assert numbers(await read_all(journal.cursor("one"))) == [1, 2, 3, 4, 5, 6]
    assert not list((tmp_path / "journal").glob("*.part.*"))


async def test_after_a_full_disk_the_newest_file_may_go_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a small disk the one file that takes appends is what fills it."""
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        await append(journal, 1)
        with monkeypatch.context() as full:
            full.setattr(JournalFile, "append", _no_room)
            with pytest.raises(JournalFull):
                await append(journal, 4)
        cursor.acknowledge(await read_all(cursor))
        assert journal.size_bytes == 0
        await append(journal, 4)
        assert numbers(await read_all(cursor)) == [4, 5, 6]


def _no_room(_file: JournalFile, _batch: object) -> None:
    raise JournalFull("no room left on the disk")


async def test_a_skip_never_lets_an_older_journal_go(tmp_path: Path) -> None:
    """A file put back from a backup is older than what the sink has stored, and not stored."""
    ids = []
    for first in (1, 11):
        with opened(tmp_path) as journal:
            journal.cursor("one")
            await append(journal, first, 10)
            ids.append(journal.journal_id)
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        await cursor.skip_to(ids[1], 1)
        assert numbers(await read_all(cursor)) == list(range(1, 11))
        assert cursor.pending == {"trades": 10}
        assert cursor.recovered == {"trades": 10}


async def test_dropping_spares_what_a_sink_has_in_its_hands(tmp_path: Path) -> None:
    """What was read or lies in memory is stored, so it must not be counted as dropped too."""
    metrics = Metrics()
    options = {"max_bytes": 60_000, "file_bytes": 6000, "memory_bytes": 8000, "when_full": "drop_oldest"}
    journal = Journal(tmp_path, JournalConfig.model_validate(options), metrics)
    journal.open()
    live, behind = journal.cursor("live"), journal.cursor("behind")
    delivered: dict[str, int] = {}
    for number in range(1, 500):
        await journal.append([trade(number), tick(number), book(number)])
        live.acknowledge(await live.read(100))
        if number == 50:
            held = await behind.read(30)
    for batch in [*held, *await read_all(behind)]:
        for channel, count in batch.counts.items():
            delivered[channel] = delivered.get(channel, 0) + count
    dropped = metrics.totals(metrics.dropped)
    journal.close()
    assert {channel: delivered.get(channel, 0) + dropped.get(channel, 0) for channel in dropped} == dict.fromkeys(
        dropped, 499
    )
    assert dropped["order_book"] > 0


async def test_a_batch_of_another_programs_records_is_kept_aside(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.cursor("one")
        await append(journal, 1)
        await append(journal, 4)
    (path,) = (tmp_path / "journal").glob("*.journal")
    counts, payload = b"\x81\xa6trades\x03", b"\x93\x01\x02\x03"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "UPDATE batches SET payload = ?, counts = ?, crc = ? WHERE position = 1",
            (payload, counts, zlib.crc32(payload, zlib.crc32(counts))),
        )
    connection.close()
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig(), metrics)
    journal.open()
    cursor = journal.cursor("one")
    batches = await read_all(cursor)
    cursor.acknowledge(batches)
    journal.close()
    assert numbers(batches) == [4, 5, 6]
    assert metrics.totals(metrics.dropped) == {"trades": 3}
    assert cursor.pending == {"trades": 0}
    assert [kept.read_bytes() for kept in (tmp_path / "journal" / "bad").iterdir()] == [payload]


def test_a_payload_with_a_text_that_is_none_is_refused_as_any_other() -> None:
    payload = encode_batch([trade(1)]).replace(b"binance", b"\xff" * 7)
    with pytest.raises(msgspec.DecodeError, match="not UTF-8"):
        decode_batch(payload)


async def test_a_sync_that_failed_leaves_no_batch_twice(tmp_path: Path) -> None:
    """After the crash the log of the first file revives a batch that was written again to the next one."""
    with opened(tmp_path, file_bytes=500) as journal:
        journal.cursor("one")
        for first in range(1, 13, 3):
            await append(journal, first)
    first_file, second_file = sorted((tmp_path / "journal").glob("*.journal"))[:2]
    with sqlite3.connect(second_file) as source:
        revived = source.execute("SELECT * FROM batches ORDER BY position LIMIT 1").fetchone()
    source.close()
    with sqlite3.connect(first_file) as target:
        target.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?)", revived)
    target.close()
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        assert cursor.pending == {"trades": 12}
        assert numbers(await read_all(cursor)) == list(range(1, 13))


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
async def test_damage_far_from_the_first_position_costs_only_its_page(tmp_path: Path, part: float) -> None:
    path = await filled(tmp_path, 400)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE batches SET position = -position")
        connection.execute("UPDATE batches SET position = 100000 - position")
        connection.commit()
        connection.execute("VACUUM")
    connection.close()
    content = bytearray(path.read_bytes())
    page = max(3, int(part * len(content) / 4096)) * 4096  # not the schema, not the roots of the tables
    content[page : page + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    with opened(tmp_path) as journal:
        kept = len(await read_all(journal.cursor("one")))
    assert 400 > kept > 340


def inner_page(content: bytes) -> int:
    """Where the one page lies that only leads to others."""
    (page,) = (at for at in range(4096, len(content), 4096) if content[at] == 5)
    return page


@pytest.mark.parametrize("key", [0, 1, 39, 90])
async def test_a_page_that_leads_astray_repeats_nothing_and_hides_nothing(tmp_path: Path, key: int) -> None:
    """Every row is sound and only the way to them is not: they are read once, in order, and none is passed over."""
    path = await filled(tmp_path)
    content = bytearray(path.read_bytes())
    page = inner_page(bytes(content))
    first_cell = page + int.from_bytes(content[page + 12 : page + 14], "big")
    assert 0 < content[first_cell + 4] != key  # the last position of its first leaf, after four bytes of page number
    content[first_cell + 4] = key
    path.write_bytes(content)
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        found: list[Batch] = []
        while (more := await cursor.read(1)) and len(found) <= 40:
            found += more
    assert numbers(found) == list(range(1, 121))


async def test_a_schema_that_is_no_text_is_kept_aside(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"CREATE TABLE batches", b"CREATE TA\x80LE batches"))
    with opened(tmp_path) as journal:
        assert await read_all(journal.cursor("one")) == []
    assert [kept.name for kept in (tmp_path / "journal" / "bad").iterdir()] == [path.name]


async def test_rows_that_are_not_where_they_belong_are_damage_before_the_totals_are_there(tmp_path: Path) -> None:
    path = await filled(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM totals")
        connection.execute("DELETE FROM batches WHERE position = 20")
    connection.close()
    metrics = Metrics()
    journal = Journal(tmp_path, JournalConfig(), metrics)
    journal.open()
    read = numbers(await read_all(journal.cursor("one")))
    gaps = journal.take_damage_gaps()
    journal.close()
    assert read == [number for number in range(1, 121) if number not in (58, 59, 60)]
    assert metrics.totals(metrics.dropped) == {"unknown": 1}
    assert len(gaps) == 1


async def test_the_age_is_that_of_what_is_not_stored(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        assert cursor.oldest_pending_at() is None
        await append(journal, 1)
        cursor.acknowledge(await cursor.read(10))
        assert cursor.oldest_pending_at() is None
        second = await append(journal, 4)
        await append(journal, 7)
        assert cursor.oldest_pending_at() == second.sealed_at


async def test_a_file_that_was_deleted_under_it_takes_nothing_more(tmp_path: Path) -> None:
    """What would be written to it is found by nobody after a restart: another file begins."""
    with opened(tmp_path) as journal:
        await append(journal, 1)
        (path,) = journal.directory.glob("*.journal")
        for part in journal.directory.glob(f"{path.name}*"):
            part.unlink()
        await append(journal, 4)
        assert journal.error is None
        (another,) = journal.directory.glob("*.journal")
        assert another != path
    with opened(tmp_path) as again:
        assert numbers(await read_all(again.cursor("one"))) == [4, 5, 6]


async def test_a_folder_that_was_deleted_under_it_is_said(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        await append(journal, 1)
        away = tmp_path / "away"
        journal.directory.rename(away)
        with pytest.raises(JournalError):
            await append(journal, 4)
        assert journal.error is not None
        away.rename(journal.directory)
        await append(journal, 4)
        assert journal.error is None
