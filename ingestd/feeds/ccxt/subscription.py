"""Keeps one `watch_*` call alive: repeats it when its socket is lost or the exchange sends an error, and splits it when
one of its symbols is refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.errors import BookBroken, ChannelError, FeedError, RateLimited, Refused, SymbolError
from ingestd.feeds.ccxt.call_state import CallSockets, Retries, Signals
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.channels import Method
from ingestd.feeds.ccxt.tap_state import dialled_urls, force_subscribe
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream, StreamLedger
from ingestd.feeds.streams.quarantine import REFUSALS_TO_QUARANTINE, Quarantine, show_quarantined
from ingestd.log_limit import LogLimit
from ingestd.records import Channel
from ingestd.retry import Backoff
from ingestd.venues.messages import says_subscribed

log = structlog.get_logger()

RENEW_S = 60.0  # repeat the call even if nothing happened: ccxt may have lost track of the subscription
FAILURES_TO_RECREATE = 8  # consecutive failures of every subscription before the exchange object is recreated
REFUSED_OFTEN = 8
REFUSED_OFTEN_PAUSE_S = 300.0  # some exchanges send errors that are unrelated to our requests

# Channels that fall back to the results of calls where ccxt writes to no store. Books need not: `TappedClient.resolve`
# taps them. Nor need ticks: `Ccxt.bids_asks_in_tickers` says to which store ccxt writes them.
_CHANNELS_WITH_FALLBACK = ("trades", "funding")

Watch = Callable[[Method, Sequence[str]], Coroutine[Any, Any, Any]]
"""Calls a `watch_*` method for these symbols."""


class ReturnedUpdates(Protocol):
    """Records the results of `watch_*` calls."""

    @property
    def ledger(self) -> StreamLedger:
        """The ledger of the feed's streams."""

    @property
    def log_limit(self) -> LogLimit:
        """Suppresses errors that were logged recently."""

    def on_returned(self, channel: Channel, symbols: Sequence[str], result: Any, received_at: int) -> None:
        """Record the result of a call, on exchanges whose data cannot be tapped."""


