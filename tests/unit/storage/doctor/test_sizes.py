"""What the doctor says of chunks, of compression and of the disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestd.config.loading import parse
from ingestd.storage.doctor import growth, sizes
from ingestd.storage.doctor.growth import Growth, GrowthFacts
from ingestd.storage.doctor.sizes import Chunk, ChunkFacts

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MIB, GIB = 2**20, 2**30
CONFIG = parse({}, {})


def chunk(days_old: int, **changes: object) -> Chunk:
    """A chunk of one day of trades that ended so many days ago."""
    end = NOW - days_old * DAY
    made = Chunk("public.trades", f"chunk_{days_old}", end - DAY, end, 100 * MIB, 10 * MIB, compress_after=3 * DAY)
    return replace(made, **changes)  # type: ignore[arg-type] # the names of fields


def compressed(days_old: int, after_bytes: int = 10 * MIB, **changes: object) -> Chunk:
    sizes_of_it = {"before_bytes": 100 * MIB, "after_bytes": after_bytes, "bytes": after_bytes}
    return chunk(days_old, compressed=True, **{**sizes_of_it, **changes})


def facts(*chunks: Chunk, buffers: int = GIB) -> ChunkFacts:
    return ChunkFacts(NOW, buffers, chunks)


HEALTHY = [*(compressed(days) for days in range(10, 3, -1)), *(chunk(days) for days in range(3, -1, -1))]


def test_chunks_as_they_should_be_have_no_finding() -> None:
    assert list(sizes.judge_chunks(facts(*HEALTHY), CONFIG)) == []
    assert list(sizes.judge_compression(facts(*HEALTHY), CONFIG)) == []


@pytest.mark.parametrize(("days", "remedy"), [(4, "[chunks] trades_days = 2"), (1, "as short as they can be: 1 day")])
def test_indexes_that_do_not_fit_in_the_cache(days: int, remedy: str) -> None:
    other = chunk(0, table="public.market_ticks", index_bytes=20 * MIB)
    chunks = [chunk(0, index_bytes=90 * MIB), compressed(1, index_bytes=GIB), other]
    config = parse({"chunks": {"trades_days": days}}, {})
    assert list(sizes.judge_chunks(facts(*chunks, buffers=110 * MIB), config)) == []
    (found,) = sizes.judge_chunks(facts(*chunks, buffers=110 * MIB - 1), config)
    assert found.message.startswith("the indexes of the newest chunks are 110.0 MiB, 90.0 MiB of them in public.trades")
    assert "shared_buffers = '220MB'" in found.remedy
    assert remedy in found.remedy


def test_too_many_chunks() -> None:
    many = [compressed(days) for days in range(1501)]
    (found,) = sizes.judge_chunks(facts(*many), CONFIG)
    assert "it has 1,501 chunks" in found.message
    assert "[chunks] trades_days = 4 in FILE" in found.remedy


def test_compression_that_saves_little() -> None:
    poor = [compressed(days, after_bytes=60 * MIB) for days in range(5, 3, -1)]
    (found,) = sizes.judge_compression(facts(*poor), CONFIG)
    assert "leaves 60% of 200.0 MiB" in found.message
    assert list(sizes.judge_compression(facts(compressed(5, after_bytes=6, before_bytes=10)), CONFIG)) == []  # tiny


def test_chunks_that_wait_for_compression() -> None:
    """Compressed at three days, and two days of grace: a chunk that ended six days ago should be."""
    assert list(sizes.judge_compression(facts(chunk(5)), CONFIG)) == []
    (found,) = sizes.judge_compression(facts(chunk(9), chunk(6), chunk(1)), CONFIG)
    assert "2 of its chunks should be compressed, with 200.0 MiB; the oldest ended 9.0 days ago" in found.message
    assert found.remedy.startswith("CALL convert_to_columnstore('chunk_9');")
    assert list(sizes.judge_compression(facts(chunk(9, compress_after=None)), CONFIG)) == []


def test_rows_that_come_late_into_compressed_chunks() -> None:
    late = [compressed(days, partial=True) for days in range(10, 4, -1)]
    assert list(sizes.judge_compression(facts(*late[1:]), CONFIG)) == []
    (found,) = sizes.judge_compression(facts(*late), CONFIG)
    assert "into 6 compressed chunks" in found.message
    assert "[compression] trades_after_days above 3" in found.remedy


def test_the_growth_of_a_table_by_its_chunks() -> None:
    """Eleven days are held; the newest day is not whole. A day takes 100 MiB, and a tenth of it compressed."""
    found = growth.of_chunks("public.trades", HEALTHY)
    assert found == Growth("public.trades", 7 * 10 * MIB + 4 * 100 * MIB, 11.0, 100.0 * MIB, 0.1)
    assert growth.of_chunks("public.trades", HEALTHY[-1:]) is None


@pytest.mark.parametrize(
    ("days", "keep", "compress", "mib"),
    [
        (0, 0, 3, 3 * 100 + 8 * 10),
        (30, 0, 3, 3 * 100 + 38 * 10),
        (30, 0, 0, 41 * 100),
        (30, 20, 3, 3 * 100 + 17 * 10),  # retention bounds it
        (30, 5, 0, 5 * 100),
        (365, 2, 3, 2 * 100),
    ],
)
def test_the_forecast(days: int, keep: int, compress: int, mib: int) -> None:
    table = Growth("t", 0, 11.0, 100.0 * MIB, 0.1)
    assert growth.forecast(table, days, keep, compress) == pytest.approx(mib * MIB)


@pytest.mark.parametrize(
    ("free", "level", "words"),
    [
        (None, "note", "not known from here"),
        (1000 * GIB, "note", "enough for a year"),
        (101 * GIB, "note", "enough for 90 days"),
        (41 * GIB, "warning", "enough for 36 days"),
        (5 * GIB, "error", "enough for 4 days"),
    ],
)
def test_when_the_disk_is_full(free: int | None, level: str, words: str) -> None:
    """One GiB a day, never compressed, kept for ever; a tenth of the free space is reserved."""
    config = parse({"retention": {"order_book_days": 0}, "compression": {"order_book_after_days": 0}}, {})
    table = Growth("public.order_book", 50 * GIB, 50.0, 1.0 * GIB)
    (found,) = growth.judge(GrowthFacts((table,), free), config)
    assert (found.level, found.subject) == (level, "disk")
    assert words in found.message
    assert "take 50.0 GiB now, and about 80.0 GiB in 30 days, 140.0 GiB in 90 days" in found.message
    assert "[retention] order_book_days lower" in found.remedy


def test_an_empty_database_has_no_forecast() -> None:
    assert list(growth.judge(GrowthFacts((), 1), CONFIG)) == []


@pytest.mark.parametrize(
    ("table", "kept", "after"),
    [
        ("public.trades", 365, 3),
        ("public.ohlcv_data", 3650, 7),
        ("public.candles_1M", 3650, 0),
        ("public.ohlcv_1h", 730, 0),
        ("mine.trades", 0, 0),
    ],
)
def test_what_the_configuration_says_of_a_table(table: str, kept: int, after: int) -> None:
    assert (growth.keep_days(table, CONFIG), growth.compress_days(table, CONFIG)) == (kept, after)
