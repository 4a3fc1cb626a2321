"""From when to when a damaged journal file may have lost something."""

from __future__ import annotations

import pytest

from ingestd.journal.damage import damage_gaps, missing_span

KEPT = [(2, 20), (3, 30), (6, 60), (7, 70)]
STREAMS = {("binance", "trades", "BTC/USDT"), ("binance", "ticks", "BTC/USDT"), ("okx", "trades", "ETH/USDT")}


@pytest.mark.parametrize(
    ("sealed", "first", "last", "span"),
    [
        (KEPT, 2, 7, (30, 60)),
        (KEPT, 1, 7, (10, 60)),  # its first batch, too
        (KEPT, 2, 9, (30, 99)),  # its last ones, too
        (KEPT[:2], 2, 3, (99, 99)),  # nothing
        (KEPT[:2], None, None, (30, 99)),  # nobody knows how many there were
        ([], 4, 6, (10, 99)),
        ([], None, None, (10, 99)),
    ],
)
def test_the_span_reaches_from_one_sound_batch_to_the_next(
    sealed: list[tuple[int, int]], first: int | None, last: int | None, span: tuple[int, int]
) -> None:
    assert missing_span(sealed, first, last, begins_at=10, ends_at=99) == span


def test_a_gap_for_each_stream_of_the_channels() -> None:
    gaps = damage_gaps(STREAMS, {"trades"}, (5_000_000, 9_000_000), "1.journal")
    assert [(gap.exchange, gap.symbol, gap.channel) for gap in gaps] == [
        ("binance", "BTC/USDT", "trades"),
        ("okx", "ETH/USDT", "trades"),
    ]
    assert {(gap.time, gap.ended_at) for gap in gaps} == {(3_000_000, 9_000_000)}
    assert len(damage_gaps(STREAMS, None, (5_000_000, 9_000_000), "1.journal")) == 3
