"""Finding the trades a stream missed in pages of a venue's past trades, and proving that none is left out. Pure.

Every page is taken for a contiguous run of the venue's trades, in whatever order and with whatever repeats it comes.
A run that shares a trade with the run before it makes one longer run. So when the first run holds a trade that was
stored before the gap, every further one overlaps the one before it, and the last one holds what was stored after the
gap, then the union covers the gap. Where one of these fails the answer is `Unfillable`, never a filled gap.

A shared trade is the same id with the same time, price and quantity: an endpoint that speaks another id series
(Binance's aggregate trades are not its trades) or groups trades otherwise fails here, before any of it is handed over.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from ingestd.errors import FeedError
from ingestd.records import Trade

# A venue's two interfaces may round its own time differently.
_SAME_TIME_US = 1000
_BEHIND = "the venue's past trades end before the first trade after the gap"


class Unfillable(FeedError):
    """What the venue serves cannot be proved to be what the stream missed; the message says why."""


class Behind(Unfillable):
    """The venue's past trades end before the stream's first trade after the gap: they may only be late."""


class Paging(enum.Enum):
    """How a venue's past trades are asked for."""

    FROM_ID = "from id"  # the oldest ones with this id or a later one
    BEFORE_ID = "before id"  # the newest ones with a smaller id
    FROM_TIME = "from time"  # the oldest ones since this time
    RECENT = "recent"  # the newest ones, and no others


class Ids(enum.Enum):
    """What the ids of a series say about what lies between two of them."""

    CONSECUTIVE = "consecutive"  # each is the one before plus one: a missing one shows
    INCREASING = "increasing"  # later trades have larger ones
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class Known:
    """A stored trade, as far as it tells one trade from another. `time` in microseconds, decimals as text."""

    trade_id: str
    time: int
    price: str
    quantity: str


@dataclass(frozen=True, slots=True)
class Request:
    """The next page to ask for; all None: the newest trades. `since_us` in microseconds."""

    from_id: int | None = None
    before_id: int | None = None
    since_us: int | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """The exchange times `[start_us, end_us)` that are wanted, in microseconds."""

    start_us: int
    end_us: int

    def holds(self, time_us: int) -> bool:
        return self.start_us <= time_us < self.end_us


