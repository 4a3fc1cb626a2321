"""Keep-alives and silence of a socket. No clock, no socket."""

from __future__ import annotations

import pytest

from ingestd.feeds.native.connection import Watchdog
from ingestd.venues.venue import KeepAlive

LIMIT_S = 8.0
NOW_S = 1000.0


def watchdog(keep_alive_s: float | None = None) -> Watchdog:
    """Of a socket that was opened at `NOW_S`."""
    made = Watchdog(LIMIT_S, None if keep_alive_s is None else KeepAlive(keep_alive_s))
    made.socket_opened(NOW_S)
    return made


def stale_s(
    watched: Watchdog, frames: int, after_s: float, *, excused: bool = False, late_s: float = 0.0
) -> float | None:
    return watched.stale_s(frames, NOW_S + after_s, excused=excused, late_s=late_s)


def test_a_keep_alive_is_due_once_an_interval() -> None:
    watched = watchdog(keep_alive_s=20)

    assert not watched.is_keep_alive_due(NOW_S + 19)
    assert watched.is_keep_alive_due(NOW_S + 20)
    assert not watched.is_keep_alive_due(NOW_S + 39)
    assert watched.is_keep_alive_due(NOW_S + 40)


def test_a_new_socket_needs_no_keep_alive_at_once() -> None:
    watched = watchdog(keep_alive_s=20)
    watched.socket_opened(NOW_S + 100)

    assert not watched.is_keep_alive_due(NOW_S + 119)


def test_a_venue_that_wants_no_keep_alive_gets_none() -> None:
    assert not watchdog().is_keep_alive_due(NOW_S + 1e9)


def test_it_looks_at_least_once_a_second_and_four_times_within_the_limit() -> None:
    assert Watchdog(30.0, None).interval_s == 1.0
    assert Watchdog(0.4, None).interval_s == pytest.approx(0.1)


def test_a_socket_is_stale_after_the_limit_without_data() -> None:
    watched = watchdog()

    assert stale_s(watched, 1, 5) is None
    assert stale_s(watched, 1, 5 + LIMIT_S - 1) is None
    assert stale_s(watched, 1, 5 + LIMIT_S) == LIMIT_S


def test_nothing_is_expected_while_it_is_excused() -> None:
    """Nothing was asked for, or we do not read."""
    watched = watchdog()

    assert stale_s(watched, 1, 100, excused=True) is None
    assert stale_s(watched, 1, 100 + LIMIT_S - 1) is None
    assert stale_s(watched, 1, 100 + LIMIT_S) == LIMIT_S


def test_what_came_while_the_process_was_stopped_is_not_read_yet() -> None:
    watched = watchdog()

    assert stale_s(watched, 1, 100, late_s=99.0) is None
    assert stale_s(watched, 1, 100 + LIMIT_S) == LIMIT_S


def test_each_socket_that_brings_nothing_may_be_silent_for_longer() -> None:
    watched = watchdog()
    assert stale_s(watched, 0, LIMIT_S) == LIMIT_S

    watched.socket_opened(NOW_S)
    assert stale_s(watched, 0, LIMIT_S) is None
    assert stale_s(watched, 0, 2 * LIMIT_S) == 2 * LIMIT_S

    watched.socket_opened(NOW_S)
    assert stale_s(watched, 1, 1) is None  # it delivers: the limit is the shortest again
    assert stale_s(watched, 1, 1 + LIMIT_S) == LIMIT_S
