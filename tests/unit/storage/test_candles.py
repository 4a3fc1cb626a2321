"""Buckets and refresh windows, without a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.models import Config, RefreshRule, RetentionConfig
from ingestd.errors import ConfigError
from ingestd.storage import candle_rebuild
from ingestd.storage.candles import AGGREGATES, LEVELS, Level, interval_days, require_room
from ingestd.storage.rollups import bucket_window
from ingestd.storage.symbols import decimals_of

BY_NAME = {level.relation: level for level in LEVELS}
NOW = datetime(2026, 11, 21, 3, 30, 30, tzinfo=UTC)
instants = st.datetimes(datetime(2001, 1, 1), datetime(2026, 11, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("relation", "start", "following"),
    [
        ("candles_1m", datetime(2026, 11, 21, 3, 30, tzinfo=UTC), datetime(2026, 11, 21, 3, 31, tzinfo=UTC)),
        ("candles_4h", datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 21, 4, tzinfo=UTC)),
        ("candles_1w", datetime(2026, 11, 16, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)),
        ("candles_1M", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
    ],
)
def test_buckets(relation: str, start: datetime, following: datetime) -> None:
    level = BY_NAME[relation]
    assert level.start_of_bucket(NOW) == start
    assert level.next_bucket(start) == following


def test_the_month_after_december() -> None:
    assert BY_NAME["candles_1M"].next_bucket(datetime(2026, 12, 1, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)


@given(st.sampled_from(AGGREGATES), instants, st.timedeltas(timedelta(microseconds=1), timedelta(days=60)), instants)
def test_a_window_is_whole_buckets_that_cover_what_may_be_refreshed(
    level: Level, start: datetime, length: timedelta, kept_since: datetime
) -> None:
    window = bucket_window(level, start, start + length, NOW, kept_since)
    if window is None:
        assert start + length <= level.next_bucket(level.start_of_bucket(kept_since))
        return
    first, last = window
    assert level.start_of_bucket(first) == first >= kept_since or first <= start
    assert first >= kept_since
    assert level.start_of_bucket(last) == last <= level.start_of_bucket(NOW)
    assert last >= start + length or last == level.start_of_bucket(NOW)


def test_the_open_bucket_is_left_out() -> None:
    assert bucket_window(BY_NAME["candles_1h"], NOW - timedelta(minutes=5), NOW, NOW, None) is None


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_a_refresh_never_reaches_past_the_retention(trades_days: int, candles_days: int) -> None:
    retention = RetentionConfig(trades_days=trades_days, candles_1m_days=candles_days)
    text = BY_NAME["candles_1m"].lookback(retention)
    days = 0.5 if text == "12:00:00" else int(text.split()[0])
    assert days < min(trades_days, candles_days)


def test_zero_days_is_for_ever() -> None:
    retention = RetentionConfig(trades_days=0, candles_1m_days=0)
    assert BY_NAME["candles_1m"].lookback(retention) == "3650 days"
    require_room(Config.model_validate({"retention": retention}))


def test_every_short_retention_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        require_room(Config.model_validate({"retention": {"candles_1d_days": 3, "candles_4h_days": 1}}))
    assert {problem.path for problem in caught.value.problems} == {
        "retention.candles_1d_days",
        "retention.candles_4h_days",
    }


@pytest.mark.parametrize(
    ("relation", "rule", "problem"),
    [
        ("candles_1h", RefreshRule(back_days=3), None),
        (
            "candles_1h",
            RefreshRule(back_days=365),
            "refresh.candles_1h.back_days: looks back over rows that are dropped (found 365); use less than 365, see "
            "retention.candles_1m_days and retention.candles_1h_days",
        ),
        (
            "candles_1w",
            RefreshRule(back_days=14),  # two weeks, and the hour until they are settled
            "refresh.candles_1w.back_days: is less than two buckets and the time until they are settled (found 14); "
            "use at least 15",
        ),
        ("candles_1w", RefreshRule(back_days=15), None),
        (
            "candles_1m",
            RefreshRule(back_days=1, settled_minutes=1440),
            "refresh.candles_1m.back_days: is less than two buckets and the time until they are settled (found 1); "
            "use at least 2",
        ),
        (
            "fks_daily_account_performance",
            RefreshRule(back_days=7),
            "refresh.fks_daily_account_performance.back_days: looks back over rows that are dropped (found 7); use "
            "less than 7, see retention.fks_trades_days",
        ),
    ],
)
def test_a_refresh_that_cannot_be_is_refused(relation: str, rule: RefreshRule, problem: str | None) -> None:
    config = Config.model_validate({"retention": {"fks_trades_days": 7}, "refresh": {relation: rule}})
    if problem is None:
        require_room(config)
        return
    with pytest.raises(ConfigError) as caught:
        require_room(config)
    assert [str(found) for found in caught.value.problems] == [problem]


def test_a_rule_replaces_what_it_says_only() -> None:
    hours = BY_NAME["candles_1h"]
    assert hours.refresh(Config()) == ("364 days", "01:00:00", "00:15:00")
    rules = {"candles_1h": RefreshRule(back_days=3, every_minutes=1500)}
    assert hours.refresh(Config.model_validate({"refresh": rules})) == ("3 days", "01:00:00", "25:00:00")


def test_intervals_are_written_as_the_server_prints_them() -> None:
    assert [interval_days(days) for days in (1, 30)] == ["1 day", "30 days"]


@pytest.mark.parametrize(
    ("step", "decimals"),
    [("0.01", 2), ("0.010", 2), ("1E-8", 8), ("0.5", 1), ("1", 0), ("10", 0), ("8", None), (None, None), ("x", None)],
)
def test_decimals_of_a_step(step: str | None, decimals: int | None) -> None:
    assert decimals_of(step) == decimals


def test_windows_of_a_rebuild_are_whole_buckets_without_a_hole() -> None:
    minutes = candle_rebuild.LEVELS[0]
    start, end = datetime(2026, 5, 30, 22, 10, 31, tzinfo=UTC), datetime(2026, 6, 1, 3, 5, tzinfo=UTC)
    found = list(candle_rebuild.windows(minutes, start, end))
    first = datetime(2026, 5, 30, 22, 10, tzinfo=UTC)
    assert found == [
        (None, first),
        (first, first + timedelta(days=1)),
        (first + timedelta(days=1), end),
    ]
    assert list(candle_rebuild.windows(minutes, None, end)) == [(None, end)]
    assert list(candle_rebuild.windows(minutes, end + timedelta(seconds=1), end)) == [(None, end)]
