"""Three refusals, the quarantine they lead to, and what ends it. No clock."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from ingestd.feeds.streams.quarantine import (
    QUARANTINE_S,
    REFUSALS_TO_QUARANTINE,
    RETRY_S,
    SHORT_QUARANTINE_S,
    Quarantine,
    show_quarantined,
)
from ingestd.status import StreamStatus

NOW_S = 1000.0


def quarantined(times: int = 1) -> Quarantine:
    """Refused until it was quarantined, that often in a row."""
    made = Quarantine()
    for _ in range(times):
        while not made.refused(0, NOW_S):
            pass
        made.begin(NOW_S)
    return made


def test_what_was_never_refused_may_be_asked_for() -> None:
    assert Quarantine().left_s(0, NOW_S) == 0


def test_the_third_refusal_is_one_too_many() -> None:
    quarantine = Quarantine()

    assert [quarantine.refused(0, NOW_S) for _ in range(4)] == [False, False, True, True]


def test_after_a_refusal_it_is_asked_for_again_in_seconds() -> None:
    quarantine = Quarantine()
    quarantine.refused(0, NOW_S)

    assert quarantine.left_s(0, NOW_S) == RETRY_S
    assert quarantine.left_s(0, NOW_S + RETRY_S) == 0


def test_a_record_in_between_makes_the_next_refusal_the_first() -> None:
    quarantine = Quarantine()

    assert [quarantine.refused(received, NOW_S) for received in (0, 0, 7, 7, 7)] == [False] * 4 + [True]


def test_a_quarantine_lasts_an_hour_and_then_one_refusal_is_enough() -> None:
    quarantine = quarantined()

    assert quarantine.left_s(0, NOW_S + QUARANTINE_S - 1) == 1
    assert quarantine.left_s(0, NOW_S + QUARANTINE_S) == 0
    assert quarantine.refused(0, NOW_S + QUARANTINE_S)


def test_a_record_ends_it_at_once() -> None:
    quarantine = quarantined()

    assert quarantine.left_s(1, NOW_S + 1) == 0


def test_where_nothing_delivers_it_lasts_a_minute_each_time() -> None:
    quarantine = quarantined(times=5)
    quarantine.begin(NOW_S, nothing_delivers=True)

    assert quarantine.left_s(0, NOW_S) == SHORT_QUARANTINE_S


@pytest.mark.parametrize(
    ("times", "expected_s"), [(1, 60), (2, 120), (3, 240), (6, 1920), (7, QUARANTINE_S), (99, QUARANTINE_S)]
)
def test_a_lost_socket_shortens_it_less_each_time(times: int, expected_s: float) -> None:
    quarantine = quarantined(times)
    quarantine.socket_lost()
    quarantine.socket_lost()  # another loss changes nothing

    assert quarantine.left_s(0, NOW_S) == expected_s


def test_a_lost_socket_does_not_lengthen_the_wait_after_a_refusal() -> None:
    quarantine = Quarantine()
    quarantine.refused(0, NOW_S)
    quarantine.socket_lost()

    assert quarantine.left_s(0, NOW_S) == RETRY_S


def test_what_is_cleared_begins_anew() -> None:
    quarantine = quarantined(times=5)
    quarantine.clear()

    assert quarantine.left_s(0, NOW_S) == 0
    assert [quarantine.refused(0, NOW_S) for _ in range(REFUSALS_TO_QUARANTINE)] == [False, False, True]
    quarantine.begin(NOW_S)
    quarantine.socket_lost()
    assert quarantine.left_s(0, NOW_S) == SHORT_QUARANTINE_S


def test_the_reason_is_in_the_status_and_in_the_log() -> None:
    stream = StreamStatus("trades", "A/B")
    with capture_logs() as logs:
        show_quarantined(stream, "no such market" + "!" * 400, "venue")

    assert stream.quarantined == "no such market" + "!" * 286
    assert logs == [
        {
            "event": "quarantined",
            "log_level": "warning",
            "feed": "venue",
            "channel": "trades",
            "symbol": "A/B",
            "error": stream.quarantined,
        }
    ]
