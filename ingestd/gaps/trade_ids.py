"""Where a venue's trade ids have no holes, and what a hole in them says. Pure.

Only for these is a jump inferred; elsewhere ids are random, shared by all markets, or skip numbers by themselves.

| venue (the library's name)  | ids                  | says so                                                    |
|-----------------------------|----------------------|------------------------------------------------------------|
| binance, binanceus: spot    | `t` and `a`, apart   | REST pages both by `fromId` (historicalTrades, aggTrades)  |
| binance…: contracts         | `a` of aggTrade only | recorded: 87 of 87 steps are 1; `t` skips insurance trades |
| coinbaseexchange, coinbase  | `trade_id`, product  | recorded: 97 of 97 steps are 1                             |
| kraken                      | `trade_id`, book     | WebSocket v2: "Sequence number unique per trading book"    |

Not: OKX (one message may stand for several trades), Bybit, Kraken Futures (random), Bitstamp, Bitfinex, Gemini (one
series for all markets).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ingestd.gaps.consecutive import Belief, Consecutiveness
from ingestd.records import Trade, earliest_us, latest_us

_SPOT_AND_AGGREGATES = frozenset({"binance", "binanceus", "binanceusdm", "binancecoinm"})
_EVERY_MARKET = frozenset({"coinbaseexchange", "coinbase", "kraken"})

_MOST_RANGES = 100  # of one frame; beyond that the last ones run together

_BEHIND_TO_RESTART = 100
"""After so many later trades with smaller ids, and none with a larger one, the numbers have begun anew."""


def are_consecutive(exchange: str, symbol: str, options: Mapping[str, Any]) -> bool:
    """Whether this market's trade ids, as the feed asks for them, have no holes. `options` are the library's."""
    if exchange in _EVERY_MARKET:
        return True
    if exchange not in _SPOT_AND_AGGREGATES:
        return False
    return ":" not in symbol or asks_for_aggregates(options)


def asks_for_aggregates(options: Mapping[str, Any]) -> bool:
    """Whether a feed of Binance with these options streams `@aggTrade`, and not `@trade`."""
    stream = options.get("watchTradesForSymbols")
    return isinstance(stream, Mapping) and stream.get("name") == "aggTrade"


@dataclass(frozen=True, slots=True)
class IdReport:
    """The ids that one frame skipped, as (first, last) ranges; none: the frame follows on the one before.

    `belief`: whether the series still looks consecutive.
    """

    complete_until: int
    received_at: int
    ended_at: int
    missing: tuple[tuple[int, int], ...]
    belief: Belief = "believed"
    present: int = 0  # of the ids in the ranges: they are bounded in number, so some run together

    @property
    def count(self) -> int:
        """How many trades are missing."""
        return sum(last - first + 1 for first, last in self.missing) - self.present

    def text(self) -> str:
        """For a person, and for who fetches them."""
        if not self.missing:
            return "by their ids no trade is missing"
        noun = "trade is" if self.count == 1 else "trades are"
        return f"{self.count} {noun} missing: ids {self.missing[0][0]} to {self.missing[-1][1]}"


class IdSeries:
    """The ids of one market. A frame may hold them in any order (snapshots are newest first), so a frame is judged
    when the next one begins, or by `settle`. Ids below the highest are old trades again and say nothing, until only
    such come and their times are new: a market that was listed anew counts from one, or one id was far too large."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._until: Trade | None = None  # until that one the frame before this one is complete
        self._received_at = 0  # of this frame
        self._newest: Trade | None = None  # until that one this frame is complete
        self._last: Trade | None = None
        self._missing: list[tuple[int, int]] = []
        self._asked = False
        self._joined = 0  # ranges of this frame that are in one with another,
        self._present = 0  # and the ids between them, which are there
        self._first: int | None = None
        self._skipped = 0  # since the first
        self._consecutive = Consecutiveness()
        self._behind = 0  # later trades with smaller ids, since
        self._behind_highest: int | None = None  # this one was the highest

    def take(self, trade: Trade) -> IdReport | None:
        """Note a trade; what is to be said of the frame before it, if anything."""
        report = None
        if trade.received_at != self._received_at:
            report = self.settle()
            self._until, self._received_at = self._newest, trade.received_at
        number, highest = trade.seq, self._highest
        self._last = trade
        if highest is None or number > highest:
            if not trade.trade_id.isdecimal():
                return report
            self._highest = number
            self._newest = trade
            if highest is None:
                self._first = number
            elif number > highest + 1:
                self._skip(highest + 1, number - 1)
        elif number == highest:
            self._newest = trade  # a snapshot: nothing came since
        else:
            if self._missing:
                self._found(number)
            self._note_behind(trade)
        return report

    def follows(self, trade: Trade) -> bool:
        """Note the trade if it is the next one and there is nothing to be said; else `take` it. The usual case."""
        if trade.seq - 1 != self._highest or self._missing or self._asked:
            return False
        if trade.received_at != self._received_at:
            self._until, self._received_at = self._newest, trade.received_at
        self._highest = trade.seq
        self._newest = self._last = trade
        return True

    def ask(self) -> None:
        """Report on this frame even if nothing is missing: it ended a gap."""
        self._asked = True

    def settle(self) -> IdReport | None:
        """What is to be said of the newest frame, once."""
        missing, asked, joined, present = tuple(self._missing), self._asked, self._joined, self._present
        self._missing, self._asked, self._joined, self._present = [], False, 0, 0
        last, until = self._last, self._until
        if last is None or (not missing and not (asked and until is not None)):
            return None
        since = until or self._newest or last
        report = IdReport(
            earliest_us(since.time, since.received_at),
            self._received_at,
            latest_us(last.time, last.received_at),
            missing,
            present=present,
        )
        return replace(report, belief=self._judged(len(missing) + joined, report.count)) if missing else report

    @property
    def steps(self) -> int:
        """How many steps from a trade to the next there were since the holes are counted."""
        return self._all_steps - self._consecutive.since

    @property
    def _all_steps(self) -> int:
        return 0 if self._highest is None or self._first is None else self._highest - self._first - self._skipped

    def _judged(self, holes_now: int, skipped_now: int) -> Belief:
        self._skipped += skipped_now
        return self._consecutive.judge(self._all_steps, holes_now)

    @property
    def is_settled(self) -> bool:
        """Whether `settle` has nothing to say."""
        return not self._missing and not self._asked

    def _note_behind(self, trade: Trade) -> None:
        if self._newest is None or trade.time <= self._newest.time or not trade.trade_id.isdecimal():
            return
        self._behind = 1 if self._behind_highest != self._highest else self._behind + 1
        self._behind_highest = self._highest
        if self._behind >= _BEHIND_TO_RESTART:
            self._highest = self._first = trade.seq
            self._newest = trade
            self._skipped = 0
            self._consecutive.begin_anew()

    def _skip(self, first: int, last: int) -> None:
        if len(self._missing) >= _MOST_RANGES:
            before = self._missing.pop()
            self._joined += 1
            self._present += first - before[1] - 1
            first = before[0]
        self._missing.append((first, last))

    def _found(self, number: int) -> None:
        for index, (first, last) in enumerate(self._missing):
            if first <= number <= last:
                left = [(first, number - 1), (number + 1, last)]
                self._missing[index : index + 1] = [(low, high) for low, high in left if low <= high]
                return
