"""Whether a series of ids is consecutive, judged by the holes that were seen so far. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

# A series counts as not consecutive once this many of this many steps left ids out.
_STEPS = 50
_HOLES_TO_REFUTE = 40
HOLES_TO_DOUBT = 3
STEPS_TO_BELIEVE = 1000
"""After so many steps without a hole a series that was not believed is believed again."""

Belief: TypeAlias = Literal["believed", "doubted", "refuted"]
"""`doubted`: most of the newest steps had a hole; `refuted`: nearly every one of many had, so the venue leaves numbers
out by itself."""


class Consecutiveness:
    """Judges the steps of one series. Steps and holes are counted since a hole that came after steps without one."""

    def __init__(self) -> None:
        self.since = 0
        """The steps before those that are counted."""
        self.holes = 0
        self._is_proved = False

    def judge(self, steps: int, holes_now: int) -> Belief:
        """After so many steps in all, the newest of which had so many holes."""
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
        """The steps are counted from zero again."""
        self.since = self.holes = 0
