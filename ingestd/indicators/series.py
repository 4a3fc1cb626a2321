"""Candles of one market and timeframe: which are closed, which changed, where values can be told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_LATE = timedelta(seconds=60)
"""So long after its end a candle counts as closed although no later one is stored."""


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles by column, the oldest first. `times`: when each opens."""

    times: Sequence[datetime]
    open: Sequence[float]
    high: Sequence[float]
    low: Sequence[float]
    close: Sequence[float]
    volume: Sequence[float]

    def until(self, count: int) -> Candles:
        """The first `count` candles."""
        columns = (self.times, self.open, self.high, self.low, self.close, self.volume)
        return Candles(*(column[:count] for column in columns))  # type: ignore[arg-type]  # as they come in

    def fingerprint(self, place: int) -> int:
        """A number that differs if the candle at this place does."""
        return hash((self.open[place], self.high[place], self.low[place], self.close[place], self.volume[place]))


def closed(candles: Candles, now: datetime, next_bucket: Callable[[datetime], datetime]) -> Candles:
    """The candles that are closed: their time is over, and a later candle is stored or a minute has passed.

    A database that was out of reach stores a market's trades in their order afterwards. So what has a later candle is
    whole, although its time may have ended long before it was stored.
    """
    count = len(candles.times)
    while count:
        end = next_bucket(candles.times[count - 1])
        has_later = count < len(candles.times)
        if end <= now and (has_later or end + _LATE <= now):
            break
        count -= 1
    return candles.until(count)


def first_changed(candles: Candles, known: Mapping[datetime, int], look_back: int) -> int | None:
    """The first of the last `look_back` candles that is new or differs from what is known of it; None: no one does."""
    for place in range(max(0, len(candles.times) - look_back), len(candles.times)):
        if known.get(candles.times[place]) != candles.fingerprint(place):
            return place
    return None


def fingerprints(candles: Candles, look_back: int) -> dict[datetime, int]:
    """What `first_changed` has to know of these candles."""
    places = range(max(0, len(candles.times) - look_back), len(candles.times))
    return {candles.times[place]: candles.fingerprint(place) for place in places}


def places_of(candles: Candles, first: int, window: int, *, is_whole: bool) -> range:
    """The places from `first` on at which a value can be told: the window lies within the candles, or (`is_whole`)
    there are no candles before them, so that a short window means too little history."""
    return range(first if is_whole else max(first, window - 1), len(candles.times))


def next_look(now: datetime, start: datetime, following: datetime) -> datetime:
    """When to look at candles next, in a bucket that began at `start`; `following`: when the next one begins.

    The candle before it is complete in the database a few seconds later, on a server without TimescaleDB up to half a
    minute later, and in a market that nobody trades it counts as closed after a minute.
    """
    offsets = (timedelta(seconds=5), timedelta(seconds=20), timedelta(seconds=35), _LATE + timedelta(seconds=5))
    looks = [*(start + offset for offset in offsets if start + offset < following), following + offsets[0]]
    return next(look for look in looks if look > now)
