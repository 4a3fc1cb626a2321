"""The judge: what a venue sent and a daemon answered, against what stands in the tables. Pure.

Of every event the ledger knows one of three things: it is journaled (the daemon has said so after reading it back),
refused (validation put it aside, and the rejection is journaled), or unknown (sent, and the daemon was killed before
it said anything). The promise is about the first two; an unknown one may be there or not, but never twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from tests.fault import events

Counts = Mapping[str, Mapping[str, Any]]

_SHOWN = 5
_OWN = ("rejections", "gaps")  # channels of rows that the daemon writes itself: no feed hands them over


@dataclass(frozen=True)
class Ledger:
    """The events from `first` to before `end` were sent; the rest of them is unknown."""

    first: int
    end: int
    base_us: int
    journaled: frozenset[int]
    refused: frozenset[int]

    @classmethod
    def read(cls, report: Mapping[str, Any]) -> Self:
        """From the emitter's report."""
        journaled = frozenset(number for first, end in report["journaled"] for number in range(first, end))
        return cls(report["first"], report["end"], report["base_us"], journaled, frozenset(report["refused"]))

    @property
    def unknown(self) -> frozenset[int]:
        return frozenset(range(self.first, self.end)) - self.journaled - self.refused


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its event, in which transaction it became visible, and what is in it."""

    number: int
    transaction: int
    symbol: str
    time_us: int
    price: str
    quantity: str | None  # ticks have none: their volume is the number


@dataclass
class Stored:
    """The tables. `rejected`: the numbers in rejected_records."""

    ticks: list[Row] = field(default_factory=list)
    trades: list[Row] = field(default_factory=list)
    rejected: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """What was compared, and every complaint."""

    journaled: int
    refused: int
    unknown: int
    unknown_stored: int
    complaints: tuple[str, ...]


def judge(ledger: Ledger, stored: Stored, lives: Sequence[Counts]) -> Verdict:
    """`lives`: the final counts of every daemon that came to an orderly end."""
    times = Counter(row.number for row in (*stored.ticks, *stored.trades))
    put_aside = Counter(stored.rejected)
    sent = range(ledger.first, ledger.end)
    complaints = [
        *_complaint("lost", ledger.journaled - times.keys()),
        *_complaint("lost of the refused", ledger.refused - put_aside.keys()),
        *_complaint("stored twice", (number for number, count in times.items() if count > 1)),
        *_complaint("put aside twice", (number for number, count in put_aside.items() if count > 1)),
        *_complaint("stored and never sent", (number for number in times if number not in sent)),
        *_complaint("stored although refused", times.keys() & put_aside.keys()),
        *_complaint("refused without a flaw", (number for number in put_aside if not events.is_flawed(number))),
        *_complaint("with another value than was sent", _changed(ledger, stored)),
        *_complaint("visible before an earlier one of its symbol", _overtaking(stored.ticks)),
        *_complaint("visible before an earlier one of its symbol", _overtaking(stored.trades)),
        *(complaint for counts in lives for complaint in imbalances(counts)),
    ]
    unknown = ledger.unknown
    unknown_stored = len(unknown & (times.keys() | put_aside.keys()))
    return Verdict(len(ledger.journaled), len(ledger.refused), len(unknown), unknown_stored, tuple(complaints))


def imbalances(counts: Counts) -> list[str]:
    """Where the conservation law does not hold: all that came is accounted for, channel by channel."""
    went = ("stored", "duplicate", "rejected", "dropped", "released", "in_journal")
    channels = {channel for term in ("received", "recovered", *went) for channel in counts[term]}
    found = []
    for channel in sorted(channels):
        if channel in _OWN:
            continue
        came = sum(counts[term].get(channel, 0) for term in ("received", "recovered"))
        accounted = sum(counts[term].get(channel, 0) for term in went)
        if came != accounted:
            found.append(f"{channel}: {came} came and {accounted} are accounted for: {dict(counts)}")
    return found


def _complaint(what: str, numbers: Iterable[int]) -> list[str]:
    found = sorted(numbers)
    return [f"{len(found)} {what}: {', '.join(map(str, found[:_SHOWN]))}"] if found else []


def _changed(ledger: Ledger, stored: Stored) -> list[int]:
    return [
        row.number
        for row in (*stored.ticks, *stored.trades)
        if (row.symbol, row.time_us, row.price)
        != (events.symbol_of(row.number), ledger.base_us + row.number, events.price_of(row.number))
        or row.quantity not in (None, events.quantity_of(row.number))
    ]


def _overtaking(rows: Iterable[Row]) -> list[int]:
    """A reader who looks at any moment must never see an event without the earlier ones of its symbol."""
    newest: dict[str, int] = {}  # of the transactions before this one
    open_symbols: dict[str, int] = {}
    transaction = 0
    found = []
    for row in sorted(rows, key=lambda row: row.transaction):
        if row.transaction != transaction:
            transaction = row.transaction
            newest.update(open_symbols)
            open_symbols = {}
        if row.number < newest.get(row.symbol, 0):
            found.append(row.number)
        open_symbols[row.symbol] = max(row.number, open_symbols.get(row.symbol, 0), newest.get(row.symbol, 0))
    return found
