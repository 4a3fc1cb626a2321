"""One `watch_*` call kept alive: asked for again when its socket is gone or the venue sent an error, split when one of
its symbols is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.errors import BookBroken, ChannelError, FeedError, RateLimited, Refused, SymbolError, says_subscribed
from ingestd.feeds.ccxt.channels import Method
from ingestd.feeds.ccxt.recorder import Recorder
from ingestd.feeds.ccxt.tap import ask_anew, dialled_urls, translated
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream
from ingestd.feeds.streams.overlap import Overlap
from ingestd.feeds.streams.quarantine import REFUSALS_TO_QUARANTINE, Quarantine, show_quarantined
from ingestd.records import Channel
from ingestd.retry import Backoff

log = structlog.get_logger()

RENEW_S = 60.0  # ask again although nothing happened: heals a subscription the library has lost track of
SETTLED_S = 30.0  # what has worked this long starts its delays over
LEFT_OPEN_S = 10.0  # a socket whose streams were asked for on another, while not all of them have come from there
FAILURES_TO_RECREATE = 8  # of every subscription in a row: then the exchange object itself is suspected
REFUSED_OFTEN = 8
REFUSED_OFTEN_PAUSE_S = 300.0  # a venue may send errors that are about nothing we asked for

_CHANNELS_WITH_FALLBACK = ("trades", "funding")  # books are seen as they resolve, ticks: `Ccxt.bids_asks_in_tickers`

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
        parent: Subscription | None = None,
        anew: bool = False,
    ) -> None:
        """`parent`: the one that this is a part of. `anew`: the library takes the streams for subscribed, the venue
        refused them."""
        self.channel = channel
        self.method = method
        self.streams = list(streams)
        self.urls: dict[str, None] = {}  # of the newest call
        self._called_s = 0.0
        self.left_urls: set[str] = set(parent.urls) | parent.left_urls if parent is not None else set()
        self._watch = watch
        self._recorder = recorder
        self._new_backoff = backoff
        self._backoff = backoff()
        self._wake = asyncio.Event()
        self._ask_now = asyncio.Event()
        self._socket_gone = False
        self._errors_heard: list[Refused | RateLimited] = []  # of its sockets, since the last call
        self._anew = anew
        self._broken: set[str] = set()  # the symbols whose books are, since the last call
        self._of_book: dict[str, tuple[Backoff, float]] = {}  # its delays, and when it broke last
        self._returned = method.returned
        self._received_when_asked: Mapping[str, int] = (
            parent._received_when_asked if parent is not None else self._received_by_symbol()
        )
        self._attempt_started = monotonic_s()
        self._attempt_received = self._received()
        self._quarantine = Quarantine()
        self._unnamed = ""  # the error, if the last refusal named no symbol
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

    @property
    def refused_without_a_name(self) -> str | None:
        """The venue's error that may be about these symbols, which it does not say: it came often, and they do not."""
        often = self._unnamed and self._quarantine.refusals >= REFUSALS_TO_QUARANTINE
        return self._unnamed if often and self._silent() else None

    def wake(self, url: str) -> None:
        """A socket is gone, or the library gave up on something it carried."""
        if url in self.urls or not self.urls:
            self._socket_gone = True
            self._wake.set()

    def refused(self, url: str, error: FeedError) -> None:
        """The venue sent an error on that socket. One that cannot be about what this one waits for is passed over."""
        if url in self.urls and isinstance(error, (Refused, RateLimited)) and self._blamed(error):
            self._errors_heard[:] = [error]
            self._ask_now.set()
            self._wake.set()

    def wake_for(self, symbol: str) -> None:
        """The symbol's book, if it carries that, must be asked for again."""
        if self.method.of_books and symbol in self.symbols:
            self._broken.add(symbol)
            self._wake.set()
            self._ask_now.set()

    async def run(self, stop: Stop) -> list[Subscription]:
        """Keep the subscription until the stop, or until none of its symbols is wanted any more."""
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
        if self._socket_gone or self._anew:
            self._received_when_asked = self._received_by_symbol()
        self._wake.clear()
        self._errors_heard.clear()
        self._socket_gone = False
        self._broken.clear()
        self._ask_now.clear()
        received = self._received()
        # A call that waits for a book which does not come would wait on.
        task = await stop.run(self._call(), name=self.name, until=self._ask_now)
        if self._errors_heard and not self._socket_gone:
            return self._errors_heard[0]
        if task.cancelled():
            if self._broken and not self._socket_gone:
                return self._book_broken()
            return None if stop.is_set() else FeedError("given up by the exchange library")
        error = task.exception()
        if error is not None:
            failure = translated(error)
            self._recorder.not_subscribed(self._not_asked_for(failure), str(failure))
            return failure
        self._anew = False
        self._take_returned(task.result(), received)
        if self._returned:
            return None
        await stop.sleep_or(self._wake, RENEW_S)
        if self._errors_heard and not self._socket_gone:
            return self._errors_heard[0]
        if self._broken and not self._socket_gone:
            return self._book_broken()
        return FeedError("its socket is gone, or the library gave it up") if self._wake.is_set() else None

    def _book_broken(self) -> BookBroken:
        return BookBroken(f"a broken book: {', '.join(sorted(self._broken))}")

    def has_moved(self) -> bool:
        """Whether all comes from where the newest call asked for it. What is quiet for long enough is taken to."""
        if not self.urls:
            return False
        if self.method.of_books or monotonic_s() - self._called_s >= LEFT_OPEN_S:
            return True
        return all(stream.overlap is None or stream.overlap.heard & self.urls.keys() for stream in self.streams)

    def settle_move(self) -> None:
        """The sockets that it was asked for on before are no longer needed, or are those of the newest call."""
        newest = next(reversed(self.urls), None)
        for stream in self.streams:
            if stream.overlap is not None and stream.overlap.heard & self.urls.keys():
                stream.overlap.is_over = True
            else:
                stream.overlap = None
            if stream.url in self.left_urls - self.urls.keys() and not self.method.of_books:
                stream.url = newest
        self.left_urls.clear()

    async def _call(self) -> Any:
        """In a context of its own, so that what it dials is known to be of this call."""
        before, self.urls = self.urls, {}
        self.left_urls.update(before)
        self._called_s = monotonic_s()
        for stream in self.streams if self.left_urls else ():
            stream.overlap = stream.overlap or Overlap()
            stream.overlap.is_over = False
        dialled_urls.set(self.urls)
        ask_anew.set(self._anew)
        return await self._watch(self.symbols)

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

    def _received_by_symbol(self) -> dict[str, int]:
        return {stream.symbol: stream.received for stream in self.streams}

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
        at_least_s = error.pause_s if isinstance(error, RateLimited) else 0.0
        if self._unnamed and self._quarantine.refusals >= REFUSED_OFTEN:
            at_least_s = max(at_least_s, REFUSED_OFTEN_PAUSE_S)
        delay_s = self._backoff.next_s(at_least_s)
        # A lost connection ends every subscription on it: one of them tells when it is tried again.
        report = log.info if self._recorder.log_limit.allows(str(error)) else log.debug
        report(
            "resubscribing",
            feed=self._recorder.counts.label,
            subscription=self.name,
            failures=self.failures,
            retry_in_s=round(delay_s, 1),
            error=str(error)[:300],
        )
        return delay_s

    async def _on_refusal(self, error: FeedError, stop: Stop) -> list[Subscription]:
        """Ask again. Streams that deliver then are not refused; of the others the refused one is found by halving.

        Only a symbol that the venue or the library names is quarantined.
        """
        blamed = self._blamed(error)
        names_none = isinstance(error, Refused) and error.symbols == frozenset()
        self._anew = bool(blamed) and isinstance(error, Refused) and error.symbols is not None
        self._unnamed = str(error) if names_none else ""
        if not blamed:
            self._quarantine.clear()
            await stop.sleep(self._delay_s(error))
            return []
        often = self._quarantine.refused(self._received(), monotonic_s())
        may_be_transient = names_none and len(blamed) == len(self.streams) and not often
        if len(self.streams) > 1 and not may_be_transient:
            log.info("subscription_split", feed=self._recorder.counts.label, subscription=self.name, error=str(error))
            return self._parts(blamed)
        if names_none and self._quarantine.refusals == REFUSALS_TO_QUARANTINE:
            self._show_unnamed_refusal(blamed, error)
        if isinstance(error, ChannelError) or (often and not names_none):
            await self._wait_out_quarantine(blamed[0], error, stop)
        else:
            await stop.sleep(self._delay_s(error))
        return []

    def _show_unnamed_refusal(self, blamed: Sequence[Stream], error: FeedError) -> None:
        self._recorder.not_subscribed(blamed, str(error))
        log.warning(
            "refused_without_a_name",
            feed=self._recorder.counts.label,
            channel=self.channel,
            symbols=self.symbols[:3],
            error=str(error)[:300],
        )

    def _blamed(self, error: FeedError) -> list[Stream]:
        """Those that the error may be about: they have brought nothing since they were asked for, and if it names any
        symbol it names theirs."""
        if says_subscribed(str(error)):
            return []
        symbols = error.symbols if isinstance(error, Refused) else None
        return [stream for stream in self._silent() if not symbols or stream.symbol in symbols]

    def _silent(self) -> list[Stream]:
        """Those that have brought nothing since they were asked for."""
        return [s for s in self.streams if s.received <= self._received_when_asked.get(s.symbol, 0)]

    def _not_asked_for(self, error: FeedError) -> Sequence[Stream]:
        """Those that a call which failed so has not asked for, as far as the error says."""
        if not isinstance(error, Refused):
            return self.streams
        return [] if error.symbols == frozenset() else self._blamed(error)

    def _parts(self, blamed: Sequence[Stream]) -> list[Subscription]:
        others = [stream for stream in self.streams if stream not in blamed]
        middle = (len(blamed) + 1) // 2 if not others else len(blamed)
        return [
            Subscription(
                self.channel,
                self.method,
                part,
                watch=self._watch,
                recorder=self._recorder,
                backoff=self._new_backoff,
                parent=self,
                anew=self._anew and part is not others,
            )
            for part in (others, blamed[:middle], blamed[middle:])
            if part
        ]

    async def _wait_out_quarantine(self, stream: Stream, error: FeedError, stop: Stop) -> None:
        """Do not ask until the quarantine is over. Looks at it again when the socket is lost."""
        show_quarantined(stream, str(error), self._recorder.counts.label)
        quarantine = self._quarantine
        quarantine.begin(monotonic_s())
        self._socket_gone = False
        while not stop.is_set() and (left_s := quarantine.left_s(self._received(), monotonic_s())) > 0:
            self._wake.clear()
            await stop.sleep_or(self._wake, left_s)
            if self._socket_gone:
                quarantine.socket_lost()
        self._backoff.settled()


def all_fail(subscriptions: Iterable[Subscription]) -> bool:
    """Whether every one that is not quarantined has failed so often in a row that the exchange object is suspected."""
    tried = [s.failures for s in subscriptions if not all(stream.quarantined for stream in s.streams)]
    return bool(tried) and min(tried) >= FAILURES_TO_RECREATE
