"""Counts dropped records, and makes the gaps that report them."""

from __future__ import annotations

from collections import Counter

import structlog

from ingestd.channels import channel_of, stream_of
from ingestd.gaps.open_gaps import Dropped, DropSpans, dropped, note_dropped
from ingestd.ops.metrics import Metrics, count_by
from ingestd.records import FeedGap, MarketRecord, StreamId

log = structlog.get_logger()

# A period of drops ends after this time without another drop. The journal drops rarely, from a whole file each time.
_INTAKE_PAUSE_US = 1_000_000
_JOURNAL_PAUSE_US = 60_000_000


class Drops:
    """Counts dropped records, and makes one gap for each period in which a stream lost records.

    The counts are added to the metrics once a batch, so that a flood costs little.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.lost: dict[StreamId, Dropped] = {}  # received, but not journaled before the stop
        self.is_closed = False
        self._metrics = metrics
        self._by_intake = DropSpans("the intake was full", _INTAKE_PAUSE_US)
        self._by_journal = DropSpans("the journal was full", _JOURNAL_PAUSE_US)
        self._without_room: Counter[str] = Counter()  # by channel
        self._overloaded: Counter[tuple[str, str]] = Counter()  # by exchange and channel

    def without_room(self, record: MarketRecord, *, is_backfilled: bool = False) -> None:
        """Count a record for which there was no room, or that came after the close. A backfilled one makes no gap."""
        self._without_room[channel_of(record)] += 1
        if is_backfilled:
            return
        if self.is_closed:
            note_dropped(record, self.lost)
        else:
            self._by_intake.add(stream_of(record), dropped(record), record.received_at)

    def overloaded(self, record: MarketRecord) -> None:
        """Count a record given up for a newer one, according to `intake.when_full`."""
        self._overloaded[record.exchange, channel_of(record)] += 1
        self._by_intake.add(stream_of(record), dropped(record), record.received_at)

    def by_journal(self, stream: StreamId, span: Dropped, at: int) -> FeedGap | None:
        """Note records that the journal dropped. Returns their gap if they begin a period; `end_paused` ends it."""
        begins = self._by_journal.add(stream, span, at)
        return self._by_journal.gap(stream) if begins else None

    def end_before(self, stream: StreamId) -> FeedGap | None:
        """End the stream's period of drops by the intake, because another gap of it begins or ends. Returns its gap."""
        return self._by_intake.end(stream)

    def end_paused(self, now: int | None) -> list[FeedGap]:
        """End the periods that are over at `now` (None: all) and return their gaps."""
        return [*self._by_intake.end_paused(now), *self._by_journal.end_paused(now)]

    def gaps(self) -> list[FeedGap]:
        """The gaps of the periods that are not over yet."""
        return [*self._by_intake.gaps(), *self._by_journal.gaps()]

    def count(self) -> None:
        """Add the records dropped since the last call to the metrics, and log those without room."""
        if self._without_room:
            counts, self._without_room = self._without_room, Counter()
            reason = "after_close" if self.is_closed else "intake_full"
            count_by(self._metrics.dropped, {(channel, reason): count for channel, count in counts.items()})
            count_by(self._metrics.received, {("", channel): count for channel, count in counts.items()})
            log.error("intake_dropped", reason=reason, records=dict(counts))
        if self._overloaded:
            given_up, self._overloaded = self._overloaded, Counter()
            count_by(self._metrics.received, given_up)
            for (_, channel), count in given_up.items():
                self._metrics.dropped.labels(channel, "overload").inc(count)
