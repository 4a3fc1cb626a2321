"""The state of streams that a process leaves to the next one: how far each is complete, and its open gaps.

It is a small file in the state directory, replaced about once a second, before gap records are journaled, and at the
stop. A stream is complete until its last received record, or until just before its first record that is not in the
journal yet. Because the file may be a second old, the gap of a restart after a kill can begin a second early, but never
late.

    streams.json    {"version", "written_at", "stopped", "streams": [[exchange, channel, symbol, until, lost] …],
                     "open_gaps": [gap …], "pending_gaps": [gap …]}          times in microseconds since the epoch
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from ingestd import files
from ingestd.clock import monotonic_s, now_us
from ingestd.errors import WorkerClosed
from ingestd.gaps.causes import OVER_AFTER_US, OVER_DETAIL, RESTART, SHUTDOWN, UNLISTED, UNLISTED_DETAIL
from ingestd.gaps.open_gaps import stream_of_gap
from ingestd.gaps.tracker import UNFOLLOWED
from ingestd.intake.intake import Intake
from ingestd.log_limit import LogLimit
from ingestd.records import FeedGap, StreamId
from ingestd.status import Earlier, FeedStatus
from ingestd.worker import Worker

log = structlog.get_logger()

NAME = "streams.json"
_VERSION = 1
_INTERVAL_S = 1.0
_GAPS_WAIT_S = 1.0  # the longest time that a batch with gap records waits for a hanging disk
_LAST_WRITE_S = 2.0


class StoredStream(msgspec.Struct, frozen=True, array_like=True):
    """The state of one stream when the file was written. `lost`: how many of its records could not be journaled."""

    exchange: str
    channel: str
    symbol: str
    complete_until: int
    lost: int = 0


class Document(msgspec.Struct, frozen=True):
    """The file's content. `pending_gaps`: gaps that were not in the journal yet. `stopped`: written at the stop."""

    version: int
    written_at: int
    stopped: bool
    streams: list[StoredStream]
    open_gaps: list[FeedGap]
    pending_gaps: list[FeedGap]


def document(
    feeds: Iterable[tuple[str, FeedStatus]],
    intake: Intake,
    unclaimed: Mapping[StreamId, Earlier],
    *,
    written_at: int,
    stopped: bool,
) -> Document:
    """The state to write now. `feeds` are (exchange, status); `unclaimed` are streams no feed has taken over yet."""
    until = {stream: earlier.complete_until for stream, earlier in unclaimed.items()}
    for exchange, status in feeds:
        for known in status.streams:
            if known.complete_until is not None:
                # Two feeds may follow one market's candles, in two timeframes: the less complete one counts.
                stream = exchange, known.channel, known.symbol
                until[stream] = min(known.complete_until, until.get(stream, known.complete_until))
    for stream, at in intake.unjournaled().items():
        if stream in until:
            until[stream] = min(until[stream], at - 1)
    lost = {stream: span.count for stream, span in intake.lost.items()}
    return Document(
        _VERSION,
        written_at,
        stopped,
        [StoredStream(*stream, at, lost.get(stream, 0)) for stream, at in until.items()],
        list(intake.gaps.open.values()),
        intake.pending_gaps(),
    )


def earlier_streams(stored: Document) -> dict[StreamId, Earlier]:
    """Each stream's state, from which the next process continues."""
    ended = "stopped" if stored.stopped else "ended without a stop"
    streams = {}
    for stream in stored.streams:
        text = f"the process before had {ended}"
        if stream.lost:
            text = f"{stream.lost} records could not be journaled; {text}"
        cause = SHUTDOWN if stream.lost else RESTART
        key = stream.exchange, stream.channel, stream.symbol
        streams[key] = Earlier(stream.complete_until, cause, text)
    for gap in longest_open(stored):
        streams[stream_of_gap(gap)] = Earlier(gap.time, gap.cause, gap.detail, gap)
    return streams


def longest_open(stored: Document) -> list[FeedGap]:
    """The earliest open gap of each stream, which covers the stream's other open gaps until it ends."""
    first: dict[StreamId, FeedGap] = {}
    for gap in sorted(stored.open_gaps, key=lambda gap: gap.time):
        first.setdefault(stream_of_gap(gap), gap)
    return list(first.values())


def covered_by_another(stored: Document) -> list[FeedGap]:
    """The open gaps that a stream's earliest one covers, ended when the file was written."""
    longest = longest_open(stored)
    remark = "the rest is in this stream's earlier gap"
    return [_ended(gap, stored.written_at, remark) for gap in stored.open_gaps if gap not in longest]


def lost_before_gaps(stored: Document) -> list[FeedGap]:
    """Gaps for the records before an open gap that may not have been journaled; each ends where that gap begins."""
    streams = earlier_streams(replace(stored, open_gaps=[]))
    before = []
    for gap in stored.open_gaps:
        known = streams.get(stream_of_gap(gap))
        if known is not None and known.complete_until < gap.time:
            lost = replace(gap, time=known.complete_until, received_at=gap.time, ended_at=gap.time)
            before.append(replace(lost, cause=known.cause, detail=known.detail))
    return before


