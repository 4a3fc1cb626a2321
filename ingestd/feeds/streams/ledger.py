"""The streams of one feed: what each has received, until when it is complete, and the gaps of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.config.secrets import redact
from ingestd.errors import FeedError
from ingestd.feeds.base import Intake
from ingestd.feeds.markets.listing import Choice, Judgement, ListingDoubts
from ingestd.feeds.markets.quantity_units import unit_of
from ingestd.feeds.streams.overlap import Overlap
from ingestd.gaps.causes import LACKED, NOT_SUBSCRIBED, UNLISTED
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


@dataclass(slots=True)
class Stream(StreamStatus):
    """A stream's status, and the socket that delivers it (known once it has)."""

    url: str | None = None
    overlap: Overlap | None = None  # while it may come from two
    ids: IdSeries | None = None  # while the venue's trade ids have no holes
    last: MarketRecord | None = None  # what was received last

    def is_repeat(self, url: str, record: MarketRecord) -> bool:
        """Whether another socket has brought this record already."""
        if self.overlap is None:
            return False
        if self.overlap.is_repeat(url, record):
            return True
        if self.overlap.is_over:  # the socket that is left has come to what the closed one did not bring
            self.overlap = None
        return False


class StreamLedger:
    """Outlives every connection of the feed, so that gaps and counts do. No clock but for what is noted as "now"."""

    def __init__(
        self, config: FeedConfig, intake: Intake, earlier: MutableMapping[StreamId, Earlier] | None = None
    ) -> None:
        """`earlier`: what an earlier process left of the streams; each is taken out by the feed that follows it."""
        self._config = config
        self._intake = intake
        self._earlier = {} if earlier is None else earlier
        self._gaps = GapTracker(config.exchange)
        self._doubts = ListingDoubts()
        self._missing_since: Mapping[str, int] = {}
        self._unsettled: dict[str, Stream] = {}  # of their last frame the ids are to be judged
        self._disbelieved: dict[str, int] = {}  # the symbols whose ids had holes by themselves, and since when
        self.streams: dict[Channel, dict[str, Stream]] = {channel: {} for channel in CHANNELS}
        self.counts = FeedStatus(label=config.label)
        self._log_limit = LogLimit()
        self.units: dict[str, str] = {}  # of what trades of these symbols count; the others: the base currency

    def add_stream(self, channel: Channel, symbol: str) -> Stream:
        """The stream, made when it is new; it goes on from where an earlier process was."""
        stream = self.streams[channel].get(symbol)
        if stream is None:
            stream = self.streams[channel][symbol] = Stream(channel, symbol, followed_at=now_us())
            if channel == "trades" and are_consecutive(self._config.exchange, symbol, self._config.options):
                stream.ids = IdSeries()
            earlier = self._take_over((self._config.exchange, channel, symbol))
            if earlier is None and (since := self._missing_since.get(symbol)) is not None:
                earlier = Earlier(since, UNLISTED, LACKED)
            if earlier is not None:
                stream.followed_at = earlier.complete_until
                self._put_gap(self._gaps.resume(stream, earlier, at=now_us()))
        return stream

    def _take_over(self, stream: StreamId) -> Earlier | None:
        """What an earlier process left of it; the last of its followers takes it out."""
        earlier = self._earlier.pop(stream, None)
        if earlier is not None and earlier.followers > 1:
            self._earlier[stream] = dataclasses.replace(earlier, followers=earlier.followers - 1)
        return earlier

    def set_units(self, markets: Mapping[str, Mapping[str, Any]], symbols: Iterable[str]) -> None:
        """What the trades of these symbols count, from the venue's markets; of one that is not listed, as it was."""
        for symbol in symbols:
            if symbol in markets:
                unit = unit_of(self._config.exchange, markets[symbol])
                if unit is not None:
                    self.units[symbol] = unit
                else:
                    self.units.pop(symbol, None)

    def remove(self, symbols: Iterable[str]) -> list[Stream]:
        """These symbols are no longer wanted: their open gaps end with that. The streams that were there."""
        removed = []
        for symbol in symbols:
            for by_symbol in self.streams.values():
                stream = by_symbol.pop(symbol, None)
                if stream is not None:
                    self.settle(stream)
                    if stream.channel == "trades":
                        self._disbelieved.pop(symbol, None)
                    self._put_gap(self._gaps.forget(stream, at=now_us()))
                    removed.append(stream)
        return removed

    def expect(self, choice: Choice) -> None:
        """What of the streams that are added next has been missing, and since when."""
        self._missing_since = choice.missing_since

    def judge_listing(self, choice: Choice) -> Judgement:
        """What the venue's newest list makes doubtful of what is followed; shown as such until it delivers."""
        judgement = self._doubts.judge(choice, self.all_streams(), now_us())
        for stream in self.all_streams():
            if (reason := judgement.doubtful.get(stream.symbol)) is not None:
                log.warning(
                    "market_not_listed",
                    feed=self._config.label,
                    channel=stream.channel,
                    symbol=stream.symbol,
                    reason=reason,
                )
                stream.quarantined = reason
            elif stream.symbol in judgement.back:
                stream.quarantined = None
            if stream.symbol in judgement.over:
                self._put_gap(self._gaps.is_over(stream, at=now_us()))
        return judgement

    def of_symbols(self, symbols: Collection[str]) -> list[Stream]:
        """Their streams."""
        return [stream for stream in self.all_streams() if stream.symbol in symbols]

    def wants(self, stream: Stream) -> bool:
        """Whether the stream has not been removed."""
        return self.streams[stream.channel].get(stream.symbol) is stream  # type: ignore[index]

    def all_streams(self) -> Iterable[Stream]:
        """Every stream of the feed."""
        return (stream for by_symbol in self.streams.values() for stream in by_symbol.values())

    @property
    def open_gaps(self) -> Mapping[tuple[str, str], FeedGap]:
        """The gaps that are open now, by (channel, symbol): one mapping for good, so that it can be looked at often."""
        return self._gaps.open

    def has_gap(self, stream: Stream) -> bool:
        """Whether this stream's gap is open."""
        return (stream.channel, stream.symbol) in self._gaps.open

    def interrupted(self, streams: Sequence[Stream], cause: str, detail: str, *, since: int | None = None) -> None:
        """Open a gap for each of these streams. `since`: when it began, if known."""
        for stream in streams:
            self.settle(stream)
        for gap in self._gaps.interrupted(streams, at=now_us(), cause=cause, detail=redact(detail)[:300], since=since):
            self._intake.put(gap)

    def not_subscribed(self, streams: Iterable[Stream], detail: str) -> None:
        """These could not be asked for: a gap for each that has brought nothing yet. (What was lost of the others has
        one.)"""
        self.interrupted([stream for stream in streams if not stream.received], NOT_SUBSCRIBED, detail)

    def delivered(self, stream: Stream, *, at: int, time: int) -> bool:
        """The stream delivers: whether that ended a gap. To be told before the record is handed over."""
        ended = self._gaps.delivered(stream, at=at, time=time)
        self._put_gap(ended)
        return ended is not None

    def taken_over(self, stream: Stream, trade: Trade) -> None:
        """A trade of a stream that does not deliver, from elsewhere: what lies before it can be filled now."""
        ended = self.delivered(stream, at=trade.received_at, time=trade.time)
        stream.last = trade
        stream.last_received_at, stream.last_time = trade.received_at, trade.time
        self._intake.put(trade)
        if stream.ids is not None:
            self.count_id(stream, stream.ids, trade, ended_gap=ended)

    def count_id(self, stream: Stream, ids: IdSeries, trade: Trade, *, ended_gap: bool) -> None:
        """What the trade's id says of those before it. To be told after the trade is handed over."""
        report = ids.take(trade)
        if report is not None:
            self._put_counted(stream, report)
            if stream.ids is None:
                return
        if ended_gap:
            ids.ask()
        if not ids.is_settled:
            self._unsettled[stream.symbol] = stream

    def settle_ids(self, before: int) -> None:
        """Judge the trade ids of the frames that came before then: in a quiet market the next one may take long. To be
        called about once a second, since it also ends the gaps that were kept open for others."""
        for stream in list(self._unsettled.values()):
            if (stream.last_received_at or 0) < before:
                self.settle(stream)
        for gap in self._gaps.release(before):
            self._intake.put(gap)
        if self._disbelieved:
            self._try_again(before)
        self.counts.ids_not_consecutive = len(self._disbelieved)

    def end(self) -> None:
        """Nothing more comes: judge what has come, and end the gaps that were kept open for others."""
        self.settle_ids(now_us() + 1)
        for gap in self._gaps.release(None):
            self._intake.put(gap)

    def settle(self, stream: Stream) -> None:
        """Judge the trade ids of the stream's last frame now."""
        if stream.ids is not None:
            self._unsettled.pop(stream.symbol, None)
            self._put_counted(stream, stream.ids.settle())

    def incomplete(self, stream: Stream, reason: str) -> None:
        """An update that lacks what its record needs."""
        self.counts.incomplete_records += 1
        count = self.counts.incomplete_records
        if self._log_limit.allows("incomplete_update"):
            log.warning(
                "incomplete_update",
                feed=self._config.label,
                channel=stream.channel,
                symbol=stream.symbol,
                count=count,
                reason=reason,
            )

    def bad_frame(self, url: str, error: Exception, frame: str) -> None:
        """A frame of which nothing was taken."""
        self.counts.malformed_frames += 1
        count = self.counts.malformed_frames
        if self._log_limit.allows("bad_frame"):
            log.warning(
                "bad_frame", feed=self._config.label, url=url, count=count, error=repr(error)[:300], frame=frame[:200]
            )

    def refused(self, url: str, error: FeedError) -> None:
        """The venue sent an error."""
        self.counts.error_frames += 1
        count = self.counts.error_frames
        if self._log_limit.allows("venue_error"):
            log.warning("venue_error", feed=self._config.label, url=url, count=count, error=str(error)[:300])

    def _put_counted(self, stream: Stream, report: IdReport | None) -> None:
        if report is None or stream.ids is None:
            return
        if stream.symbol in self._disbelieved:
            if report.missing:
                self._disbelieve(stream, report.received_at)
        elif report.belief == "refuted":
            self._put_gap(self._gaps.stop_counting(stream, report, _NOT_CONSECUTIVE))
            log.warning("ids_not_consecutive", feed=self._config.label, symbol=stream.symbol, so=_NOT_CONSECUTIVE)
            self._disbelieve(stream, report.received_at)
        else:
            self._put_gap(self._gaps.counted(stream, report))

    def _disbelieve(self, stream: Stream, at: int) -> None:
        stream.ids = None
        self._unsettled.pop(stream.symbol, None)
        self._disbelieved[stream.symbol] = at
        self.counts.ids_not_consecutive = len(self._disbelieved)

    def _try_again(self, now: int) -> None:
        """Look anew at series that had holes an hour ago; what they leave out meanwhile is no gap."""
        for symbol, since in list(self._disbelieved.items()):
            stream = self.streams["trades"][symbol]
            if stream.ids is None and not 0 <= now - since < _TRIED_AGAIN_US:
                stream.ids = IdSeries()
            elif stream.ids is not None and stream.ids.steps >= STEPS_TO_BELIEVE:
                del self._disbelieved[symbol]
                log.info("ids_consecutive_again", feed=self._config.label, symbol=symbol)

    def _put_gap(self, gap: FeedGap | None) -> None:
        if gap is not None:
            self._intake.put(gap)
