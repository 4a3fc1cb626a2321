"""The times and ids of trades that were found, and the time windows of the ids missing between them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from ingestd.clock import to_datetime

_RUNS_AT_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Window:
    """A window of exchange times, `[start_us, end_us)`, in microseconds."""

    start_us: int
    end_us: int

    def holds(self, time_us: int) -> bool:
        return self.start_us <= time_us < self.end_us

    def __str__(self) -> str:
        return f"{utc_text(self.start_us)} to {utc_text(self.end_us)} UTC"


def merged(windows: Iterable[Window]) -> list[Window]:
    """The windows, oldest first; those that overlap or are less than a second apart become one."""
    result: list[Window] = []
    for window in sorted(windows, key=lambda window: window.start_us):
        if result and window.start_us - result[-1].end_us < 1_000_000:
            window = Window(result[-1].start_us, max(result.pop().end_us, window.end_us))
        result.append(window)
    return result


class _Run(NamedTuple):
    """A run of consecutive ids, all found, and the times of its first and last trade."""

    first: int
    last: int
    first_us: int
    last_us: int


class Span(NamedTuple):
    """The lowest and the highest of some numbers."""

    low: int
    high: int


class Seen:
    """The trades found so far: their times in microseconds, and their ids where these are numbers."""

    def __init__(self) -> None:
        self.times: Span | None = None
        self.ids: Span | None = None
        self._runs: list[_Run] = []  # of consecutive ids, lowest first, with at least one missing id between two runs

    def add_times(self, times: Collection[int]) -> None:
        self.times = _widened(self.times, times)

    def add_ids(self, times: Mapping[int, int], *, consecutive: bool) -> None:
        """Add ids that were found, with the times of their trades. `consecutive`: missing ids are missing trades."""
        self.ids = _widened(self.ids, times)
        if not consecutive:
            return
        runs = [*self._runs, *(_Run(number, number, time_us, time_us) for number, time_us in times.items())]
        self._runs = []
        for run in sorted(runs, key=lambda run: run.first):
            last = self._runs[-1] if self._runs else None
            if last is None or run.first > last.last + 1:
                self._runs.append(run)
            elif run.last > last.last:
                self._runs[-1] = _Run(last.first, run.last, last.first_us, run.last_us)

    @property
    def are_scattered(self) -> bool:
        """Whether so many ids are missing that the series cannot be consecutive."""
        return len(self._runs) > _RUNS_AT_MOST

    @property
    def absent(self) -> int:
        """The number of ids between the first and the last that were not found."""
        return sum(later.first - earlier.last - 1 for earlier, later in pairwise(self._runs))

    def holes(self) -> list[Window]:
        """The windows of time in which the missing trades happened."""
        return [
            Window(min(earlier.last_us, later.first_us), max(earlier.last_us, later.first_us) + 1)
            for earlier, later in pairwise(self._runs)
        ]


def _widened(span: Span | None, numbers: Collection[int]) -> Span:
    known = [*(span or ()), *numbers]
    return Span(min(known), max(known))


def utc_text(time_us: int) -> str:
    """A time in microseconds as UTC text: `2026-11-01 12:00:00.000`."""
    return f"{to_datetime(time_us):%Y-%m-%d %H:%M:%S.%f}"[:-3]
