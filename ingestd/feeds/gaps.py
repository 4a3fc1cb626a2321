"""Which streams may have missed something, and since when."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ingestd.feeds.base import Earlier, StreamStatus
from ingestd.feeds.trade_ids import IdReport
from ingestd.gap_causes import ID_JUMP
from ingestd.records import FeedGap, latest_us

StreamKey = tuple[str, str]  # channel, symbol

UNFOLLOWED = "no longer followed"


class GapTracker:
    """Opens a gap for each stream an interruption touches, ends it when the stream speaks again. No clock, no I/O.

    A stream that has not delivered yet is complete until it was first followed. A second interruption while a gap is
    open changes nothing: every stretch that may lack something is covered by one gap.
    """

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._ended: dict[StreamKey, FeedGap] = {}  # the newest of each stream
        self.open: dict[StreamKey, FeedGap] = {}

    def interrupted(
        self,
        streams: Iterable[StreamStatus],
        *,
        at: int,
        cause: str,
        detail: str | None = None,
        since: int | None = None,
    ) -> list[FeedGap]:
        """The gaps that open now, each from the last thing its stream received, or from `since` where that is known."""
        opened = []
        for stream in streams:
            began = stream.complete_until if since is None else since
            if began is not None and (stream.channel, stream.symbol) not in self.open:
                opened.append(self._begin(stream, began, at, cause, detail))
        return opened

    def resume(self, stream: StreamStatus, earlier: Earlier, *, at: int) -> FeedGap | None:
        """Go on from where an earlier process was: the gap that opens now, None when that process had opened it."""
        if earlier.gap is not None:
            self.open[stream.channel, stream.symbol] = earlier.gap
            return None
        return self._begin(stream, earlier.complete_until, at, earlier.cause, earlier.detail)

    def delivered(self, stream: StreamStatus, *, at: int, time: int | None = None) -> FeedGap | None:
        """The gap that ends because the stream delivered, the same row as when it opened, now with its end.

        `at` is when it was received, `time` the venue's own.
        """
        return self._end(stream, received_at=at, ended_at=at if time is None else latest_us(time, at))

    def forget(self, stream: StreamStatus, *, at: int) -> FeedGap | None:
        """The stream is not followed any more: the gap that ends with that."""
        ended = self._end(stream, received_at=at, ended_at=at, remark=UNFOLLOWED)
        self._ended.pop((stream.channel, stream.symbol), None)
        return ended

    def counted(self, stream: StreamStatus, report: IdReport) -> FeedGap | None:
        """What consecutive trade ids say of one frame: a gap of its own, or a remark on the one that frame ended."""
        ended = self._ended.get((stream.channel, stream.symbol))
        if ended is not None and ended.received_at == report.received_at:
            remarked = msgspec.structs.replace(ended, detail=_joined(ended.detail, report.text()))
            self._ended[stream.channel, stream.symbol] = remarked
            return remarked
        if not report.missing:
            return None
        return FeedGap(
            exchange=self._exchange,
            symbol=stream.symbol,
            time=report.complete_until,
            received_at=report.received_at,
            channel=stream.channel,
            ended_at=report.ended_at,
            cause=ID_JUMP,
            detail=report.text(),
        )

    def _begin(self, stream: StreamStatus, began: int, at: int, cause: str, detail: str | None) -> FeedGap:
        gap = FeedGap(
            exchange=self._exchange,
            symbol=stream.symbol,
            time=began,
            received_at=at,
            channel=stream.channel,
            ended_at=None,
            cause=cause,
            detail=detail,
        )
        self.open[stream.channel, stream.symbol] = gap
        return gap

    def _end(self, stream: StreamStatus, *, received_at: int, ended_at: int, remark: str = "") -> FeedGap | None:
        key = stream.channel, stream.symbol
        gap = self.open.pop(key, None)
        if gap is None:
            return None
        # A clock that was set back must not make it end before it began.
        ended = msgspec.structs.replace(
            gap, received_at=received_at, ended_at=max(ended_at, gap.time), detail=_joined(gap.detail, remark)
        )
        self._ended[key] = ended
        return ended


def _joined(detail: str | None, remark: str) -> str | None:
    return "; ".join(filter(None, (detail, remark))) or None
