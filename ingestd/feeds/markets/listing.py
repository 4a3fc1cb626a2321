"""Compares the venue's newest list of markets with the followed symbols. Pure.

A list may lack a market that is still traded, so a list alone ends no stream. A followed symbol stays subscribed, and
its last known market is kept. What a list says of a followed market opens a gap or ends its capture:

| the newest list | a gap opens (`unlisted`) | the gap ends |
|---|---|---|
| calls the market closed (`active` is false) | at once | with the next delivery |
| lacks the market | once none of its streams has delivered for `SILENT_US` | with the next delivery |
| lacks it, and its contract has expired | never: the market is over and no longer followed | - |

If a market returns to the list, its streams that have not delivered since the gap opened are subscribed to again.

A closed or missing market that is silent for `OVER_AFTER_US`, or has expired, counts as over: its gap ends, because
nothing is traded there. If it delivers after all, the same gap ends at that delivery instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ingestd.gaps.causes import OVER_AFTER_US
from ingestd.status import StreamStatus

Markets = Mapping[str, Mapping[str, Any]]

SILENT_US = 3_600_000_000
MOSTLY_THERE = 0.9  # a list with a smaller share of the markets known before is incomplete

CLOSED = "the venue's list of markets calls it closed"
LACKING = "the venue's list of markets lacks it, and nothing comes of it"


@dataclass(frozen=True, slots=True)
class Choice:
    """The symbols to follow, with the markets as last known.

    `closed`, `lacking`: symbols that the newest list calls closed, and symbols that it lacks. `incomplete`: the list
    lacks markets, so load it again soon. `missing_since`: wanted symbols that this list is the first to have, each with
    the time in microseconds of the first list that lacked it.
    """

    symbols: Sequence[str]
    markets: Markets
    closed: Collection[str] = ()
    lacking: Collection[str] = ()
    incomplete: bool = False
    missing_since: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a new list changes for the followed symbols.

    `doubtful`: symbols that may miss records from now on, each with the reason. `back`: doubtful symbols that are
    listed again. `over`: closed or missing symbols that count as over, each time they are judged.
    """

    doubtful: Mapping[str, str]
    back: Sequence[str]
    over: Sequence[str] = ()


class ListingDoubts:
    """Remembers which followed symbols are in doubt. A feed's `StreamLedger` has one, which outlives connections."""

    def __init__(self) -> None:
        self._followed: set[str] = set()
        self._in_doubt: set[str] = set()

    def judge(self, choice: Choice, streams: Iterable[StreamStatus], now: int) -> Judgement:
        """Compare the newest list with the followed symbols, and return what changes. Each doubt is reported once.

        A market that was already closed when it was first followed is not doubtful: nothing has ended.
        """
        heard: dict[str, int] = {}
        for stream in streams if choice.lacking or choice.closed else ():
            at = stream.last_received_at or stream.followed_at or now
            heard[stream.symbol] = max(at, heard.get(stream.symbol, 0))
        followed = set(choice.symbols)
        self._in_doubt |= set(choice.closed) - self._followed  # already closed when first followed: not reported
        doubtful = dict.fromkeys(choice.closed, CLOSED)
        silent = (symbol for symbol in choice.lacking if now - heard.get(symbol, now) >= SILENT_US)
        doubtful.update(dict.fromkeys(silent, LACKING))
        new = {symbol: reason for symbol, reason in doubtful.items() if symbol not in self._in_doubt}
        back = self._in_doubt.intersection(followed).difference(choice.closed, choice.lacking)
        self._in_doubt = (self._in_doubt & followed) - back | new.keys()
        self._followed = followed
        over = [
            symbol
            for symbol in {*choice.closed, *choice.lacking}
            if now - heard.get(symbol, now) >= OVER_AFTER_US or has_expired(symbol, choice.markets.get(symbol), now)
        ]
        return Judgement(new, sorted(back), sorted(over))


def has_expired(symbol: str, market: Mapping[str, Any] | None, now: int) -> bool:
    """Whether the contract has expired. If its market states no expiry, the day in the symbol must be over
    (`BTC/USD:BTC-261225`, `…-261225-60000-C`). https://docs.ccxt.com/#/?id=contract-naming-conventions
    """
    expiry = market.get("expiry") if market is not None else None
    if expiry:
        return now >= int(expiry) * 1000
    day = symbol.partition(":")[2].partition("-")[2][:6]
    if len(day) != 6 or not (day.isascii() and day.isdecimal()):
        return False
    try:
        began = datetime.strptime(day, "%y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return False
    return now >= (int(began.timestamp()) + 86_400) * 1_000_000


def is_poor(known: Collection[str], listed: Collection[str], followed: Iterable[str]) -> bool:
    """Whether a list lacks a followed market, or many of the markets known before."""
    there = len(set(known).intersection(listed))
    return there < MOSTLY_THERE * len(known) or not set(followed) <= set(listed)
