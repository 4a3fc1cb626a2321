"""Finds the trades a stream missed in pages of a venue's past trades, and proves that none is left out. Pure.

Each page is assumed to be a contiguous run of the venue's trades, in any order and possibly with duplicates. Two pages
that share a trade form one longer run. The pages cover a gap if the first holds a trade stored at one edge of the gap,
each later page shares a trade with the page before it, and the last reaches the trades stored at the other edge. If any
of this fails, the search raises `Unfillable`; it never reports the gap as filled.

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
from ingestd.feeds.past.id_runs import Seen, Window, utc_text
from ingestd.records import Trade
from ingestd.venues.trades import Ids, Paging

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
    that holds no stored trade. `newest_stored`: the newest stored trade from before the window's end; if the venue's
    newest trades end earlier, the window's end is not proved.
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
        self._edges = _Edges(before, after, newest_stored)
        self._needs_overlap = needs_overlap
        self._seen = Seen()
        self._pages = 0
        self._link: frozenset[str] = frozenset()  # ids of the page before
        self._met: set[str] = set()  # ids of edge trades found in pages
        self._leads_us = list(_LEADS_US) if paging is Paging.FROM_TIME and not (before or start) else []
        self._start_id = start.from_id if start else None
        self._request: Request | None = start or self._first_request(before, after)
        self._newest_asked = self._request == Request()  # the next page holds the venue's newest trades
        self._has_newest = False  # the run holds the venue's newest trade
        self._has_first = False  # the run holds the market's very first trade

    def next(self) -> Request | None:
        """The next request; None when the search has ended."""
        return self._request

    @property
    def goes_back(self) -> bool:
        """Whether pages go from the newest trades to the oldest."""
        return self._paging in (Paging.BEFORE_ID, Paging.RECENT)

    def accept(self, page: Sequence[Trade], stored: Mapping[str, Known]) -> list[Trade]:
        """The wanted trades of the page that are not stored yet, oldest first. `stored`: stored trades of its times.

        Raises Unfillable if the page is of another series, shares no trade with the page before it, or is the venue's
        last and does not reach the gap's other edge.
        """
        self._pages += 1
        trades: dict[str, Trade] = {}
        for trade in page:
            trades.setdefault(trade.trade_id, trade)
        known = {**stored, **self._edges.by_id}
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
        self._met |= self._edges.by_id.keys() & trades.keys()
        self._has_newest |= self._newest_asked and bool(trades)
        advanced = self._note_extent(trades)
        self._request = None if self._is_complete() else self._following(trades, advanced)
        self._link = frozenset(trades) or self._link
        return wanted

    def begins_late(self, page: Sequence[Trade]) -> Trade | None:
        """The first trade of the first page, if the page lacks the earlier ids that were requested; else None.

        It may be the market's very first trade, or only the oldest one that the venue still serves.
        """
        if self._start_id is None or self._pages > 1 or self._reaches_start() or not page:
            return None
        first = min(page, key=lambda trade: trade.seq)
        return first if first.seq > self._start_id else None

    def begin_with_first(self) -> None:
        """Note as known from elsewhere that the window holds no trade before those seen."""
        self._has_first = True

    def missing(self) -> list[Window]:
        """The parts of the window that are not proved complete, oldest first. Call it after the search has ended."""
        start_us, end_us = self._window.start_us, self._window.end_us
        times = self._seen.times
        if times is None:
            return [self._window]
        stretches = []
        if not self._reaches_start():
            # Further trades with the oldest time may be missing.
            stretches.append(Window(start_us, min(end_us, max(start_us, times.low) + 1)))
        stretches += [Window(max(start_us, hole.start_us), min(end_us, hole.end_us)) for hole in self._seen.holes()]
        if not self._reaches_end():
            stretches.append(Window(max(start_us, min(end_us, times.high)), end_us))
        return [stretch for stretch in stretches if stretch.start_us < stretch.end_us]

    def covered(self) -> Window:
        """The part of the window that is proved complete so far, at the side where the search began. May be empty."""
        start_us, end_us, missing = self._window.start_us, self._window.end_us, self.missing()
        if not self.goes_back:
            return Window(start_us, min((stretch.start_us for stretch in missing), default=end_us))
        if self._paging is Paging.RECENT:
            return Window(end_us, end_us)
        return Window(max((stretch.end_us for stretch in missing), default=start_us), end_us)

    def proof(self) -> str:
        """A sentence that says what is proved about completeness. Call it after the search has ended."""
        missing, times, ids = self.missing(), self._seen.times, self._seen.ids
        if self._ids is Ids.CONSECUTIVE and ids is not None:
            span, absent = f"{ids.low} to {ids.high}", self._seen.absent
            if not missing:
                return f"complete: the venue's ids are consecutive, and all from {span} were found"
            if absent:
                return f"not proved complete: {absent} of the ids from {span} are in no answer of the venue"
        if not missing and self._edges.are_both:
            return "overlaps the stream at both edges; the venue's ids are not consecutive, so they prove no more"
        if not missing:
            return (
                "covered: the venue's pages follow on each other from before the first moment to the last; "
                "its ids are not consecutive, so they prove no more"
            )
        if times is None:
            return "not proved complete: the venue gave no trade"
        if not self._reaches_start():
            reach = f"do not reach back further than {utc_text(times.low)} UTC"
        else:
            reach = f"end at {utc_text(times.high)} UTC"
        return f"not proved complete: the venue's past trades {reach}"

    def _reaches_start(self) -> bool:
        """Whether a trade from before the window, or the market's first, was seen. Always true with two edges."""
        seen = self._seen
        if self._edges.are_both or self._has_first or (seen.ids is not None and seen.ids.low == 0):
            return True
        # The venue's times may be truncated to milliseconds.
        return seen.times is not None and seen.times.low < self._window.start_us // 1000 * 1000

    def _reaches_end(self) -> bool:
        """Whether a trade from after the window was seen, or the venue's newest trade."""
        if self._met & self._edges.after:
            return True
        if self._seen.times is None:
            return False
        newest_us, stored = self._seen.times.high, self._edges.newest
        if newest_us >= self._window.end_us:
            return True
        # With equal times the id decides: the venue's times may be truncated to seconds.
        return self._has_newest and (stored is None or newest_us > stored.time or stored.trade_id in self._met)

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
        edges = self._edges
        edge, where = (edges.after, "after") if self.goes_back else (edges.before, "before")
        if edge and edge.isdisjoint(trades):
            resumed_us = min((edges.by_id[trade_id].time for trade_id in edges.after), default=0)
            if self.goes_back and all(trade.time < resumed_us for trade in trades.values()):
                raise Behind(_BEHIND)
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
        self._seen.add_times([trade.time for trade in trades.values()])
        advanced = not trades.keys() <= self._link
        if self._ids is Ids.OPAQUE and self._paging not in (Paging.FROM_ID, Paging.BEFORE_ID):
            return advanced
        times = {number: trade.time for trade in trades.values() if (number := _number(trade.trade_id)) is not None}
        if len(times) < len(trades):
            raise Unfillable("a trade id in the venue's answer is no number, which its ids were said to be")
        self._seen.add_ids(times, consecutive=self._ids is Ids.CONSECUTIVE)
        if self._seen.are_scattered:
            raise Unfillable("the venue's ids leave out numbers almost everywhere: they prove nothing")
        return advanced

    def _is_complete(self) -> bool:
        far_edge = self._edges.before if self.goes_back else self._edges.after
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
        ids = self._seen.ids
        assert ids is not None  # the page held trades
        return Request(from_id=ids.high) if self._paging is Paging.FROM_ID else Request(before_id=ids.low + 1)

    def _last_request(self) -> Request | None:
        """The request after the venue's last page: for a window, its newest trades, to confirm that it has no more."""
        if self._edges.before and self.goes_back:
            raise Unfillable("the venue's past trades do not reach back to the last trade before the gap")
        if self._edges.after and not self.goes_back:
            raise Behind(_BEHIND)
        if self.goes_back or self._newest_asked:
            return None
        self._newest_asked = True
        return Request()

    def _is_wanted(self, trade: Trade) -> bool:
        bounds = self._edges.id_bounds
        if self._ids is Ids.OPAQUE or bounds is None:
            return self._window.holds(trade.time)
        number = _number(trade.trade_id)
        return number is not None and bounds[0] <= number <= bounds[1]


class _Edges:
    """Stored trades that the pages must meet: the ids of those `before` and `after` the gap, and all of them by id.

    `newest`: the newest stored trade from before the window's end. `id_bounds`: the smallest and the largest id of the
    two edges; None if an edge is missing or an id is not a number.
    """

    def __init__(self, before: Sequence[Known], after: Sequence[Known], newest: Known | None) -> None:
        self.before = {trade.trade_id for trade in before}
        self.after = {trade.trade_id for trade in after}
        self.newest = newest
        self.by_id = {trade.trade_id: trade for trade in (*before, *after, *([] if newest is None else [newest]))}
        self.are_both = bool(before and after)
        numbers = [number for trade_id in self.before | self.after if (number := _number(trade_id)) is not None]
        is_bounded = self.are_both and len(numbers) == len(self.before | self.after)
        self.id_bounds = (min(numbers), max(numbers)) if is_bounded else None


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
