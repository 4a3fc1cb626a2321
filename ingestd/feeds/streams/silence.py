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
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol

from ingestd.records import BookSnapshot, MarketRecord, Tick, Trade
from ingestd.venues.trades import Best, NewestAnswer

SETTLE_S = 2.0  # an event that REST shows may take this long to arrive on the socket
REST_BEHIND_US = 5_000_000  # a REST answer may be this old: it proves nothing about the time just before the question
ASK_AFTER_S = 300.0  # longest silence before the first question, unless stale_after_s is longer or the stream has died
ASK_AGAIN_AT_MOST_S = 900.0  # longest time between two questions about a stream that stays silent
_INTERVALS_TO_ASK = 4.0  # usual intervals of silence before the venue is asked
_INTERVALS_TO_DEAD = 30.0  # usual intervals of silence that make a stream dead if the venue cannot be asked
_MIN_DELIVERIES = 20  # after so many the usual interval says enough to call a stream dead
_WEIGHT = 0.1  # weight of the newest interval in the moving average `usual_s`
_FADES = 0.98  # factor for `longest_s` with each delivery
_UNWATCHED_S = 5.0  # a longer time between two looks does not count as silence: the process or the socket was stopped
_WELL_AFTER = 10.0  # so many times stale_after_s after a resubscription, a delivery resets the count of deaths

Verdict = Literal["proved", "same", "newer", "unknown"]
"""`proved`: nothing happened since the stream's newest record. `same`: nothing since an earlier answer of the venue.
`newer`: something happened since that record or that answer. `unknown`: the answer does not tell."""
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

    async def trades_of_all(self, kind: str, symbols: Collection[str]) -> Mapping[str, NewestAnswer]:
        """The newest trades of these markets, in one request. Markets that the answer lacks are left out."""

    async def trade(self, symbol: str) -> NewestAnswer | None:
        """The newest trade of one market; None if the venue names none."""

    async def best(self, symbols: Collection[str]) -> Mapping[str, NewestAnswer]:
        """The best bid and ask of these markets of one kind, in one request; see `has_best_of_many`."""

    def has_best_of_many(self) -> bool:
        """Whether `best` takes several markets. If not, it answers for the first one only."""


@dataclass(slots=True)
class Expectation:
    """How often one stream delivers, and the state of its current silence. Seconds are of a monotonic clock.

    `received`: the stream's record counter at the last look. `heard_s`: when the counter last changed, or the time of
    the first look, moved on by the time in which the stream could not deliver.
    """

    stale_after_s: float
    received: int
    heard_s: float
    usual_s: float | None = None  # average time between two records
    longest_s: float = 0.0  # longest recent silence; fades with each delivery
    deliveries: int = 0
    deaths: int = 0  # times the stream died since it was last healthy (`_WELL_AFTER`)
    questions: int = 0  # to the venue, since the last record
    resubscriptions: int = 0  # since the last record
    resubscribed_s: float = 0.0
    suspected_s: float | None = None  # when the venue answered that it has newer events
    answer: NewestAnswer | None = None  # the venue's last answer; None if a record has arrived since
    is_proved: bool = False  # whether `answer` proved that nothing was missing
    looked_s: float = field(init=False)
    due_s: float = field(init=False)  # when to ask the venue

    def __post_init__(self) -> None:
        self.looked_s, self.due_s = self.heard_s, self.heard_s + self.stale_after_s

    @property
    def limit_s(self) -> float:
        """Seconds of silence after which to ask the venue for the first time."""
        limit_s = max(self.stale_after_s, min(_INTERVALS_TO_ASK * (self.usual_s or 0.0), ASK_AFTER_S))
        return min(limit_s * 2.0 ** min(self.deaths, 10), max(limit_s, ASK_AGAIN_AT_MOST_S))

    def silent_s(self, now_s: float) -> float:
        """Seconds of silence since the last record, without the time in which the stream could not deliver."""
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
        unwatched_s, self.looked_s = now_s - self.looked_s, now_s
        if received != self.received:
            self._heard(received, now_s)
            return "nothing"
        if excused or unwatched_s > _UNWATCHED_S:
            self.heard_s += unwatched_s
            self.due_s += unwatched_s
            if self.suspected_s is not None:
                self.suspected_s += unwatched_s
        if self.suspected_s is not None:
            return "dead" if now_s - self.suspected_s >= SETTLE_S else "nothing"
        return "ask_venue" if now_s >= self.due_s else "nothing"

    def remember(self, answer: NewestAnswer) -> None:
        """Keep this answer of the venue, to compare the next answer with it."""
        self.answer, self.is_proved = answer, False

    def note_answer(self, verdict: Verdict, answer: NewestAnswer, now_s: float) -> None:
        """Note the venue's answer. `newer` makes the stream dead only if it is still silent `SETTLE_S` later."""
        if verdict == "newer":
            self.suspected_s = now_s
            self.remember(answer)
            return
        if verdict != "same":
            self.answer, self.is_proved = answer, verdict == "proved"
        self._ask_less_often(now_s)

    def judge_without_answer(self, now_s: float, *, others_deliver: bool) -> bool:
        """Whether the stream is dead, judged by its past alone. If it is not, the next question is put off.

        `others_deliver`: the market's trade stream has delivered meanwhile, so the market is traded.
        """
        if self.usual_s is not None and self.deliveries >= _MIN_DELIVERIES:
            intervals, least = (_INTERVALS_TO_ASK, 1) if others_deliver else (_INTERVALS_TO_DEAD, 2)
            limit_s = max(self.usual_s * intervals, 3 * self.longest_s, self.stale_after_s * least)
            if self.silent_s(now_s) >= limit_s * 2 ** min(self.deaths + self.resubscriptions, 10):
                return True
        self._ask_less_often(now_s)
        return False

    def note_resubscription(self, now_s: float) -> int:
        """Note a resubscription, and return how many there were since the last record. The next question waits until
        the stream could have delivered."""
        self.resubscriptions += 1
        self.deaths += self.resubscriptions == 1
        self.resubscribed_s = now_s
        self.suspected_s = None
        self._ask_in(max(self.stale_after_s, 2 * SETTLE_S) * 2 ** min(self.resubscriptions - 1, 10), now_s)
        return self.resubscriptions

    def postpone(self, now_s: float, seconds: float) -> None:
        """Ask `seconds` from now at the earliest, because the last question was not answered."""
        self.due_s = max(self.due_s, now_s + seconds)

    def _ask_less_often(self, now_s: float) -> None:
        self.questions += 1
        self._ask_in(self.limit_s * 2 ** min(self.questions, 10), now_s)

    def _ask_in(self, seconds: float, now_s: float) -> None:
        self.due_s = now_s + min(seconds, max(ASK_AGAIN_AT_MOST_S, self.stale_after_s))

    def _heard(self, received: int, now_s: float) -> None:
        silent_s = now_s - self.heard_s
        each_s = silent_s / ((received - self.received) or 1)
        if self.deliveries and not self.resubscriptions:
            self.usual_s = each_s if self.usual_s is None else self.usual_s + _WEIGHT * (each_s - self.usual_s)
            self.longest_s = max(self.longest_s * _FADES, silent_s)
        if self.deaths and now_s - self.resubscribed_s > _WELL_AFTER * self.stale_after_s:
            self.deaths = 0
        self.deliveries += 1
        self.received, self.heard_s = received, now_s
        self.questions = self.resubscriptions = 0
        self.suspected_s = self.answer = None
        self.is_proved = False
        self.due_s = now_s + self.limit_s


