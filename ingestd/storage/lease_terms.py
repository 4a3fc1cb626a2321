"""Which daemon held the lease when, and therefore stores the records of that time. Pure; by the database's clock.

Trades, open interest and funding rates have a key: stored by two daemons they are still one row. Ticks and books have
none, and a candle replaces the stored one; of these only the holder of the lease stores what it received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingestd.records import BookSnapshot, Candle, Record, Tick

_UNIT_US = {
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
    "M": 31 * 86_400_000_000,
}


@dataclass(frozen=True, slots=True)
class Term:
    """The time of one holder, in microseconds since the epoch, by the database's clock; `mine`: this daemon held it."""

    epoch: int
    holder: str
    mine: bool
    taken_at: int
    renewed_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Terms:
    """Every term of a lease, oldest first, as of `now`. `ahead_us`: how far this host's clock is ahead of the
    database's, within `uncertain_us`."""

    terms: Sequence[Term] = ()
    now: int = 0
    ahead_us: int = 0
    uncertain_us: int = 0

    @property
    def epoch(self) -> int:
        """The epoch of the newest term; 0: the lease was never held."""
        return self.terms[-1].epoch if self.terms else 0

    @property
    def name_others(self) -> bool:
        """Whether another daemon ever held the lease."""
        return any(not term.mine for term in self.terms)

    def belongs_to_another(self, record: Record) -> bool:
        """Whether another daemon held the lease then and stores this record: ours would be a duplicate."""
        kind = type(record)
        if kind is not Tick and kind is not BookSnapshot and kind is not Candle:
            return False
        at, unsure = record.received_at - self.ahead_us, self.uncertain_us
        for term, end in self._others():
            if term.taken_at + unsure <= at < end - unsure:  # only if certain: stored twice is better than not at all
                return True
            # A candle that was open when the term began is stored by the new holder, who knows its final state.
            if isinstance(record, Candle) and at + unsure < term.taken_at < _closes_at(record):
                return True
        return False

    def _others(self) -> list[tuple[Term, float]]:
        """The terms of other daemons, each with its end: taken over, or run out.

        What was received after a term ran out has no certain owner: stored twice is better than not at all.
        """
        found: list[tuple[Term, float]] = []
        for index, term in enumerate(self.terms):
            if term.mine:
                continue
            if index + 1 < len(self.terms):
                found.append((term, min(self.terms[index + 1].taken_at, term.expires_at)))
            else:
                found.append((term, float("inf") if term.expires_at > self.now else term.expires_at))
        return found


def _closes_at(candle: Candle) -> int:
    """When the candle's period ends; with an unknown timeframe it counts as closed."""
    count, unit = candle.timeframe[:-1], candle.timeframe[-1:]
    if not count.isdecimal() or unit not in _UNIT_US:
        return candle.time
    return candle.time + int(count) * _UNIT_US[unit]
