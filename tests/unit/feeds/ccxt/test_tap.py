"""URLs, errors and options of the tapped exchanges."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any

import ccxt
import pytest

from ingestd.errors import ChannelError, FeedError, RateLimited, Refused, SymbolError
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.tap import make_exchange
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.urls import mapped_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://stream.binance.com:9443/ws/0", "ws://127.0.0.1:1/ws/0"),
        ("wss://stream.binance.com:9443/stream/1", "ws://127.0.0.1:2/1"),
        ("https://other.example/a", "https://other.example/a"),
    ],
)
def test_the_longest_prefix_is_replaced(url: str, expected: str) -> None:
    url_map = {
        "wss://stream.binance.com:9443": "ws://127.0.0.1:1",
        "wss://stream.binance.com:9443/stream": "ws://127.0.0.1:2",
    }

    assert mapped_url(url, url_map) == expected


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ccxt.BadSymbol("x"), SymbolError),
        (ccxt.NotSupported("x"), ChannelError),
        (ccxt.RateLimitExceeded("x"), RateLimited),
        (ccxt.DDoSProtection("x"), RateLimited),
        (ccxt.BadRequest("x"), Refused),
        (ccxt.ExchangeError("x"), Refused),
        (ccxt.NetworkError("x"), FeedError),
        (ccxt.RequestTimeout("x"), FeedError),
        (ccxt.ExchangeNotAvailable("x"), FeedError),
        (KeyError("x"), FeedError),
    ],
)
def test_errors_become_ours(error: Exception, kind: type[FeedError]) -> None:
    assert type(translated(error)) is kind


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed"), "the connection is refused"),
        (OSError(errno.ECONNREFUSED, "Multiple exceptions: [Errno 111]"), "the connection is refused"),
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved"),
        (TimeoutError(), "no answer in time"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), "there is no way to it"),
    ],
)
def test_a_venue_that_is_not_reached_is_named_with_why(cause: Exception, words: str) -> None:
    error = ccxt.ExchangeNotAvailable("x GET https://x.example/time?signature=s3cret")
    error.__cause__ = cause
    assert str(translated(error)) == (
        f"x: https://x.example/time: {words}; is this machine online, and is `url_map` right?"
    )


def test_another_error_keeps_its_words() -> None:
    error = ccxt.ExchangeNotAvailable("x 503 Service Unavailable: down for an hour")
    error.__cause__ = OSError(errno.ECONNRESET, "Connection reset by peer")
    assert str(translated(error)) == "ExchangeNotAvailable: x 503 Service Unavailable: down for an hour"


def test_a_refused_handshake_is_a_rate_limit_with_its_pause() -> None:
    handshake = SimpleNamespace(status=429, headers={"Retry-After": "17"})

    error = translated(ccxt.NetworkError(handshake))

    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 17.0


async def test_options_are_merged_deeply_over_ccxts_own() -> None:
    exchange = make_exchange("binance", Tap(), options={"watchTrades": {"name": "aggTrade"}})

    assert exchange.options["watchTrades"]["name"] == "aggTrade"
    assert exchange.options["tradesLimit"] == 10_000
    assert "fetchMarkets" in exchange.options


async def test_pings_are_sent_more_often_but_not_to_venues_that_do_not_answer_them() -> None:
    assert make_exchange("binance", Tap()).streaming["keepAlive"] == 15_000
    assert make_exchange("kraken", Tap()).streaming["keepAlive"] == 6_000
    assert make_exchange("bingx", Tap()).streaming["keepAlive"] == 1_800_000


@pytest.mark.parametrize(
    ("exchange_id", "error", "fails"),
    [
        ("coinbaseexchange", ccxt.ExchangeError("no such page"), False),
        ("coinbaseexchange", ccxt.RateLimitExceeded("slow down"), True),
        ("hyperliquid", ccxt.ExchangeError("no such page"), True),
    ],
)
async def test_markets_load_without_the_currencies(exchange_id: str, error: Exception, fails: bool) -> None:
    exchange = make_exchange(exchange_id, Tap())

    async def fetch(*_: Any, **__: Any) -> Any:
        raise error

    exchange.fetch = fetch
    if fails:
        with pytest.raises(type(error)):
            await exchange.fetch_currencies()
    else:
        assert await exchange.fetch_currencies() == {}


async def test_an_unknown_exchange() -> None:
    with pytest.raises(KeyError):
        make_exchange("nosuchvenue", Tap())