def verdict_on(
    last: MarketRecord | None, answer: NewestAnswer, expected: Expectation, *, since: int | None, is_open: bool
) -> Verdict:
    """What the venue's `answer` says about a stream whose newest record is `last`.

    `since`: the time in microseconds up to which the stream is complete. `is_open`: the stream has an open gap, which
    may already cover what is newer than `last`; then only a change since an earlier answer counts as newer.
    """
    verdict: Verdict = "unknown"
    if not is_open:
        if isinstance(last, Trade):
            verdict = _on_trade(last, answer)
        elif isinstance(last, (Tick, BookSnapshot)) and answer.best is not None:
            verdict = _on_best(_best_of(last), answer.best)
        elif last is None and answer.time is not None and since is not None:
            verdict = "newer" if answer.time > since + REST_BEHIND_US else "proved"
    if verdict == "unknown" and expected.answer is not None:
        change = _change(expected.answer, answer)
        if change == "same":
            verdict = "proved" if expected.is_proved and not is_open else "same"
        elif is_open or expected.is_proved:
            verdict = change
        elif last is None and (old := expected.answer.best) and answer.best and _on_best(old, answer.best) == "newer":
            verdict = "newer"  # the stream should have delivered at least this change of a price
    return "unknown" if verdict == "newer" and not answer.is_certain else verdict


def _change(earlier: NewestAnswer, answer: NewestAnswer) -> Verdict:
    """Whether anything happened between two answers of the venue."""
    if earlier.mark[0] == answer.mark[0]:
        return "same" if earlier.mark == answer.mark else "newer"
    for one, other in ((earlier.number, answer.number), (earlier.time, answer.time)):
        if one is not None and other is not None:
            return "newer" if other > one else "same" if other == one else "unknown"
    return "unknown"


def _on_trade(last: Trade, answer: NewestAnswer) -> Verdict:
    if answer.trade_id is not None and answer.trade_id == last.trade_id:
        return "proved"
    if answer.number is not None and last.trade_id.isdecimal():
        ours = int(last.trade_id)
        # If the venue's trade is older than ours, its REST interface is behind and proves nothing.
        return "newer" if answer.number > ours else "proved" if answer.number == ours else "unknown"
    if answer.time is None:
        return "unknown"
    if answer.time % 1_000_000 == 0 and answer.time // 1_000_000 == last.time // 1_000_000:
        return "unknown"  # its times may be whole seconds: two trades of one second look the same
    step = 1000 if answer.time % 1000 == 0 else 1  # a stream's times may be more precise than REST's
    theirs, ours = answer.time // step, last.time // step
    if theirs > ours:
        return "newer"
    return "proved" if theirs == ours and answer.trade_id is None else "unknown"


def _best_of(record: Tick | BookSnapshot) -> Best:
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


def _same_number(one: str | None, other: str | None) -> bool:
    """Whether two numbers are equal; a missing one equals any."""
    return one is None or other is None or Decimal(one) == Decimal(other)