class TradeSearch:
    """Asks for one page after the other, and takes from each what is not stored yet.

    `before` and `after` are stored trades at the two edges of a gap, each oldest first. Without them (`window` says
    what is wanted) nothing but the venue's word says where its trades begin and end. `needs_overlap`: refuse a first
    page in which no stored trade is found.
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
    ) -> None:
        self._paging = paging
        self._ids = ids
        self._window = window
        self._before = {trade.trade_id for trade in before}
        self._after = {trade.trade_id for trade in after}
        self._edges = {trade.trade_id: trade for trade in (*before, *after)}
        self._bounds = _id_bounds(before, after) if ids is not Ids.OPAQUE else None
        self._resumed_us = min((trade.time for trade in after), default=0)
        self._needs_overlap = needs_overlap
        self._link: frozenset[str] = frozenset()  # ids of the page before
        self._met: set[str] = set()  # of the edges
        self._request: Request | None = start or self._first_request(before, after)
        self._lowest: int | None = None  # of the ids seen, where they are numbers
        self._highest: int | None = None
        self._oldest_us: int | None = None
        self._newest_us: int | None = None
        self.pages = 0
        self.absent_ids = 0  # numbers between the first and the last id that no page had

    def next(self) -> Request | None:
        """The page to ask for next; None when the search has ended."""
        return self._request

    @property
    def first_time_us(self) -> int | None:
        """The oldest time seen, in microseconds."""
        return self._oldest_us

    @property
    def last_time_us(self) -> int | None:
        """The newest time seen, in microseconds."""
        return self._newest_us

    @property
    def goes_back(self) -> bool:
        """Whether the pages come from the newest trades to the oldest."""
        return self._paging in (Paging.BEFORE_ID, Paging.RECENT)

    def accept(self, page: Sequence[Trade], stored: Mapping[str, Known]) -> list[Trade]:
        """What of the page is wanted and not among the `stored` trades of its times, oldest first.

        Raises Unfillable when the page is of another series, does not follow on the one before it, or is the venue's
        last and does not reach the gap's other edge.
        """
        self.pages += 1
        trades = _distinct(page)
        known = {**stored, **self._edges}
        overlap = self._require_same_series(trades, known)
        if self.pages == 1:
            self._require_first_link(trades, overlap)
        elif trades and self._link.isdisjoint(trades):
            raise Unfillable("two pages of the venue's answer share no trade, so some may be missing between them")
        self._met |= self._edges.keys() & trades.keys()
        advanced = self._note_extent(trades)
        self._request = None if self._is_complete() else self._following(trades, advanced)
        self._link = frozenset(trades)
        missing = (trade for trade in trades.values() if trade.trade_id not in known and self._is_wanted(trade))
        return sorted(missing, key=lambda trade: (trade.time, trade.seq))

    def proof(self) -> str:
        """What is known about completeness once the search has ended, as a sentence."""
        if self._ids is Ids.CONSECUTIVE and self._lowest is not None and self._highest is not None:
            span = f"{self._lowest} to {self._highest}"
            if self.absent_ids == 0:
                return f"complete: the venue's ids are consecutive, and all from {span} were found"
            return f"not proved complete: {self.absent_ids} of the ids from {span} are in no answer of the venue"
        if self._before and self._after:
            return "overlaps the stream at both edges; the venue's ids are not consecutive, so they prove no more"
        return "not proved complete: it is what the venue had"

    @property
    def is_proved_by_ids(self) -> bool:
        """Whether consecutive ids leave no room for another trade."""
        return self._ids is Ids.CONSECUTIVE and self._lowest is not None and self.absent_ids == 0

    def _first_request(self, before: Sequence[Known], after: Sequence[Known]) -> Request:
        if self._paging is Paging.RECENT:
            return Request()
        if self._paging is Paging.FROM_TIME:
            return Request(since_us=before[0].time if before else self._window.start_us)
        edge = (after or (None,))[-1] if self._paging is Paging.BEFORE_ID else (before or (None,))[0]
        if edge is None:
            return Request()  # a venue that goes back starts with its newest; one that goes forward is given a start
        number = _number(edge.trade_id)
        if number is None:
            raise Unfillable(f"the stored trade id {edge.trade_id[:40]!r} is no number, which the venue's pages go by")
        return Request(before_id=number + 1) if self._paging is Paging.BEFORE_ID else Request(from_id=number)

    def _require_same_series(self, trades: Mapping[str, Trade], known: Mapping[str, Known]) -> int:
        """How many of the trades are known. Raises Unfillable when one of them is not what is known under its id."""
        shared = trades.keys() & known.keys()
        for trade_id in shared:
            if not _is_same(trades[trade_id], known[trade_id]):
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
        if self._needs_overlap and not overlap:
            raise Unfillable("no stored trade is in the venue's answer, so its ids may be another series")

    def _note_extent(self, trades: Mapping[str, Trade]) -> bool:
        """Whether the page went beyond what was seen before, in the direction of the search."""
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
        numbers = [_number(trade_id) for trade_id in trades]
        whole = [number for number in numbers if number is not None]
        if len(whole) < len(numbers):
            raise Unfillable("a trade id in the venue's answer is no number, which its ids were said to be")
        low, high = min(whole), max(whole)
        self.absent_ids += high - low + 1 - len(whole)
        if self._lowest is not None and self._highest is not None:
            # Pages overlap, so what lies between them was counted in one of them.
            low, high = min(low, self._lowest), max(high, self._highest)
        self._lowest, self._highest = low, high

    def _is_complete(self) -> bool:
        far_edge = self._before if self.goes_back else self._after
        if far_edge:
            # All of what the stream received first, but any of what it received last: that is the one trade needed.
            return bool(self._met & far_edge) if self.goes_back else far_edge <= self._met
        if self._oldest_us is None or self._newest_us is None:
            return False
        if self.goes_back:
            return self._oldest_us < self._window.start_us
        return self._newest_us >= self._window.end_us

    def _following(self, trades: Mapping[str, Trade], advanced: bool) -> Request | None:
        if not advanced or self._paging is Paging.RECENT:
            self._require_reached()
            return None
        if self._paging is Paging.FROM_TIME:
            return Request(since_us=max(trade.time for trade in trades.values()))
        if self._paging is Paging.FROM_ID:
            return Request(from_id=self._highest)
        return Request(before_id=None if self._lowest is None else self._lowest + 1)

    def _require_reached(self) -> None:
        """The venue has no more. Without an edge to reach that is an end like any other."""
        if self._before and self.goes_back:
            raise Unfillable("the venue's past trades do not reach back to the last trade before the gap")
        if self._after and not self.goes_back:
            raise Behind(_BEHIND)

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


def _is_same(trade: Trade, known: Known) -> bool:
    if abs(trade.time - known.time) > _SAME_TIME_US:
        return False
    try:
        return Decimal(trade.price) == Decimal(known.price) and Decimal(trade.quantity) == Decimal(known.quantity)
    except InvalidOperation:
        return False


def _number(trade_id: str) -> int | None:
    return int(trade_id) if trade_id.isascii() and trade_id.isdecimal() else None


def _id_bounds(before: Sequence[Known], after: Sequence[Known]) -> tuple[int, int] | None:
    """The smallest and the largest id of the two edges; None without both, or where an id is no number."""
    numbers = [_number(trade.trade_id) for trade in (*before, *after)]
    whole = [number for number in numbers if number is not None]
    return (min(whole), max(whole)) if before and after and len(whole) == len(numbers) else None
