"""Which gaps are open, and which records were dropped over which time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ingestd.channels import stream_of
from ingestd.gaps.causes import DROPPED
from ingestd.records import FeedGap, MarketRecord, StreamId, earliest_us, latest_us


def stream_of_gap(gap: FeedGap) -> StreamId:
    """The stream a gap belongs to."""
    return gap.exchange, gap.channel, gap.symbol


class OpenGaps:
    """The gaps that are open, kept up to date from the gap records that pass.

    A stream may have several: two feeds follow the candles of one market, in two timeframes.
    """

    def __init__(self) -> None:
        self.open: dict[tuple[StreamId, int], FeedGap] = {}  # by stream and start
        self.version = 0  # how many records were taken
        self._newest: dict[StreamId, int] = {}
        self.counts: Counter[tuple[str, str]] = Counter()  # of open gaps, by exchange and channel

    def resume(self, gaps: Iterable[FeedGap]) -> None:
        """Gaps that an earlier process had opened."""
        for gap in gaps:
            self._newest[stream_of_gap(gap)] = gap.time
            self._note_open(gap)

    def take(self, gap: FeedGap) -> bool:
        """Note a gap record. True if it opens a new gap, False if it ends or comments one that is known."""
        stream = stream_of_gap(gap)
        self.version += 1
        is_new = self._newest.get(stream) != gap.time
        self._newest[stream] = gap.time
        if gap.ended_at is None:
            self._note_open(gap)
        elif self.open.pop((stream, gap.time), None) is not None:
            self.counts[gap.exchange, gap.channel] -= 1
        return is_new

    def _note_open(self, gap: FeedGap) -> None:
        key = stream_of_gap(gap), gap.time
        self.counts[gap.exchange, gap.channel] += key not in self.open
        self.open[key] = gap


@dataclass(slots=True)
class Dropped:
    """Records of one stream that were dropped: how many, and the time they span on our clock and on the venue's."""

    count: int
    first: int
    last: int

    def include(self, other: Dropped) -> None:
        """Add the records of another stretch."""
        self.count += other.count
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)

    def gap(self, stream: StreamId, reason: str) -> FeedGap:
        """The gap that they leave: from just before the first to just after the last."""
        exchange, channel, symbol = stream
        noun = "record" if self.count == 1 else "records"
        detail = f"{self.count} {noun}: {reason}"
        return FeedGap(exchange, symbol, self.first - 1, self.last, channel, self.last + 1, DROPPED, detail)


def dropped(record: MarketRecord) -> Dropped:
    """A single dropped record."""
    at = record.time, record.received_at
    return Dropped(1, earliest_us(*at), latest_us(*at))


def note_dropped(record: MarketRecord, spans: dict[StreamId, Dropped]) -> None:
    """Add a dropped record to its stream's span."""
    stream, one = stream_of(record), dropped(record)
    if stream in spans:
        spans[stream].include(one)
    else:
        spans[stream] = one


class DropSpans:
    """Collects dropped records by stream until dropping pauses, so that a flood leaves few gap rows and not thousands.

    `reason` goes into the rows. A stretch ends after `pause_us` without another drop.
    """

    def __init__(self, reason: str, pause_us: int) -> None:
        self._reason = reason
        self._pause_us = pause_us
        self._spans: dict[StreamId, tuple[Dropped, int]] = {}

    def add(self, stream: StreamId, more: Dropped, at: int) -> bool:
        """Add dropped records. True if they begin a new stretch of their stream."""
        known = self._spans.get(stream)
        if known is not None:
            more.include(known[0])
        self._spans[stream] = more, at
        return known is None

    def gap(self, stream: StreamId) -> FeedGap | None:
        """The gap of the stream's current stretch, if there is one."""
        known = self._spans.get(stream)
        return None if known is None else known[0].gap(stream, self._reason)

    def gaps(self) -> list[FeedGap]:
        """The gaps of all current stretches."""
        return [span.gap(stream, self._reason) for stream, (span, _) in self._spans.items()]

    def end(self, stream: StreamId) -> FeedGap | None:
        """End a stream's stretch now and return its gap."""
        gap = self.gap(stream)
        self._spans.pop(stream, None)
        return gap

    def end_paused(self, now: int | None) -> list[FeedGap]:
        """End the stretches that have paused by `now` (None: all) and return their gaps."""
        paused = [stream for stream, (_, at) in self._spans.items() if now is None or at < now - self._pause_us]
        return [gap for stream in paused if (gap := self.end(stream)) is not None]
