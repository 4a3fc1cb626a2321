"""One `watch_*` call kept alive: asked for again when its socket is gone, split when one of its symbols is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from ingestd.backoff import Backoff
from ingestd.clock import monotonic_s, now_us
from ingestd.errors import ChannelError, FeedError, SymbolError
from ingestd.feeds.base import BookBroken, RateLimited, Refused
from ingestd.feeds.ccxt_channels import Method
from ingestd.feeds.ccxt_recorder import Recorder
from ingestd.feeds.ccxt_tap import dialled_urls, translated
from ingestd.feeds.stopping import Stop
from ingestd.feeds.stream_ledger import Stream
from ingestd.records import Channel

log = structlog.get_logger()

RENEW_S = 60.0  # ask again although nothing happened: heals a subscription the library has lost track of
SETTLED_S = 30.0  # what has worked this long starts its delays over
QUARANTINE_S = 3600.0
REFUSALS_TO_QUARANTINE = 3
RATE_LIMIT_PAUSE_S = 10.0  # when the venue does not say how long

_CHANNELS_WITH_FALLBACK = ("trades", "funding")  # books are seen as they resolve, ticks: `BIDS_ASKS_IN_TICKERS`

Watch = Callable[[Sequence[str]], Coroutine[Any, Any, Any]]


class Subscription:
    """The symbols one call carries. `run` returns what replaces it: nothing at the end, two when it is split."""

    def __init__(
        self,
        channel: Channel,
        method: Method,
        streams: Sequence[Stream],
        *,
        watch: Watch,
        recorder: Recorder,
        backoff: Callable[[], Backoff] = Backoff,
    ) -> None:
        self.channel = channel
        self.method = method
        self.streams = list(streams)
        self.urls: dict[str, None] = {}
        self._watch = watch
        self._recorder = recorder
        self._new_backoff = backoff
        self._backoff = backoff()
        self._wake = asyncio.Event()
        self._books_broke = asyncio.Event()
        self._socket_gone = False
        self._broken: set[str] = set()  # the symbols whose books are, since the last call
        self._of_book: dict[str, tuple[Backoff, float]] = {}  # its delays, and when it broke last
        self._returned = method.returned
        self._received_at_start = {stream.symbol: stream.received for stream in streams}
        self._attempt_started = monotonic_s()
        self._attempt_received = self._received()
        self._refusals = 0
        rest = f" +{len(self.streams) - 1}" if len(self.streams) > 1 else ""
        self.name = f"{channel} {self.streams[0].symbol}{rest}"  # for task names and logs

    @property
    def symbols(self) -> list[str]:
        """What the call carries."""
        return [stream.symbol for stream in self.streams]

    @property
    def failures(self) -> int:
        """How often in a row it has failed; 0 once it has delivered since."""
        return self._backoff.attempts if self._received() == self._attempt_received else 0

    def wake(self, url: str) -> None:
        """A socket is gone, or the library gave up on something it carried."""
        if url in self.urls or not self.urls:
            self._socket_gone = True
            self._wake.set()

    def wake_for(self, channel: Channel, symbol: str) -> None:
        """What it carries of this symbol must be asked for again."""
        if channel == self.channel and symbol in self.symbols:
            self._broken.add(symbol)
            self._wake.set()
            self._books_broke.set()

    async def run(self, stop: Stop) -> list[Subscription]:
        """Keep the subscription until the stop, or until none of its symbols is wanted any more."""
        dialled_urls.set(self.urls)
        while not stop.is_set() and self._wanted():
            error = await self._once(stop)
            if error is None or stop.is_set():
                continue
            if isinstance(error, (SymbolError, ChannelError, Refused)):
                replacement = await self._on_refusal(error, stop)
                if replacement:
                    return replacement
            else:
                await stop.sleep(self._delay_s(error))
        return []

    def _wanted(self) -> list[Stream]:
        self.streams = [stream for stream in self.streams if self._recorder.wants(stream)]
        return self.streams

    async def _once(self, stop: Stop) -> FeedError | None:
        """One call, and the wait for a reason to call again. The error of the call or of the socket, if any."""
        self._wake.clear()
        self._socket_gone = False
        self._broken.clear()
        self._books_broke.clear()
        received = self._received()
        # A call that waits for a book which does not come would wait on.
        task = await stop.run(self._watch(self.symbols), name=self.name, until=self._books_broke)
        if task.cancelled():
            if self._broken and not self._socket_gone:
                return self._book_broken()
            return None if stop.is_set() else FeedError("given up by the exchange library")
        error = task.exception()
        if error is not None:
            return translated(error)
        self._take_returned(task.result(), received)
        if self._returned:
            return None
        await stop.sleep_or(self._wake, RENEW_S)
        if self._broken and not self._socket_gone:
            return self._book_broken()
        return FeedError("its socket is gone, or the library gave it up") if self._wake.is_set() else None

    def _book_broken(self) -> BookBroken:
        return BookBroken(f"a broken book: {', '.join(sorted(self._broken))}")

    def _take_returned(self, result: Any, received_before: int) -> None:
        """Hand over what the call returned, if that is the only way: a venue whose code writes to no store."""
        unseen = self._received() == received_before
        if not self._returned and unseen and self.channel in _CHANNELS_WITH_FALLBACK:
            self._returned = True
            log.info("updates_taken_from_calls", feed=self._recorder.counts.label, subscription=self.name)
        if self._returned:
            for stream in self.streams:
                stream.url = next(reversed(self.urls), None)
            self._recorder.on_returned(self.channel, self.symbols, result, now_us())

    def _received(self) -> int:
        return sum(stream.received for stream in self.streams)

    def _book_delay_s(self) -> float:
        """Each book has delays of its own, or one that breaks often would hold the others up."""
        now_s = monotonic_s()
        delays = []
        for symbol in self._broken:
            backoff, broke_at_s = self._of_book.get(symbol, (self._new_backoff(), now_s))
            if now_s - broke_at_s >= SETTLED_S:
                backoff.settled()
            self._of_book[symbol] = backoff, now_s
            delays.append(backoff.next_s())
        return min(delays, default=0.0)

    def _delay_s(self, error: FeedError) -> float:
        if isinstance(error, BookBroken) and self._broken:
            return self._book_delay_s()
        if self._received() > self._attempt_received and monotonic_s() - self._attempt_started >= SETTLED_S:
            self._backoff.settled()
        self._attempt_started, self._attempt_received = monotonic_s(), self._received()
        at_least_s = (error.retry_after_s or RATE_LIMIT_PAUSE_S) if isinstance(error, RateLimited) else 0.0
        delay_s = self._backoff.next_s(at_least_s)
        log.info(
            "resubscribing",
            feed=self._recorder.counts.label,
            subscription=self.name,
            failures=self.failures,
            delay_s=round(delay_s, 3),
            error=str(error)[:300],
        )
        return delay_s

    async def _on_refusal(self, error: FeedError, stop: Stop) -> list[Subscription]:
        """Find the symbol the venue refuses: those that deliver are not it; the silent ones are halved down to one."""
        silent = [stream for stream in self.streams if stream.received == self._received_at_start[stream.symbol]]
        if silent and len(self.streams) > 1:
            log.info("subscription_split", feed=self._recorder.counts.label, subscription=self.name, error=str(error))
            return self._parts(silent)
        self._refusals = self._refusals + 1 if silent else 0
        certain = isinstance(error, ChannelError) or self._refusals >= REFUSALS_TO_QUARANTINE
        if silent and certain:
            await self._quarantine(silent[0], error, stop)
        else:
            await stop.sleep(self._delay_s(error))
        return []

    def _parts(self, silent: Sequence[Stream]) -> list[Subscription]:
        speaking = [stream for stream in self.streams if stream not in silent]
        middle = (len(silent) + 1) // 2 if not speaking else len(silent)
        parts = [part for part in (speaking, silent[:middle], silent[middle:]) if part]
        return [
            Subscription(
                self.channel,
                self.method,
                part,
                watch=self._watch,
                recorder=self._recorder,
                backoff=self._new_backoff,
            )
            for part in parts
        ]

    async def _quarantine(self, stream: Stream, error: FeedError, stop: Stop) -> None:
        """Leave the symbol alone for an hour, unless it delivers after all (the refusal was about another one)."""
        stream.quarantined = str(error)[:300]
        log.warning(
            "quarantined",
            feed=self._recorder.counts.label,
            channel=self.channel,
            symbol=stream.symbol,
            error=stream.quarantined,
        )
        until = monotonic_s() + QUARANTINE_S
        while not stop.is_set() and (left_s := until - monotonic_s()) > 0 and stream.quarantined is not None:
            self._wake.clear()
            await stop.sleep_or(self._wake, left_s)
        self._refusals = 0
        self._backoff.settled()
