"""Which streams may have missed something, and since when."""

from __future__ import annotations

from collections.abc import Iterable

from ingestd.feeds.base import StreamStatus
from ingestd.records import FeedGap

StreamKey = tuple[str, str]  # channel, symbol


class GapTracker:
    """Opens a gap for each stream an interruption touches, ends it when the stream speaks again. No clock, no I/O.

    A stream that never delivered has no gap: nothing says since when it should have. A second interruption while a
    gap is open changes nothing.
    """

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self.open: dict[StreamKey, FeedGap] = {}

    def interrupted(
        self, streams: Iterable[StreamStatus], *, at: int, cause: str, detail: str | None = None
    ) -> list[FeedGap]:
        """The gaps that open now, each from the last thing its stream received."""
        opened = []
        for stream in streams:
            key = (stream.channel, stream.symbol)
            if stream.last_received_at is None or key in self.open:
                continue
            gap = FeedGap(
                exchange=self._exchange,
                symbol=stream.symbol,
                time=stream.last_received_at,
                received_at=at,
                channel=stream.channel,
                ended_at=None,
                cause=cause,
                detail=detail,
            )
            self.open[key] = gap
            opened.append(gap)
        return opened

    def delivered(self, stream: StreamStatus, *, at: int) -> FeedGap | None:
        """The gap that ends because the stream delivered, the same row as when it opened, now with its end."""
        gap = self.open.pop((stream.channel, stream.symbol), None)
        if gap is None:
            return None
        return FeedGap(
            exchange=gap.exchange,
            symbol=gap.symbol,
            time=gap.time,
            received_at=at,
            channel=gap.channel,
            ended_at=at,
            cause=gap.cause,
            detail=gap.detail,
        )
