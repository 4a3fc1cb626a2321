"""Which streams may have missed something, and since when."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ingestd.gaps.causes import ID_JUMP, OVER_DETAIL
from ingestd.gaps.trade_ids import IdReport
from ingestd.records import FeedGap, latest_us
from ingestd.status import Earlier, StreamStatus

StreamKey = tuple[str, str]  # channel, symbol

UNFOLLOWED = "no longer followed"

ROWS_A_MINUTE = 6
"""The most gaps that one stream begins in a minute. The last of them stays open until the minute is over."""

_MINUTE_US = 60_000_000


@dataclass(slots=True)
class _Merged:
    """Further interruptions merged into a gap that is kept open.

    `until`: the end that the gap has if nothing more happens, as (received_at, ended_at); None while the stream is
    interrupted. `is_last`: the stream may begin no other gap before `release_at`.
    """

    release_at: int
    is_last: bool = False
    until: tuple[int, int] | None = None
    interruptions: int = 0  # besides the first one
    missing: int = 0
    frames: int = 0  # in which ids were missing
    first_id: int | None = None
    last_id: int | None = None

    def lasts(self, at: int) -> bool:
        """Whether the gap must stay open. (A clock that was set back must not keep it open.)"""
        return self.release_at - 2 * _MINUTE_US <= at < self.release_at

    def take(self, report: IdReport) -> None:
        """Add the missing ids of one frame."""
        self.frames += 1
        self.missing += report.count
        self.first_id = report.missing[0][0] if self.first_id is None else self.first_id
        self.last_id = report.missing[-1][1]
        if self.until is not None:  # else the stream is interrupted, and this frame came before the interruption
            self.until = max(self.until[0], report.received_at), max(self.until[1], report.ended_at)

    def text(self) -> str:
        """Describe the interruptions and the missing ids that this one row stands for."""
        noun = "interruption" if self.interruptions == 1 else "interruptions"
        more = f"{self.interruptions} more {noun} in this stretch" if self.interruptions else ""
        among = f"ids {self.first_id} to {self.last_id}"
        ids = f"{self.missing} trades are missing, left out in {self.frames} frames: {among}"
        return _joined(more, ids if self.frames else "")


@dataclass(slots=True)
class _Newest:
    """A stream's newest gaps."""

    ended: FeedGap | None = None  # the newest that ended
    times: deque[int] = field(default_factory=lambda: deque(maxlen=4 * ROWS_A_MINUTE))  # their starts
    begun: deque[int] = field(default_factory=lambda: deque(maxlen=ROWS_A_MINUTE - 1))  # when they were opened


