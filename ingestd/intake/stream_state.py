"""The state of streams that a process leaves to the next one: how far each is complete, and its open gaps.

A small file in the state directory, replaced as a whole about once a second, before gap records are journaled, and at
the stop. What it says is at most that old, so after a kill a restart's gap begins up to a second early, never late: a
stream is complete until the last thing received of it, and no further than what is in the journal.

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

from ingestd import files
from ingestd.clock import monotonic_s, now_us
from ingestd.errors import WorkerClosed
from ingestd.gaps.causes import LACKED, OVER, OVER_US, RESTART, SHUTDOWN, UNLISTED
from ingestd.gaps.open_gaps import stream_of_gap
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


class Left(msgspec.Struct, frozen=True, array_like=True):
    """A stream at the time of writing; `lost`: how many received records could not be journaled."""

    exchange: str
    channel: str
    symbol: str
    complete_until: int
    lost: int = 0


class Document(msgspec.Struct, frozen=True):
    """The file. `pending_gaps` were not in the journal yet, in order; `stopped`: it was written at the stop."""

    version: int
    written_at: int
    stopped: bool
    streams: list[Left]
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
    """The state to write now. `feeds` are (exchange, status); `unclaimed` are streams that no feed has taken over
    yet."""
    unjournaled = intake.unjournaled()
    until = {stream: earlier.complete_until for stream, earlier in unclaimed.items()}
    for exchange, status in feeds:
        for known in status.streams:
            if known.complete_until is not None:
                # Two feeds may follow one market's candles, in two timeframes.
                stream = exchange, known.channel, known.symbol
                until[stream] = min(known.complete_until, until.get(stream, known.complete_until))
    for stream, at in unjournaled.items():
        if stream in until:
            until[stream] = min(until[stream], at - 1)
    lost = {stream: span.count for stream, span in intake.lost.items()}
    return Document(
        _VERSION,
        written_at,
        stopped,
        [Left(*stream, at, lost.get(stream, 0)) for stream, at in until.items()],
        list(intake.gaps.open.values()),
        intake.pending_gaps(),
    )


def earlier_streams(left: Document) -> dict[StreamId, Earlier]:
    """Each stream's state, from which the next process continues."""
    ended = "stopped" if left.stopped else "ended without a stop"
    streams = {}
    for stream in left.streams:
        text = f"the process before had {ended}"
        if stream.lost:
            text = f"{stream.lost} records could not be journaled; {text}"
        cause = SHUTDOWN if stream.lost else RESTART
        key = stream.exchange, stream.channel, stream.symbol
        streams[key] = Earlier(stream.complete_until, cause, text)
    for gap in longest_open(left):
        streams[stream_of_gap(gap)] = Earlier(gap.time, gap.cause, gap.detail, gap)
    return streams


def longest_open(left: Document) -> list[FeedGap]:
    """The earliest open gap of each stream: until it ends, it covers the others."""
    first: dict[StreamId, FeedGap] = {}
    for gap in sorted(left.open_gaps, key=lambda gap: gap.time):
        first.setdefault(stream_of_gap(gap), gap)
    return list(first.values())


def covered_by_another(left: Document) -> list[FeedGap]:
    """The ends of the other ones, at the time of writing."""
    longest = longest_open(left)
    return [
        msgspec.structs.replace(
            gap, ended_at=max(gap.time, left.written_at), received_at=left.written_at, detail=_continued(gap)
        )
        for gap in left.open_gaps
        if gap not in longest
    ]


def _continued(gap: FeedGap) -> str:
    text = "what follows is in the row of this stream that began before"
    return f"{gap.detail}; {text}" if gap.detail else text


def lost_before_gaps(left: Document) -> list[FeedGap]:
    """What was received just before a gap opened and may not have been journaled: a gap of its own, up to that one."""
    streams = earlier_streams(msgspec.structs.replace(left, open_gaps=[]))
    before = []
    for gap in left.open_gaps:
        stream = streams.get(stream_of_gap(gap))
        if stream is not None and stream.complete_until < gap.time:
            before.append(
                FeedGap(
                    exchange=gap.exchange,
                    symbol=gap.symbol,
                    time=stream.complete_until,
                    received_at=gap.time,
                    channel=gap.channel,
                    ended_at=gap.time,
                    cause=stream.cause,
                    detail=stream.detail,
                )
            )
    return before


