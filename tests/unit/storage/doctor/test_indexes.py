"""What the doctor says of indexes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ingestd.config.loading import parse
from ingestd.storage.doctor import indexes
from ingestd.storage.doctor.indexes import Index, IndexFacts

NOW = datetime(2026, 3, 1, tzinfo=UTC)
UNUSED = Index("public.mine", "public.trades", 64 * 2**20, scans=0, needed=False)


def found(index: Index, days: float = 8) -> list[tuple[str, str]]:
    facts = IndexFacts(NOW, NOW - timedelta(days=days), (index,))
    return [(finding.level, finding.remedy) for finding in indexes.judge(facts, parse({}, {}))]


def test_an_index_that_nobody_reads() -> None:
    assert found(UNUSED) == [("warning", "DROP INDEX public.mine;")]


@pytest.mark.parametrize(
    "index", [replace(UNUSED, scans=1), replace(UNUSED, needed=True), replace(UNUSED, bytes=2**20)]
)
def test_an_index_that_is_used_or_needed_or_small(index: Index) -> None:
    assert found(index) == []


def test_a_server_that_has_not_counted_for_a_week_says_nothing() -> None:
    assert found(UNUSED, days=6.9) == []


def test_an_index_that_is_not_valid() -> None:
    ((level, remedy),) = found(replace(UNUSED, valid=False), days=0)
    assert level == "error"
    assert remedy.startswith("DROP INDEX public.mine;")
