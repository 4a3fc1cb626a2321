"""The measuring subscriber's arithmetic."""

from __future__ import annotations

from ingestd.clock import iso_text
from ingestd.lab.sim.subscriber import Ages
from tests.support.records import NOW_US


def test_ages_are_taken_from_the_timestamps_however_they_are_cut() -> None:
    stream = b"".join(f'{{"x":1,"timestamp":"{iso_text(NOW_US + n * 1000)}"}}\r\n'.encode() for n in range(5))
    for cut in range(len(stream)):
        ages = Ages()
        ages.feed(stream[:cut], NOW_US + 10_000)
        ages.feed(stream[cut:], NOW_US + 10_000)
        assert ages.ages == [10_000, 9_000, 8_000, 7_000, 6_000]
    assert ages.summary() == {"messages": 5, "p50_ms": 8.0, "p99_ms": 10.0, "max_ms": 10.0}


def test_nothing_heard() -> None:
    assert Ages().summary() == {"messages": 0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
