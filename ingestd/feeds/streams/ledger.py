"""The streams of one feed: what each has received, until when it is complete, and the gaps of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.config.secrets import redact
from ingestd.errors import FeedError
from ingestd.feeds.base import Intake
from ingestd.feeds.markets.listing import Choice, ListingDoubts
from ingestd.feeds.markets.quantity_units import unit_of
from ingestd.feeds.streams.overlap import Overlap
from ingestd.gaps.causes import NOT_SUBSCRIBED, UNLISTED, UNLISTED_DETAIL
from ingestd.gaps.consecutive import STEPS_TO_BELIEVE
from ingestd.gaps.tracker import GapTracker
from ingestd.gaps.trade_ids import IdReport, IdSeries, are_consecutive
from ingestd.log_limit import LogLimit
from ingestd.records import CHANNELS, Channel, FeedGap, MarketRecord, StreamId, Trade
from ingestd.status import Earlier, FeedStatus, StreamStatus

log = structlog.get_logger()

_NOT_CONSECUTIVE = (
    "the ids of this market are not consecutive: nearly every trade leaves numbers out, so from here on "
    "no trade is said to be missing by its id"
)
_TRIED_AGAIN_US = 3_600_000_000  # a series that was not consecutive is looked at again after so long

EarlierStreams = MutableMapping[StreamId, Earlier]
"""The states in which an earlier process left streams. Following a stream removes its entry."""


@dataclass(slots=True)
class Stream(StreamStatus):
    """A stream's status, and the socket that delivers it (known once it has)."""

    url: str | None = None
    overlap: Overlap | None = None  # while two sockets may deliver it
    ids: IdSeries | None = None  # judges its trade ids, where these are consecutive
    last: MarketRecord | None = None

    def is_repeat(self, url: str, record: MarketRecord) -> bool:
        """Whether another socket has already delivered this record."""
        if self.overlap is None:
            return False
        is_repeat = self.overlap.is_repeat(url, record)
        if self.overlap.is_over and not is_repeat:  # the remaining socket is past what the closed one delivered
            self.overlap = None
        return is_repeat


