"""Audits order books: compares one at a time with the exchange's own book, which it requests over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Protocol

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.secrets import redact
from ingestd.errors import RateLimited, Refused
from ingestd.feeds.books.states import AUDITED_LEVELS, BookState, Place, Verdict, book_state, compare, has_passed
from ingestd.feeds.recording.recorder import Recorder
from ingestd.feeds.stopping import Stop

log = structlog.get_logger()

AGAIN_S = 5.0  # a book that differs is compared again after this time
LATE_S = 5.0  # how long the stream may be behind the REST interface
REPLY_WITHIN_S = 30.0  # including the time that the library waits for its rate limit
REBUILD_AGAIN_S = 3600.0  # a book that differs again sooner than this is not rebuilt again: it would not help
RATE_LIMIT_PAUSE_S = 60.0
_LOOK_S = 0.05

Book = Mapping[str, Any]


class AuditedBooks(Protocol):
    """Our order books and the exchange's."""

    @property
    def one_series(self) -> bool:
        """Whether the exchange numbers the books of its stream and of its REST interface alike."""

    @property
    def can_forget_books(self) -> bool:
        """Whether a book can be dropped. If not, a difference is only counted and logged."""

    def book(self, symbol: str) -> Book | None:
        """Our book as a ccxt dict; None while it is incomplete or known to be wrong."""

    async def order_book(self, symbol: str, levels: int | None) -> Book:
        """Request the exchange's book over REST. Raises FeedError."""

    async def forget_book(self, symbol: str) -> None:
        """Drop our book, so that it can be rebuilt."""


class BookAuditor:
    """Compares one book every `book_audit_interval_s`, in turn. A book that differs twice at the same level is rebuilt.

    One difference is not enough: the stream does not show a level that changes and changes back within one frame.
    """

    def __init__(self, recorder: Recorder, books: AuditedBooks) -> None:
        self._recorder = recorder
        self._books = books
        self._interval_s = recorder.config.book_audit_interval_s
        self._label = recorder.config.label
        self._levels: int | None = AUDITED_LEVELS
        self._suspected: tuple[str, frozenset[Place]] | None = None
        self._turn: dict[str, None] = {}  # the symbols; the one audited last is at the end
        self._agreed_at: dict[str, int] = {}
        self._rebuilt_at_s: dict[str, float] = {}

    async def run(self, stop: Stop) -> None:
        while await stop.sleep(self._interval_s if self._suspected is None else min(AGAIN_S, self._interval_s)):
            symbol = self._next()
            if symbol is not None:
                await self._audit(symbol, stop)

    def _next(self) -> str | None:
        synced = self._recorder.synced_books()
        if self._suspected is not None:
            if self._suspected[0] in synced:
                return self._suspected[0]
            self._suspected = None  # the suspected book is being rebuilt already, or no longer followed
        for known in set(self._turn).difference(synced):
            self._turn.pop(known)
        self._turn = {symbol: None for symbol in synced if symbol not in self._turn} | self._turn
        return next(iter(self._turn), None)

    async def _audit(self, symbol: str, stop: Stop) -> None:
        self._turn.pop(symbol, None)
        self._turn[symbol] = None
        ours = self._books.book(symbol)
        if ours is None:
            return
        asked_at = now_us()
        states = self._recorder.samples.keep_states(symbol, ours)
        try:
            venue_state = await self._venues_book(symbol, stop)
            if venue_state is not None:
                await self._wait_until_passed(states, venue_state, stop)
        finally:
            self._recorder.samples.keep_no_states()
        if stop.is_set():
            return
        verdict = Verdict("inconclusive")
        if venue_state is not None:
            verdict = compare(tuple(states), venue_state, one_series=self._books.one_series)
        self._recorder.ledger.counts.book_audits[verdict.result] += 1
        if verdict.result == "equal":
            self._agreed_at[symbol] = asked_at
        await self._act(symbol, verdict, stop)

    async def _venues_book(self, symbol: str, stop: Stop) -> BookState | None:
        work = asyncio.wait_for(self._books.order_book(symbol, self._levels), REPLY_WITHIN_S)
        task = await stop.run(work, name=f"audit {symbol}")
        if stop.is_set() or task.cancelled():
            return None
        raised = task.exception()
        if raised is None:
            try:
                return book_state(task.result(), AUDITED_LEVELS)
            except (TypeError, ValueError, KeyError) as unreadable:
                raised = unreadable
        log.info("book_not_audited", feed=self._label, symbol=symbol, error=redact(str(raised))[:300])
        if isinstance(raised, Refused):
            self._levels = None  # the venue does not serve this depth: from now on request its usual depth
        elif isinstance(raised, RateLimited):
            await stop.sleep(raised.retry_after_s or RATE_LIMIT_PAUSE_S)
        return None

    async def _wait_until_passed(self, states: Sequence[BookState], venue_state: BookState, stop: Stop) -> None:
        """Wait until our book is at least as new as the venue's. If that cannot be known, wait for `LATE_S`."""
        until_s = monotonic_s() + LATE_S
        while monotonic_s() < until_s and not (self._books.one_series and has_passed(states, venue_state)):
            if not await stop.sleep(_LOOK_S):
                return

    async def _act(self, symbol: str, verdict: Verdict, stop: Stop) -> None:
        suspected, self._suspected = self._suspected, None
        if verdict.result != "differs":
            return
        wrong = sorted(verdict.wrong)
        log.warning("book_differs", feed=self._label, symbol=symbol, levels=len(wrong), first=str(wrong[:3]))
        may_rebuild = monotonic_s() - self._rebuilt_at_s.get(symbol, -inf) >= REBUILD_AGAIN_S
        if suspected is None or suspected[0] != symbol:
            self._suspected = symbol, verdict.wrong
        elif suspected[1] & verdict.wrong and self._books.can_forget_books and may_rebuild:
            await self._rebuild(symbol, len(wrong), stop)

    async def _rebuild(self, symbol: str, levels: int, stop: Stop) -> None:
        self._rebuilt_at_s[symbol] = monotonic_s()
        work = asyncio.wait_for(self._books.forget_book(symbol), REPLY_WITHIN_S)
        task = await stop.run(work, name=f"forget book {symbol}")
        if stop.is_set():
            return
        if not task.cancelled() and (raised := task.exception()) is not None:
            log.info("book_not_forgotten", feed=self._label, symbol=symbol, error=str(raised)[:300])
        detail = f"{levels} levels differ from the venue's own book"
        self._recorder.book_broken(symbol, "audit", detail, since=self._agreed_at.get(symbol))
