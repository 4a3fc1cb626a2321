"""Microseconds where the venue says them, milliseconds where it does not, never a number that is no time."""

from __future__ import annotations

import pytest

from ingestd.venues.venue_time import time_us

MS = 1_618_677_817_075
RECEIVED = 1_700_000_000_000_000


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"time": "2021-04-17T16:43:37.075687Z"}, MS * 1000 + 687),
        ({"time": "2021-04-17T16:43:37.0756Z"}, MS * 1000 + 600),
        ({"timestamp": "2021-04-17T16:43:37.075687123+00:00"}, MS * 1000 + 687),
        ({"time": "2021-04-17T16:43:37.075Z"}, MS * 1000),
        ({"time": "2021-04-17T16:43:37.999687Z"}, MS * 1000),  # another time than the one ccxt took
        ({"ts": MS * 1000 + 687}, MS * 1000 + 687),
        ({"create_time_ms": f"{MS}.4578"}, MS * 1000 + 457),
        ({"T": str(MS * 1_000_000 + 687_999)}, MS * 1000 + 687),
        ({"T": MS}, MS * 1000),
        ({"trade_id": MS * 1000 + 687}, MS * 1000),  # a number that begins like the time is not a time
        ({"time": None, "x": True}, MS * 1000),
        ([], MS * 1000),
        (None, MS * 1000),
    ],
)
def test_the_venues_own_precision_is_kept(info: object, expected: int) -> None:
    assert time_us(MS, info, RECEIVED) == expected


def test_without_an_exchange_time_it_is_ours() -> None:
    assert time_us(None, {"time": "2021-04-17T16:43:37.075687Z"}, RECEIVED) == RECEIVED
