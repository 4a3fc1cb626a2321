"""Samples of the daemon's own figures."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from ingestd.sinks.influx.own_metrics import OwnMetrics
from tests.support.line_protocol import read_line


async def test_each_figure_is_a_point_with_the_time_of_its_sample() -> None:
    source = OwnMetrics("ingestd-1", lambda: {"records_stored": 12345678901234.0, "journal_bytes": 0.5})
    try:
        read = [read_line(point.line) for point in (await source.read()).points["metric"]]
        assert [(point.tags, float(str(point.fields["value"]))) for point in read] == [
            ({"component": "ingestd-1", "metric_type": "records_stored"}, 12345678901200.0),
            ({"component": "ingestd-1", "metric_type": "journal_bytes"}, 0.5),
        ]
        assert len({point.time_ns for point in read}) == 1
        assert (await source.read()).points == {}, "ten seconds have not passed"
    finally:
        await source.close()


async def test_the_newest_samples_are_kept_while_nobody_takes_them() -> None:
    taken = Counter[str]()

    def figures() -> dict[str, float]:
        taken["samples"] += 1
        return {"number": float(taken["samples"])}

    source = OwnMetrics("ingestd-1", figures, every_s=0.0)
    try:
        await source.read()
        while taken["samples"] < 1000:
            await asyncio.sleep(0)
        points = (await source.read()).points["metric"]
    finally:
        await source.close()
    last = taken["samples"]
    assert [point.fields for point in points][-1] == f"value={last}"
    assert len(points) == 360


async def test_a_daemon_without_figures_sends_nothing() -> None:
    source = OwnMetrics("ingestd-1", dict)
    assert (await source.read()).points == {}
    await source.close()


async def test_figures_that_cannot_be_taken_end_the_report() -> None:
    source = OwnMetrics("ingestd-1", lambda: {"x": 1 / 0})
    try:
        with pytest.raises(ZeroDivisionError):
            await source.read()
    finally:
        await source.close()
