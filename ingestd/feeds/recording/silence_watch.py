"""Finds single streams that have fallen silent, asks the exchange over REST whether they miss something, and subscribes
to the dead ones again. An open connection and its heartbeats say nothing about one of its streams."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import Protocol, TypeVar

import structlog

from ingestd.channels import ROWS
from ingestd.clock import monotonic_s, now_us
from ingestd.errors import ChannelError, FeedError, RateLimited, Refused, SymbolError
from ingestd.feeds.recording.recorder import Recorder
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.pace import Pace
from ingestd.feeds.streams.silence import REST_BEHIND_US, Expectation, Newest, verdict_on
from ingestd.gaps.causes import STREAM_SILENT
from ingestd.records import CHANNELS, Trade
from ingestd.venues.newest import Word

log = structlog.get_logger()

LOOK_S = 1.0
QUIET_PER_MINUTE = 12.0  # requests about one stream each
URGENT_PER_MINUTE = 24.0  # the same, about streams that are silent far beyond what is usual
BULK_PER_MINUTE = 4.0  # about many
_URGENT = 10.0  # so many usual intervals
_QUIET_AT_ONCE, _URGENT_AT_ONCE = 3, 8
_TICKS_AT_ONCE = 50
_PAUSE_S = 60.0  # after a refusal, twice as long after each
_LONGEST_PAUSE_S = 3600.0
_AGAIN_S = 30.0
_FAILURES = 3  # of a question about one stream: then the venue cannot say

_NOT_ASKED_ABOUT = frozenset(CHANNELS) - {"trades", "ticks", "order_book"}
_MAY_BE_SILENT = frozenset(row.name for row in ROWS if row.may_be_silent)

Key = tuple[str, str]
T = TypeVar("T")


class WatchedConnections(Protocol):
    """The connections of a feed."""

    def open_streams(self) -> Iterable[Stream]:
        """The streams whose connection is open: they should deliver."""

    def ask_anew(self, stream: Stream, attempt: int) -> None:
        """Subscribe to the stream again, from some attempt on over another connection."""


class SilenceWatch:
    """Makes at most `QUIET_PER_MINUTE`, `URGENT_PER_MINUTE` and, for each kind of market, twice `BULK_PER_MINUTE`
    requests a minute, through the feed's own exchange object.
    """

    def __init__(self, newest: Newest, recorder: Recorder, connections: WatchedConnections) -> None:
        self._newest = newest
        self._recorder = recorder
        self._connections = connections
        # A book is silent from one sample to the next.
        self._book_silent_s = max(recorder.config.stale_after_s, 2 * recorder.config.order_book_interval_ms / 1000)
        self._expected: dict[Key, tuple[Stream, Expectation]] = {}
        self._due: dict[Key, None] = {}
        self._is_due = asyncio.Event()
        self._behind: dict[Key, None] = {}  # dead trade streams whose newest trade the venue is to give over REST
        self._quiet = Pace(QUIET_PER_MINUTE / 60, burst=_QUIET_AT_ONCE)
        self._urgent = Pace(URGENT_PER_MINUTE / 60, burst=_URGENT_AT_ONCE)
        self._bulk = _Source(BULK_PER_MINUTE)
        self._best = _Source(BULK_PER_MINUTE)
        self._paused_until_s = 0.0
        self._refusals = 0
        self._failures: Counter[Key] = Counter()

    async def run(self, stop: Stop) -> None:
        """Watch until the stop."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(stop), name="silence look")
            tasks.create_task(self._ask(stop), name="silence ask")

    # ---- looking

    async def _look(self, stop: Stop) -> None:
        while await stop.sleep(min(LOOK_S, self._recorder.config.stale_after_s / 4)):
            self.look(monotonic_s())

    def look(self, now_s: float) -> None:
        """Look at each stream once: which are dead, and about which the venue is to be asked."""
        excused, expected, seen = self._recorder.intake.is_blocked, self._expected, 0
        self._due = {}
        for stream in self._connections.open_streams():
            if stream.channel in _MAY_BE_SILENT:
                continue
            key = stream.channel, stream.symbol
            known = expected.get(key)
            if known is None or known[0] is not stream:
                known = expected[key] = stream, self._expectation(stream, now_s)
            seen += 1
            act = known[1].look(stream.received, now_s, excused=excused or stream.quarantined is not None)
            if act == "dead":
                self._is_dead(*known, now_s, "the venue has newer ones")
            elif act == "ask_venue" and not excused and stream.quarantined is None:
                self._due[key] = None
        if len(expected) > 2 * seen + 100:
            wanted = {(stream.channel, stream.symbol) for stream in self._connections.open_streams()}
            self._expected = {key: known for key, known in expected.items() if key in wanted}
        if self._due:
            self._is_due.set()

    def _expectation(self, stream: Stream, now_s: float) -> Expectation:
        least_s = self._book_silent_s if stream.channel == "order_book" else self._recorder.config.stale_after_s
        return Expectation(least_s, stream.received, now_s)

    def _is_dead(self, stream: Stream, expectation: Expectation, now_s: float, why: str) -> None:
        silent_s, usual_s = expectation.silent_s(now_s), expectation.usual_s
        usual = "" if usual_s is None else f", usually {usual_s:.2g} s"
        attempt = expectation.is_asked_anew(now_s)
        detail = f"it alone was silent for {silent_s:.1f} s{usual}: {why}"
        log.warning(
            "stream_silent",
            feed=self._recorder.config.label,
            channel=stream.channel,
            symbol=stream.symbol,
            attempt=attempt,
            detail=detail,
        )
        self._count("dead")
        self._recorder.interrupted([stream], STREAM_SILENT, detail)
        self._connections.ask_anew(stream, attempt)

    # ---- asking

    async def _ask(self, stop: Stop) -> None:
        while not stop.is_set():
            await stop.sleep_or(self._is_due, 3600.0)
            self._is_due.clear()
            if not stop.is_set() and self._newest.is_ready:
                await self.ask(stop)

    async def ask(self, stop: Stop) -> None:
        """Ask the venue about the streams that are due, as far as the budget allows."""
        if monotonic_s() < self._paused_until_s:
            return
        await self._take_over(stop)
        await self._ask_trades(stop)
        await self._ask_best(stop)
        self._judge_others()

    def _still_due(self, *channels: str) -> list[Key]:
        """The streams to ask about now, the most urgent first."""
        now_s = monotonic_s()
        due = [key for key in self._due if key[0] in channels and key in self._expected and self._acts(key, now_s)]
        return sorted(due, key=lambda key: -self._expected[key][1].urgency(now_s))

    def _acts(self, key: Key, now_s: float) -> bool:
        stream, expectation = self._expected[key]
        unheard = stream.received == expectation.received
        return unheard and not expectation.is_suspected and expectation.due_s <= now_s

    async def _ask_trades(self, stop: Stop) -> None:
        due = self._still_due("trades")
        for kind in dict.fromkeys(self._newest.kind(symbol) for _, symbol in due):
            if self._newest.has_bulk(kind) and self._bulk.take(monotonic_s(), kind):
                await self._ask_of_all(kind, stop)
        for key in self._still_due("trades"):
            now_s = monotonic_s()
            if stop.is_set() or now_s < self._paused_until_s:
                return
            pace = self._urgent if self._expected[key][1].urgency(now_s) >= _URGENT else self._quiet
            if not pace.is_free(now_s):
                return
            if not self._acts(key, now_s):
                continue
            pace.take(now_s)
            await self._ask_of_one(key, stop)

    async def _take_over(self, stop: Stop) -> None:
        """End the gap of a stream that stays silent with its newest trade over REST: backfill fills up to a trade."""
        while self._behind and not stop.is_set() and self._urgent.is_free(monotonic_s()):
            key = next(iter(self._behind))
            del self._behind[key]
            known = self._expected.get(key)
            if known is None:
                continue
            self._urgent.take(monotonic_s())
            task = await stop.run(self._newest.trade(key[1]), name=f"trade to fill up to {key[1]}")
            if stop.is_set() or task.cancelled():
                return
            if (error := task.exception()) is not None:
                self._failed(error)
                return
            stream, word = known[0], task.result()
            trade = word.record if word is not None else None
            is_new = trade is not None and isinstance(stream.last, Trade) and _follows(trade, stream.last)
            if trade is not None and is_new and known[1].asked_anew and self._recorder.ledger.has_gap(stream):
                self._recorder.ledger.taken_over(stream, trade)
                self._count("taken_over")

    async def _ask_of_all(self, kind: str, stop: Stop) -> None:
        """Ask about every stream that is silent now, due or not: one request costs the same."""
        now_s = monotonic_s()
        silent = [
            symbol
            for (channel, symbol), (stream, expectation) in self._expected.items()
            if channel == "trades"
            and stream.received == expectation.received
            and expectation.silent_s(now_s) >= self._recorder.config.stale_after_s
            and not expectation.is_suspected
            and self._newest.kind(symbol) == kind
        ]
        asked_at = now_us()
        words = await self._answer(self._newest.trades_of_all(kind, silent), self._bulk, stop)
        for symbol, word in (words or {}).items():
            self._take(("trades", symbol), word, asked_at, is_bulk=True)

    async def _ask_of_one(self, key: Key, stop: Stop) -> None:
        asked_at = now_us()
        task = await stop.run(self._newest.trade(key[1]), name=f"newest trade {key[1]}")
        if stop.is_set() or task.cancelled() or key not in self._expected:
            return
        error = task.exception()
        if error is None:
            self._failures.pop(key, None)
            self._refusals = 0
            word = task.result()
            if word is not None:
                self._take(key, word, asked_at)
                return
            error = FeedError("the venue names no trade")
        self._failed(error)
        self._failures[key] += 1
        if isinstance(error, (ChannelError, SymbolError, Refused)) or self._failures[key] >= _FAILURES:
            self._judge(key)
        else:
            self._expected[key][1].postpone(monotonic_s(), _AGAIN_S)

    async def _ask_best(self, stop: Stop) -> None:
        due = self._still_due("ticks", "order_book")
        if not due:
            return
        kind = self._newest.kind(due[0][1])
        symbols = list(dict.fromkeys(symbol for _, symbol in due if self._newest.kind(symbol) == kind))
        symbols = symbols[: _TICKS_AT_ONCE if self._newest.has_best_of_many() else 1]
        if not self._best.take(monotonic_s(), kind):
            if self._best.is_given_up(monotonic_s()):
                for key in due:
                    self._judge(key)
            return
        asked_at = now_us()
        words = await self._answer(self._newest.best(symbols), self._best, stop)
        for key in [key for key in due if key[1] in symbols]:
            word = (words or {}).get(key[1])
            if word is not None:
                self._take(key, word, asked_at)
            elif not stop.is_set():
                self._judge(key)

    async def _answer(self, asking: Awaitable[T], source: _Source, stop: Stop) -> T | None:
        async def asked() -> T:
            return await asking

        task = await stop.run(asked(), name="newest of many")
        if stop.is_set() or task.cancelled():
            return None
        error = task.exception()
        if error is None:
            self._refusals = 0
            source.answered()
            return task.result()
        source.failed(monotonic_s())
        self._failed(error)
        return None

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, FeedError):
            raise error
        self._count("failed")
        log.info("silence_not_verified", feed=self._recorder.config.label, error=str(error)[:300])
        if isinstance(error, RateLimited):
            self._refusals += 1
            pause_s = max(error.retry_after_s, _PAUSE_S * 2 ** min(self._refusals - 1, 10))
            self._paused_until_s = monotonic_s() + min(pause_s, max(_LONGEST_PAUSE_S, error.retry_after_s))

    # ---- judging

    def _take(self, key: Key, word: Word, asked_at: int, *, is_bulk: bool = False) -> None:
        known = self._expected.get(key)
        if known is None:
            return
        stream, expectation = known
        if stream.received != expectation.received:
            return  # it has spoken meanwhile
        now_s, is_open = monotonic_s(), self._recorder.ledger.has_gap(stream)
        verdict = verdict_on(stream.last, word, expectation, since=stream.complete_until, is_open=is_open)
        self._count(verdict)
        if is_bulk and not is_open and verdict in ("same", "unknown"):
            expectation.note(word)  # it is asked about alone; what comes of that holds for this word
            return
        if stream.channel != "trades" and verdict in ("same", "unknown"):
            expectation.note(word)
            self._judge(key)
            return
        earlier = expectation.word
        bulk = earlier is not None and not is_bulk and earlier.mark[0] != word.mark[0]
        expectation.told(verdict, earlier if earlier is not None and bulk and verdict == "proved" else word, now_s)
        if is_open and expectation.asked_anew and stream.channel == "trades" and verdict in ("same", "newer"):
            self._behind[key] = None
        if verdict == "proved" and stream.channel == "trades":
            stream.is_quiet_until(asked_at - REST_BEHIND_US)

    def _judge_others(self) -> None:
        """Judge the channels about which no venue is asked."""
        for key in self._still_due(*_NOT_ASKED_ABOUT):
            self._judge(key)

    def _judge(self, key: Key) -> None:
        stream, expectation = self._expected[key]
        now_s = monotonic_s()
        trades = self._expected.get(("trades", key[1]))
        others_speak = (
            key[0] != "trades"
            and trades is not None
            and trades[1].heard_s - expectation.heard_s > expectation.silent_s(now_s) / 2
        )
        if expectation.untold(now_s, others_speak=others_speak):
            why = "its market is traded" if others_speak else "so long was never usual, and the venue cannot say"
            self._is_dead(stream, expectation, now_s, why)

    def _count(self, result: str) -> None:
        self._recorder.ledger.counts.silences[result] += 1


def _follows(trade: Trade, last: Trade) -> bool:
    if trade.trade_id.isdecimal() and last.trade_id.isdecimal():
        return int(trade.trade_id) > int(last.trade_id)
    return trade.trade_id != last.trade_id and trade.time >= last.time


class _Source:
    """One kind of request about many streams: so many a minute for each kind of market, and not while it fails."""

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._paces: dict[str, Pace] = {}
        self._failures = 0
        self._not_before_s = 0.0

    def take(self, now_s: float, kind: str) -> bool:
        """Whether it may be asked now; it counts as asked then."""
        pace = self._paces.setdefault(kind, Pace(self._per_minute / 60, burst=2))
        if now_s < self._not_before_s or not pace.is_free(now_s):
            return False
        pace.take(now_s)
        return True

    def is_given_up(self, now_s: float) -> bool:
        """Whether it has failed, and is not tried for a while."""
        return now_s < self._not_before_s

    def answered(self) -> None:
        """It works."""
        self._failures = 0

    def failed(self, now_s: float) -> None:
        """It does not."""
        self._not_before_s = now_s + min(_PAUSE_S * 2 ** min(self._failures, 10), _LONGEST_PAUSE_S)
        self._failures += 1
