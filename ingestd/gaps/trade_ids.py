"""Says where a venue's trade ids have no holes, and what a hole proves. Pure.

A hole proves something only where the venue's file says `consecutive_ids`; elsewhere ids are random, shared by all
markets, or skip numbers by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ingestd.gaps.consecutive import Belief, Consecutiveness
from ingestd.records import Trade, earliest_us, latest_us
from ingestd.venues.all import facts_of

_MOST_RANGES = 100  # of one frame; beyond that the last ranges are merged

_BEHIND_TO_RESTART = 100
"""After so many later trades with smaller ids, and none with a larger one, the numbers have begun anew."""


def are_consecutive(exchange: str, symbol: str, options: Mapping[str, Any]) -> bool:
    """Whether trade ids of this market are consecutive in the stream that the feed uses. `options` are ccxt's."""
    rule = facts_of(exchange).trades.consecutive_ids
    if rule != "aggregates":
        return rule == "all"
    return ":" not in symbol or asks_for_aggregates(options)


def asks_for_aggregates(options: Mapping[str, Any]) -> bool:
    """Whether a Binance feed with these options subscribes to `@aggTrade` instead of `@trade`."""
    stream = options.get("watchTradesForSymbols")
    return isinstance(stream, Mapping) and stream.get("name") == "aggTrade"


@dataclass(frozen=True, slots=True)
class IdReport:
    """The ids that one frame skipped: `missing` holds them as (first, last) ranges.

    Times are in microseconds. The missing trades came after `complete_until` and before `ended_at`; the frame was
    received at `received_at`. `belief`: whether the series still looks consecutive.
    """

    complete_until: int
    received_at: int
    ended_at: int
    missing: tuple[tuple[int, int], ...]
    belief: Belief = "believed"
    present: int = 0  # ids that are not missing, though inside a range, since ranges were merged

    @property
    def count(self) -> int:
        """How many trades are missing."""
        return sum(last - first + 1 for first, last in self.missing) - self.present

    def text(self) -> str:
        """The missing ids as text, for people and for backfill."""
        if not self.missing:
            return "by their ids no trade is missing"
        noun = "trade is" if self.count == 1 else "trades are"
        return f"{self.count} {noun} missing: ids {self.missing[0][0]} to {self.missing[-1][1]}"


class IdSeries:
    """Judges the trade ids of one market, frame by frame.

    A frame may hold ids in any order (snapshots are newest first), so it is judged when the next frame begins, or by
    `settle`. Ids below the highest are repeated trades and prove nothing. But if only such ids come and their times are
    new, the series has started over: the market was listed again, or one id was far too large."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._until: Trade | None = None  # the frame before is complete until this trade
        self._received_at = 0  # of this frame
        self._newest: Trade | None = None  # this frame is complete until this trade
        self._last: Trade | None = None
        self._missing: list[tuple[int, int]] = []
        self._asked = False
        self._joined = 0  # ranges of this frame that were merged into another,
        self._present = 0  # and the ids between them, which are not missing
        self._first: int | None = None
        self._skipped = 0  # ids, since the first one
        self._consecutive = Consecutiveness()
        self._behind = 0  # trades with later times and smaller ids, counted while the highest id stays
        self._behind_highest: int | None = None  # the highest id of that count

    def take(self, trade: Trade) -> IdReport | None:
        """Note a trade. If it begins a frame, return the report on the frame before, as `settle` does."""
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
        """Note the trade if it has the next id and nothing is to be reported: the usual case. False: call `take`."""
        if trade.seq - 1 != self._highest or self._missing or self._asked:
            return False
        if trade.received_at != self._received_at:
            self._until, self._received_at = self._newest, trade.received_at
        self._highest = trade.seq
        self._newest = self._last = trade
        return True

    def ask(self) -> None:
        """Report on this frame even if no id is missing, since it ended a gap."""
        self._asked = True

    def settle(self) -> IdReport | None:
        """Return the report on the newest frame; None if there is nothing to report, or it was returned before."""
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
        if not missing:
            return report
        self._skipped += report.count
        return replace(report, belief=self._consecutive.judge(self._all_steps, len(missing) + joined))

    @property
    def steps(self) -> int:
        """How many steps from one trade to the next were judged since counting began."""
        return self._all_steps - self._consecutive.since

    @property
    def _all_steps(self) -> int:
        return 0 if self._highest is None or self._first is None else self._highest - self._first - self._skipped

    @property
    def is_settled(self) -> bool:
        """Whether `settle` has nothing to report."""
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
            self._consecutive.reset()

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
