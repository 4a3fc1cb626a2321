"""What is played through a recorder to see that its gap rows cover every hole in the ids, and are few."""

from __future__ import annotations

from unittest import mock

from ingestd.config.models import FeedConfig
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.streams import ledger
from ingestd.records import FeedGap
from ingestd.venues.exact import ExactFloat
from tests.support.records import NOW_US
from tests.unit.feeds.doubles import ListIntake

SYMBOL = "BTC/USDT"


class IdHistory:
    """One market's trades through a recorder, and what must be covered by gaps: each hole in the ids until the series
    is given up, and each interruption. No stream may begin more than a few rows in a minute."""

    def __init__(self) -> None:
        self.now_us = NOW_US
        self.intake = ListIntake()
        config = FeedConfig.model_validate({"exchange": "binance", "symbols": [SYMBOL], "channels": ["trades"]})
        with mock.patch.object(ledger, "now_us", self._now):
            self.reader = TapReader(config, self.intake)
            self.ledger = self.reader.ledger
            self.stream = self.ledger.add_stream("trades", SYMBOL)
        self.highest = 1000
        self.newest_us = self.last_us = self.now_us  # of the trade with that id; of the last trade of all
        self.cut_us: int | None = None
        self.uncovered: list[tuple[int, int]] = []  # the stretches that must be covered
        self.seen = 0  # so many gap records
        self.begun_us: dict[int, int] = {}  # when each row was seen first, by its key

    def play(self, data: bytes) -> None:
        """Two bits say what happens, six how much of it."""
        with mock.patch.object(ledger, "now_us", self._now):
            self._trade(1000)
            for byte in data:
                self._event(byte & 3, byte >> 2)
            self.now_us += 1_000_000
            self._settle()
        self.judge()

    def _now(self) -> int:
        return self.now_us

    def _event(self, kind: int, much: int) -> None:
        if kind == 0:  # one after the other
            for _ in range(much // 4 + 1):
                self._trade(self.highest + 1)
        elif kind == 1:  # a hole
            self._trade(self.highest + 2 + much)
        elif kind == 2:  # a venue that counts in threes
            for _ in range(much // 4 + 1):
                self._trade(self.highest + 3)
        elif much < 16:  # nothing for a while
            self.now_us += 4_000_000 * much
            self._settle()
        elif much < 32:
            self.cut_us = self.last_us if self.cut_us is None else self.cut_us
            self.reader.recorder.interrupted([self.stream], "disconnect", "fuzzed")
        elif much < 48:  # an old trade again
            self._trade(self.highest - much)
        else:
            self._settle()
        self._note_rows()

    def _trade(self, number: int) -> None:
        self.now_us += 20_000
        before_us = self.newest_us
        trade = {"id": str(number), "price": "1", "amount": "1", "timestamp": ExactFloat(self.now_us // 1000)}
        self.reader.on_trade(SYMBOL, trade, self.now_us)
        if number > self.highest + 1 and not self.ledger.counts.ids_not_consecutive:
            self.uncovered.append((before_us, self.now_us))
        if self.cut_us is not None:
            self.uncovered.append((self.cut_us, self.now_us))
            self.cut_us = None
        if number >= self.highest:
            self.highest, self.newest_us = number, self.now_us
        self.last_us = self.now_us
        self._note_rows()

    def _settle(self) -> None:
        self.ledger.settle_ids(self.now_us)
        self._note_rows()

    def _note_rows(self) -> None:
        for gap in self.intake.of(FeedGap)[self.seen :]:
            self.begun_us.setdefault(gap.time, gap.received_at)
            self.seen += 1

    def judge(self) -> None:
        """What the rows come to, as the table keeps them: an end only moves forward."""
        rows: dict[int, FeedGap] = {}
        gaps = self.intake.of(FeedGap)
        for gap in gaps:
            known = rows.get(gap.time)
            if known is None or (gap.ended_at is not None and (known.ended_at or 0) <= gap.ended_at):
                rows[gap.time] = gap
        for start_us, end_us in self.uncovered:
            assert any(
                row.time <= start_us and (row.ended_at is None or row.ended_at >= end_us) for row in rows.values()
            ), f"nothing covers {start_us} to {end_us}"
        begun = sorted(self.begun_us.values())
        # Six, and those that go back behind another: after an old trade, which says nothing of what came since.
        for first, later in zip(begun, begun[12:], strict=False):
            assert later - first >= 60_000_000, "a dozen rows within a minute"
        assert len(gaps) <= 4 * len(rows)  # it opens, ends, is remarked on, and a hole may begin where it did
