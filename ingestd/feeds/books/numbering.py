"""Whether the sequence numbers of a market's book can be trusted. Each file of `venues` says how its exchange
counts."""

from __future__ import annotations

from ingestd.gaps.consecutive import HOLES_TO_DOUBT, STEPS_TO_BELIEVE, Consecutiveness


class BookSteps:
    """Judges from the steps between sequence numbers of a market's book whether the numbers can prove a missing change.

    Steps from a snapshot to its first change are counted apart from steps between two changes: if the former never
    follow, the snapshot is numbered in another series.
    """

    def __init__(self) -> None:
        self.are_believed = True
        self._counts = [0, 0]
        self._judges = Consecutiveness(), Consecutiveness()
        self._since_hole = 0

    def count(self, *, follows: bool, in_turn: bool) -> bool:
        """Count a step (`in_turn`: between two changes). Return whether this step ends the trust in the numbers."""
        self._counts[in_turn] += 1
        self._since_hole = self._since_hole + 1 if follows else 0
        if follows:
            self.are_believed = self.are_believed or self._since_hole >= STEPS_TO_BELIEVE
            return False
        judge, was_believed = self._judges[in_turn], self.are_believed
        if judge.judge(self._counts[in_turn], 1) != "believed" and judge.holes >= HOLES_TO_DOUBT:
            self.are_believed = False
        return was_believed and not self.are_believed
