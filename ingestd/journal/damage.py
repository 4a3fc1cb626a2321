"""Gaps for records that a damaged journal file may have lost, so that backfill asks for them again. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import pairwise

from ingestd.gaps.causes import DROPPED
from ingestd.records import FeedGap, StreamId

# The records of a batch may have been received while the one before it was sealed, and sent a while before that.
_BEFORE_SEAL_US = 2_000_000

Sealed = Sequence[tuple[int, int]]  # position and sealed_at of the batches that are left, in order


def missing_span(sealed: Sealed, first: int | None, last: int | None, begins_at: int, ends_at: int) -> tuple[int, int]:
    """The time span of missing batches, on our clock.

    `first` and `last` are the file's original positions; if None (unknown), its end counts as missing. `begins_at` and
    `ends_at` limit the times of its batches.
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
    since, until = span
    return [
        FeedGap(
            exchange=exchange,
            symbol=symbol,
            time=since - _BEFORE_SEAL_US,
            received_at=until,
            channel=channel,
            ended_at=until,
            cause=DROPPED,
            detail=f"the journal file {file} was damaged",
        )
        for exchange, channel, symbol in sorted(streams)
        if channels is None or channel in channels
    ]
