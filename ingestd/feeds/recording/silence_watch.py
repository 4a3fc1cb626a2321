"""Finds single streams that have fallen silent, asks the exchange over REST whether they miss something, and subscribes
to the dead ones again. An open connection and its heartbeats say nothing about one of its streams."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

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
from ingestd.retry import Backoff
from ingestd.venues.trades import NewestAnswer

log = structlog.get_logger()

LOOK_S = 1.0
QUIET_PER_MINUTE = 12.0  # requests about one stream each
URGENT_PER_MINUTE = 24.0  # the same, about streams that are silent far beyond what is usual
BULK_PER_MINUTE = 4.0  # about many
_URGENT = 10.0  # so many usual intervals
_QUIET_AT_ONCE, _URGENT_AT_ONCE = 3, 8
_TICKS_AT_ONCE = 50
_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0  # after a refusal; twice as long after each
_AGAIN_S = 30.0
_FAILURES = 3  # of a question about one stream: then the venue cannot say

_NOT_ASKED_ABOUT = frozenset(CHANNELS) - {"trades", "ticks", "order_book"}
_MAY_BE_SILENT = frozenset(row.name for row in ROWS if row.may_be_silent)

T = TypeVar("T")


class WatchedConnections(Protocol):
    """The connections of a feed."""

    def open_streams(self) -> Iterable[Stream]:
        """The streams whose connection is open: they should deliver."""

    def resubscribe(self, stream: Stream, attempt: int) -> None:
        """Subscribe to the stream again, from some attempt on over another connection."""


class _Watched(NamedTuple):
    stream: Stream
    expectation: Expectation

    @property
    def is_silent(self) -> bool:
        """Whether nothing was delivered since the last look."""
        return self.stream.received == self.expectation.received

    def is_due(self, now_s: float) -> bool:
        """Whether to ask the venue about the stream now."""
        return self.is_silent and self.expectation.suspected_s is None and self.expectation.due_s <= now_s


class SilenceWatch:
    """Makes at most `QUIET_PER_MINUTE`, `URGENT_PER_MINUTE` and, for each kind of market, twice `BULK_PER_MINUTE`
    requests a minute, through the feed's own exchange object.
    """

    def __init__(self, newest: Newest, recorder: Recorder, connections: WatchedConnections) -> None:
        self._newest = newest
        self._recorder = recorder
        self._connections = connections
        self._stale_after_s = recorder.config.stale_after_s
        self._watched: dict[tuple[str, str], _Watched] = {}  # by channel and symbol
        self._due: list[_Watched] = []
        self._is_due = asyncio.Event()
        self._behind: dict[str, _Watched] = {}  # dead trade streams whose newest trade the venue is to give over REST
        self._quiet = Pace(QUIET_PER_MINUTE / 60, burst=_QUIET_AT_ONCE)
        self._urgent = Pace(URGENT_PER_MINUTE / 60, burst=_URGENT_AT_ONCE)
        self._bulk = _Source(BULK_PER_MINUTE)
        self._best = _Source(BULK_PER_MINUTE)
        self._paused_until_s = 0.0
        self._pauses = _pauses()
        self._failures: Counter[str] = Counter()  # of questions about the trades of one symbol

    async def run(self, stop: Stop) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look(stop), name="silence look")
            tasks.create_task(self._ask(stop), name="silence ask")

    # ---- looking

    async def _look(self, stop: Stop) -> None:
        while await stop.sleep(min(LOOK_S, self._stale_after_s / 4)):
            self.look(monotonic_s())

    def look(self, now_s: float) -> None:
        """Look at each stream once: which are dead, and about which the venue is to be asked."""
        is_blocked, known, seen = self._recorder.intake.is_blocked, self._watched, 0
        self._due = []
        for stream in self._connections.open_streams():
            if stream.channel in _MAY_BE_SILENT:
                continue
            seen += 1
            watched = known.get((stream.channel, stream.symbol))
            if watched is None or watched.stream is not stream:
                least_s = self._stale_after_s
                if stream.channel == "order_book":  # a book is silent from one sample to the next
                    least_s = max(least_s, 2 * self._recorder.config.order_book_interval_ms / 1000)
                watched = _Watched(stream, Expectation(least_s, stream.received, now_s))
                known[stream.channel, stream.symbol] = watched
            excused = is_blocked or stream.quarantined is not None
            act = watched.expectation.look(stream.received, now_s, excused=excused)
            if act == "dead":
                self._is_dead(watched, now_s, "the venue has newer ones")
            elif act == "ask_venue" and not excused:
                self._due.append(watched)
        if len(known) > 2 * seen + 100:
            wanted = {(stream.channel, stream.symbol) for stream in self._connections.open_streams()}
            self._watched = {key: watched for key, watched in known.items() if key in wanted}
        if self._due:
            self._is_due.set()

    def _is_dead(self, watched: _Watched, now_s: float, why: str) -> None:
        stream, expectation = watched
        silent_s, usual_s = expectation.silent_s(now_s), expectation.usual_s
        usual = "" if usual_s is None else f", usually {usual_s:.2g} s"
        attempt = expectation.note_resubscription(now_s)
        detail = f"it alone was silent for {silent_s:.1f} s{usual}: {why}"
        where = {"feed": self._recorder.config.label, "channel": stream.channel, "symbol": stream.symbol}
        log.warning("stream_silent", **where, attempt=attempt, detail=detail)
        self._count("dead")
        self._recorder.interrupted([stream], STREAM_SILENT, detail)
        self._connections.resubscribe(stream, attempt)

    # ---- asking

    async def _ask(self, stop: Stop) -> None:
        while await stop.wait_for(self._is_due):
            if self._newest.is_ready:
                await self.ask(stop)

    async def ask(self, stop: Stop) -> None:
        """Ask the venue about the streams that are due, as far as the budget allows."""
        if monotonic_s() < self._paused_until_s:
            return
        await self._take_over(stop)
        await self._ask_trades(stop)
        await self._ask_best(stop)
        for watched in self._still_due(*_NOT_ASKED_ABOUT):
            self._judge(watched)

    def _still_due(self, *channels: str) -> list[_Watched]:
        """The streams to ask about now, the most urgent first."""
        now_s = monotonic_s()
        due = [watched for watched in self._due if watched.stream.channel in channels and watched.is_due(now_s)]
        return sorted(due, key=lambda watched: -watched.expectation.urgency(now_s))

    async def _ask_trades(self, stop: Stop) -> None:
        for kind in dict.fromkeys(self._newest.kind(due.stream.symbol) for due in self._still_due("trades")):
            if self._newest.has_bulk(kind) and self._bulk.take(monotonic_s(), kind):
                await self._ask_of_all(kind, stop)
        for due in self._still_due("trades"):
            now_s = monotonic_s()
            if stop.is_set() or now_s < self._paused_until_s:
                return
            pace = self._urgent if due.expectation.urgency(now_s) >= _URGENT else self._quiet
            if not pace.is_free(now_s):
                return
            if due.is_due(now_s):
                pace.take(now_s)
                await self._ask_of_one(due, stop)

    async def _take_over(self, stop: Stop) -> None:
        """End the gap of a stream that stays silent with its newest trade over REST: backfill fills up to a trade."""
        while self._behind and not stop.is_set() and self._urgent.is_free(monotonic_s()):
            stream, expectation = self._behind.pop(next(iter(self._behind)))
            self._urgent.take(monotonic_s())
            task = await self._request(self._newest.trade(stream.symbol), stop)
            if task is None or task.exception() is not None:
                return
            answer = task.result()
            trade = answer.record if answer is not None else None
            is_new = trade is not None and isinstance(stream.last, Trade) and _follows(trade, stream.last)
            if trade is not None and is_new and expectation.resubscriptions and self._recorder.ledger.has_gap(stream):
                self._recorder.ledger.taken_over(stream, trade)
                self._count("taken_over")

    async def _ask_of_all(self, kind: str, stop: Stop) -> None:
        """Ask about every stream that is silent now, due or not: one request costs the same."""
        now_s = monotonic_s()
        silent = {
            symbol: watched
            for (channel, symbol), watched in self._watched.items()
            if channel == "trades"
            and watched.is_silent
            and watched.expectation.silent_s(now_s) >= self._stale_after_s
            and watched.expectation.suspected_s is None
            and self._newest.kind(symbol) == kind
        }
        asked_at = now_us()
        answers = await self._answer(self._newest.trades_of_all(kind, list(silent)), self._bulk, stop)
        for symbol, answer in answers.items():
            self._take(silent[symbol], answer, asked_at, is_bulk=True)

    async def _ask_of_one(self, watched: _Watched, stop: Stop) -> None:
        asked_at = now_us()
        symbol = watched.stream.symbol
        task = await self._request(self._newest.trade(symbol), stop)
        if task is None:
            return
        error = task.exception()
        if error is None:
            del self._failures[symbol]
            if (answer := task.result()) is not None:
                self._take(watched, answer, asked_at)
                return
            self._failed(FeedError("the venue names no trade"))
        self._failures[symbol] += 1
        if isinstance(error, (ChannelError, SymbolError, Refused)) or self._failures[symbol] >= _FAILURES:
            self._judge(watched)
        else:
            watched.expectation.postpone(monotonic_s(), _AGAIN_S)

    async def _ask_best(self, stop: Stop) -> None:
        due = self._still_due("ticks", "order_book")
        if not due:
            return
        kind = self._newest.kind(due[0].stream.symbol)
        symbols = list(dict.fromkeys(s for watched in due if self._newest.kind(s := watched.stream.symbol) == kind))
        symbols = symbols[: _TICKS_AT_ONCE if self._newest.has_best_of_many() else 1]
        if not self._best.take(monotonic_s(), kind):
            if monotonic_s() < self._best.not_before_s:
                for watched in due:
                    self._judge(watched)
            return
        asked_at = now_us()
        answers = await self._answer(self._newest.best(symbols), self._best, stop)
        for watched in due:
            if watched.stream.symbol not in symbols:
                continue
            answer = answers.get(watched.stream.symbol)
            if answer is not None:
                self._take(watched, answer, asked_at)
            elif not stop.is_set():
                self._judge(watched)

    async def _answer(
        self, asking: Coroutine[Any, Any, Mapping[str, NewestAnswer]], source: _Source, stop: Stop
    ) -> Mapping[str, NewestAnswer]:
        """The venue's answers about many streams, by symbol; empty if the request failed or the stop came first."""
        task = await self._request(asking, stop)
        if task is None:
            return {}
        if task.exception() is not None:
            source.not_before_s = monotonic_s() + source.pauses.next_s()
            return {}
        source.pauses.settled()
        return task.result()

    async def _request(self, asking: Coroutine[Any, Any, T], stop: Stop) -> asyncio.Task[T] | None:
        """The ended request, failed or not; None if the stop came first. Raises what is no FeedError."""
        task = await stop.run(asking, name=f"{self._recorder.config.label} newest")
        if stop.is_set() or task.cancelled():
            return None
        error = task.exception()
        if error is None:
            self._pauses.settled()
        else:
            self._failed(error)
        return task

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, FeedError):
            raise error
        self._count("failed")
        log.info("silence_not_verified", feed=self._recorder.config.label, error=str(error)[:300])
        if isinstance(error, RateLimited):
            self._paused_until_s = monotonic_s() + max(error.retry_after_s, self._pauses.next_s())

    # ---- judging

    def _take(self, watched: _Watched, answer: NewestAnswer, asked_at: int, *, is_bulk: bool = False) -> None:
        if not watched.is_silent:
            return  # it has delivered meanwhile
        stream, expectation = watched
        is_open = self._recorder.ledger.has_gap(stream)
        verdict = verdict_on(stream.last, answer, expectation, since=stream.complete_until, is_open=is_open)
        self._count(verdict)
        if is_bulk and not is_open and verdict in ("same", "unknown"):
            expectation.remember(answer)  # it is asked about alone; what comes of that holds for this answer
            return
        if stream.channel != "trades" and verdict in ("same", "unknown"):
            expectation.remember(answer)
            self._judge(watched)
            return
        earlier = expectation.answer
        if verdict == "proved" and not is_bulk and earlier is not None and earlier.mark[0] != answer.mark[0]:
            answer = earlier  # of a bulk request, which the next one can be compared with
        expectation.note_answer(verdict, answer, monotonic_s())
        if is_open and expectation.resubscriptions and stream.channel == "trades" and verdict in ("same", "newer"):
            self._behind[stream.symbol] = watched
        if verdict == "proved" and stream.channel == "trades":
            stream.is_quiet_until(asked_at - REST_BEHIND_US)

    def _judge(self, watched: _Watched) -> None:
        """Judge a stream about which the venue does not tell."""
        stream, expectation = watched
        now_s = monotonic_s()
        trades = self._watched.get(("trades", stream.symbol))
        others_deliver = (
            stream.channel != "trades"
            and trades is not None
            and trades.expectation.heard_s - expectation.heard_s > expectation.silent_s(now_s) / 2
        )
        if expectation.judge_without_answer(now_s, others_deliver=others_deliver):
            why = "its market is traded" if others_deliver else "so long was never usual, and the venue cannot say"
            self._is_dead(watched, now_s, why)

    def _count(self, result: str) -> None:
        self._recorder.ledger.counts.silences[result] += 1


def _follows(trade: Trade, last: Trade) -> bool:
    if trade.trade_id.isdecimal() and last.trade_id.isdecimal():
        return int(trade.trade_id) > int(last.trade_id)
    return trade.trade_id != last.trade_id and trade.time >= last.time


def _pauses() -> Backoff:
    return Backoff(base_s=_PAUSE_S, cap_s=_LONGEST_PAUSE_S, draw=lambda: 1.0)


class _Source:
    """One kind of request about many streams: so many a minute for each kind of market, and not while it fails."""

    def __init__(self, per_minute: float) -> None:
        self._paces = defaultdict[str, Pace](lambda: Pace(per_minute / 60, burst=2))
        self.pauses = _pauses()
        self.not_before_s = 0.0

    def take(self, now_s: float, kind: str) -> bool:
        """Whether it may be asked now; it counts as asked then."""
        pace = self._paces[kind]
        if now_s < self.not_before_s or not pace.is_free(now_s):
            return False
        pace.take(now_s)
        return True
