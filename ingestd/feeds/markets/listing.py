"""What the venue's list of markets says of the symbols that are followed. Pure.

A list is one answer of one moment: it may lack a market that goes on trading. So none of them ends a stream. What is
followed stays subscribed, and the library keeps the last known market of it. Three things are a reason to doubt it:

| the newest list | a gap opens (`unlisted`) | it ends |
|---|---|---|
| calls the market closed (`active` is false) | at once | with the next delivery |
| lacks it | once none of its streams has delivered for `SILENT_US` | with the next delivery |
| lacks it, and its contract has expired | never: the market is over and no longer followed | - |

A market that is back in the list and has not delivered since is subscribed to again.

One that is called closed or lacking, and silent for `OVER_US` or after its expiry, is taken for over: its gap ends, as
nothing is traded there. Should it deliver after all, the same gap ends then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ingestd.gaps.causes import OVER_US
from ingestd.status import StreamStatus

Markets = Mapping[str, Mapping[str, Any]]

SILENT_US = 3_600_000_000
MOSTLY_THERE = 0.9
"""A list with less of what was known before is a poor one."""

CLOSED = "the venue's list of markets calls it closed"
LACKING = "the venue's list of markets lacks it, and nothing comes of it"


@dataclass(frozen=True, slots=True)
class Choice:
    """The symbols to follow, with the markets as last known.

    `closed` and `lacking`: those the newest list calls closed, and those it lacks. `incomplete`: it lacks something, so
    it is to be asked for soon. `missing_since`: since when each of these was configured and in no list before this one.
    """

    symbols: Sequence[str]
    markets: Markets
    closed: Collection[str] = ()
    lacking: Collection[str] = ()
    incomplete: bool = False
    missing_since: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """`doubtful`: why each of these may miss something from now on; `back`: listed again after such a doubt; `over`:
    in doubt for so long that nothing is traded there any more."""

    doubtful: Mapping[str, str]
    back: Sequence[str]
    over: Sequence[str] = ()


class ListingDoubts:
    """Which of the followed symbols are in doubt. One for each recorder, which outlives the connections."""

    def __init__(self) -> None:
        self._followed: set[str] = set()
        self._in_doubt: set[str] = set()

    def judge(self, choice: Choice, streams: Iterable[StreamStatus], now: int) -> Judgement:
        """What the newest list makes doubtful, once each time. A market that was closed when it was first followed is
        not: nothing has ended."""
        heard: dict[str, int] = {}
        for stream in streams if choice.lacking or choice.closed else ():
            at = stream.last_received_at or stream.followed_at or now
            heard[stream.symbol] = max(at, heard.get(stream.symbol, 0))
        followed = set(choice.symbols)
        self._in_doubt |= set(choice.closed) - self._followed  # closed from the first: nothing to say
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
            if now - heard.get(symbol, now) >= OVER_US or has_expired(symbol, choice.markets.get(symbol), now)
        ]
        return Judgement(new, sorted(back), sorted(over))


def has_expired(symbol: str, market: Mapping[str, Any] | None, now: int) -> bool:
    """Whether the contract's time is over. Without its market the day in the unified symbol says so
    (`BTC/USD:BTC-261225`, `…-261225-60000-C`), once it is over. https://docs.ccxt.com/#/?id=contract-naming-conventions
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
    """Whether a list lacks a market that is followed, or many of those that were known before."""
    there = len(set(known).intersection(listed))
    return there < MOSTLY_THERE * len(known) or not set(followed) <= set(listed)
