"""What the gap records that pass say, and the stretches over which records were dropped. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ingestd.gap_causes import DROPPED
from ingestd.records import FeedGap, MarketRecord, StreamId, earliest_us, latest_us, stream_of


def stream_of_gap(gap: FeedGap) -> StreamId:
    """The stream a gap belongs to."""
    return gap.exchange, gap.channel, gap.symbol


class GapBook:
    """The gaps that are open, as the records say that open and end them."""

    def __init__(self) -> None:
        self.open: dict[StreamId, FeedGap] = {}
        self.version = 0  # how many records were taken
        self._newest: dict[StreamId, int] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def resume(self, gaps: Iterable[FeedGap]) -> None:
        """Gaps that an earlier process had opened."""
        for gap in gaps:
            self._newest[stream_of_gap(gap)] = gap.time
            self._note_open(gap)

    def take(self, gap: FeedGap) -> bool:
        """Note a record; True when it is the first of its gap, and not an end or a remark that comes later."""
        stream = stream_of_gap(gap)
        self.version += 1
        is_new = self._newest.get(stream) != gap.time
        self._newest[stream] = gap.time
        if gap.ended_at is None:
            self._note_open(gap)
        elif stream in self.open and self.open[stream].time == gap.time:
            del self.open[stream]
            self._counts[gap.exchange, gap.channel] -= 1
        return is_new

    def count_open(self, exchange: str, channel: str) -> int:
        """How many are open of one channel of an exchange."""
        return self._counts[exchange, channel]

    def _note_open(self, gap: FeedGap) -> None:
        self._counts[gap.exchange, gap.channel] += stream_of_gap(gap) not in self.open
        self.open[stream_of_gap(gap)] = gap


@dataclass(slots=True)
class Dropped:
    """Records of one stream that were given up: how many, and what time they span on our clock and the venue's."""

    count: int
    first: int
    last: int

    def add(self, record: MarketRecord) -> None:
        """One more."""
        self.count += 1
        self.first = min(self.first, earliest_us(record.time, record.received_at))
        self.last = max(self.last, latest_us(record.time, record.received_at))

    def gap(self, stream: StreamId, reason: str) -> FeedGap:
        """The gap they leave. It begins just before the first and ends just after the last of them."""
        exchange, channel, symbol = stream
        noun = "record" if self.count == 1 else "records"
        return FeedGap(
            exchange=exchange,
            symbol=symbol,
            time=self.first - 1,
            received_at=self.last,
            channel=channel,
            ended_at=self.last + 1,
            cause=DROPPED,
            detail=f"{self.count} {noun}: {reason}",
        )


class DropSpans:
    """What was dropped, by stream, until the dropping has paused: so a flood leaves a few rows and not thousands."""

    def __init__(self) -> None:
        self._spans: dict[StreamId, Dropped] = {}

    def __bool__(self) -> bool:
        return bool(self._spans)

    def add(self, record: MarketRecord) -> None:
        """One record was given up."""
        span = self._spans.setdefault(stream_of(record), Dropped(0, record.received_at, record.received_at))
        span.add(record)

    def settled(self, before: int) -> list[tuple[StreamId, Dropped]]:
        """Take out the spans whose last record is older than that."""
        over = [(stream, span) for stream, span in self._spans.items() if span.last < before]
        for stream, _ in over:
            del self._spans[stream]
        return over

    def take(self, stream: StreamId) -> Dropped | None:
        """Take out one stream's span."""
        return self._spans.pop(stream, None)

    def gaps(self, reason: str) -> list[FeedGap]:
        """The gaps of all spans that are not settled yet."""
        return [span.gap(stream, reason) for stream, span in self._spans.items()]
