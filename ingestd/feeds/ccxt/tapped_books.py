"""Order books of a tapped exchange: retries REST snapshots until one loads, applies changes in sequence-number order,
and hands a book over only while it is complete.

`TappedBooks` is a mixin for a ccxt.pro exchange class. Nothing here imports ccxt.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import structlog

from ingestd.errors import FeedError, RateLimited
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.tap_state import Tap, started_for
from ingestd.feeds.ccxt.tapped_stores import BookStore, tap_book
from ingestd.gaps.consecutive import HOLES_TO_DOUBT, STEPS_TO_BELIEVE, Consecutiveness
from ingestd.retry import Backoff
from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame

log = structlog.get_logger()

_KEPT_CHANGES = 1000  # buffered for each book while its snapshot fails to load
_NS_IN_MS = 1_000_000
_LOOK_S = 0.02


class _BookLoadClient:
    """Stand-in for a socket while ccxt loads one book: ccxt rejects and closes this instead of the real socket."""

    url = None

    def __init__(self, client: Any) -> None:
        self._client = client
        self.error: Exception | None = None
        self.failure: Exception | None = None

    def resolve(self, book: Any, message_hash: Any) -> Any:
        return self._client.resolve(book, message_hash)

    def reject(self, error: Exception, _message_hash: Any) -> None:
        self.failure = error

    async def close(self) -> None: ...


class TappedBooks:
    """Mixin that loads and updates order books."""

    orderbooks: BookStore
    fetch_order_book: Callable[..., Coroutine[Any, Any, Any]]
    names_in: Callable[[str], frozenset[str]]
    spawn: Callable[..., Any]
    handle_deltas: Callable[[Any, Any], None]
    id: str
    book_facts: CcxtBooks
    _tap: Tap

    def __init__(self, config: dict[str, Any]) -> None:
        self.numbering = self.book_facts.numbering
        self._steps: defaultdict[str, BookSteps] = defaultdict(BookSteps)
        self.loading: dict[str, Backoff] = {}  # symbols whose last attempt to load a snapshot failed
        self._assembling: set[str] = set()  # symbols whose snapshot and buffered changes are being combined
        super().__init__(config)  # type: ignore[call-arg]

    def books_not_loaded(self, symbols: Iterable[str], error: Exception) -> None:
        """Report books that ccxt gave up loading, so that they are requested again."""
        for symbol in symbols:
            book = self.orderbooks.get(symbol)
            if book is not None:
                book.is_whole = False
            self._tap.on_book_not_loaded(symbol, translated(error), 1)
            self._tap.on_book_given_up(symbol)

    async def fetch_rest_order_book_safe(self, symbol: str, limit: Any = None, params: Any = None) -> Any:
        """Fetch a book over REST and retry until it succeeds. ccxt would close the socket after three failures."""
        while started_for.get() is not None:
            try:
                book = await self.fetch_order_book(symbol, limit, params or {})
            except Exception as error:  # noqa: BLE001  # whatever failed may delay only this book
                await self._wait_to_load(symbol, error)
            else:
                if self.book_facts.buffered_here:
                    await self._until_passed(symbol, book["timestamp"])
                if symbol not in self._assembling:
                    self.loading.pop(symbol, None)
                return book
        return await super().fetch_rest_order_book_safe(symbol, limit, params or {})  # type: ignore[misc]

    async def load_order_book(
        self, client: Any, messageHash: Any, symbol: str, limit: Any = None, params: Any = None
    ) -> None:
        """Load as ccxt does and retry. ccxt would close the socket, with all its streams, when one book fails."""
        if symbol in self._assembling:
            return
        self._assembling.add(symbol)
        try:
            while True:
                stand_in = _BookLoadClient(client)
                await super().load_order_book(stand_in, messageHash, symbol, limit, params or {})  # type: ignore[misc]
                if stand_in.failure is None:
                    return
                await self._wait_to_load(symbol, stand_in.failure)
        finally:
            self._assembling.discard(symbol)
            self.loading.pop(symbol, None)

    async def _wait_to_load(self, symbol: str, failure: Exception) -> None:
        """Pause before the next attempt. Cancels the running task if the book is no longer followed."""
        error = translated(failure)
        if not self._tap.follows_book(symbol):
            raise asyncio.CancelledError
        backoff = self.loading.setdefault(symbol, Backoff(base_s=1.0, cap_s=60.0))
        until_s = time.monotonic() + backoff.next_s(error.pause_s if isinstance(error, RateLimited) else 0.0)
        self._tap.on_book_not_loaded(symbol, error, backoff.attempts)
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.sleep(min(left_s, 1.0))
            book = self.orderbooks.get(symbol)
            if book is not None:
                del book.cache[:-_KEPT_CHANGES]

    async def _until_passed(self, symbol: str, whole_at_ms: int) -> None:
        """Wait until the buffered changes are at least as new as a snapshot that has no sequence number."""
        numbering = self.numbering
        assert numbering is not None
        while self._tap.follows_book(symbol):
            book = self.orderbooks.get(symbol)
            changes = book.cache if book is not None else []
            if changes and (numbering.last_number(changes[-1]) or 0) >= (whole_at_ms + 1) * _NS_IN_MS:
                return
            if len(changes) > _KEPT_CHANGES:
                raise FeedError(f"its time, {whole_at_ms} ms, is after that of {_KEPT_CHANGES} changes")
            await asyncio.sleep(_LOOK_S)
        raise asyncio.CancelledError

    def await_changes(self, symbols: Iterable[str]) -> None:
        """Create empty books before subscribing, so that changes are buffered from the start. ccxt would fetch the
        snapshot before it subscribes and lose the changes in between."""
        for symbol in symbols if self.book_facts.buffered_here else ():
            if symbol not in self.orderbooks:
                self.orderbooks[symbol] = self.order_book()

    def orderbook_checksum_message(self, symbol: str) -> Any:
        """Note a wrong book: ccxt asks for this text only when a sequence number or checksum does not match."""
        self.book_is_wrong(symbol)
        return super().orderbook_checksum_message(symbol)  # type: ignore[misc]

    def book_is_wrong(self, symbol: str) -> None:
        """Stop handing the book over until a new snapshot arrives."""
        if self._tap.frame.aside is not None:
            return  # the book is not a followed one
        book = self.orderbooks.get(symbol)
        if book is not None:
            book.is_whole = False
        self._tap.on_book_broken(symbol)

    def get_cache_index(self, snapshot: Any, changes: Any) -> int:
        """Index of the first buffered change that is newer than the snapshot; -1: fetch another snapshot."""
        if self.numbering is None:
            index: int = super().get_cache_index(snapshot, changes)  # type: ignore[misc]
            return index
        numbering, symbol = self.numbering, str(snapshot.get("symbol"))
        verdicts = [numbering.verdict(later, numbering.last_number(earlier)) for earlier, later in pairwise(changes)]
        for verdict in verdicts if "hole" in verdicts else ():  # changes before a hole are dropped, so count them here
            self._count_step(symbol, follows=verdict != "hole", in_turn=True)
        if not self._steps[symbol].are_believed:
            numbering = replace(numbering, consecutive=False)
        start = numbering.start(snapshot.get("nonce"), changes)
        return -1 if start is None else start

    def handle_book_delta(self, book: Any, change: Any) -> None:
        if not self._follows(book, change):
            return
        if self.book_facts.buffered_here:
            for side in ("bids", "asks"):
                self.handle_deltas(book[side], change.get(side) or ())
        else:
            super().handle_book_delta(book, change)  # type: ignore[misc]
        self._note_number(book, change)
        book.was_changed = True

    def handle_order_book_message(self, client: Any, message: Any, *more: Any) -> Any:
        # The arguments and the result of this method differ between ccxt's exchanges.
        if not self.book_facts.changes_in_messages:
            return super().handle_order_book_message(client, message, *more)  # type: ignore[misc]
        (book,) = more
        if self._follows(book, message):
            super().handle_order_book_message(client, message, book)  # type: ignore[misc]
            self._note_number(book, message)
            book.was_changed = True
        return book

    def follows(self, symbol: str, change: Any, client: Any) -> bool:
        """Whether to pass a received change to ccxt, which does not check sequence numbers on this exchange."""
        book = self.orderbooks.get(symbol)
        if book is not None and not book.is_whole and self.book_facts.buffered_here:
            book.cache.append(change)
            if symbol not in self._assembling:
                self.spawn(self.load_order_book, client, f"orderbook:{symbol}", symbol)
            return False
        if book is None or not book.is_whole:
            return True  # ccxt buffers the change, or ignores it for lack of a book
        return self._follows(book, change, symbol, in_turn=book.was_changed)

    def _follows(self, book: Any, change: Any, symbol: str | None = None, *, in_turn: bool = False) -> bool:
        """Whether to apply the change to the book. If an earlier change is missing, the book is rebuilt.

        `in_turn`: numbers must not decrease. Changes that were buffered before the snapshot may be older than it.
        """
        if self.numbering is None:
            return True
        verdict, number = self.numbering.verdict(change, book.number), self.numbering.last_number(change)
        if number is None or book.number is None or (verdict == "old" and not in_turn):
            return verdict == "follows"
        name = symbol or book["symbol"]
        steps = self._steps[name]
        was_judged = steps.are_believed
        self._count_step(name, follows=verdict == "follows", in_turn=book.was_changed)
        if not was_judged:
            book["nonce"] = self.numbering.number_before(change)  # some ccxt exchanges check the nonce themselves
            return True
        if verdict == "hole" or (verdict == "old" and number != book.number):
            book["nonce"], book.number, book.cache = None, None, []  # makes ccxt fetch a new snapshot
            book.is_whole = False
            self.book_is_wrong(name)
            if self.book_facts.buffered_here:
                self.orderbooks[name] = self.order_book()  # ccxt still holds a number of the old book
        return verdict == "follows"

    def _count_step(self, symbol: str, *, follows: bool, in_turn: bool) -> None:
        if self._steps[symbol].count(follows=follows, in_turn=in_turn):
            so = "nearly every change skips numbers, so skipped numbers do not count as lost changes of this book"
            log.warning("book_numbers_not_consecutive", exchange=self.id, symbol=symbol, so=so)

    def _note_number(self, book: Any, change: Any) -> None:
        if self.numbering is not None and (number := self.numbering.last_number(change)) is not None:
            book.number = book["nonce"] = number

    def note_frame(self, book: Any, found: NumberedFrame) -> None:
        """Note the sequence number of a frame that ccxt has applied to the book."""
        book.was_changed = not found.is_whole
        self._note_number(book, found.numbers)

    def order_book(self, snapshot: Any = None, depth: Any = None) -> Any:
        return self._tapped_book(super().order_book(snapshot or {}, depth), snapshot)  # type: ignore[misc]

    def indexed_order_book(self, snapshot: Any = None, depth: Any = None) -> Any:
        return self._tapped_book(super().indexed_order_book(snapshot or {}, depth), snapshot)  # type: ignore[misc]

    def counted_order_book(self, snapshot: Any = None, depth: Any = None) -> Any:
        return self._tapped_book(super().counted_order_book(snapshot or {}, depth), snapshot)  # type: ignore[misc]

    def _tapped_book(self, book: Any, made_of: Any) -> Any:
        return tap_book(book, is_whole=self._tap.frame.is_whole_book or (bool(made_of) and "bids" in made_of))


class BookSteps:
    """Judges from the steps between sequence numbers of a market's book whether the numbers can prove a missing change.

    Steps from a snapshot to its first change are counted apart from steps between two changes: if no first change
    follows its snapshot, snapshots are numbered in another series.
    """

    def __init__(self) -> None:
        self.are_believed = True
        self._counts = [0, 0]
        self._judges = Consecutiveness(), Consecutiveness()
        self._since_hole = 0

    def count(self, *, follows: bool, in_turn: bool) -> bool:
        """Count a step (`in_turn`: between two changes). Return whether this step ends the trust in the numbers."""
        self._counts[in_turn] += 1
        self._since_hole = self._since_hole + 1 if follows else 0
        if follows:
            self.are_believed = self.are_believed or self._since_hole >= STEPS_TO_BELIEVE
            return False
        judge, was_believed = self._judges[in_turn], self.are_believed
        if judge.judge(self._counts[in_turn], 1) != "believed" and judge.holes >= HOLES_TO_DOUBT:
            self.are_believed = False
        return was_believed and not self.are_believed
