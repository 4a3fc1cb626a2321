"""Whether the numbers of a market's book are to be believed. How an exchange counts is in its file of `venues`."""

from __future__ import annotations

from ingestd.gaps.consecutive import HOLES_TO_DOUBT, STEPS_TO_BELIEVE, Consecutiveness


class BookSteps:
    """The steps from one number of a market's book to the next: whether its changes are to be judged by them.

    Those from a whole book to its first change and those from one change to the next are counted apart: where the
    first ones never follow, the whole book is of another series.
    """

    def __init__(self) -> None:
        self.are_believed = True
        self._counts = [0, 0]
        self._judges = Consecutiveness(), Consecutiveness()
        self._since_hole = 0

    def count(self, *, follows: bool, in_turn: bool) -> bool:
        """Note a step, `in_turn` from a change. Whether they are no longer believed since this one."""
        self._counts[in_turn] += 1
        self._since_hole = self._since_hole + 1 if follows else 0
        if follows:
            self.are_believed = self.are_believed or self._since_hole >= STEPS_TO_BELIEVE
            return False
        judge, was_believed = self._judges[in_turn], self.are_believed
        if judge.judge(self._counts[in_turn], 1) != "believed" and judge.holes >= HOLES_TO_DOUBT:
            self.are_believed = False
        return was_believed and not self.are_believed