class StreamLedger:
    """The streams of one feed, with their gaps and counts. Outlives every connection of the feed."""

    def __init__(self, config: FeedConfig, intake: Intake, earlier: EarlierStreams | None = None) -> None:
        self._config = config
        self._intake = intake
        self._earlier = {} if earlier is None else earlier
        self._gaps = GapTracker(config.exchange)
        self._doubts = ListingDoubts()
        self.missing_since: Mapping[str, int] = {}  # see `Choice`; for streams that are added
        self._disbelieved: dict[str, int] = {}  # symbols whose ids are not consecutive, and since when
        self.streams: dict[Channel, dict[str, Stream]] = {channel: {} for channel in CHANNELS}
        self.counts = FeedStatus(label=config.label)
        self._log_limit = LogLimit()
        self.units: dict[str, str] = {}  # of these symbols' trades; the unit of all others is the base currency

    def add_stream(self, channel: Channel, symbol: str) -> Stream:
        """Return the stream. A new one continues from where an earlier process was."""
        stream = self.streams[channel].get(symbol)
        if stream is not None:
            return stream
        stream = self.streams[channel][symbol] = Stream(channel, symbol, followed_at=now_us())
        if channel == "trades" and are_consecutive(self._config.exchange, symbol, self._config.options):
            stream.ids = IdSeries()
        stream_id = self._config.exchange, channel, symbol
        earlier = self._earlier.pop(stream_id, None)
        if earlier is not None and earlier.followers > 1:
            self._earlier[stream_id] = dataclasses.replace(earlier, followers=earlier.followers - 1)
        if earlier is None and (since := self.missing_since.get(symbol)) is not None:
            earlier = Earlier(since, UNLISTED, UNLISTED_DETAIL)
        if earlier is not None:
            stream.followed_at = earlier.complete_until
            self._put_gaps(self._gaps.resume(stream, earlier, at=now_us()))
        return stream

    def set_units(self, markets: Mapping[str, Mapping[str, Any]], symbols: Iterable[str]) -> None:
        """Set the unit of these symbols' trades. A symbol that is not in `markets` keeps its unit."""
        for symbol in symbols:
            if symbol in markets:
                unit = unit_of(self._config.exchange, markets[symbol])
                if unit is not None:
                    self.units[symbol] = unit
                else:
                    self.units.pop(symbol, None)

    def remove(self, symbols: Iterable[str]) -> None:
        """Stop following these symbols. Their open gaps end now."""
        for symbol in symbols:
            for by_symbol in self.streams.values():
                stream = by_symbol.pop(symbol, None)
                if stream is not None:
                    self.settle(stream)
                    if stream.channel == "trades":
                        self._disbelieved.pop(symbol, None)
                    self._put_gaps(self._gaps.forget(stream, at=now_us()))

    def judge_listing(self, choice: Choice) -> list[Stream]:
        """Open a gap for each stream of a market that the list makes doubtful. End the gaps of markets that are over.

        Return the streams to subscribe to again: the list has their market again, and they have not delivered yet.
        """
        judgement = self._doubts.judge(choice, self.all_streams(), now_us())
        back = []
        for stream in self.all_streams():
            if stream.symbol in judgement.over:
                self._put_gaps(self._gaps.is_over(stream, at=now_us()))
            if (reason := judgement.doubtful.get(stream.symbol)) is not None:
                where = {"feed": self._config.label, "channel": stream.channel, "symbol": stream.symbol}
                log.warning("market_not_listed", **where, reason=reason)
                stream.quarantined = reason
                self.interrupted([stream], UNLISTED, reason)  # it may still deliver, so its order book stays
            elif stream.symbol in judgement.back:
                stream.quarantined = None
                back += [stream] if self.has_gap(stream) else []
        return back

    def wants(self, stream: Stream) -> bool:
        """Whether the stream has not been removed."""
        return self.streams[stream.channel].get(stream.symbol) is stream  # type: ignore[index]

    def all_streams(self) -> Iterable[Stream]:
        return (stream for by_symbol in self.streams.values() for stream in by_symbol.values())

    @property
    def open_gaps(self) -> Mapping[tuple[str, str], FeedGap]:
        """The open gaps by (channel, symbol). Always the same mapping, so that it can be looked at often."""
        return self._gaps.open

    def has_gap(self, stream: Stream) -> bool:
        return (stream.channel, stream.symbol) in self._gaps.open

    def interrupted(self, streams: Sequence[Stream], cause: str, detail: str, *, since: int | None = None) -> None:
        """Open a gap for each of these streams. `since`: when it began, if known."""
        for stream in streams:
            self.settle(stream)
        detail = redact(detail)[:300]
        self._put_gaps(*self._gaps.interrupted(streams, at=now_us(), cause=cause, detail=detail, since=since))

    def not_subscribed(self, streams: Iterable[Stream], detail: str) -> None:
        """Open a gap for each of these streams that has never delivered: it could not be subscribed to. What the others
        lost has a gap already."""
        self.interrupted([stream for stream in streams if not stream.received], NOT_SUBSCRIBED, detail)

    def delivered(self, stream: Stream, *, at: int, time: int) -> bool:
        """Note that the stream delivers, before the record is handed over. Return whether that ended a gap."""
        ended = self._gaps.delivered(stream, at=at, time=time)
        self._put_gaps(ended)
        return ended is not None

    def taken_over(self, stream: Stream, trade: Trade) -> None:
        """Take a trade of a silent stream from elsewhere, so that what lies before it can be filled."""
        ended = self.delivered(stream, at=trade.received_at, time=trade.time)
        stream.last = trade
        stream.last_received_at, stream.last_time = trade.received_at, trade.time
        self._intake.put(trade)
        if stream.ids is not None:
            self.count_id(stream, stream.ids, trade, ended_gap=ended)

    def count_id(self, stream: Stream, ids: IdSeries, trade: Trade, *, ended_gap: bool) -> None:
        """Judge by the trade's id whether trades before it are missing. Call it after the trade is handed over."""
        self._put_counted(stream, ids.take(trade))
        if ended_gap:
            ids.ask()

    def settle_ids(self, before: int) -> None:
        """Judge the trade ids of frames from before `before`, since the next frame may take long in a quiet market, and
        end the gaps that were kept open for further interruptions. Call it about once a second."""
        for stream in self.streams["trades"].values():
            if stream.ids is not None and not stream.ids.is_settled and (stream.last_received_at or 0) < before:
                self.settle(stream)
        self._put_gaps(*self._gaps.release(before))
        self._try_again(before)
        self.counts.ids_not_consecutive = len(self._disbelieved)

    def end(self) -> None:
        """Judge the last trade ids, and end the gaps kept open for further interruptions: nothing more comes."""
        self.settle_ids(now_us() + 1)
        self._put_gaps(*self._gaps.release(None))

    def settle(self, stream: Stream) -> None:
        """Judge the trade ids of the stream's last frame now."""
        if stream.ids is not None:
            self._put_counted(stream, stream.ids.settle())

    def incomplete(self, stream: Stream, reason: str) -> None:
        """Count an update that lacks what its record needs."""
        self.counts.incomplete_records += 1
        where = {"channel": stream.channel, "symbol": stream.symbol}
        self._warn("incomplete_update", **where, count=self.counts.incomplete_records, reason=reason)

    def bad_frame(self, url: str, error: Exception, frame: str) -> None:
        """Count a frame of which nothing was recorded."""
        self.counts.malformed_frames += 1
        text = repr(error)[:300]
        self._warn("bad_frame", url=url, count=self.counts.malformed_frames, error=text, frame=frame[:200])

    def refused(self, url: str, error: FeedError) -> None:
        """Count an error that the venue sent."""
        self.counts.error_frames += 1
        self._warn("venue_error", url=url, count=self.counts.error_frames, error=str(error)[:300])

    def _warn(self, event: str, **fields: Any) -> None:
        if self._log_limit.allows(event):
            log.warning(event, feed=self._config.label, **fields)

    def _put_counted(self, stream: Stream, report: IdReport | None) -> None:
        if report is None or stream.ids is None:
            return
        if stream.symbol in self._disbelieved:
            if report.missing:
                self._disbelieve(stream, report.received_at)
        elif report.belief == "refuted":
            self._put_gaps(self._gaps.stop_counting(stream, report, _NOT_CONSECUTIVE))
            log.warning("ids_not_consecutive", feed=self._config.label, symbol=stream.symbol, so=_NOT_CONSECUTIVE)
            self._disbelieve(stream, report.received_at)
        else:
            self._put_gaps(self._gaps.counted(stream, report))

    def _disbelieve(self, stream: Stream, at: int) -> None:
        stream.ids = None
        self._disbelieved[stream.symbol] = at
        self.counts.ids_not_consecutive = len(self._disbelieved)

    def _try_again(self, now: int) -> None:
        """Judge series again that had holes an hour ago. Until they are believed, their holes are no gaps."""
        for symbol, since in list(self._disbelieved.items()):
            stream = self.streams["trades"][symbol]
            if stream.ids is None and not 0 <= now - since < _TRIED_AGAIN_US:
                stream.ids = IdSeries()
            elif stream.ids is not None and stream.ids.steps >= STEPS_TO_BELIEVE:
                del self._disbelieved[symbol]
                log.info("ids_consecutive_again", feed=self._config.label, symbol=symbol)

    def _put_gaps(self, *gaps: FeedGap | None) -> None:
        for gap in gaps:
            if gap is not None:
                self._intake.put(gap)
