"""Measured figures and their limits. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `limit` names the figure that bounds it on this machine; see `Figures`."""

    key: str
    what: str
    value: float
    unit: str
    limit: str | None = None
    note: str = ""


class Figures:
    """The figures of one run, in the order of measurement."""

    def __init__(self, figures: Iterable[Figure] = ()) -> None:
        self._by_key = {figure.key: figure for figure in figures}

    def add(self, key: str, what: str, value: float, unit: str, limit: str | None = None, *, note: str = "") -> None:
        """Add a figure; each key may be added once per run."""
        if key in self._by_key:
            raise ValueError(f"{key} was measured already")
        self._by_key[key] = Figure(key, what, value, unit, limit, note)

    def rate(self, key: str, what: str, values: Sequence[float], *, limit: str | None = None, note: str = "") -> None:
        """Add a rate per second: the median of several rounds, with the rounds as details."""
        rounds = "" if len(values) == 1 else "rounds: " + ", ".join(f"{value:,.0f}" for value in values)
        self.add(key, what, statistics.median(values), "/s", limit, note="; ".join(filter(None, (note, rounds))))

    def value(self, key: str) -> float | None:
        """The value of a figure; None if not measured."""
        figure = self._by_key.get(key)
        return None if figure is None else figure.value

    def ratio(self, figure: Figure) -> float | None:
        """The ratio of a figure to its limit, if both were measured."""
        limit = None if figure.limit is None else self.value(figure.limit)
        return figure.value / limit if limit else None

    def all(self) -> list[Figure]:
        """All figures in the order they were added."""
        return list(self._by_key.values())


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that a `share` (0 to 1) of the values do not exceed. Raises ValueError without values."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no value, no percentile")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def us_each(seconds: float, count: int) -> float:
    """Microseconds per item."""
    return seconds * 1e6 / count
