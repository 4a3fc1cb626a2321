"""A host that loses its power: what was not synced is gone, torn or zero, and what was said to be durable is there.

SQLite's log is the only place that is written between two checkpoints, and a sync covers all of it up to then. So a
crash leaves the log cut at any byte beyond the last sync, or zeros, or old bytes, in the place of the rest.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ingestd.config.models import JournalConfig
from ingestd.journal.journal import Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from tests.support.records import trade

BATCHES = 12


@pytest.mark.parametrize("what_is_left", ["cut", "zeros", "noise"])
async def test_every_batch_said_to_be_durable_survives_any_cut_of_the_log(
    what_is_left: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    kept = tmp_path / "kept"
    ends = await written(tmp_path / "first", kept)
    log = log_of(kept)
    sound = log.read_bytes()
    cuts = sorted({*range(0, len(sound), 509), *ends, *(end - 1 for end in ends), *(end + 1 for end in ends[:-1])})
    for cut in cuts:
        rest = len(sound) - cut
        tail = {"cut": b"", "zeros": bytes(rest), "noise": bytes(range(256)) * (rest // 256 + 1)}[what_is_left][:rest]
        state = tmp_path / "crashed"
        shutil.copytree(kept, state)
        (state / "journal" / log.name).write_bytes(sound[:cut] + tail)
        found = await read(state)
        durable = sum(end <= cut for end in ends)
        assert found == [trades_of(number) for number in range(durable)], cut
        shutil.rmtree(state)
    record_property("measured", f"{what_is_left}: {len(cuts)} crashes, each with exactly the batches synced before it")


def trades_of(number: int) -> list[int]:
    return list(range(10 * number, 10 * number + 10))


async def written(state: Path, kept: Path) -> list[int]:
    """Batches, and how long the log was when each was said to be durable; the files as they were after the last."""
    journal = Journal(state, JournalConfig(), Metrics())
    journal.open()
    journal.cursor("nobody")
    ends = []
    for number in range(BATCHES):
        records: list[Record] = [trade(n) for n in trades_of(number)]
        await journal.append(records)
        ends.append(log_of(state).stat().st_size)
    shutil.copytree(state, kept)
    journal.close()
    # The log's index is never synced: a crash leaves none, or one that is not believed.
    log_of(kept).with_name(log_of(kept).name.replace("-wal", "-shm")).unlink()
    return ends


def log_of(state: Path) -> Path:
    (log,) = state.glob("journal/*-wal")
    return log


async def read(state: Path) -> list[list[int]]:
    journal = Journal(state, JournalConfig(), Metrics())
    journal.open()
    try:
        cursor = journal.cursor("reader")
        found: list[list[int]] = []
        while batches := await cursor.read(1):
            found += [[record.seq for record in batch.records] for batch in batches]  # type: ignore[union-attr] # trades
        return found
    finally:
        journal.close()
