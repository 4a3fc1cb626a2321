"""When a silent socket is dialled again. No clock."""

from __future__ import annotations

from ingestd.feeds.streams.staleness import Staleness

LIMIT_S = 30.0


def limit_s(staleness: Staleness) -> float:
    """How long the next socket may bring nothing; it is given up at that."""
    silent_s = LIMIT_S
    while not staleness.is_stale(silent_s, has_delivered=False):
        silent_s += LIMIT_S
    return silent_s


def test_a_socket_is_stale_at_the_limit_and_not_before() -> None:
    staleness = Staleness(LIMIT_S)

    assert not staleness.is_stale(LIMIT_S - 0.001, has_delivered=True)
    assert staleness.is_stale(LIMIT_S, has_delivered=True)


def test_each_socket_that_brings_nothing_doubles_the_limit_up_to_eight_times() -> None:
    staleness = Staleness(LIMIT_S)

    assert [limit_s(staleness) for _ in range(6)] == [LIMIT_S * factor for factor in (1, 2, 4, 8, 8, 8)]


def test_a_socket_that_falls_silent_after_data_doubles_nothing() -> None:
    staleness = Staleness(LIMIT_S)

    for _ in range(5):
        assert staleness.is_stale(LIMIT_S, has_delivered=True)


def test_data_brings_the_shortest_limit_back() -> None:
    staleness = Staleness(LIMIT_S)
    for _ in range(3):
        limit_s(staleness)
    assert not staleness.is_stale(4 * LIMIT_S, has_delivered=False)

    assert staleness.is_stale(4 * LIMIT_S, has_delivered=True)
    assert limit_s(staleness) == LIMIT_S
