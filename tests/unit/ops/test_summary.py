"""The line a minute: an independent count of what was done to the numbers."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from ingestd.ops import summary
from ingestd.ops.metrics import Metrics
from ingestd.ops.summary import Summary


def test_it_counts_since_the_last_and_shows_what_is_behind() -> None:
    metrics = Metrics()
    told = Summary(metrics)
    metrics.received.labels("kraken", "trades").inc(7)
    metrics.received.labels("binance", "ticks").inc(5)
    metrics.stored.labels("timescale", "trades").inc(6)
    metrics.stored.labels("kafka", "ticks").inc(4)
    metrics.sink_lag_records.labels("timescale").set(6)
    metrics.sink_lag_s.labels("timescale").set(1.26)
    metrics.source_lag.labels("events").set(3)
    metrics.gaps_open.labels("kraken", "trades").set(2)
    metrics.gaps.labels("kraken", "trades", "disconnect").inc(2)
    assert told.line() == {
        "received": 12,
        "stored": {"timescale": 6, "kafka": 4},
        "lag_s": {"timescale": 1.3},
        "waiting": {"timescale": 6, "events": 3},
        "gaps_open": 2,
        "gaps_new": 2,
    }
    metrics.received.labels("kraken", "trades").inc(1)
    metrics.stored.labels("timescale", "trades").inc(6)
    metrics.dropped.labels("ticks", "overload").inc(9)
    metrics.gaps_open.labels("kraken", "trades").set(0)
    line = told.line()
    assert (line["received"], line["stored"], line["dropped"]) == (1, {"timescale": 6, "kafka": 0}, 9)
    assert (line["gaps_open"], line["gaps_new"], "rejected" in line) == (0, 0, False)


async def test_it_is_a_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "EVERY_S", 0.01)
    metrics = Metrics()
    with capture_logs() as lines:
        task = asyncio.create_task(Summary(metrics).run())
        async with asyncio.timeout(60):
            while len(lines) < 2:
                await asyncio.sleep(0.005)
        task.cancel()
    assert {line["event"] for line in lines} == {"summary"}