class GapTracker:
    """Opens a gap for each stream that is interrupted and ends it when the stream delivers again. No clock, no I/O.

    The gap of a stream that has never delivered begins when it was first followed. A second interruption while a gap is
    open opens no other. At most `ROWS_A_MINUTE` gaps of one stream begin within a minute. The last of them stays open
    until the minute is over (`release`), whatever the stream delivers: so it covers all further interruptions of that
    minute, even if the process is killed.
    """

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._newest: defaultdict[StreamKey, _Newest] = defaultdict(_Newest)
        self._merged: dict[StreamKey, _Merged] = {}  # gaps that stay open although the stream delivers
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
        """Open a gap for each of these streams, beginning at its last record, or at `since` if that is given."""
        opened = []
        for stream in streams:
            began = stream.complete_until if since is None else since
            key = stream.key
            if began is not None and key not in self.open:
                opened.append(self._begin(key, began, at, cause, detail))
            elif key in self._merged:
                self._merged[key].interruptions += 1
                self._merged[key].until = None
        return opened

    def resume(self, stream: StreamStatus, earlier: Earlier, *, at: int) -> FeedGap | None:
        """Open the gap between an earlier process and this one; None if a gap of the earlier process is still open."""
        if earlier.gap is not None:
            self.open[stream.key] = earlier.gap
            return None
        return self._begin(stream.key, earlier.complete_until, at, earlier.cause, earlier.detail)

    def delivered(self, stream: StreamStatus, *, at: int, time: int | None = None) -> FeedGap | None:
        """End the stream's gap, because the stream delivered. None if no gap is open, or if the gap is kept open.

        `at` is when the record was received, `time` the venue's own time of it.
        """
        ended_at = at if time is None else latest_us(time, at)
        merged = self._merged.get(stream.key)
        if merged is not None and merged.lasts(at):
            if merged.until is None:
                merged.until = at, ended_at
            return None
        return self._end(stream.key, at, ended_at)

    def release(self, at: int | None) -> list[FeedGap]:
        """End the gaps that were kept open for further interruptions, if their minute is over.

        `at` None: end them before that too. The gap of a stream that is interrupted now stays open.
        """
        over = [(key, merged.until) for key, merged in self._merged.items() if at is None or not merged.lasts(at)]
        ended = [self._end(key, *until) for key, until in over if until is not None]
        return [gap for gap in ended if gap is not None]

    def stop_counting(self, stream: StreamStatus, report: IdReport, remark: str) -> FeedGap | None:
        """Note the missing ids of a frame for the last time: from now on ids prove nothing, as `remark` says.

        Return the gap with this remark; None if a gap that is still open will carry it.
        """
        key = stream.key
        jump = self.counted(stream, report)
        merged = self._merged.get(key)
        if merged is None:
            return None if jump is None else _remarked(jump, remark)
        if merged.is_last or merged.until is None:
            self.open[key] = _remarked(self.open[key], remark)
            return None
        return self._end(key, *merged.until, remark=remark)

    def is_over(self, stream: StreamStatus, *, at: int) -> FeedGap | None:
        """End the gap of a stream whose market has closed, if a gap is open.

        The stream gets no other gap until it delivers after all; that delivery replaces the end of this gap.
        """
        key = stream.key
        gap = self.open.get(key)
        if gap is None or gap.ended_at is not None or key in self._merged:
            return None
        ended = msgspec.structs.replace(_remarked(gap, OVER_DETAIL), ended_at=max(at, gap.time), received_at=at)
        self.open[key] = ended
        return ended

    def forget(self, stream: StreamStatus, *, at: int) -> FeedGap | None:
        """End the gap of a stream that is no longer followed."""
        gap = self.open.get(stream.key)
        if gap is not None and gap.ended_at is not None:
            del self.open[stream.key]
        ended = self._end(stream.key, at, at, remark=UNFOLLOWED)
        self._newest.pop(stream.key, None)
        return ended

    def counted(self, stream: StreamStatus, report: IdReport) -> FeedGap | None:
        """Note the ids that are missing in one frame.

        Return a new gap, or, with a remark, the gap that this frame ended; None if an open gap covers the ids.
        """
        key = stream.key
        newest = self._newest[key]
        ended = newest.ended
        covers = ended is not None and (not report.missing or ended.time <= report.complete_until)
        if ended is not None and covers and ended.received_at == report.received_at:
            newest.ended = _remarked(ended, report.text())
            return newest.ended
        if not report.missing:
            return None
        if key in self._merged:
            self._merged[key].take(report)
            return None if self.open[key].time <= report.complete_until else self._jump(key, report)
        many = report.belief != "believed" or self._are_many(key, report.received_at)
        if many and key not in self.open:
            gap = self._begin(key, report.complete_until, report.received_at, ID_JUMP, None)
            merged = self._merged.setdefault(key, _Merged(report.received_at + _MINUTE_US))
            merged.until = report.received_at, report.ended_at
            merged.take(report)
            return gap
        newest.begun.append(report.received_at)
        return self._jump(key, report)

    def _jump(self, key: StreamKey, report: IdReport) -> FeedGap:
        return self._gap(key, report.complete_until, report.received_at, report.ended_at, ID_JUMP, report.text())

    def _gap(
        self, key: StreamKey, time: int, received_at: int, ended_at: int | None, cause: str, detail: str | None
    ) -> FeedGap:
        times = self._newest[key].times
        while time in times:  # the start is the row's key, and several gaps may begin at one moment
            time -= 1
        times.append(time)
        channel, symbol = key
        return FeedGap(self._exchange, symbol, time, received_at, channel, ended_at, cause, detail)

    def _are_many(self, key: StreamKey, at: int) -> bool:
        """Whether the next gap is the last one allowed for this minute."""
        begun = self._newest[key].begun
        return len(begun) == begun.maxlen and 0 <= at - begun[0] < _MINUTE_US

    def _begin(self, key: StreamKey, began: int, at: int, cause: str, detail: str | None) -> FeedGap:
        gap = self._gap(key, began, at, None, cause, detail)
        begun = self._newest[key].begun
        if self._are_many(key, at):
            self._merged[key] = _Merged(begun[0] + _MINUTE_US, is_last=True)
        begun.append(at)
        self.open[key] = gap
        return gap

    def _end(self, key: StreamKey, received_at: int, ended_at: int, remark: str = "") -> FeedGap | None:
        gap = self.open.pop(key, None)
        merged = self._merged.pop(key, None)
        if gap is None:
            return None
        if merged is not None:
            remark = _joined(merged.text(), remark)
        # A clock that was set back must not make the gap end before it began.
        gap = msgspec.structs.replace(gap, received_at=received_at, ended_at=max(ended_at, gap.time))
        ended = self._newest[key].ended = _remarked(gap, remark)
        return ended


def _remarked(gap: FeedGap, remark: str) -> FeedGap:
    return msgspec.structs.replace(gap, detail=_joined(gap.detail, remark) or None)


def _joined(*texts: str | None) -> str:
    return "; ".join(filter(None, texts))
