"""What the doctor says of clocks and of late rows, and how it writes figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingestd.config.loading import parse
from ingestd.storage.doctor import clocks, lateness
from ingestd.storage.doctor.clocks import ClockFacts
from ingestd.storage.doctor.findings import age, interval, size
from ingestd.storage.doctor.lateness import LateFacts, Sample

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


@pytest.mark.parametrize(
    ("server", "answered", "level"),
    [
        (0.1, 0.2, None),
        (1.2, 0.2, None),  # a second is tolerated
        (1.3, 0.2, "warning"),
        (-1.1, 0.2, "warning"),
        (3.0, 5.0, None),  # a slow answer explains it
        (61.0, 0.2, "error"),  # beyond validation.max_ahead_s
        (-61.0, 0.2, "error"),
    ],
)
def test_clocks(server: float, answered: float, level: str | None) -> None:
    facts = ClockFacts(NOW, NOW + seconds(server), NOW + seconds(answered))
    found = list(clocks.judge(facts, parse({}, {})))
    assert [finding.level for finding in found] == ([] if level is None else [level])
    assert all(("ahead of" in finding.message) == (server > 0) for finding in found)
    assert all("timedatectl" in finding.remedy for finding in found)


@pytest.mark.parametrize(
    ("rows", "late", "found"), [(1000, 10, False), (1000, 11, True), (99, 99, False), (100, 2, True), (0, 0, False)]
)
def test_late_rows(rows: int, late: int, found: bool) -> None:
    sample = Sample("trades", rows, late, seconds(7200) if rows else None)
    judged = list(lateness.judge(LateFacts((sample,)), parse({}, {})))
    assert bool(judged) is found
    for finding in judged:
        assert (finding.level, finding.subject) == ("warning", "public.trades")
        assert "one by 2.0 hours" in finding.message
        assert "FROM public.trades" in finding.remedy


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (size(0), "0 B"),
        (size(1023), "1023 B"),
        (size(1536), "1.5 KiB"),
        (size(3 * 2**40), "3.0 TiB"),
        (size(5000 * 2**50), "5000.0 PiB"),
        (age(seconds(0.5)), "0.5 seconds"),
        (age(seconds(90)), "1.5 minutes"),
        (age(timedelta(days=2)), "2.0 days"),
        (interval(timedelta(days=3)), "3 days"),
        (interval(timedelta(days=1, hours=12)), "1 days 12:00:00"),
        (interval(seconds(5400)), "01:30:00"),
        (interval(seconds(61)), "00:01:01"),
    ],
)
def test_figures(text: str, expected: str) -> None:
    assert text == expected
