"""Which streams may have missed something, and since when."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ingestd.gaps.causes import ID_JUMP, OVER
from ingestd.gaps.trade_ids import IdReport
from ingestd.records import FeedGap, latest_us
from ingestd.status import Earlier, StreamStatus

StreamKey = tuple[str, str]  # channel, symbol

UNFOLLOWED = "no longer followed"

ROWS_A_MINUTE = 6
"""So many gaps a stream begins in a minute. The last of them stays open for the rest of it and covers what follows."""

_MINUTE_US = 60_000_000


@dataclass(slots=True)
class _Merged:
    """What happened while a gap is kept open for others to come. `until`: (received_at, ended_at) if it ended now;
    `is_last`: the stream may not begin another one before `release_at`."""

    release_at: int
    is_last: bool = False
    until: tuple[int, int] | None = None
    interruptions: int = 0  # besides the one it began with
    missing: int = 0
    frames: int = 0  # that left ids out
    first_id: int | None = None
    last_id: int | None = None

    def lasts(self, at: int) -> bool:
        """Whether the gap is not to end yet. (A clock that was set back must not keep it open.)"""
        return self.release_at - 2 * _MINUTE_US <= at < self.release_at

    def take(self, report: IdReport) -> None:
        """Ids that were left out."""
        self.frames += 1
        self.missing += report.count
        self.first_id = report.missing[0][0] if self.first_id is None else self.first_id
        self.last_id = report.missing[-1][1]
        if self.until is not None:  # else it is interrupted, and this came of the socket before
            self.until = max(self.until[0], report.received_at), max(self.until[1], report.ended_at)

    def text(self) -> str:
        """For a person: what the one row stands for."""
        noun = "interruption" if self.interruptions == 1 else "interruptions"
        more = f"{self.interruptions} more {noun} in this stretch" if self.interruptions else ""
        among = f"ids {self.first_id} to {self.last_id}"
        ids = f"{self.missing} trades are missing, left out in {self.frames} frames: {among}"
        return "; ".join(filter(None, (more, ids if self.frames else "")))


class GapTracker:
    """Opens a gap for each stream an interruption touches, ends it when the stream speaks again. No clock, no I/O.

    A stream that has not delivered yet is complete until it was first followed. A second interruption while a gap is
    open changes nothing: every stretch that may lack something is covered by one gap. Of one stream at most
    `ROWS_A_MINUTE` begin within a minute: the last of them is open until the minute is over (`release`), whatever the
    stream delivers, so that nothing which is interrupted within it is left uncovered, not even by a kill.
    """

    def __init__(self, exchange: str) -> None:
        self._exchange = exchange
        self._ended: dict[StreamKey, FeedGap] = {}  # the newest of each stream
        self._times: dict[StreamKey, deque[int]] = {}  # of each stream's newest rows: they name the rows
        self._begun: dict[StreamKey, deque[int]] = {}  # when the newest of each stream began
        self._merged: dict[StreamKey, _Merged] = {}  # the open gaps that a delivery does not end
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
            key = stream.channel, stream.symbol
            if began is not None and key not in self.open:
                opened.append(self._begin(stream, began, at, cause, detail))
            elif key in self._merged:
                self._merged[key].interruptions += 1
                self._merged[key].until = None
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
        ended_at = at if time is None else latest_us(time, at)
        merged = self._merged.get((stream.channel, stream.symbol))
        if merged is not None and merged.lasts(at):
            if merged.until is None:
                merged.until = at, ended_at
            return None
        return self._end(stream.channel, stream.symbol, received_at=at, ended_at=ended_at)

    def release(self, at: int | None) -> list[FeedGap]:
        """The gaps that were kept open for others to come and end, since their minute is over. None: no others come."""
        over = [(key, merged.until) for key, merged in self._merged.items() if at is None or not merged.lasts(at)]
        ended = [self._end(*key, received_at=until[0], ended_at=until[1]) for key, until in over if until is not None]
        return [gap for gap in ended if gap is not None]

    def stop_counting(self, stream: StreamStatus, report: IdReport, remark: str) -> FeedGap | None:
        """The ids say nothing any more, as `remark` explains: the gap that says so. None: it does when it ends."""
        key = stream.channel, stream.symbol
        jump = self.counted(stream, report)
        merged = self._merged.get(key)
        if merged is None:
            return None if jump is None else _remarked(jump, remark)
        if merged.is_last or merged.until is None:
            self.open[key] = _remarked(self.open[key], remark)
            return None
        return self._end(*key, received_at=merged.until[0], ended_at=merged.until[1], remark=remark)

    def is_over(self, stream: StreamStatus, *, at: int) -> FeedGap | None:
        """Nothing comes of the stream's market any more: its gap, if one is open, with that as its end.

        No other one opens until it delivers after all, and then the same row ends.
        """
        key = stream.channel, stream.symbol
        gap = self.open.get(key)
        if gap is None or gap.ended_at is not None or key in self._merged:
            return None
        ended = msgspec.structs.replace(_remarked(gap, OVER), ended_at=max(at, gap.time), received_at=at)
        self.open[key] = ended
        return ended

    def forget(self, stream: StreamStatus, *, at: int) -> FeedGap | None:
        """The stream is not followed any more: the gap that ends with that."""
        gap = self.open.get((stream.channel, stream.symbol))
        if gap is not None and gap.ended_at is not None:
            del self.open[stream.channel, stream.symbol]
        ended = self._end(stream.channel, stream.symbol, received_at=at, ended_at=at, remark=UNFOLLOWED)
        self._ended.pop((stream.channel, stream.symbol), None)
        self._begun.pop((stream.channel, stream.symbol), None)
        self._times.pop((stream.channel, stream.symbol), None)
        return ended

    def counted(self, stream: StreamStatus, report: IdReport) -> FeedGap | None:
        """What consecutive trade ids say of one frame: a gap of its own, or a remark on the one that frame ended."""
        ended = self._ended.get((stream.channel, stream.symbol))
        covers = ended is not None and (not report.missing or ended.time <= report.complete_until)
        if ended is not None and covers and ended.received_at == report.received_at:
            remarked = _remarked(ended, report.text())
            self._ended[stream.channel, stream.symbol] = remarked
            return remarked
        if not report.missing:
            return None
        key = stream.channel, stream.symbol
        if key in self._merged:
            self._merged[key].take(report)
            return None if self.open[key].time <= report.complete_until else self._jump(stream, report)
        many = report.belief != "believed" or self._are_many(key, report.received_at)
        if many and key not in self.open:
            gap = self._begin(stream, report.complete_until, report.received_at, ID_JUMP, None)
            merged = self._merged.setdefault(key, _Merged(report.received_at + _MINUTE_US))
            merged.until = report.received_at, report.ended_at
            merged.take(report)
            return gap
        self._count(key, report.received_at)
        return self._jump(stream, report)

    def _jump(self, stream: StreamStatus, report: IdReport) -> FeedGap:
        return FeedGap(
            exchange=self._exchange,
            symbol=stream.symbol,
            time=self._unused((stream.channel, stream.symbol), report.complete_until),
            received_at=report.received_at,
            channel=stream.channel,
            ended_at=report.ended_at,
            cause=ID_JUMP,
            detail=report.text(),
        )

    def _are_many(self, key: StreamKey, at: int) -> bool:
        """Whether the next row is the last one for this minute."""
        begun = self._begun.get(key)
        return begun is not None and len(begun) == begun.maxlen and 0 <= at - begun[0] < _MINUTE_US

    def _count(self, key: StreamKey, at: int) -> None:
        self._begun.setdefault(key, deque(maxlen=ROWS_A_MINUTE - 1)).append(at)

    def _unused(self, key: StreamKey, time: int) -> int:
        """The start of a new row: a row that has ended is not opened again, and several may begin at one moment."""
        times = self._times.setdefault(key, deque(maxlen=4 * ROWS_A_MINUTE))
        while time in times:
            time -= 1
        times.append(time)
        return time

    def _begin(self, stream: StreamStatus, began: int, at: int, cause: str, detail: str | None) -> FeedGap:
        key = stream.channel, stream.symbol
        gap = FeedGap(
            exchange=self._exchange,
            symbol=stream.symbol,
            time=self._unused(key, began),
            received_at=at,
            channel=stream.channel,
            ended_at=None,
            cause=cause,
            detail=detail,
        )
        if self._are_many(key, at):
            self._merged[key] = _Merged(self._begun[key][0] + _MINUTE_US, is_last=True)
        self._count(key, at)
        self.open[key] = gap
        return gap

    def _end(self, channel: str, symbol: str, *, received_at: int, ended_at: int, remark: str = "") -> FeedGap | None:
        key = channel, symbol
        gap = self.open.pop(key, None)
        merged = self._merged.pop(key, None)
        if gap is None:
            return None
        if merged is not None:
            remark = "; ".join(filter(None, (merged.text(), remark)))
        # A clock that was set back must not make it end before it began.
        ended = msgspec.structs.replace(
            gap, received_at=received_at, ended_at=max(ended_at, gap.time), detail=_joined(gap.detail, remark)
        )
        self._ended[key] = ended
        return ended


def _remarked(gap: FeedGap, remark: str) -> FeedGap:
    return msgspec.structs.replace(gap, detail=_joined(gap.detail, remark))


def _joined(detail: str | None, remark: str) -> str | None:
    return "; ".join(filter(None, (detail, remark))) or None
