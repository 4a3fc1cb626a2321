"""Waits, redirects and frames: what a venue may ask for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ingestd.errors import RATE_LIMIT_PAUSE_S, RateLimited, RedirectRefused
from ingestd.feeds.urls import redirected, shown
from ingestd.feeds.wire_limits import (
    CONTROL_FRAME_COST,
    FRAGMENT_COST,
    MAX_COLONS,
    MAX_COMMAS,
    MAX_CONTAINERS,
    MAX_FRACTIONS,
    MAX_MESSAGE_COMMAS,
    MAX_MESSAGE_FRACTIONS,
    FrameBudget,
    holds_too_much,
    message_holds_too_much,
    too_fragmented,
)
from ingestd.retry import retry_after_s

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("0.5", 0.5),
        ("Sat, 28 Nov 2026 12:02:00 GMT", 120.0),
        (
            "Saturday, 28-Nov-26 12:02:00 GMT",
            120.0,
        ),  # the older forms of https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7
        ("Sat Nov 28 12:02:00 2026", 120.0),
        ("Sat, 28 Nov 2026 11:00:00 GMT", 0.0),
        ("-7", 0.0),
        ("nan", 0.0),
        ("tomorrow", 0.0),
        ("", 0.0),
        (None, 0.0),
        ("1e308", 1e308),
        ("inf", float("inf")),
    ],
)
def test_a_wait_is_named_in_seconds_or_as_a_date(said: str | None, seconds: float) -> None:
    assert retry_after_s(said, NOW) == seconds


def test_no_wait_is_longer_than_an_hour_and_one_that_is_cut_says_so() -> None:
    long, usual, none = RateLimited("429", 1e308), RateLimited("429", 120.0), RateLimited("429")

    assert (long.pause_s, usual.pause_s, none.pause_s) == (3600.0, 120.0, RATE_LIMIT_PAUSE_S)
    assert (long.is_cut, usual.is_cut, none.is_cut) == (True, False, False)
    assert str(long) == "429 (asks for a wait of 1e+308 s, and is asked again after 3600 s)"
    assert str(usual) == "429"
    timedelta(seconds=long.pause_s)


@pytest.mark.parametrize(
    ("asked", "location", "target"),
    [
        ("https://api.x.com/v1?k=s", "/v2", "https://api.x.com/v2"),
        ("https://api.x.com/v1/a", "b?c=d", "https://api.x.com/v1/b?c=d"),
        ("https://api.x.com/v1", "https://API.x.com:443/v2", "https://API.x.com:443/v2"),
        ("wss://ws.x.com/ws", "https://ws.x.com/v2", "wss://ws.x.com/v2"),
        ("ws://127.0.0.1:80/ws", "http://127.0.0.1/v2", "ws://127.0.0.1/v2"),
        ("https://api.x.com/v1", "http://api.x.com/v1", None),
        ("https://api.x.com/v1", "http://api.x.com:443/v1", None),
        ("wss://ws.x.com/ws", "ws://ws.x.com/ws", None),
        ("ws://ws.x.com/ws", "wss://ws.x.com/ws", None),
        ("https://api.x.com/v1", "https://api.x.com:8443/v1", None),
        ("https://api.x.com/v1", "https://x.com/v1", None),
        ("https://api.x.com/v1", "//thief.example/v1", None),
        ("https://api.x.com/v1", "https://api.x.com@thief.example/", None),
        ("https://api.x.com/v1", "https://api.x.com.thief.example/", None),
        ("https://api.x.com/v1", "https://169.254.169.254/latest", None),
        ("https://api.x.com/v1", "file:///etc/passwd", None),
        ("https://api.x.com/v1", "https://[::1", None),
        ("https://api.x.com/v1", "https://api.x.com:nine/", None),
        ("https://api.x.com/v1", "/v2\x7f", None),
    ],
)
def test_a_redirect_stays_on_its_server(asked: str, location: str, target: str | None) -> None:
    if target is not None:
        assert redirected(asked, location) == target
        return
    with pytest.raises(RedirectRefused, match="refused"):
        redirected(asked, location)


def test_a_url_is_shown_without_what_may_be_secret() -> None:
    assert shown("https://u:p@api.x.com:8/v1?signature=s#f") == "https://api.x.com:8/v1"
    assert shown("https://api.x.com/\x1b[31m") == "https://api.x.com/?[31m"


def test_a_message_may_have_as_many_frames_as_its_bytes_explain() -> None:
    assert not too_fragmented(256, 0)
    assert too_fragmented(257, 0)
    assert not too_fragmented(10_000, 10_000 * 1024)
    assert too_fragmented(5_000_000, 10_000_000)


def test_a_budget_is_for_a_second() -> None:
    budget = FrameBudget()
    for second in range(5):  # the most that is never too much
        assert not any(budget.is_overdrawn(CONTROL_FRAME_COST, second + 0.0005 * n) for n in range(1000))
    assert any(budget.is_overdrawn(CONTROL_FRAME_COST, 7.0) for _ in range(2002))
    slow = FrameBudget()
    assert not any(slow.is_overdrawn(FRAGMENT_COST, n / 10_000) for n in range(100_000))


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (b"1,", MAX_COMMAS),
        (b'"":', MAX_COLONS),
        (b"{}", MAX_CONTAINERS),
        (b"[]", MAX_CONTAINERS),
        (b"0.1 ", MAX_FRACTIONS),
        (b"7e1 ", MAX_FRACTIONS),
        (b"1E-9 ", MAX_FRACTIONS),
    ],
)
def test_a_reply_may_hold_so_many_values_of_each_kind(value: bytes, limit: int) -> None:
    assert not holds_too_much(value * limit)
    assert holds_too_much(value * (limit + 1))


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ("1,", MAX_MESSAGE_COMMAS),
        ("{}", MAX_CONTAINERS),
        ("0.1 ", MAX_MESSAGE_FRACTIONS),
        ("\ud800,", MAX_MESSAGE_COMMAS),
    ],
)
def test_a_message_may_hold_so_many_values_of_each_kind(value: str, limit: int) -> None:
    assert not message_holds_too_much(value * limit)
    assert message_holds_too_much(value * (limit + 1))


def test_the_longest_lists_of_markets_are_not_too_much() -> None:
    """As many values as Binance's spot list, and as many fractions as a list of 5,000 options."""
    permissions = ",".join(f'"TRD_GRP_{number:03}"' for number in range(180))
    filters = ",".join(['{"filterType":"X","minPrice":"0.01000000","maxPrice":"1.00000000","tickSize":"0.0100"}'] * 5)
    fields = ",".join(f'"field{number}":1' for number in range(25))
    spot = f'{{{fields},"filters":[{filters}],"permissionSets":[[{permissions}]]}},'.encode()
    option = (
        b'{"tick_size":0.0001,"steps":[{"above":0.005,"tick":0.0005}],"fees":[0.0003,0.0003],"min":0.1,"size":1.0},'
    )

    assert not holds_too_much(spot * 3_500)
    assert not holds_too_much(option * 5_000)
