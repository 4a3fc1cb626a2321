"""Rewrites files of the open journal: drops a channel when the journal is full, and removes damaged batches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Mapping
from functools import partial

import structlog

from ingestd.channels import ROWS
from ingestd.errors import JournalDamaged
from ingestd.gaps.open_gaps import Dropped
from ingestd.journal.backlog import Backlog
from ingestd.journal.damage import report_damage
from ingestd.journal.file import END, JournalFile
from ingestd.journal.files import JournalFiles
from ingestd.journal.memory import RecentBatches
from ingestd.journal.recovery import Found
from ingestd.journal.salvage import Rewritten, salvage, without_channel
from ingestd.ops.metrics import Metrics, count_by
from ingestd.records import FeedGap, StreamId

log = structlog.get_logger()

# The channels in the order in which `drop_oldest` gives them up. Gaps and rejections are never dropped.
DROP_ORDER = tuple(row.name for row in sorted(ROWS, key=lambda row: row.drop_rank))


class Rewriter:
    """Removes records from files, and from the backlogs of the sinks that have not stored them."""

    def __init__(self, files: JournalFiles, recent: RecentBatches, backlogs: list[Backlog], metrics: Metrics) -> None:
        self._files = files
        self._recent = recent
        self._backlogs = backlogs
        self._metrics = metrics
        self._dropped: list[tuple[StreamId, Dropped]] = []
        self._damage_gaps: list[FeedGap] = []
        self._repairing = asyncio.Lock()
        self._unfinished: set[asyncio.Future[None]] = set()

    def note_found(self, found: Found) -> None:
        """Take over the losses that were found at the start."""
        self._damage_gaps += found.gaps
        self._count_dropped(found.lost, "journal_damaged")

    def take_dropped(self) -> list[tuple[StreamId, Dropped]]:
        """What was dropped from each stream since the last call because the journal was full."""
        dropped, self._dropped = self._dropped, []
        return dropped

    def take_damage_gaps(self) -> list[FeedGap]:
        """The gaps that damaged files have caused since the last call."""
        gaps, self._damage_gaps = self._damage_gaps, []
        return gaps

    async def drop_one_channel(self) -> bool:
        """Drop one channel from one file that no sink has begun. Returns False if nothing can be dropped.

        Takes the least valuable channel that such files have, and the oldest of them that has it.
        """
        candidates = [file for file in self._files.kept if self._may_shrink(file)]
        for channel in DROP_ORDER:
            for file in candidates:
                if file.totals.counts.get(channel, 0) and file in self._files.kept and self._may_shrink(file):
                    await self._to_the_end(self._drop(file, channel))
                    return True
        return False

    async def repair(self, file: JournalFile, error: JournalDamaged) -> None:
        """Replace a damaged file by one with its undamaged batches, unless it has been replaced meanwhile."""
        async with self._repairing:
            if file in self._files.kept:
                await self._to_the_end(self._repair(file, error))

    def _may_shrink(self, file: JournalFile) -> bool:
        if not file.ended or file in self._files.in_use or any(each.has_begun(file) for each in self._backlogs):
            return False
        return any(backlog.has_none_of(file) for backlog in self._backlogs)

    async def _drop(self, file: JournalFile, channel: str) -> None:
        sequence = file.name.sequence
        # In memory, the batches still have the channel. A sink must not get it from there, since it counts as dropped.
        self._recent.forget_through((sequence, END))
        waiting = [backlog for backlog in self._backlogs if backlog.has_none_of(file)]
        rewritten = await self._files.in_reader(partial(without_channel, file, channel))
        for backlog in waiting:
            backlog.lose(sequence, rewritten.file.totals.counts)
        self._files.replace(file, rewritten.file)
        records = file.totals.counts[channel]
        self._count_dropped({channel: records}, "journal_full")
        self._dropped += rewritten.dropped.items()
        self._count_dropped(rewritten.lost, "journal_damaged")
        log.warning("journal_full_dropped", channel=channel, records=records, file=str(file.name))
        self._metrics.journal_bytes.set(self._files.size_bytes)

    async def _repair(self, file: JournalFile, error: JournalDamaged) -> None:
        file.ended = True
        rewritten = await self._files.in_reader(partial(salvage, file, file.totals.last_position + 1))
        lost = self._lose(file, rewritten)
        self._count_dropped(lost, "journal_damaged")
        self._damage_gaps += report_damage(file, error, rewritten, lost)
        self._files.replace(file, rewritten.file)

    def _lose(self, file: JournalFile, rewritten: Rewritten) -> dict[str, int]:
        """Remove the lost records from the backlogs. Returns how many, by channel, some sink had not stored yet."""
        most: Counter[str] = Counter()
        for backlog in self._backlogs:  # of each channel, the largest count
            most |= backlog.lose(file.name.sequence, rewritten.counts_beyond(backlog.floor_in(file)))
        return dict(most)

    def _count_dropped(self, counts: Mapping[str, int], reason: str) -> None:
        count_by(self._metrics.dropped, {(channel, reason): count for channel, count in counts.items()})

    async def _to_the_end(self, work: Coroutine[None, None, None]) -> None:
        """Run to the end even if the caller is cancelled, because files and counts must change together."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        await asyncio.shield(task)
