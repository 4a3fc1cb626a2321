"""RFC 3339 to microseconds, against the standard library; what is no UTC time is refused. With ccxt: microseconds where
the venue says them, milliseconds where it does not, never a number that is no time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.venues import times
from ingestd.venues.times import rfc3339_us, time_us

MS = 1_618_677_817_075
RECEIVED = 1_700_000_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)), st.integers(0, 9))
def test_every_time_with_any_number_of_decimals(moment: datetime, decimals: int) -> None:
    text = f"{moment.isoformat(timespec='microseconds')}123"
    kept = text[: 19 + bool(decimals) + decimals]
    exact = moment.replace(microsecond=int(kept[20:26].ljust(6, "0")), tzinfo=UTC)

    assert rfc3339_us(f"{kept}Z") == (exact - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize("end", ["Z", "+00:00", "+0000"])
def test_utc_in_its_spellings(end: str) -> None:
    assert rfc3339_us(f"2021-04-17T16:43:37.075687{end}") == 1_618_677_817_075_687


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2021-04-17",
        "2021-04-17T16:43:37",
        "2021-04-17T16:43:37.075687",
        "2021-04-17T16:43:37.075687+02:00",
        "2021-04-17T16:43:37.07568_Z",
        "2021-04-17T16:43:37,075687Z",
        "2021-04-17T16:43:37.0756871234Z",
        "2021-04-17 16:43:37.075687Z",
        "2021-02-30T16:43:37.075687Z",
        "2021-04-17T16:43:60.075687Z",
        "２021-04-17T16:43:37.075687Z",
        "1618677817075687Z",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        rfc3339_us(text)


def test_few_seconds_are_remembered() -> None:
    for second in range(3_000):
        rfc3339_us(f"2021-04-17T16:{second // 60:02d}:{second % 60:02d}.5Z")

    assert len(times.known_seconds) <= 1024


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