class Subscription:
    """The streams of one call. `run` returns the replacements of this subscription: none at the end, several after a
    split."""

    def __init__(
        self,
        channel: Channel,
        method: Method,
        streams: Sequence[Stream],
        *,
        watch: Watch,
        reader: ReturnedUpdates,
        backoff: Callable[[], Backoff] = Backoff,
        parent: Subscription | None = None,
        force: bool = False,
    ) -> None:
        """`parent`: the subscription that was split. `force`: the exchange refused the streams, but ccxt believes that
        they are subscribed."""
        self.channel = channel
        self.method = method
        self.streams = list(streams)
        rest = f" +{len(self.streams) - 1}" if len(self.streams) > 1 else ""
        self.name = f"{channel} {self.streams[0].symbol}{rest}"  # for task names and logs
        self._watch = watch
        self._reader = reader
        self._ledger = reader.ledger
        self.sockets: CallSockets = CallSockets(parent.sockets if parent is not None else None)
        self._signals = Signals()
        self._retries = Retries(backoff, self._received(), monotonic_s())
        self._quarantine = Quarantine()
        self._unnamed = ""  # the last refusal's error, if it named no symbol
        self._force = force
        self._takes_results = method.returned  # record the results of calls, because the streams cannot be tapped
        self._received_when_asked: Mapping[str, int] = (
            parent._received_when_asked if parent is not None else self._received_by_symbol()
        )

    @property
    def symbols(self) -> list[str]:
        return [stream.symbol for stream in self.streams]

    @property
    def urls(self) -> Collection[str]:
        """The URLs of the sockets that the newest call uses."""
        return self.sockets.urls.keys()

    @property
    def failures(self) -> int:
        """The number of consecutive failed calls; 0 once a stream has delivered."""
        return self._retries.failures(self._received())

    @property
    def refused_without_a_name(self) -> str | None:
        """A repeated error that names no symbol, if some of these streams have not delivered: it may concern them."""
        often = self._unnamed and self._quarantine.refusals >= REFUSALS_TO_QUARANTINE
        return self._unnamed if often and self._silent() else None

    def wake(self, url: str) -> None:
        """Call again because this socket is lost, or ccxt gave up one of its subscriptions."""
        if url in self.urls or not self.urls:
            self._signals.lose_socket()

    def refused(self, url: str, error: FeedError) -> None:
        """Handle an error that the exchange sent on this socket, unless it cannot be about these streams."""
        if url in self.urls and isinstance(error, (Refused, RateLimited)) and self._blamed(error):
            self._signals.hear(error)

    def wake_for(self, symbol: str) -> None:
        """Request the symbol's order book again, if it belongs to this subscription."""
        if self.method.of_books and symbol in self.symbols:
            self._signals.break_book(symbol)

    def has_moved(self) -> bool:
        """Whether the sockets of earlier calls are no longer needed."""
        return self.sockets.have_moved(self.streams, monotonic_s(), of_books=self.method.of_books)

    def settle_move(self) -> None:
        """Forget the sockets of earlier calls: they are closed, or the newest call uses them too."""
        self.sockets.settle(self.streams, of_books=self.method.of_books)

    async def run(self, stop: Stop) -> list[Subscription]:
        """Keep the subscription alive until the stop, or until none of its streams is wanted."""
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
        self.streams = [stream for stream in self.streams if self._ledger.wants(stream)]
        return self.streams

    async def _once(self, stop: Stop) -> FeedError | None:
        """Call once and wait for a reason to call again. Returns the error of the call or the socket, if any."""
        signals = self._signals
        if signals.has_lost_socket or self._force:
            self._received_when_asked = self._received_by_symbol()
        signals.clear()
        received = self._received()
        # Urgent signals end the call: it may be waiting for a book that never arrives.
        task = await stop.run(self._call(), name=self.name, until=signals.urgent)
        if signals.error is not None:
            return signals.error
        if task.cancelled():
            return None if stop.is_set() else signals.reason or FeedError("cancelled by the exchange library")
        error = task.exception()
        if error is not None:
            failure = translated(error)
            self._ledger.not_subscribed(self._not_asked_for(failure), str(failure))
            return failure
        self._force = False
        self._take_returned(task.result(), received)
        if self._takes_results:
            return None
        await stop.sleep_or(signals.any, RENEW_S)
        return signals.reason

    async def _call(self) -> Any:
        """Call `watch_*`. Runs in its own context, so that the URLs it dials are attributed to this call."""
        dialled_urls.set(self.sockets.begin_call(self.streams, monotonic_s()))
        force_subscribe.set(self._force)
        return await self._watch(self.method, self.symbols)

    def _take_returned(self, result: Any, received_before: int) -> None:
        """Record the result of the call if the streams cannot be tapped: ccxt writes some updates to no store."""
        unseen = self._received() == received_before
        if not self._takes_results and unseen and self.channel in _CHANNELS_WITH_FALLBACK:
            self._takes_results = True
            log.info("updates_taken_from_calls", feed=self._ledger.counts.label, subscription=self.name)
        if self._takes_results:
            for stream in self.streams:
                stream.url = self.sockets.newest
            self._reader.on_returned(self.channel, self.symbols, result, now_us())

    def _received_by_symbol(self) -> dict[str, int]:
        return {stream.symbol: stream.received for stream in self.streams}

    def _received(self) -> int:
        return sum(stream.received for stream in self.streams)

    def _delay_s(self, error: FeedError) -> float:
        now_s, broken = monotonic_s(), self._signals.broken_books
        if isinstance(error, BookBroken) and broken:
            return self._retries.book_delay_s(broken, now_s)
        at_least_s = error.pause_s if isinstance(error, RateLimited) else 0.0
        if self._unnamed and self._quarantine.refusals >= REFUSED_OFTEN:
            at_least_s = max(at_least_s, REFUSED_OFTEN_PAUSE_S)
        delay_s = self._retries.delay_s(self._received(), now_s, at_least_s=at_least_s)
        # A lost connection ends all its subscriptions: log only one of them.
        report = log.info if self._reader.log_limit.allows(str(error)) else log.debug
        which = {"feed": self._ledger.counts.label, "subscription": self.name, "failures": self.failures}
        report("resubscribing", **which, retry_in_s=round(delay_s, 1), error=str(error)[:300])
        return delay_s

    async def _on_refusal(self, error: FeedError, stop: Stop) -> list[Subscription]:
        """Subscribe again. Streams that deliver then are not refused; a binary split finds the refused one of the rest.

        Only a symbol that the exchange or ccxt names is quarantined.
        """
        blamed = self._blamed(error)
        names_none = isinstance(error, Refused) and error.symbols == frozenset()
        self._force = bool(blamed) and isinstance(error, Refused) and error.symbols is not None
        self._unnamed = str(error) if names_none else ""
        if not blamed:
            self._quarantine.clear()
            await stop.sleep(self._delay_s(error))
            return []
        often = self._quarantine.refused(self._received(), monotonic_s())
        may_be_transient = names_none and len(blamed) == len(self.streams) and not often
        if len(self.streams) > 1 and not may_be_transient:
            log.info("subscription_split", feed=self._ledger.counts.label, subscription=self.name, error=str(error))
            return self._parts(blamed)
        if names_none and self._quarantine.refusals == REFUSALS_TO_QUARANTINE:
            self._ledger.not_subscribed(blamed, str(error))
            where = {"feed": self._ledger.counts.label, "channel": self.channel, "symbols": self.symbols[:3]}
            log.warning("refused_without_a_name", **where, error=str(error)[:300])
        if isinstance(error, ChannelError) or (often and not names_none):
            await self._wait_out_quarantine(blamed[0], error, stop)
        else:
            await stop.sleep(self._delay_s(error))
        return []

    def _blamed(self, error: FeedError) -> list[Stream]:
        """The streams that the error may be about: they have not delivered since they were requested, and the error
        names either their symbol or none."""
        if says_subscribed(str(error)):
            return []
        symbols = error.symbols if isinstance(error, Refused) else None
        return [stream for stream in self._silent() if not symbols or stream.symbol in symbols]

    def _silent(self) -> list[Stream]:
        """The streams that have not delivered since they were requested."""
        return [s for s in self.streams if s.received <= self._received_when_asked.get(s.symbol, 0)]

    def _not_asked_for(self, error: FeedError) -> Sequence[Stream]:
        """The streams that are not subscribed after a call that failed with this error."""
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
                reader=self._reader,
                backoff=self._retries.new_backoff,
                parent=self,
                force=self._force and part is not others,
            )
            for part in (others, blamed[:middle], blamed[middle:])
            if part
        ]

    async def _wait_out_quarantine(self, stream: Stream, error: FeedError, stop: Stop) -> None:
        """Wait until the quarantine is over; a lost socket shortens it."""
        show_quarantined(stream, str(error), self._ledger.counts.label)
        quarantine, signals = self._quarantine, self._signals
        quarantine.begin(monotonic_s())
        signals.has_lost_socket = False
        while not stop.is_set() and (left_s := quarantine.left_s(self._received(), monotonic_s())) > 0:
            signals.any.clear()
            await stop.sleep_or(signals.any, left_s)
            if signals.has_lost_socket:
                quarantine.socket_lost()
        self._retries.settled()


def all_fail(subscriptions: Iterable[Subscription]) -> bool:
    """Whether each subscription that is not quarantined has failed `FAILURES_TO_RECREATE` times in a row."""
    tried = [s.failures for s in subscriptions if not all(stream.quarantined for stream in s.streams)]
    return bool(tried) and min(tried) >= FAILURES_TO_RECREATE
