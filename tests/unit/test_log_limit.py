"""A flood of lines must not fill the disk, and must not hide what is new."""

from __future__ import annotations

import pytest

from ingestd.log_limit import LogLimit


@pytest.fixture
def now_s(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock, in one item."""
    clock = [1000.0]
    monkeypatch.setattr("ingestd.log_limit.monotonic_s", lambda: clock[0])
    return clock


def test_the_same_line_is_logged_once_a_minute(now_s: list[float]) -> None:
    limit = LogLimit()
    assert [limit.allows("bad_frame") for _ in range(3)] == [True, False, False]
    assert limit.held_back == 2
    now_s[0] += 59.9
    assert not limit.allows("bad_frame")
    now_s[0] += 0.1
    assert limit.allows("bad_frame")
    assert limit.held_back == 0


@pytest.mark.usefixtures("now_s")
def test_another_line_is_logged_at_once() -> None:
    limit = LogLimit()
    assert [limit.allows(line) for line in ("refused", "refused", "gone")] == [True, False, True]


def test_a_flood_of_different_lines_ends_at_twenty_a_minute(now_s: list[float]) -> None:
    limit = LogLimit()
    assert sum(limit.allows(f"stream {number}") for number in range(10_000)) == 20
    assert limit.held_back == 9980
    now_s[0] += 60.0
    assert limit.allows("stream 9999")


@pytest.mark.usefixtures("now_s")
def test_after_the_trouble_a_line_is_new_again() -> None:
    limit = LogLimit()
    limit.allows("it is away")
    limit.clear()
    assert limit.allows("it is away")
