"""Finds the trades a stream missed in pages of a venue's past trades, and proves that none is left out. Pure.

Each page is assumed to be a contiguous run of the venue's trades, in any order and possibly with duplicates. Two pages
that share a trade form one longer run. The pages cover a gap if the first holds a trade stored before the gap, each
later page shares a trade with the one before it, and the last holds the trades stored after the gap. If any of this
fails, the search raises `Unfillable`; it never reports the gap as filled.

For a window of exchange times without a gap, the run must hold a trade from before the window, and a trade from its end
or later, or the venue's newest trade. What the run does not reach is `missing`.

Two trades are the same if id, time, price and quantity are equal. So an endpoint with other ids (Binance's aggregate
trades are not its trades) or other grouping fails before any of its trades is handed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ingestd.errors import Behind, Unfillable
from ingestd.feeds.past.id_runs import IdRuns, Window, utc_text
from ingestd.records import Trade
from ingestd.venues.past import Ids, Paging

# A venue's two interfaces may round its own time differently: to whole milliseconds, some to whole seconds.
_PRECISIONS_US = (1_000_000, 1000)
# How far before a window to start, tried in turn, if the venue pages by time: we must see a trade from before it.
_LEADS_US = (60_000_000, 3_600_000_000, 86_400_000_000)
_BEHIND = "the venue's past trades end before the first trade after the gap"


@dataclass(frozen=True, slots=True)
class Known:
    """The fields of a stored trade that identify it. `time` in microseconds, decimals as text."""

    trade_id: str
    time: int
    price: str
    quantity: str


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one page; if all fields are None, for the newest trades. `since_us` in microseconds."""

    from_id: int | None = None
    before_id: int | None = None
    since_us: int | None = None


