"""Detects a stream that falls silent while its socket stays open. Pure.

A stream is expected to deliver as often as before. If it is silent for much longer, ask the venue over REST for the
newest event of its market. There are three outcomes:
- Nothing happened since the last record: the stream is complete, and the next question waits twice as long.
- Something happened, and the stream still has not delivered it a moment later: the stream is dead. Open a gap and
  subscribe again.
- The venue's answer does not tell: only a silence far beyond the usual one counts as a dead stream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Literal, Protocol

from ingestd.records import BookSnapshot, MarketRecord, Tick, Trade
from ingestd.venues.newest import Best, Word

SETTLE_S = 2.0  # an event that REST shows may take this long to arrive on the socket
REST_BEHIND_US = 5_000_000  # REST answers may be this old: a proof covers the time until this long before the question
ASK_AFTER_S = 300.0  # longest silence before the first question
ASK_AGAIN_AT_MOST_S = 900.0  # longest time between two questions about a stream that stays silent
_INTERVALS_TO_ASK = 4.0  # usual intervals of silence before the venue is asked
_INTERVALS_TO_DEAD = 30.0  # usual intervals of silence that make a stream dead if the venue cannot be asked
_MIN_DELIVERIES = 20  # before the usual interval is known
_WEIGHT = 0.1  # weight of the newest interval in the moving average `usual_s`
_FADES = 0.98  # factor for `longest_s` with each delivery
_UNWATCHED_S = 5.0  # longer between two looks: the process was stopped, its loop blocked, or the socket closed
_WELL_AFTER = 10.0  # times stale_after_s after a resubscription: a delivery then resets the count of deaths

Verdict = Literal["proved", "same", "newer", "unknown"]
"""`proved`: nothing happened since the stream's newest record. `same`: nothing since an earlier answer of the venue.
`newer`: something happened since. `unknown`: the answer does not tell."""
Act = Literal["nothing", "ask_venue", "dead"]


class Newest(Protocol):
    """Asks a venue over REST for the newest events of its markets. Calls raise FeedError."""

    @property
    def is_ready(self) -> bool:
        """Whether the venue can be asked now."""

    def kind(self, symbol: str) -> str:
        """The kind of the market: `spot`, `linear`, `inverse` or another. One request covers markets of one kind."""

    def has_bulk(self, kind: str) -> bool:
        """Whether `trades_of_all` supports this kind of market."""

    async def trades_of_all(self, kind: str, symbols: Collection[str]) -> Mapping[str, Word]:
        """The newest trades of these markets, in one request. Markets that the answer lacks are left out."""

    async def trade(self, symbol: str) -> Word | None:
        """The newest trade of one market; None if the venue names none."""

    async def best(self, symbols: Collection[str]) -> Mapping[str, Word]:
        """The best bid and ask of these markets of one kind, in one request where the venue allows it."""

    def has_best_of_many(self) -> bool:
        """Whether `best` takes several markets in one request."""


class Expectation:
    """How often one stream delivers, and the state of its current silence. Seconds are of a monotonic clock.

    It has many attributes because a feed keeps thousands of these: one object a stream saves memory.
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
        self._deaths = 0  # times the stream died, since it was last healthy for long
        self._asked_anew_s = self._suspected_s = 0.0
        self._looked_s = now_s
        self.received = received
        self.heard_s = now_s
        self.usual_s: float | None = None  # average time between two records
        self.longest_s = 0.0  # longest recent silence; fades with each delivery
        self.questions = 0  # to the venue, since the last record
        self.asked_anew = 0  # resubscriptions since the last record
        self.is_suspected = False
        self.word: Word | None = None  # the venue's last answer; None if a record has arrived since
        self.is_proved = False  # whether `word` proved that nothing was missing
        self.due_s = now_s + stale_after_s

    @property
    def limit_s(self) -> float:
        """Seconds of silence after which to ask the venue."""
        usual_s, limit_s = self.usual_s, self._stale_after_s
        if usual_s is not None and usual_s * _INTERVALS_TO_ASK > limit_s:
            limit_s = max(limit_s, min(_INTERVALS_TO_ASK * usual_s, ASK_AFTER_S))
        if not self._deaths:
            return limit_s
        return min(limit_s * 2.0 ** min(self._deaths, 10), max(limit_s, ASK_AGAIN_AT_MOST_S))

    def silent_s(self, now_s: float) -> float:
        """Seconds since the stream's last record."""
        return now_s - self.heard_s

    def urgency(self, now_s: float) -> float:
        """How far the silence exceeds the usual interval. The stream with the highest urgency is asked about first.

        Each earlier question makes a stream less urgent, and so does an unknown usual interval.
        """
        usual_s = ASK_AFTER_S if self.usual_s is None else max(self.usual_s, 0.001)
        return self.silent_s(now_s) / usual_s / 4.0 ** min(self.questions, 20)

    def look(self, received: int, now_s: float, *, excused: bool = False) -> Act:
        """Compare the stream's record counter with the last one and return what to do. Call it about once a second.

        `excused`: the stream could not deliver since the last call, so that time does not count as silence.
        """
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
        """Keep this answer of the venue, to compare the next one with it."""
        self.word, self.is_proved = word, False

    def told(self, verdict: Verdict, word: Word, now_s: float) -> None:
        """Note the venue's answer. `newer` makes the stream dead only if it is still silent `SETTLE_S` later."""
        if verdict == "newer":
            self.is_suspected, self._suspected_s = True, now_s
            self.note(word)
            return
        if verdict != "same":
            self.word, self.is_proved = word, verdict == "proved"
        self._wait(now_s)

    def untold(self, now_s: float, *, others_speak: bool) -> bool:
        """Judge the stream without an answer of the venue. Return whether its silence, compared with its past, means
        that it is dead.

        `others_speak`: other streams of the market deliver, so the market is traded.
        """
        usual_s, silent_s = self.usual_s, self.silent_s(now_s)
        if usual_s is not None and self._deliveries >= _MIN_DELIVERIES:
            usual_s *= _INTERVALS_TO_ASK if others_speak else _INTERVALS_TO_DEAD
            least_s = self._stale_after_s * (1 if others_speak else 2)
            if silent_s >= max(usual_s, 3 * self.longest_s, least_s) * 2 ** min(self._deaths + self.asked_anew, 10):
                return True
        self._wait(now_s)
        return False

    def is_asked_anew(self, now_s: float) -> int:
        """Note a resubscription, and return how many there were since the last record. The next question waits until
        the stream could have delivered."""
        self.asked_anew += 1
        self._deaths += self.asked_anew == 1
        self._asked_anew_s = now_s
        self.is_suspected = False
        wait_s = max(self._stale_after_s, 2 * SETTLE_S) * 2 ** min(self.asked_anew - 1, 10)
        self.due_s = now_s + min(wait_s, max(ASK_AGAIN_AT_MOST_S, self._stale_after_s))
        return self.asked_anew

    def postpone(self, now_s: float, seconds: float) -> None:
        """Ask `seconds` later, because the question was not answered."""
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
    """What the venue's answer `word` says about a stream whose newest record is `last`.

    `since`: the time in microseconds up to which the stream is complete. `is_open`: the stream has an open gap, which
    may already cover what is newer than `last`; then only a change since an earlier answer counts as newer.
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
            verdict = "newer"  # the stream should have delivered at least this change
    return "unknown" if verdict == "newer" and not word.is_certain else verdict


def _change(earlier: Word, word: Word) -> Verdict:
    """Whether anything happened between two answers of the venue."""
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
        # If the venue's trade is older than ours, its REST interface is behind and proves nothing.
        return "newer" if word.number > ours else "proved" if word.number == ours else "unknown"
    if word.time is None:
        return "unknown"
    if word.time % 1_000_000 == 0 and word.time // 1_000_000 == last.time // 1_000_000:
        return "unknown"  # its times may be whole seconds: two trades of one second look the same
    step = 1000 if word.time % 1000 == 0 else 1  # a stream's times may be more precise than REST's
    theirs, ours = word.time // step, last.time // step
    if theirs > ours:
        return "newer"
    return "proved" if theirs == ours and word.trade_id is None else "unknown"


def best_of(record: Tick | BookSnapshot) -> Best:
    """The best bid and ask of one of our records."""
    if isinstance(record, Tick):
        return record.bid_price, record.ask_price, record.bid_volume, record.ask_volume
    bid: Sequence[str | None] = record.bids[0] if record.bids else (None, None)
    ask: Sequence[str | None] = record.asks[0] if record.asks else (None, None)
    return bid[0], ask[0], bid[1], ask[1]


def _on_best(ours: Best, theirs: Best) -> Verdict:
    """Compare the best bid and ask. A different size alone proves nothing: some streams deliver price changes only."""
    if not all(map(_same_number, ours[:2], theirs[:2])):
        return "newer"
    known = None not in ours[2:] and None not in theirs[2:]
    return "proved" if known and all(map(_same_number, ours[2:], theirs[2:])) else "unknown"


def _has_moved(earlier: Best | None, best: Best | None) -> bool:
    """Whether the best bid or ask price changed."""
    return earlier is not None and best is not None and _on_best(earlier, best) == "newer"


def _same_number(one: str | None, other: str | None) -> bool:
    """Whether two numbers are equal; a missing one equals any."""
    return one is None or other is None or Decimal(one) == Decimal(other)
