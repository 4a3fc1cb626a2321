"""Polls open interest and funding over REST on exchanges that do not stream them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.errors import ChannelError, FeedError, RateLimited, Refused, SymbolError
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.channels import Method
from ingestd.feeds.ccxt.records import rows_of
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.quarantine import Quarantine, show_quarantined
from ingestd.gaps.causes import POLL_FAILED
from ingestd.log_limit import LogLimit
from ingestd.records import Channel

log = structlog.get_logger()

RATE_LIMIT_PAUSE_S = 30.0

Fetch = Callable[[str, Any], Coroutine[Any, Any, Any]]  # takes a method name and the method's first argument


@dataclass(kw_only=True)
class Poller:
    """Polls one channel of one feed every `interval_s`. ccxt's rate limiter paces the calls.

    `groups`: the streams of each call of `method`. `single`: the method for one symbol, where `method` takes several.
    """

    channel: Channel
    method: Method
    single: Method | None
    groups: Sequence[Sequence[Stream]]
    fetch: Fetch
    reader: TapReader
    interval_s: float
    _refused: defaultdict[str, Quarantine] = field(default_factory=lambda: defaultdict(Quarantine))  # by symbol
    _failures: int = 0  # consecutive
    _log_limit: LogLimit = field(default_factory=LogLimit)
    _answered: Set[Any] = frozenset()  # symbols of the last reply

    def __post_init__(self) -> None:
        self._ledger = self.reader.ledger

    async def run(self, stop: Stop) -> None:
        """Poll until the stop. If a cycle takes longer than the interval, the next one starts at once."""
        while not stop.is_set():
            started = monotonic_s()
            for group in self.groups:
                due = [(stream, stream.received) for stream in self._due(group)]
                await self._poll_group([stream for stream, _ in due], stop)
                if not stop.is_set():
                    self._note_missing([stream for stream, received in due if stream.received == received])
            await stop.sleep(max(0.0, self.interval_s - (monotonic_s() - started)))

    def _due(self, group: Sequence[Stream]) -> list[Stream]:
        now_s = monotonic_s()
        wanted = [stream for stream in group if self._ledger.wants(stream)]
        return [stream for stream in wanted if not self._refused[stream.symbol].left_s(stream.received, now_s)]

    async def _poll_group(self, group: Sequence[Stream], stop: Stop) -> None:
        """Poll all streams in one request if the exchange supports it. Poll one by one if it does not, if it refuses a
        symbol, and for symbols missing from the reply: OKX's reply for all markets has only perpetual contracts, HTX's
        none settled in USDT."""
        if not group:
            return
        left: Sequence[Stream] = group
        if self.method.many:
            error = await self._call(self.method, group, stop)
            if error is None:
                left = [stream for stream in group if stream.symbol not in self._answered]
            elif not isinstance(error, (SymbolError, ChannelError, Refused)):
                return
        single = self.method if not self.method.many else self.single
        for stream in left:
            if stop.is_set() or single is None:
                return
            error = await self._call(single, [stream], stop)
            if isinstance(error, (SymbolError, ChannelError)):
                self._count_refusal(stream, error)
            if isinstance(error, (SymbolError, ChannelError, Refused)):
                self.reader.recorder.interrupted([stream], POLL_FAILED, str(error))

    def _note_missing(self, streams: Sequence[Stream]) -> None:
        """Open gaps for streams without a record in this cycle: refused, missing from the reply, or without a value."""
        for stream in streams:
            if self._ledger.wants(stream) and not self._ledger.has_gap(stream):
                why = stream.quarantined or "the venue's answer does not include it"
                self.reader.recorder.interrupted([stream], POLL_FAILED, why)

    async def _call(self, method: Method, group: Sequence[Stream], stop: Stop) -> FeedError | None:
        symbols = [stream.symbol for stream in group]
        task = await stop.run(self.fetch(method.name, symbols if method.many else symbols[0]))
        if stop.is_set() or task.cancelled():
            return None
        raised = task.exception()
        if raised is None:
            self._answered = {row.get("symbol") for row in rows_of(task.result())}
            self.reader.on_returned(self.channel, symbols, task.result(), now_us())
            self._failures = 0
            return None
        error = translated(raised)
        self._failures += 1
        if not isinstance(error, (SymbolError, ChannelError, Refused)):
            wanted = [stream for stream in group if self._ledger.wants(stream)]
            self.reader.recorder.interrupted(wanted, POLL_FAILED, str(error))
        if self._log_limit.allows(str(error)):
            where = {"feed": self._ledger.counts.label, "channel": self.channel, "symbols": symbols[:3]}
            log.warning("poll_failed", **where, failures=self._failures, error=str(error)[:300])
        if isinstance(error, RateLimited):
            await stop.sleep(error.retry_after_s or RATE_LIMIT_PAUSE_S)
        return error

    def _count_refusal(self, stream: Stream, error: FeedError) -> None:
        now_s = monotonic_s()
        quarantine = self._refused[stream.symbol]
        if quarantine.refused(stream.received, now_s) or isinstance(error, ChannelError):
            quarantine.begin(now_s)
            show_quarantined(stream, str(error), self._ledger.counts.label)
