"""Judges whether a series of ids is consecutive, by the holes that were seen so far. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

# `_HOLES_TO_REFUTE` holes or more refute a series, if there are that many in `_STEPS` steps on average.
_STEPS = 50
_HOLES_TO_REFUTE = 40
HOLES_TO_DOUBT = 3
STEPS_TO_BELIEVE = 1000
"""After so many steps without a hole a series that was not believed is believed again."""

Belief: TypeAlias = Literal["believed", "doubted", "refuted"]
"""`doubted`: there are at least three holes for four counted steps; `refuted`: there are so many holes that the venue
leaves numbers out by itself."""


class Consecutiveness:
    """Judges the steps of one series, each from one id to the next received. Counts them from the first hole on, and
    anew from a hole at which over `_STEPS` are counted and the series is still believed."""

    def __init__(self) -> None:
        self.since = 0
        """How many steps came before those that are counted."""
        self.holes = 0
        self._is_proved = False

    def judge(self, steps: int, holes_now: int) -> Belief:
        """Judge the series after `steps` steps in all, the newest of which added `holes_now` holes."""
        is_first = not self.holes
        self.holes += holes_now
        counted, holes = steps - self.since, self.holes
        if holes >= _HOLES_TO_REFUTE and holes * _STEPS >= counted * _HOLES_TO_REFUTE:
            return "refuted"
        enough = HOLES_TO_DOUBT if self._is_proved else 1
        if holes >= enough and holes * 4 >= counted * 3:
            return "doubted"
        self._is_proved = True
        if counted > _STEPS or is_first:  # count from this hole on
            self.since, self.holes = steps - 1, 1
        return "believed"

    def reset(self) -> None:
        """Count from zero again, as the caller does with `steps`."""
        self.since = self.holes = 0
