"""What the last line of the log says of the counts."""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.ops.account import account, with_zeros, without_zeros
from ingestd.ops.metrics import Metrics


class Cursor:
    def __init__(self, **pending: int) -> None:
        self.pending = pending
        self.recovered: dict[str, int] = {}


@pytest.mark.parametrize("sinks", [("timescale",), ("timescale", "kafka")])
def test_a_line_says_no_zero_and_no_number_twice(sinks: tuple[str, ...]) -> None:
    metrics = Metrics()
    metrics.received.labels("x", "trades").inc(5)
    metrics.stored.labels("timescale", "trades").inc(3)
    counts = account(metrics, {name: Cursor(trades=2, ticks=0) for name in sinks})
    told: dict[str, Any] = {"received": {"trades": 5}, "stored": {"trades": 3}, "in_journal": {"trades": 2}}
    several = {
        "sinks": {
            "timescale": {"stored": {"trades": 3}, "in_journal": {"trades": 2}},
            "kafka": {"in_journal": {"trades": 2}},
        }
    }
    assert without_zeros(counts) == {**told, **(several if len(sinks) > 1 else {})}
    assert with_zeros(without_zeros(counts))["rejected"] == {}
    assert list(with_zeros(without_zeros(counts))["sinks"]) == (list(sinks) if len(sinks) > 1 else [])
