"""A daemon that publishes, is away and sends again, among forgers who name its places, and a reader that restarts.

Every three bytes are a step. The oracle keeps lists of what was sent and believed, and knows nothing of marks.
"""

from __future__ import annotations

from ingestd.sources.marks import Marks, Verdict
from ingestd.storage.writer.positions import Mark

BEGIN_US = 1_790_000_000_000_000
SECOND_US = 1_000_000
JOURNAL = "0123456789abcdef"
_STEPS = 300
_AHEAD_BATCHES = 100_000
_BATCHES_A_SECOND = 10_000
_CLOCK_AHEAD_US = 60 * SECOND_US


class PlaceHistory:
    """Plays the bytes; raises AssertionError where a record was lost or doubled that must not be."""

    def __init__(self) -> None:
        self.marks = Marks({})
        self.row: dict[str, Mark] = {}
        self.now_us = BEGIN_US
        self.position = 0
        self.sent: list[tuple[int, int, bool]] = []  # place, received at, whether it was believed
        self.forged: list[tuple[int, int]] = []  # those that were believed
        self.first: tuple[int, int] | None = None
        self.newest_us = 0
        self.restarts = 0

    def play(self, data: bytes) -> None:
        for step in range(0, min(len(data), 3 * _STEPS) - 2, 3):
            kind, first, second = data[step : step + 3]
            if kind < 128:
                self.publish(first, second)
            elif kind < 160:
                for place, received_at, believed in self.sent[-first:] if first else ():
                    verdict = self.judge(place, received_at)
                    assert verdict is Verdict.REPEATED or not believed, "a repetition is new"
            elif kind < 224:
                self.forge(kind, first, second)
            elif kind < 240:
                self.now_us += (first * 256 + second) * 60 * SECOND_US
            else:
                self.marks, self.restarts = Marks(dict(self.row)), self.restarts + 1

    def publish(self, first: int, second: int) -> None:
        """The daemon seals so many batches at 50 a second, and the last has a record for this partition."""
        self.position += 1 + first * second
        self.now_us += (1 + first * second) * SECOND_US // 50
        place, received_at = self.position << 20, self.now_us
        verdict = self.judge(place, received_at)
        if verdict is Verdict.REPEATED:
            assert any(forged >= place for forged, _ in self.forged), "a record is lost"
            assert any(at >= received_at for _, at in self.forged), "a record is lost"
        if verdict is Verdict.DOUBTFUL:
            assert self.forged, "the daemon is called a forger"
        self.sent.append((place, received_at, verdict is Verdict.NEW))

    def forge(self, kind: int, first: int, second: int) -> None:
        position = min((first + 1) << (second % 44), 2**43 - 1) if kind % 2 else self.position + first * second
        received_at = self.now_us + _CLOCK_AHEAD_US * (kind % 8) // 7 - (kind % 3) * second * SECOND_US
        place = (position << 20) + 1
        if self.judge(place, received_at) is Verdict.NEW:
            self.forged.append((place, received_at))

    def judge(self, place: int, received_at: int) -> Verdict:
        verdict = self.marks.judge((JOURNAL, place), received_at)
        if verdict is Verdict.NEW:
            self.first = self.first or (place, received_at)
            self.newest_us = max(self.newest_us, received_at)
            self.row.update(self.marks.raised())
            self.marks.stored()
            self.is_within_the_rate()
        return verdict

    def is_within_the_rate(self) -> None:
        """Whoever wrote what: a mark is not further than the fastest daemon could be, a restart of the reader apart."""
        assert self.first is not None
        came = (self.row[JOURNAL].position >> 20) - (self.first[0] >> 20)
        may = _AHEAD_BATCHES + (self.newest_us - self.first[1]) * _BATCHES_A_SECOND // SECOND_US + 1
        assert came <= may * (1 + self.restarts), "a mark is ahead of every daemon"
