"""Delays before the next attempt."""

from __future__ import annotations

import pytest

from ingestd.retry import Backoff


@pytest.mark.parametrize(("attempt", "expected"), [(0, 0.5), (1, 1.0), (2, 2.0), (5, 16.0), (6, 30.0), (10_000, 30.0)])
def test_the_limit_doubles_up_to_the_cap(attempt: int, expected: float) -> None:
    backoff = Backoff(base_s=0.5, cap_s=30.0, draw=lambda: 1.0)
    for _ in range(attempt):
        backoff.next_s()
    assert backoff.next_s() == expected


@pytest.mark.parametrize("draw", [0.25, 0.0])
def test_the_delay_is_a_random_share_of_the_limit(draw: float) -> None:
    backoff = Backoff(base_s=1.0, cap_s=30.0, draw=lambda: draw)
    assert [backoff.next_s() for _ in range(4)][3] == 8.0 * draw


def test_a_hundred_feeds_do_not_return_at_once() -> None:
    delays = {Backoff().next_s() for _ in range(100)}

    assert len(delays) > 90
    assert all(0 <= delay <= 0.5 for delay in delays)


def test_what_the_venue_asked_for_comes_on_top() -> None:
    backoff = Backoff(base_s=1.0, cap_s=8.0, draw=lambda: 1.0)

    assert [backoff.next_s(60.0), backoff.next_s(), backoff.next_s()] == [61.0, 2.0, 4.0]
    backoff.settled()
    assert backoff.next_s() == 1.0


def test_a_failure_that_repeats_is_logged_once_a_minute_and_anew_after_it_worked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock_s = -10.0
    monkeypatch.setattr("ingestd.log_limit.monotonic_s", lambda: clock_s)
    backoff = Backoff()
    logged = []
    for _ in range(13):
        clock_s += 10.0
        backoff.next_s()
        if backoff.is_logged(ConnectionError("it is away")):
            logged.append(backoff.attempts)

    assert logged == [1, 7, 13]
    assert backoff.is_logged(ConnectionError("it refuses the password"))
    assert not backoff.is_logged(ConnectionError("it is away"))
    backoff.settled()
    assert backoff.is_logged(ConnectionError("it is away"))