def end_unfollowed(
    earlier: dict[StreamId, Earlier],
    have_chosen: Mapping[str, bool],
    is_wanted: Callable[[StreamId], bool],
    *,
    until: int,
    over_before: int,
) -> list[FeedGap]:
    """Open or end the gaps of streams that no feed follows any more, and return these gaps.

    Such a stream is one that no feed has taken over although all feeds of its exchange have chosen their symbols
    (`have_chosen`). If the configuration does not name it (`is_wanted`), it is removed, and its gap ends at `until`,
    when it was last followed. If the configuration names it, the venue's list lacks it: it has a gap until it is listed
    again. A gap that began before `over_before` ends now, because the market counts as closed.
    """
    changed = []
    for stream in [stream for stream in earlier if have_chosen.get(stream[0], True)]:
        earlier_state, gap = earlier[stream], earlier[stream].gap
        is_open = gap is not None and gap.ended_at is None
        if not is_wanted(stream):
            del earlier[stream]
            if gap is not None and is_open:
                changed.append(_ended(gap, until, UNFOLLOWED))
        elif gap is None:
            exchange, channel, symbol = stream
            detail = f"{UNLISTED_DETAIL}; {earlier_state.detail}" if earlier_state.detail else UNLISTED_DETAIL
            opened = FeedGap(exchange, symbol, earlier_state.complete_until, now_us(), channel, None, UNLISTED, detail)
            changed.append(opened)
            earlier[stream] = Earlier(opened.time, UNLISTED, UNLISTED_DETAIL, opened)
        elif is_open and gap.time < over_before:
            changed.append(_ended(gap, now_us(), OVER_DETAIL))
            earlier[stream] = Earlier(gap.time, gap.cause, gap.detail, changed[-1])
    return changed


def _ended(gap: FeedGap, at: int, remark: str) -> FeedGap:
    detail = f"{gap.detail}; {remark}" if gap.detail else remark
    return replace(gap, ended_at=max(at, gap.time), received_at=at, detail=detail)


class StreamState:
    """Reads the file at the start and keeps it up to date until the stop. Its failures lose no record."""

    def __init__(self, state_dir: Path) -> None:
        self.earlier: dict[StreamId, Earlier] = {}
        self.open_gaps: list[FeedGap] = []
        self.pending_gaps: list[FeedGap] = []
        self._path = state_dir / NAME
        self._version: Callable[[], int] = lambda: 0
        self._compose: Callable[[bool], Document] | None = None
        self._worker = Worker("stream-state")
        self._writing: asyncio.Future[None] | None = None
        self._saved_version = 0
        self._failures = 0
        self._log_limit = LogLimit()
        self._read_written_at = 0
        self._began_s = monotonic_s()

    def load(self) -> None:
        """Fill `earlier`, `open_gaps` and `pending_gaps` from the file. The state directory must be locked."""
        try:
            stored = msgspec.json.decode(files.read(self._path), type=Document)
            if stored.version != _VERSION:
                raise msgspec.DecodeError(f"it has version {stored.version}, this ingestd reads {_VERSION}")
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.error("stream_state_unreadable", path=str(self._path), error=str(error), so="no gap for the restart")
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_suffix(".damaged"))
            return
        self.earlier.update(earlier_streams(stored))
        self.open_gaps = stored.open_gaps
        self.pending_gaps = [*lost_before_gaps(stored), *stored.pending_gaps, *covered_by_another(stored)]
        self._read_written_at = stored.written_at

    def count_followers(self, followers: Callable[[StreamId], int]) -> None:
        """Set how many configured feeds continue each stream."""
        for stream, earlier in self.earlier.items():
            self.earlier[stream] = dataclasses.replace(earlier, followers=max(1, followers(stream)))

    def end_unfollowed(self, have_chosen: Mapping[str, bool], is_wanted: Callable[[StreamId], bool]) -> list[FeedGap]:
        """See the function `end_unfollowed`. No market is over until this process has run for `OVER_AFTER_US`."""
        over_before = now_us() - OVER_AFTER_US if monotonic_s() - self._began_s > OVER_AFTER_US / 1e6 else 0
        until = self._read_written_at
        return end_unfollowed(self.earlier, have_chosen, is_wanted, until=until, over_before=over_before)

    def forget_restart(self) -> None:
        """Forget the streams without an open gap, because another process has captured them since."""
        for stream in [stream for stream, earlier in self.earlier.items() if earlier.gap is None]:
            del self.earlier[stream]

    async def run(self, compose: Callable[[bool], Document], gap_version: Callable[[], int]) -> None:
        """Write the document that `compose` makes about once a second, until cancelled.

        The argument of `compose` is whether this is the stop. `gap_version` counts the gap records taken so far.
        """
        self._compose, self._version = compose, gap_version
        while True:
            await self._save(stopped=False)
            await asyncio.sleep(_INTERVAL_S)

    async def save_gaps(self) -> None:
        """Wait, for a second at most, until every gap record taken so far is in the file."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GAPS_WAIT_S):
                while self._saved_version < self._version() and self._compose is not None:
                    failures = self._failures
                    await self._save(stopped=False)
                    if self._failures > failures:
                        return

    async def finish(self) -> None:
        """Write the last state, in at most two seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_S):
                await self._save(stopped=True)
        self._compose = None
        self._worker.close(0.0)

    async def _save(self, *, stopped: bool) -> None:
        """Write the file. Only one write runs at a time: they must not pile up on a hanging disk."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing})
        if self._compose is None:
            return
        content = self._compose(stopped)
        version = self._version()
        try:
            writing = self._writing = asyncio.wrap_future(
                self._worker.submit(lambda: files.replace(self._path, msgspec.json.encode(content)))
            )
            await asyncio.wait({writing})
            writing.result()
        except (OSError, WorkerClosed) as error:
            self._failures += 1
            if self._log_limit.allows(str(error)):
                log.error("stream_state_not_written", path=str(self._path), failures=self._failures, error=str(error))
        else:
            self._saved_version = version


def have_chosen(feeds: Iterable[tuple[str, FeedStatus]]) -> dict[str, bool]:
    """By exchange, whether all its feeds have chosen their symbols, so that no feed will take over another stream."""
    chosen: dict[str, bool] = {}
    for exchange, status in feeds:
        follows = any(stream.followed_at is not None for stream in status.streams)
        chosen[exchange] = chosen.get(exchange, True) and follows
    return chosen
