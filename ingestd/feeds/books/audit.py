"""One order book at a time against the venue's own over REST."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import structlog

from ingestd.clock import monotonic_s, now_us
from ingestd.config.secrets import redact
from ingestd.errors import RateLimited, Refused
from ingestd.feeds.books.states import (
    AUDITED_LEVELS,
    BookState,
    Place,
    Result,
    Verdict,
    book_state,
    compare,
    has_passed,
)
from ingestd.feeds.stopping import Stop
from ingestd.status import FeedStatus

log = structlog.get_logger()

AGAIN_S = 5.0  # after a difference: whether it is still there
LATE_S = 5.0  # how long the stream may be behind the REST interface
REPLY_WITHIN_S = 30.0  # the library's pace included
REBUILD_AGAIN_S = 3600.0  # a book that differs although it was begun anew is not helped by doing so once more
RATE_LIMIT_PAUSE_S = 60.0
_LOOK_S = 0.05

Book = Mapping[str, Any]


class AuditedBooks(Protocol):
    """The books of a feed, and who is told that one is wrong."""

    @property
    def counts(self) -> FeedStatus:
        """Where audits are counted."""

    def books_in_step(self) -> list[str]:
        """The symbols whose book has been delivered and is not being begun anew."""

    def keep_states(self, symbol: str, now: Book) -> Sequence[BookState]:
        """The states of this one book from now on, the oldest first. Emptied when it is begun anew."""

    def keep_no_states(self) -> None:
        """Let them go."""

    def book_broken(self, symbol: str, reason: str, detail: str, *, since: int | None = None) -> None:
        """This book is wrong (since then, if known): it is begun anew."""


class BookAuditor:
    """Compares every `interval_s`, the symbols in turn; one that differs twice at the same level is begun anew.

    `fetch(symbol, levels)` is the venue's book (it raises FeedError), `book(symbol)` ours, `forget(symbol)` lets ours
    go (None: there is no way on this venue, and a difference is only counted and logged). Once is not
    enough: a level that changes and changes back within one frame is not seen in the stream.
    """

    def __init__(
        self,
        *,
        fetch: Callable[[str, int | None], Coroutine[Any, Any, Book]],
        forget: Callable[[str], Coroutine[Any, Any, None]] | None,
        book: Callable[[str], Book | None],
        recorder: AuditedBooks,
        interval_s: float,
        one_series: bool,
    ) -> None:
        self._fetch = fetch
        self._forget = forget
        self._book = book
        self._recorder = recorder
        self._interval_s = interval_s
        self._one_series = one_series
        self._levels: int | None = AUDITED_LEVELS
        self._suspected: tuple[str, frozenset[Place]] | None = None
        self._turn: dict[str, None] = {}  # the symbols, the one that was audited last at the end
        self._agreed_at: dict[str, int] = {}
        self._rebuilt_at_s: dict[str, float] = {}

    async def run(self, stop: Stop) -> None:
        """Audit until the stop."""
        while await stop.sleep(self._interval_s if self._suspected is None else min(AGAIN_S, self._interval_s)):
            symbol = self._next()
            if symbol is not None:
                await self._audit(symbol, stop)

    def _next(self) -> str | None:
        in_step = self._recorder.books_in_step()
        if self._suspected is not None:
            if self._suspected[0] in in_step:
                return self._suspected[0]
            self._suspected = None  # it is being begun anew already
        for known in set(self._turn).difference(in_step):
            self._turn.pop(known)
        self._turn = {symbol: None for symbol in in_step if symbol not in self._turn} | self._turn
        return next(iter(self._turn), None)

    async def _audit(self, symbol: str, stop: Stop) -> None:
        self._turn.pop(symbol, None)
        self._turn[symbol] = None
        ours = self._book(symbol)
        if ours is None:
            return
        asked_at = now_us()
        states = self._recorder.keep_states(symbol, ours)
        try:
            venue = await self._venues_book(symbol, stop)
            if venue is not None:
                await self._until_passed(states, venue, stop)
        finally:
            self._recorder.keep_no_states()
        if stop.is_set():
            return
        unknown = Verdict("inconclusive")
        verdict = compare(tuple(states), venue, one_series=self._one_series) if venue is not None else unknown
        self._count(verdict.result)
        await self._act(symbol, verdict, asked_at, stop)

    async def _venues_book(self, symbol: str, stop: Stop) -> BookState | None:
        task = await stop.run(self._within(self._fetch(symbol, self._levels)), name=f"audit {symbol}")
        if stop.is_set() or task.cancelled():
            return None
        raised = task.exception()
        if raised is None:
            try:
                return book_state(task.result(), AUDITED_LEVELS)
            except (TypeError, ValueError, KeyError) as unreadable:
                raised = unreadable
        log.info("book_not_audited", feed=self._recorder.counts.label, symbol=symbol, error=redact(str(raised))[:300])
        if isinstance(raised, Refused):
            self._levels = None  # a venue that serves other depths only: its usual one
        elif isinstance(raised, RateLimited):
            await stop.sleep(raised.retry_after_s or RATE_LIMIT_PAUSE_S)
        return None

    async def _until_passed(self, states: Sequence[BookState], venue: BookState, stop: Stop) -> None:
        """Until our book is at least as new as the venue's, as far as that can be known."""
        until_s = monotonic_s() + LATE_S
        while monotonic_s() < until_s and not (self._one_series and has_passed(states, venue)):
            if not await stop.sleep(_LOOK_S):
                return

    async def _act(self, symbol: str, verdict: Verdict, asked_at: int, stop: Stop) -> None:
        earlier = self._suspected[1] if self._suspected is not None and self._suspected[0] == symbol else None
        self._suspected = None
        if verdict.result == "equal":
            self._agreed_at[symbol] = asked_at
        if verdict.result != "differs":
            return
        wrong = sorted(verdict.wrong)
        log.warning(
            "book_differs", feed=self._recorder.counts.label, symbol=symbol, levels=len(wrong), first=str(wrong[:3])
        )
        if earlier is None:
            self._suspected = symbol, verdict.wrong
        elif earlier & verdict.wrong and self._forget is not None and self._may_rebuild(symbol):
            await self._rebuild(symbol, self._forget(symbol), len(wrong), stop)

    def _may_rebuild(self, symbol: str) -> bool:
        at_s = self._rebuilt_at_s.get(symbol)
        return at_s is None or monotonic_s() - at_s >= REBUILD_AGAIN_S

    async def _rebuild(self, symbol: str, forgetting: Coroutine[Any, Any, None], levels: int, stop: Stop) -> None:
        self._rebuilt_at_s[symbol] = monotonic_s()
        task = await stop.run(self._within(forgetting), name=f"forget book {symbol}")
        if stop.is_set():
            return
        if not task.cancelled() and (raised := task.exception()) is not None:
            log.info("book_not_unsubscribed", feed=self._recorder.counts.label, symbol=symbol, error=str(raised)[:300])
        detail = f"{levels} levels differ from the venue's own book"
        self._recorder.book_broken(symbol, "audit", detail, since=self._agreed_at.get(symbol))

    def _count(self, result: Result) -> None:
        self._recorder.counts.book_audits[result] += 1

    @staticmethod
    async def _within(work: Coroutine[Any, Any, Any]) -> Any:
        async with asyncio.timeout(REPLY_WITHIN_S):
            return await work
