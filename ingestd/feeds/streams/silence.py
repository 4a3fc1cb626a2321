"""One stream that falls silent while its socket lives: when it is to be asked about, and what the answer means. Pure.

A stream speaks as often as it did until now; who is silent for much longer is asked about at the venue. Three things
can come of it. Nothing happened since the last record: that is a proof, and the next question waits twice as long.
Something happened, and a moment later it still has not been delivered: the stream is dead, it has a gap, and is asked
for anew. The venue cannot say: then only a silence far beyond all that was usual is believed to be one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

from ingestd.records import BookSnapshot, MarketRecord, Tick, Trade
from ingestd.venues.newest import Best, Word

SETTLE_S = 2.0  # how long what the venue tells over REST may still be under way on the socket
REST_BEHIND_US = 5_000_000  # how old what the venue tells may be: a proof reaches to that long before the question
ASK_AFTER_S = 300.0  # asked about after so long a silence at the latest
ASK_AGAIN_AT_MOST_S = 900.0  # between two questions about a stream that stays silent
_USUAL = 4.0  # so many usual intervals are no reason to ask yet
_FAR_BEYOND = 30.0  # so many are a dead stream, where nobody can be asked
_KNOWN_BY = 20  # deliveries that make an interval a usual one
_WEIGHT = 0.1  # of the newest delivery in the usual interval
_FADES = 0.98  # the longest silence, with each delivery
_UNWATCHED_S = 5.0  # between two looks: the process was stopped, its loop held up, or the socket gone
_WELL_AFTER = 10.0  # times stale_after_s, after it was asked for anew

Verdict = Literal["proved", "same", "newer", "unknown"]
"""`proved`: nothing happened since the stream's newest record. `same`: nothing since an earlier answer of the venue.
`newer`: something did. `unknown`: the answer does not tell."""
Act = Literal["nothing", "ask_venue", "dead"]


class Newest(Protocol):
    """What a venue says over REST of the newest events of its markets. Calls raise FeedError."""

    @property
    def is_ready(self) -> bool:
        """Whether anything can be asked."""

    def kind(self, symbol: str) -> str:
        """`spot`, `linear`, `inverse` or another type: what is asked about together."""

    def has_bulk(self, kind: str) -> bool:
        """Whether `trades_of_all` knows a way for this kind of market."""

    async def trades_of_all(self, kind: str, symbols: Collection[str]) -> Mapping[str, Word]:
        """What the venue says of the trades of these markets, in one request; a market it does not name is left out."""

    async def trade(self, symbol: str) -> Word | None:
        """The newest trade of one market; None: the venue names none."""

    async def best(self, symbols: Collection[str]) -> Mapping[str, Word]:
        """The best bid and ask of these markets, which are of one kind: in one request where the venue has it."""

    def has_best_of_many(self) -> bool:
        """Whether `best` takes more than one market."""


class Expectation:
    """How often one stream delivers, and what is known of its silence. Seconds are of a monotonic clock.

    16 attributes: all are facts of one stream, and a feed keeps thousands of these, so they are one object.
    """

    __slots__ = (
        "_asked_anew_s",
        "_deaths",
        "_deliveries",
        "_looked_s",
        "_stale_after_s",
        "_suspected_s",
        "asked_anew",
        "due_s",
        "heard_s",
        "is_proved",
        "is_suspected",
        "longest_s",
        "questions",
        "received",
        "usual_s",
        "word",
    )

    def __init__(self, stale_after_s: float, received: int, now_s: float) -> None:
        self._stale_after_s = stale_after_s
        self._deliveries = 0
        self._deaths = 0  # without a time of good health between them
        self._asked_anew_s = self._suspected_s = 0.0
        self._looked_s = now_s
        self.received = received
        self.heard_s = now_s
        self.usual_s: float | None = None  # between two of its records
        self.longest_s = 0.0  # of its silences, of late
        self.questions = 0  # since it was heard
        self.asked_anew = 0  # since it was heard
        self.is_suspected = False
        self.word: Word | None = None  # an earlier one of the venue, since which it has said nothing
        self.is_proved = False  # nothing was missing when the venue said that
        self.due_s = now_s + stale_after_s

    @property
    def limit_s(self) -> float:
        """After how long a silence it is asked about."""
        usual_s, limit_s = self.usual_s, self._stale_after_s
        if usual_s is not None and usual_s * _USUAL > limit_s:
            limit_s = max(limit_s, min(_USUAL * usual_s, ASK_AFTER_S))
        if not self._deaths:
            return limit_s
        return min(limit_s * 2.0 ** min(self._deaths, 10), max(limit_s, ASK_AGAIN_AT_MOST_S))

    def silent_s(self, now_s: float) -> float:
        """How long it has said nothing."""
        return now_s - self.heard_s

    def urgency(self, now_s: float) -> float:
        """How far beyond its usual interval: who should have spoken most often is asked about first.

        One that was found quiet already is less urgent, and so is one of which nothing usual is known.
        """
        usual_s = ASK_AFTER_S if self.usual_s is None else max(self.usual_s, 0.001)
        return self.silent_s(now_s) / usual_s / 4.0 ** min(self.questions, 20)

    def look(self, received: int, now_s: float, *, excused: bool = False) -> Act:
        """Its counter now. To be called about once a second. `excused`: nobody listened since the last time."""
        unwatched_s, self._looked_s = now_s - self._looked_s, now_s
        if received != self.received:
            self._heard(received, now_s)
            return "nothing"
        if excused or unwatched_s > _UNWATCHED_S:
            self.heard_s += unwatched_s
            self.due_s += unwatched_s
            self._suspected_s += unwatched_s
        if self.is_suspected:
            return "dead" if now_s - self._suspected_s >= SETTLE_S else "nothing"
        return "ask_venue" if now_s >= self.due_s else "nothing"

    def note(self, word: Word) -> None:
        """Keep this answer to compare the next one with."""
        self.word, self.is_proved = word, False

    def told(self, verdict: Verdict, word: Word, now_s: float) -> None:
        """What the venue says of it. That something is newer is only believed if it is still silent a moment later."""
        if verdict == "newer":
            self.is_suspected, self._suspected_s = True, now_s
            self.note(word)
            return
        if verdict != "same":
            self.word, self.is_proved = word, verdict == "proved"
        self._wait(now_s)

    def untold(self, now_s: float, *, others_speak: bool) -> bool:
        """The venue cannot be asked. Whether the stream is dead by its own past and by the other streams of its market.

        `others_speak`: the market is traded meanwhile.
        """
        usual_s, silent_s = self.usual_s, self.silent_s(now_s)
        if usual_s is not None and self._deliveries >= _KNOWN_BY:
            usual_s *= _USUAL if others_speak else _FAR_BEYOND
            least_s = self._stale_after_s * (1 if others_speak else 2)
            if silent_s >= max(usual_s, 3 * self.longest_s, least_s) * 2 ** min(self._deaths + self.asked_anew, 10):
                return True
        self._wait(now_s)
        return False

    def is_asked_anew(self, now_s: float) -> int:
        """The stream is asked for again: how often by now. The next question waits until it could have answered."""
        self.asked_anew += 1
        self._deaths += self.asked_anew == 1
        self._asked_anew_s = now_s
        self.is_suspected = False
        wait_s = max(self._stale_after_s, 2 * SETTLE_S) * 2 ** min(self.asked_anew - 1, 10)
        self.due_s = now_s + min(wait_s, max(ASK_AGAIN_AT_MOST_S, self._stale_after_s))
        return self.asked_anew

    def postpone(self, now_s: float, seconds: float) -> None:
        """The question had no answer: ask later."""
        self.due_s = max(self.due_s, now_s + seconds)

    def _wait(self, now_s: float) -> None:
        self.questions += 1
        wait_s = self.limit_s * 2 ** min(self.questions, 10)
        self.due_s = now_s + min(wait_s, max(ASK_AGAIN_AT_MOST_S, self._stale_after_s))

    def _heard(self, received: int, now_s: float) -> None:
        silent_s = now_s - self.heard_s
        each_s = silent_s / ((received - self.received) or 1)
        if self._deliveries and not self.asked_anew:
            self.usual_s = each_s if self.usual_s is None else self.usual_s + _WEIGHT * (each_s - self.usual_s)
            faded_s = self.longest_s * _FADES
            self.longest_s = faded_s if faded_s > silent_s else silent_s
        if self._deaths and now_s - self._asked_anew_s > _WELL_AFTER * self._stale_after_s:
            self._deaths = 0
        self._deliveries += 1
        self.received, self.heard_s = received, now_s
        self.questions = self.asked_anew = 0
        self.is_suspected = self.is_proved = False
        self.word = None
        self.due_s = now_s + self.limit_s


def verdict_on(
    last: MarketRecord | None, word: Word, expected: Expectation, *, since: int | None, is_open: bool
) -> Verdict:
    """What the venue's word says of a stream whose newest record is `last`.

    `since`: until then it is complete, in microseconds. `is_open`: it has an open gap, so that what is newer than
    `last` may be what that gap says: only a change since an earlier word is news then.
    """
    verdict: Verdict = "unknown"
    if not is_open:
        if isinstance(last, Trade):
            verdict = _on_trade(last, word)
        elif isinstance(last, (Tick, BookSnapshot)) and word.best is not None:
            verdict = _on_best(best_of(last), word.best)
        elif last is None and word.time is not None and since is not None:
            verdict = "newer" if word.time > since + REST_BEHIND_US else "proved"
    if verdict == "unknown" and expected.word is not None:
        change = _change(expected.word, word)
        if change == "same":
            verdict = "proved" if expected.is_proved and not is_open else "same"
        elif is_open or expected.is_proved:
            verdict = change
        elif last is None and _has_moved(expected.word.best, word.best):
            verdict = "newer"  # the stream should have brought at least that
    return "unknown" if verdict == "newer" and not word.is_certain else verdict


def _change(earlier: Word, word: Word) -> Verdict:
    """What happened between two words of the venue."""
    if earlier.mark[0] == word.mark[0]:
        return "same" if earlier.mark == word.mark else "newer"
    for one, other in ((earlier.number, word.number), (earlier.time, word.time)):
        if one is not None and other is not None:
            return "newer" if other > one else "same" if other == one else "unknown"
    return "unknown"


def _on_trade(last: Trade, word: Word) -> Verdict:
    if word.trade_id is not None and word.trade_id == last.trade_id:
        return "proved"
    if word.number is not None and last.trade_id.isdecimal():
        ours = int(last.trade_id)
        # An older one than ours: the venue's REST interface is behind, and proves nothing.
        return "newer" if word.number > ours else "proved" if word.number == ours else "unknown"
    if word.time is None:
        return "unknown"
    if word.time % 1_000_000 == 0 and word.time // 1_000_000 == last.time // 1_000_000:
        return "unknown"  # its times may be whole seconds: another trade of this one looks the same
    step = 1000 if word.time % 1000 == 0 else 1  # a stream may say its times more exactly
    theirs, ours = word.time // step, last.time // step
    if theirs > ours:
        return "newer"
    return "proved" if theirs == ours and word.trade_id is None else "unknown"


def best_of(record: Tick | BookSnapshot) -> Best:
    """The best bid and ask of a record of ours."""
    if isinstance(record, Tick):
        return record.bid_price, record.ask_price, record.bid_volume, record.ask_volume
    bid: Sequence[str | None] = record.bids[0] if record.bids else (None, None)
    ask: Sequence[str | None] = record.asks[0] if record.asks else (None, None)
    return bid[0], ask[0], bid[1], ask[1]


def _on_best(ours: Best, theirs: Best) -> Verdict:
    """Other prices are news. Other sizes alone need not be: some streams tell of prices only."""
    if not all(map(_same_number, ours[:2], theirs[:2])):
        return "newer"
    known = None not in ours[2:] and None not in theirs[2:]
    return "proved" if known and all(map(_same_number, ours[2:], theirs[2:])) else "unknown"


def _has_moved(earlier: Best | None, best: Best | None) -> bool:
    """Whether the best prices are other ones now."""
    return earlier is not None and best is not None and _on_best(earlier, best) == "newer"


def _same_number(one: str | None, other: str | None) -> bool:
    """What one of them does not name is not compared."""
    return one is None or other is None or Decimal(one) == Decimal(other)