class TradeSearch:
    """Requests one page after the other, and selects the trades that are not stored yet.

    `before`, `after`: stored trades at the two edges of a gap, each oldest first. Without both, `window` says which
    trades are wanted, and `missing` returns the parts of it that were not proved. `needs_overlap`: refuse a first page
    that holds no stored trade. `newest_stored`: the newest stored trade from before the window's end; a venue whose
    newest trades end before it is behind.
    """

    def __init__(
        self,
        paging: Paging,
        ids: Ids,
        window: Window,
        *,
        before: Sequence[Known] = (),
        after: Sequence[Known] = (),
        start: Request | None = None,
        needs_overlap: bool = True,
        newest_stored: Known | None = None,
    ) -> None:
        self._paging = paging
        self._ids = ids
        self._window = window
        self._before = {trade.trade_id for trade in before}
        self._after = {trade.trade_id for trade in after}
        newest = () if newest_stored is None else (newest_stored,)
        self._edges = {trade.trade_id: trade for trade in (*before, *after, *newest)}
        self._bounds = _id_bounds(before, after) if ids is not Ids.OPAQUE else None
        self._resumed_us = min((trade.time for trade in after), default=0)
        self._needs_overlap = needs_overlap
        self._newest_stored = newest_stored
        self._link: frozenset[str] = frozenset()  # ids of the page before
        self._met: set[str] = set()  # ids of edge trades found in pages
        self._leads_us = list(_LEADS_US) if paging is Paging.FROM_TIME and not (before or start) else []
        self._start_id = start.from_id if start else None
        self._request: Request | None = start or self._first_request(before, after)
        self._newest_asked = self._request == Request()  # the next page holds the venue's newest trades
        self._has_newest = False  # the run holds the venue's newest trade
        self._has_first = False  # the run holds the market's very first trade
        self._runs = IdRuns()  # used only if ids are consecutive
        self._lowest: int | None = None  # lowest id seen, if ids are numbers
        self._highest: int | None = None
        self._oldest_us: int | None = None
        self._newest_us: int | None = None
        self.pages = 0

    def next(self) -> Request | None:
        """The next request; None when the search has ended."""
        return self._request

    @property
    def goes_back(self) -> bool:
        """Whether pages go from the newest trades to the oldest."""
        return self._paging in (Paging.BEFORE_ID, Paging.RECENT)

    @property
    def absent_ids(self) -> int:
        """The number of ids between the first and the last that no page held."""
        return self._runs.absent

    def accept(self, page: Sequence[Trade], stored: Mapping[str, Known]) -> list[Trade]:
        """The wanted trades of the page that are not stored yet, oldest first. `stored`: stored trades of its times.

        Raises Unfillable if the page is of another series, shares no trade with the page before it, or is the venue's
        last and does not reach the gap's other edge.
        """
        self.pages += 1
        trades = _distinct(page)
        known = {**stored, **self._edges}
        overlap = self._require_same_series(trades, known)
        wanted = [trade for trade in trades.values() if trade.trade_id not in known and self._is_wanted(trade)]
        wanted.sort(key=lambda trade: (trade.time, trade.seq))
        if not self._link and self._starts_too_late(trades):
            self._request = Request(since_us=self._window.start_us - self._leads_us.pop(0))
            return wanted
        if not self._link:
            self._require_first_link(trades, overlap)
        elif trades and self._link.isdisjoint(trades):
            if self._newest_asked:
                self._request = None  # the time between the run and the venue's newest trades is not proved
                return wanted
            raise Unfillable("two pages of the venue's answer share no trade, so some may be missing between them")
        self._met |= self._edges.keys() & trades.keys()
        self._has_newest |= self._newest_asked and bool(trades)
        advanced = self._note_extent(trades)
        self._request = None if self._is_complete() else self._following(trades, advanced)
        self._link = frozenset(trades) or self._link
        return wanted

    def begins_late(self, page: Sequence[Trade]) -> Trade | None:
        """The first trade of the first page, if the page lacks the earlier ids that were requested; else None.

        It may be the market's very first trade, or only the oldest one that the venue still serves.
        """
        if self._start_id is None or self.pages > 1 or self._reaches_start() or not page:
            return None
        first = min(page, key=lambda trade: trade.seq)
        return first if first.seq > self._start_id else None

    def begin_with_first(self) -> None:
        """Note as known from elsewhere that the window holds no trade before those seen."""
        self._has_first = True

    def missing(self) -> list[Window]:
        """The parts of the window that are not proved complete, oldest first. Call it after the search has ended."""
        start_us, end_us = self._window.start_us, self._window.end_us
        if self._oldest_us is None or self._newest_us is None:
            return [self._window]
        stretches = []
        if not self._reaches_start():
            # Further trades with the oldest time may be missing.
            stretches.append(Window(start_us, min(end_us, max(start_us, self._oldest_us) + 1)))
        stretches += [Window(max(start_us, hole.start_us), min(end_us, hole.end_us)) for hole in self._runs.holes()]
        if not self._reaches_end():
            stretches.append(Window(max(start_us, min(end_us, self._newest_us)), end_us))
        return [stretch for stretch in stretches if stretch.start_us < stretch.end_us]

    def covered(self) -> Window:
        """The part of the window that is proved complete so far, at the side where the search began. May be empty."""
        start_us, end_us = self._window.start_us, self._window.end_us
        holes = self._runs.holes()
        if self.goes_back:
            if self._oldest_us is None or self._paging is Paging.RECENT or not self._reaches_end():
                return Window(end_us, end_us)
            reached = max([self._oldest_us, *(hole.end_us for hole in holes)])
            return Window(max(start_us, min(end_us, reached)), end_us)
        if self._newest_us is None or not self._reaches_start():
            return Window(start_us, start_us)
        reached = min([self._newest_us, *(hole.start_us for hole in holes)])
        return Window(start_us, max(start_us, min(end_us, reached)))

    def proof(self) -> str:
        """A sentence that says what is proved about completeness. Call it after the search has ended."""
        missing = self.missing()
        if self._ids is Ids.CONSECUTIVE and self._lowest is not None:
            span = f"{self._lowest} to {self._highest}"
            if not missing:
                return f"complete: the venue's ids are consecutive, and all from {span} were found"
            if self.absent_ids:
                return f"not proved complete: {self.absent_ids} of the ids from {span} are in no answer of the venue"
        if not missing and self._before and self._after:
            return "overlaps the stream at both edges; the venue's ids are not consecutive, so they prove no more"
        if not missing:
            return (
                "covered: the venue's pages follow on each other from before the first moment to the last; "
                "its ids are not consecutive, so they prove no more"
            )
        return f"not proved complete: {self._what_is_lacking()}"

    def _what_is_lacking(self) -> str:
        if self._oldest_us is None or self._newest_us is None:
            return "the venue gave no trade"
        if not self._reaches_start():
            return f"the venue's past trades do not reach back further than {utc_text(self._oldest_us)} UTC"
        return f"the venue's past trades end at {utc_text(self._newest_us)} UTC"

    def _reaches_start(self) -> bool:
        """Whether a trade from before the window was seen, or the market's very first trade."""
        if (self._before and self._after) or self._has_first or self._lowest == 0:
            return True
        # The venue's times may be truncated to milliseconds.
        return self._oldest_us is not None and self._oldest_us < self._window.start_us // 1000 * 1000

    def _reaches_end(self) -> bool:
        """Whether a trade from after the window was seen, or the venue's newest trade."""
        if self._after and self._met & self._after:
            return True
        if self._newest_us is None:
            return False
        if self._newest_us >= self._window.end_us:
            return True
        stored = self._newest_stored
        # With equal times the id decides: the venue's times may be truncated to seconds.
        return self._has_newest and (stored is None or self._newest_us > stored.time or stored.trade_id in self._met)

    def _first_request(self, before: Sequence[Known], after: Sequence[Known]) -> Request:
        if self._paging is Paging.RECENT:
            return Request()
        if self._paging is Paging.FROM_TIME:
            return Request(since_us=before[0].time if before else self._window.start_us - self._leads_us.pop(0))
        edge = (after or (None,))[-1] if self._paging is Paging.BEFORE_ID else (before or (None,))[0]
        if edge is None:
            return Request()  # paging back starts with the newest trades; paging forward always has a `start`
        number = _number(edge.trade_id)
        if number is None:
            raise Unfillable(f"the stored trade id {edge.trade_id[:40]!r} is no number, which the venue's pages go by")
        return Request(before_id=number + 1) if self._paging is Paging.BEFORE_ID else Request(from_id=number)

    def _starts_too_late(self, trades: Mapping[str, Trade]) -> bool:
        """Whether to ask again from an earlier time, because the page holds no trade from before the window."""
        if not self._leads_us or self._newest_asked:
            return False
        return all(trade.time >= self._window.start_us // 1000 * 1000 for trade in trades.values())

    def _require_same_series(self, trades: Mapping[str, Trade], known: Mapping[str, Known]) -> int:
        """The number of trades that are known already. Raises Unfillable if a known id belongs to another trade."""
        shared = trades.keys() & known.keys()
        precision_us = max(
            _precision_us(trade.time for trade in trades.values()),
            _precision_us(known[trade_id].time for trade_id in shared),
        )
        for trade_id in shared:
            if not _is_same(trades[trade_id], known[trade_id], precision_us):
                raise Unfillable(
                    f"the venue's past trades are another series than the stream's: the id {trade_id[:40]} "
                    f"is another trade there"
                )
        return len(shared)

    def _require_first_link(self, trades: Mapping[str, Trade], overlap: int) -> None:
        edge = self._after if self.goes_back else self._before
        if edge and edge.isdisjoint(trades):
            if self.goes_back and all(trade.time < self._resumed_us for trade in trades.values()):
                raise Behind(_BEHIND)
            where = "after" if self.goes_back else "before"
            raise Unfillable(
                f"none of the trades stored {where} the gap is in the venue's answer: its past trades do not reach "
                "back so far, or their ids are another series than the stream's"
            )
        if self._needs_overlap and not overlap and (trades or self._newest_asked):
            raise Unfillable("no stored trade is in the venue's answer, so its ids may be another series")

    def _note_extent(self, trades: Mapping[str, Trade]) -> bool:
        """Note the times and ids of the page. Return whether it held trades that the page before did not."""
        if not trades:
            return False
        oldest = min(trade.time for trade in trades.values())
        newest = max(trade.time for trade in trades.values())
        new_ids = trades.keys() - self._link
        self._oldest_us = oldest if self._oldest_us is None else min(oldest, self._oldest_us)
        self._newest_us = newest if self._newest_us is None else max(newest, self._newest_us)
        if self._ids is not Ids.OPAQUE or self._paging in (Paging.FROM_ID, Paging.BEFORE_ID):
            self._note_ids(trades)
        return bool(new_ids)

    def _note_ids(self, trades: Mapping[str, Trade]) -> None:
        times = {number: trade.time for trade in trades.values() if (number := _number(trade.trade_id)) is not None}
        if len(times) < len(trades):
            raise Unfillable("a trade id in the venue's answer is no number, which its ids were said to be")
        low, high = min(times), max(times)
        self._lowest = low if self._lowest is None else min(low, self._lowest)
        self._highest = high if self._highest is None else max(high, self._highest)
        if self._ids is Ids.CONSECUTIVE:
            self._runs.add(times)
            if self._runs.are_scattered:
                raise Unfillable("the venue's ids leave out numbers almost everywhere: they prove nothing")

    def _is_complete(self) -> bool:
        far_edge = self._before if self.goes_back else self._after
        if far_edge:
            # Forward: all trades received first after the gap. Backward: any one of those received last before it.
            return bool(self._met & far_edge) if self.goes_back else far_edge <= self._met
        return self._reaches_start() if self.goes_back else self._reaches_end()

    def _following(self, trades: Mapping[str, Trade], advanced: bool) -> Request | None:
        if not advanced or (self._newest_asked and not self.goes_back) or self._paging is Paging.RECENT:
            return self._last_request()
        self._newest_asked = False
        if self._paging is Paging.FROM_TIME:
            return Request(since_us=max(trade.time for trade in trades.values()))
        if self._paging is Paging.FROM_ID:
            return Request(from_id=self._highest)
        return Request(before_id=None if self._lowest is None else self._lowest + 1)

    def _last_request(self) -> Request | None:
        """The request after the venue's last page: for a window, its newest trades, to confirm that it has no more."""
        if self._before and self.goes_back:
            raise Unfillable("the venue's past trades do not reach back to the last trade before the gap")
        if self._after and not self.goes_back:
            raise Behind(_BEHIND)
        if self.goes_back or self._newest_asked:
            return None
        self._newest_asked = True
        return Request()

    def _is_wanted(self, trade: Trade) -> bool:
        if self._bounds is not None:
            number = _number(trade.trade_id)
            return number is not None and self._bounds[0] <= number <= self._bounds[1]
        return self._window.holds(trade.time)


def _distinct(page: Sequence[Trade]) -> dict[str, Trade]:
    trades: dict[str, Trade] = {}
    for trade in page:
        trades.setdefault(trade.trade_id, trade)
    return trades


def _precision_us(times: Iterable[int]) -> int:
    """The precision of these times: a second or a millisecond. Times of the same trades may differ by that much."""
    known = list(times)
    return next((unit for unit in _PRECISIONS_US if all(time % unit == 0 for time in known)), _PRECISIONS_US[-1])


def _is_same(trade: Trade, known: Known, precision_us: int) -> bool:
    if abs(trade.time - known.time) > precision_us:
        return False
    try:
        return Decimal(trade.price) == Decimal(known.price) and Decimal(trade.quantity) == Decimal(known.quantity)
    except InvalidOperation:
        return False


def _number(trade_id: str) -> int | None:
    return int(trade_id) if trade_id.isascii() and trade_id.isdecimal() else None


def _id_bounds(before: Sequence[Known], after: Sequence[Known]) -> tuple[int, int] | None:
    """The smallest and the largest id of the two edges; None if an edge is missing or an id is not a number."""
    numbers = [_number(trade.trade_id) for trade in (*before, *after)]
    whole = [number for number in numbers if number is not None]
    return (min(whole), max(whole)) if before and after and len(whole) == len(numbers) else None
