"""Facts about ccxt's order books: how to find a snapshot or sequence numbers in a frame, and to check them. Pure.

ccxt's code for many exchanges ignores sequence numbers, misses a lost change, or does not find the first change that is
newer than a REST snapshot. It computes no checksum either: a checksum covers the digits as sent, which ccxt reformats.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ingestd.venues.exact import decimal_text
from ingestd.venues.numbers import as_int

Book = Mapping[str, Any]
"""An order book in ccxt's form."""

Levels = Sequence[Sequence[Any]]


class NumberedFrame(NamedTuple):
    """A frame of one book, with sequence numbers.

    `market_id`: the venue's id. `market_type`: needed if the venue's ids are not unique. `numbers`: the part of the
    frame that holds the sequence numbers. `is_whole`: the frame is a snapshot.
    """

    frame: Any
    market_id: str
    numbers: Mapping[str, Any]
    is_whole: bool
    market_type: str | None = None


NumberedFrames = Callable[[Any, str], Iterable[NumberedFrame]]
"""Reads a frame: returns one `NumberedFrame` for each book in it. The second argument is the URL of the socket."""


class BookFrame(NamedTuple):
    """The market whose book a frame holds. `market_id`: the venue's id. `market_type`: if ids are not unique."""

    market_id: str
    market_type: str | None = None


BookOfFrame = Callable[[Any, Mapping[str, Any]], BookFrame | None]
"""Finds the book of a frame of one kind; None if the frame is of another kind. The second argument is the
`subscriptions` of ccxt's client."""

Verdict = Literal["follows", "old", "hole"]


@dataclass(frozen=True, slots=True)
class Numbering:
    """The field names for the first and last sequence number of a change; `before`: the number of the previous change.

    If the numbers are not `consecutive`, they only rise, and prove nothing about changes between two of them.
    """

    first: tuple[str, ...]
    last: tuple[str, ...]
    before: tuple[str, ...] = ()
    within: str | None = None  # the part of the message that has these fields
    consecutive: bool = True
    by_time: bool = False  # the snapshot has no number, but a time that is not before its last change

    def last_number(self, change: Mapping[str, Any]) -> int | None:
        """The book's number after the change; None if the change has no number."""
        return _number(self._part(change), self.last)

    def number_before(self, change: Mapping[str, Any]) -> int | None:
        """The book's number before the change; None if the change does not tell."""
        part = self._part(change)
        before, start = _number(part, self.before), _number(part, self.first)
        return before if before is not None or start is None else start - 1

    def verdict(self, change: Mapping[str, Any], number: int | None) -> Verdict:
        """Whether the change follows a book with this number, is older, or leaves a hole. Unnumbered, it follows."""
        last = self.last_number(change)
        if last is None or number is None:
            return "follows"
        part = self._part(change)
        before = _number(part, self.before)
        if before == number:
            return "follows"  # also if the venue restarts its numbering
        if last <= number:
            return "old"
        start = _number(part, self.first) if before is None else before + 1
        return "follows" if not self.consecutive or start is None or start <= number + 1 else "hole"

    def start(self, number: int | None, changes: MutableSequence[Mapping[str, Any]]) -> int | None:
        """The index of the first buffered change newer than a snapshot with this number; their count if none is.

        None: the snapshot is older than the buffered changes, or a change is missing, so a newer snapshot is needed.
        Changes before a hole are removed from the buffer.
        """
        is_whole = not self._drop_before_hole(changes)
        if self.by_time:  # amounts are absolute: changes that the book contains already do no harm
            return 0 if is_whole else None
        if number is None:
            return None
        for index, change in enumerate(changes):
            verdict = self.verdict(change, number)
            if verdict == "hole" or (verdict == "follows" and index == 0 and not self.consecutive):
                return None  # if numbers only rise, the snapshot must not be older than the buffered changes
            if verdict == "follows":
                return index
        return len(changes)

    def _drop_before_hole(self, changes: MutableSequence[Mapping[str, Any]]) -> bool:
        """Drop the changes before the last hole. Return whether there was a hole."""
        for index in range(len(changes) - 1, 0, -1):
            if self.verdict(changes[index], self.last_number(changes[index - 1])) == "hole":
                del changes[:index]
                return True
        return False

    def _part(self, change: Mapping[str, Any]) -> Mapping[str, Any]:
        part = change if self.within is None else change.get(self.within)
        return part if isinstance(part, Mapping) else {}


def _number(part: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return as_int(next((part[name] for name in names if part.get(name) is not None), None))


@dataclass(frozen=True, slots=True, kw_only=True)
class CcxtBooks:
    """How ccxt's code for this exchange keeps order books.

    `agrees`: whether a frame's checksum matches the book after it; None if the frame has no checksum.
    `numbering`: how changes are numbered, if ccxt misses a lost change, or does not find the first change after a REST
    snapshot. `numbered_frames`: reads the numbered frames, if ccxt ignores sequence numbers.
    `changes_in_messages`: ccxt applies the numbered changes in `handle_order_book_message`.
    `whole_book`: finds the book of a snapshot, if ccxt writes snapshots over the old book.
    `checksum_frame`: finds the book of a frame that holds nothing but its checksum.
    `best_prices`: recognises by URL and content a frame of a one-level book, which ccxt would write into the full book.
    `over_rest`: the stream has changes only; the snapshot comes over REST, numbered in the same series.
    `unsubscription`: makes the request that ends a subscription, from ccxt's exchange, its market and its name for the
    subscription; None if the subscription is not that of this market's book.
    `ended_by_channel_id`: a request with ccxt's `chanId` ends the subscription. Until the exchange confirms the end, it
    refuses to subscribe again.
    `kept_when_broken`: ccxt keeps a broken book and its subscription, whether or not it detects the damage.
    `buffered_here`: we buffer changes, because ccxt loads a REST snapshot before it subscribes, and would lose some.
    `streams_path`: the path of the list of streams in a request, so that we can shorten the list.
    `asks_only_for_new`: a call for many symbols subscribes only to those that are not subscribed yet.
    """

    agrees: Callable[[Book, Any], bool | None] | None = None
    numbering: Numbering | None = None
    numbered_frames: NumberedFrames | None = None
    changes_in_messages: bool = False
    whole_book: BookOfFrame | None = None
    checksum_frame: BookOfFrame | None = None
    best_prices: Callable[[str, Any], bool] | None = None
    over_rest: bool = False
    unsubscription: Callable[[Any, Any, str], dict[str, Any] | None] | None = None
    ended_by_channel_id: bool = False
    kept_when_broken: bool = False
    buffered_here: bool = False
    streams_path: tuple[str, ...] = ()
    asks_only_for_new: bool = False

    @property
    def unsubscribed_here(self) -> bool:
        """Whether the exchange sends a book again only after an unsubscription, which ccxt cannot do or omits."""
        return self.unsubscription is not None or self.ended_by_channel_id


def in_turn(bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> str:
    """Join price and amount of a bid, an ask, the next bid, …; a shorter side simply ends earlier."""
    pairs = itertools.zip_longest(bids, asks)
    return ":".join(text for pair in pairs for level in pair if level is not None for text in level)


def signed(checksum: int) -> int:
    """A CRC32 as a signed 32-bit number."""
    return checksum - 2**32 if checksum >= 2**31 else checksum


def as_sent(number: Any) -> str:
    """The digits of a number as the exchange sent them; empty for None."""
    return decimal_text(number) or ""
