"""Values of indicators on their way to the server."""

from __future__ import annotations

import pytest

from ingestd.sinks.redis import indicators
from ingestd.sinks.redis.indicators import INDICATOR_TTL_S, RecentIndicators


def test_a_value_is_handed_out_once_and_again_after_a_refill_with_the_rest_of_its_life() -> None:
    recent = RecentIndicators()
    recent.take("a", (b"value", b"1"), 100.0)
    recent.take("b", (b"value", b"2"), 110.0)
    recent.take("a", (b"value", b"3"), 120.0)
    assert recent.pop(120.0) == ("a", (b"value", b"3"), INDICATOR_TTL_S)
    assert recent.pop(120.0) == ("b", (b"value", b"2"), INDICATOR_TTL_S - 10)
    assert recent.pop(120.0) is None
    assert recent.is_clean
    recent.refill()
    assert recent.pop(130.0) == ("b", (b"value", b"2"), INDICATOR_TTL_S - 20)
    assert recent.pop(130.0) == ("a", (b"value", b"3"), INDICATOR_TTL_S - 10)


def test_what_has_expired_is_not_written_again() -> None:
    recent = RecentIndicators()
    recent.take("old", (b"value", b"1"), 0.0)
    recent.take("new", (b"value", b"1"), 200.0)
    recent.refill()
    assert recent.pop(INDICATOR_TTL_S + 1.0) == ("new", (b"value", b"1"), INDICATOR_TTL_S - 101)
    assert recent.pop(INDICATOR_TTL_S + 1.0) is None


def test_too_many_keys_forget_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indicators, "MAX_INDICATORS_KEPT", 2)
    recent = RecentIndicators()
    for key in ("a", "b", "c"):
        recent.take(key, (), 0.0)
    kept = [shown[0] for _ in range(3) if (shown := recent.pop(0.0)) is not None]
    assert kept == ["b", "c"]
