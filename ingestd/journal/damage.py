"""Reports what a damaged journal file has lost, in the log and as gaps, so that backfill asks for it again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import pairwise

import structlog

from ingestd.clock import now_us
from ingestd.errors import JournalDamaged
from ingestd.gaps.causes import DROPPED
from ingestd.journal.file import JournalFile
from ingestd.journal.salvage import Rewritten
from ingestd.records import FeedGap, StreamId

log = structlog.get_logger()

# Gaps begin this long before the missing span: a lost batch may hold records that were received while the batch before
# it was sealed, and that the exchange sent a while earlier.
_BEFORE_SEAL_US = 2_000_000

Sealed = Sequence[tuple[int, int]]  # the position and sealed_at of each batch that is left, in order


def report_damage(
    file: JournalFile, error: JournalDamaged, rewritten: Rewritten, lost: Mapping[str, int] | None
) -> list[FeedGap]:
    """Log what a salvaged file has lost and return its gaps. `lost`: records by channel, None if it is not known."""
    log.error(
        "journal_file_damaged",
        path=str(file.path),
        error=str(error),
        records_missing="unknown" if lost is None else lost,
        records_kept=rewritten.file.totals.counts,
        kept_aside=[str(path) for path in rewritten.kept_aside],
    )
    channels = None if lost is None else {channel for channel, count in lost.items() if count}
    totals, sealed, now = file.totals, rewritten.sealed, now_us()
    oldest = totals.oldest_sealed_at or (sealed[0][1] if sealed else now)
    first, last = (totals.first_position, totals.last_position) if file.is_counted else (None, None)
    return damage_gaps(rewritten.streams, channels, missing_span(sealed, first, last, oldest, now), str(file.name))


def missing_span(sealed: Sealed, first: int | None, last: int | None, begins_at: int, ends_at: int) -> tuple[int, int]:
    """The time span of missing batches, on our clock.

    `first` and `last`: the first and last position that the file had. If they are None (unknown), the end of the file
    counts as missing. `begins_at` and `ends_at`: the earliest and the latest time at which its
    batches can have been sealed.
    """
    if first is None:
        first = sealed[0][0] if sealed else 1
    if last is None:
        last = (sealed[-1][0] if sealed else first) + 1
    edges = [(first - 1, begins_at), *sealed, (last + 1, ends_at)]
    holes = [(before, after) for (left, before), (right, after) in pairwise(edges) if right - left > 1]
    return min((before for before, _ in holes), default=ends_at), max((after for _, after in holes), default=ends_at)


def damage_gaps(
    streams: Iterable[StreamId], channels: Container[str] | None, span: tuple[int, int], file: str
) -> list[FeedGap]:
    """Make a gap for each stream of the file in one of these channels (None: in any)."""
    since, until = span[0] - _BEFORE_SEAL_US, span[1]
    detail = f"the journal file {file} was damaged"
    return [
        FeedGap(exchange, symbol, since, until, channel, until, DROPPED, detail)
        for exchange, channel, symbol in sorted(streams)
        if channels is None or channel in channels
    ]
