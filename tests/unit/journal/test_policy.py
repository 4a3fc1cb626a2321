"""What the journal keeps, gives up and counts, for sinks that are ahead, behind, or were told what they have."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from ingestd.clock import now_us
from ingestd.config.models import JournalConfig
from ingestd.errors import JournalFull
from ingestd.journal import reading
from ingestd.journal.batch import StoredBatch
from ingestd.journal.file import JournalFile
from ingestd.journal.journal import Batch, Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import decode_batch
from tests.support.records import book, tick, trade
from tests.unit.journal.test_faults import wait_for
from tests.unit.journal.test_journal import append, numbers, opened, read_all

CHANNELS = ("trades", "ticks", "order_book")


class Measured(Journal):
    """With the metrics that it was given."""

    def __init__(self, state_dir: Path, config: JournalConfig) -> None:
        self.metrics = Metrics()
        super().__init__(state_dir, config, self.metrics)


@contextmanager
def measured(tmp_path: Path, **options: object) -> Iterator[Measured]:
    journal = Measured(tmp_path, JournalConfig.model_validate(options))
    journal.open()
    try:
        yield journal
    finally:
        journal.close()


def dropping(tmp_path: Path, **options: object) -> AbstractContextManager[Measured]:
    return measured(tmp_path, **{"max_bytes": 40_000, "when_full": "drop_oldest", **options})


async def append_each(journal: Journal, number: int) -> None:
    await journal.append([trade(number), tick(number), book(number)])


def delivered(batches: list[Batch]) -> dict[str, int]:
    return {channel: sum(batch.counts.get(channel, 0) for batch in batches) for channel in CHANNELS}


def dropped(journal: Measured) -> dict[str, int]:
    return journal.metrics.totals(journal.metrics.dropped)


def added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {channel: one.get(channel, 0) + other.get(channel, 0) for channel in CHANNELS}


@pytest.mark.parametrize("memory_bytes", [1, 8000, 2**24])
async def test_what_is_dropped_is_not_delivered(tmp_path: Path, memory_bytes: int) -> None:
    """Not from memory either; and memory does not keep the policy from working."""
    with dropping(tmp_path, memory_bytes=memory_bytes) as journal:
        cursor = journal.cursor("one")
        for number in range(400):
            await append_each(journal, number)
        read = delivered(await read_all(cursor))
        assert added(read, dropped(journal)) == dict.fromkeys(CHANNELS, 400)
        assert {channel: cursor.pending.get(channel, 0) for channel in CHANNELS} == read
        assert dropped(journal)["order_book"] > 0


async def test_a_file_that_is_being_read_is_not_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, reading, go_on = JournalFile.read, threading.Event(), threading.Event()

    def slow(file: JournalFile, *args: int) -> list[StoredBatch]:
        batches = real(file, *args)
        reading.set()
        go_on.wait(5)
        return batches

    with dropping(tmp_path, memory_bytes=1) as journal:
        cursor = journal.cursor("one")
        number = 0
        while journal.size_bytes < 39_000:
            await append_each(journal, number)
            number += 1
        monkeypatch.setattr(JournalFile, "read", slow)
        first = asyncio.create_task(cursor.read(20))
        await asyncio.to_thread(reading.wait, 5)
        appends = asyncio.create_task(append_many(journal, number, 40))
        await asyncio.sleep(0.05)
        go_on.set()
        batches = await first
        await appends
        batches += await read_all(cursor)
        assert added(delivered(batches), dropped(journal)) == dict.fromkeys(CHANNELS, number + 40)
        cursor.acknowledge(batches)
        assert not any(cursor.pending.values())


async def append_many(journal: Journal, first: int, count: int) -> None:
    for number in range(first, first + count):
        await append_each(journal, number)


async def test_a_live_sink_does_not_keep_what_only_the_other_needs(tmp_path: Path) -> None:
    with dropping(tmp_path, memory_bytes=1) as journal:
        live, down = journal.cursor("live"), journal.cursor("down")
        for number in range(500):
            await append_each(journal, number)
            live.acknowledge(await live.read(100))
        assert live.pending_records == 0
        assert dropped(journal)["order_book"] > 0
        assert added(delivered(await read_all(down)), dropped(journal)) == dict.fromkeys(CHANNELS, 500)


async def test_a_rewriting_that_found_no_room_does_not_stop_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with dropping(tmp_path, memory_bytes=1) as journal:
        cursor = journal.cursor("one")
        number = 0
        with monkeypatch.context() as full:
            full.setattr("ingestd.journal.salvage.os.replace", no_room)
            with contextlib.suppress(JournalFull):
                while True:
                    await append_each(journal, number)
                    number += 1
            with pytest.raises(JournalFull, match="disk"):
                await append_each(journal, number)
        assert not list((tmp_path / "journal").glob("*.part*"))
        for _ in range(3):
            await append_each(journal, number)
            number += 1
        assert added(delivered(await read_all(cursor)), dropped(journal)) == dict.fromkeys(CHANNELS, number)


async def journals_left(tmp_path: Path, count: int, **options: object) -> list[str]:
    """So many processes, each with ten batches of one trade."""
    ids = []
    for process in range(count):
        with opened(tmp_path, **options) as journal:
            journal.cursor("one")
            for number in range(10):
                await append(journal, 100 * process + number, 1)
            ids.append(journal.journal_id)
    return ids


async def test_skipping_a_newer_journal_keeps_the_older_one(tmp_path: Path) -> None:
    ids = await journals_left(tmp_path, 3)
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        await cursor.skip_to(ids[1], 10)
        await cursor.skip_to(ids[2], 4)
        assert journal.journal_ids == ids
        assert cursor.pending == {"trades": 16}
        first = await cursor.read(10)
        assert numbers(first) == list(range(10))
        cursor.acknowledge(first[:5])
        assert journal.journal_ids == ids
        assert cursor.pending == {"trades": 11}
        cursor.acknowledge(first[5:])
        assert journal.journal_ids == ids[2:]
        rest = await read_all(cursor)
        assert numbers(rest) == list(range(204, 210))
        cursor.acknowledge(rest)
        assert cursor.pending == {"trades": 0}
        assert journal.journal_ids == []
        await append(journal, 1000)
        assert numbers(await read_all(cursor)) == [1000, 1001, 1002]


async def test_two_sinks_skip_at_once(tmp_path: Path) -> None:
    (journal_id,) = await journals_left(tmp_path, 1, file_bytes=300)
    with opened(tmp_path) as journal:
        one, two = journal.cursor("one"), journal.cursor("two")
        await asyncio.gather(one.skip_to(journal_id, 7), two.skip_to(journal_id, 4))
        assert (one.pending_records, two.pending_records) == (3, 6)
        assert [batch.position for batch in await read_all(one)] == [8, 9, 10]
        assert [batch.position for batch in await read_all(two)] == [5, 6, 7, 8, 9, 10]


async def test_skipping_what_was_read_counts_it_once(tmp_path: Path) -> None:
    (journal_id,) = await journals_left(tmp_path, 1)
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        batches = await cursor.read(10)
        await cursor.skip_to(journal_id, 6)
        cursor.acknowledge(batches)
        assert cursor.pending == {"trades": 0}
        assert cursor.recovered == {"trades": 4}


async def test_recovered_counts_what_is_dropped_of_it_later(tmp_path: Path) -> None:
    """The database was away at the start, and what it has was learnt only after some of it had been dropped."""
    with opened(tmp_path, file_bytes=10_000) as journal:
        journal.cursor("one")
        for number in range(150):
            await journal.append([book(number)])
        journal_id = journal.journal_id
    with dropping(tmp_path, memory_bytes=1) as journal:
        cursor = journal.cursor("one")
        assert cursor.recovered == {"order_book": 150}
        for number in range(150):
            await journal.append([book(number)])
        assert dropped(journal)["order_book"] > 0
        await cursor.skip_to(journal_id, 120)
        left = cursor.pending["order_book"]
        assert cursor.recovered["order_book"] + 150 == dropped(journal)["order_book"] + left
        assert delivered(await read_all(cursor))["order_book"] == left


async def test_one_batch_is_taken_however_large(tmp_path: Path) -> None:
    """There is nothing to wait for: an empty journal does not get any emptier."""
    with opened(tmp_path, max_bytes=2000) as journal:
        cursor = journal.cursor("one")
        await append(journal, 1, 100)
        with pytest.raises(JournalFull):
            await append(journal, 101, 100)
        cursor.acknowledge(await read_all(cursor))
        await append(journal, 101, 100)
        assert len(numbers(await read_all(cursor))) == 100


async def test_a_full_journal_gives_one_reason_however_full_it_is(tmp_path: Path) -> None:
    """A log line is held back only if the same line was logged before."""
    reasons = set()
    with opened(tmp_path, max_bytes=40_000, file_bytes=4000) as journal:
        cursor = journal.cursor("one")
        for count in (10, 11, 12):
            with contextlib.suppress(JournalFull):
                while True:
                    await append(journal, 1, count)
            reasons.add((journal.error, journal.size_bytes))
            cursor.acknowledge(await cursor.read(300))
    assert len(reasons) > len({error for error, _ in reasons}) == 1


async def test_a_read_is_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_BYTES", 1500)
    with opened(tmp_path) as journal:
        journal.cursor("one")
        for number in range(10):
            await append(journal, 10 * number, 10)
        assert len(await journal.cursor("live").read(10_000)) == 2
    with opened(tmp_path) as journal:
        cursor = journal.cursor("one")
        sizes = []
        while batches := await cursor.read(10_000):
            sizes.append(len(batches))
        assert sizes == [2, 2, 2, 2, 2]


async def test_batches_are_decoded_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await journals_left(tmp_path, 1)
    threads = set()
    real = decode_batch

    def noted(payload: bytes) -> object:
        threads.add(threading.current_thread().name)
        return real(payload)

    monkeypatch.setattr(reading, "decode_batch", noted)
    with opened(tmp_path) as journal:
        assert len(await read_all(journal.cursor("one"))) == 10
    assert threads == {"journal-reader"}


def age_s(journal: Measured) -> float:
    (family,) = journal.metrics.journal_age_s.collect()
    return float(family.samples[0].value)


async def test_the_age_of_a_sink_that_is_behind_is_looked_up(tmp_path: Path) -> None:
    (journal_id,) = await journals_left(tmp_path, 1)
    with measured(tmp_path) as journal:
        cursor = journal.cursor("one")
        batches = await read_all(cursor)
        assert cursor.oldest_pending_at() == batches[0].sealed_at
        await cursor.skip_to(journal_id, 3)
        await wait_for(lambda: cursor.oldest_pending_at() == batches[3].sealed_at)
        assert age_s(journal) == pytest.approx((now_us() - batches[3].sealed_at) / 1e6, abs=1)
        cursor.acknowledge(batches)
        assert cursor.oldest_pending_at() is None
        assert age_s(journal) == 0


async def test_the_age_grows_while_nothing_is_appended(tmp_path: Path) -> None:
    with measured(tmp_path) as journal:
        ahead, behind = journal.cursor("ahead"), journal.cursor("behind")
        assert age_s(journal) == 0
        await append(journal, 1)
        ahead.acknowledge(await ahead.read(10))
        young = age_s(journal)
        time.sleep(0.02)  # noqa: ASYNC251 - the clock must move, the loop need not
        assert age_s(journal) >= young + 0.02
        assert ahead.oldest_pending_at() is None
        behind.acknowledge(await behind.read(10))
        assert age_s(journal) == 0