def end_unfollowed(
    earlier: dict[StreamId, Earlier],
    following: Mapping[str, bool],
    until: int,
    detail: str,
    is_wanted: Callable[[StreamId], bool] = lambda _: False,
    over_before: int = 0,
) -> list[FeedGap]:
    """Remove the streams that no feed follows any more. Return their gaps, which end now or begin.

    `following`: for each exchange, whether all its feeds have chosen their symbols. `until`: when they were last
    followed. `is_wanted`: whether the configuration names the stream all the same, so that the venue's list lacks it:
    then it misses something until it is there again, or is taken for over since nothing came since `over_before`.
    """
    gone = [stream for stream in earlier if following.get(stream[0], True)]
    ended = []
    for stream in gone:
        if is_wanted(stream):
            if earlier[stream].gap is None:
                ended.append(_unlisted(stream, earlier[stream]))
                earlier[stream] = Earlier(ended[-1].time, UNLISTED, LACKED, ended[-1])
            elif (gap := earlier[stream].gap) is not None and gap.ended_at is None and gap.time < over_before:
                ended.append(_over(gap))
                earlier[stream] = Earlier(gap.time, gap.cause, gap.detail, ended[-1])
            continue
        gap = earlier.pop(stream).gap
        if gap is not None and gap.ended_at is None:
            text = f"{gap.detail}; {detail}" if gap.detail else detail
            ended.append(msgspec.structs.replace(gap, ended_at=max(until, gap.time), received_at=until, detail=text))
    return ended


def _unlisted(stream: StreamId, left: Earlier) -> FeedGap:
    exchange, channel, symbol = stream
    detail = f"{LACKED}; {left.detail}" if left.detail else LACKED
    return FeedGap(
        exchange=exchange,
        symbol=symbol,
        time=left.complete_until,
        received_at=now_us(),
        channel=channel,
        ended_at=None,
        cause=UNLISTED,
        detail=detail,
    )


def _over(gap: FeedGap) -> FeedGap:
    now, detail = now_us(), f"{gap.detail}; {OVER}" if gap.detail else OVER
    return msgspec.structs.replace(gap, ended_at=max(now, gap.time), received_at=now, detail=detail)


class StreamState:
    """Reads the file at the start, and keeps it up to date until the stop. Its failures lose no record."""

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
        self._began_s = monotonic_s()  # a list may lack for once what was followed before

    def load(self) -> None:
        """Take over what the process before has left; the state directory is locked. Fills `earlier`,
        `open_gaps` and `pending_gaps`."""
        try:
            left = _read(self._path)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            log.error("stream_state_unreadable", path=str(self._path), error=str(error), so="no gap for the restart")
            with contextlib.suppress(OSError):
                os.replace(self._path, self._path.with_suffix(".damaged"))
            return
        self.earlier.update(earlier_streams(left))
        self.open_gaps = left.open_gaps
        self.pending_gaps = [*lost_before_gaps(left), *left.pending_gaps, *covered_by_another(left)]
        self._read_written_at = left.written_at

    def share(self, followers: Callable[[StreamId], int]) -> None:
        """Set how many configured feeds continue each stream."""
        for stream, earlier in self.earlier.items():
            self.earlier[stream] = dataclasses.replace(earlier, followers=max(1, followers(stream)))

    def end_unfollowed(self, following: Mapping[str, bool], is_wanted: Callable[[StreamId], bool]) -> list[FeedGap]:
        """See the function of that name."""
        over_before = now_us() - OVER_US if monotonic_s() - self._began_s > OVER_US / 1e6 else 0
        return end_unfollowed(
            self.earlier, following, self._read_written_at, "no longer followed", is_wanted, over_before
        )

    def forget_restart(self) -> None:
        """Another process has captured since: only the gaps that this one's predecessor left open are gone on with."""
        for stream in [stream for stream, earlier in self.earlier.items() if earlier.gap is None]:
            del self.earlier[stream]

    async def run(self, compose: Callable[[bool], Document], gap_version: Callable[[], int]) -> None:
        """Write what `compose` says (its argument: whether this is the stop), about once a second, until cancelled.

        `gap_version` counts the gap records that were taken.
        """
        self._compose, self._version = compose, gap_version
        while True:
            await self._save(stopped=False)
            await asyncio.sleep(_INTERVAL_S)

    async def save_gaps(self) -> None:
        """Return once every gap record taken so far is in the file; after a second in any case."""
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
        """Write one at a time: writes to a hanging disk must not pile up."""
        while self._writing is not None and not self._writing.done():
            await asyncio.wait({self._writing})
        if self._compose is None:
            return
        left = self._compose(stopped)
        version = self._version()
        try:
            writing = self._writing = asyncio.wrap_future(
                self._worker.submit(lambda: files.replace(self._path, msgspec.json.encode(left)))
            )
            await asyncio.wait({writing})
            writing.result()
        except (OSError, WorkerClosed) as error:
            self._failures += 1
            if self._log_limit.allows(str(error)):
                log.error("stream_state_not_written", path=str(self._path), failures=self._failures, error=str(error))
        else:
            self._saved_version = version


def _read(path: Path) -> Document:
    left = msgspec.json.decode(files.read(path), type=Document)
    if left.version != _VERSION:
        raise msgspec.DecodeError(f"it has version {left.version}, this ingestd reads {_VERSION}")
    return left


def following(feeds: Iterable[tuple[str, FeedStatus]]) -> dict[str, bool]:
    """By exchange, whether each of its feeds has chosen its symbols: then what nobody took over is not wanted."""
    chosen: dict[str, bool] = {}
    for exchange, status in feeds:
        follows = any(stream.followed_at is not None for stream in status.streams)
        chosen[exchange] = chosen.get(exchange, True) and follows
    return chosen
