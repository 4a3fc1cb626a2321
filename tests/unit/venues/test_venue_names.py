"""What is put right on a socket between the exchange library's names and the venue's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ingestd.venues.all import facts_of
from ingestd.venues.kraken import kraken_name
from ingestd.venues.names import VenueNames
from ingestd.venues.venue import Markets

CALL, PUT = "BTC-26DEC25-100000-C-USDT", "BTC-26DEC25-100000-P-USDT"


def names_of(exchange: str, markets: Callable[[], Markets]) -> VenueNames:
    """The names of a new socket."""
    make = facts_of(exchange).corrections.names
    assert make is not None
    return make(markets)


def asked(*topics: str) -> dict[str, Any]:
    return {"op": "subscribe", "req_id": "1", "args": list(topics)}


def test_a_coins_options_are_asked_for_once_a_socket() -> None:
    names = names_of("bybit", dict)
    assert names.sent(asked(f"publicTrade.{CALL}", f"publicTrade.{PUT}", f"orderbook.25.{CALL}"))["args"] == [
        f"orderbook.25.{CALL}",
        "publicTrade.BTC",
    ]
    assert names.sent(asked("publicTrade.BTC-27MAR26-90000-C")) is None
    assert names.sent(asked("publicTrade.ETH-27MAR26-9000-C"))["args"] == ["publicTrade.ETH"]
    dated = asked("publicTrade.BTC-27MAR26", "publicTrade.BTCUSDT-27MAR26")
    assert names.sent(dated) is dated
    again = names_of("bybit", dict)
    assert again.sent(asked(f"publicTrade.{CALL}"))["args"] == ["publicTrade.BTC"]


def test_a_coins_trades_are_parted_by_option() -> None:
    names = names_of("bybit", dict)
    names.sent(asked(f"publicTrade.{CALL}"))
    rows = [{"s": CALL, "i": "1"}, {"s": PUT, "i": "2"}, {"s": CALL, "i": "3"}]
    parted = names.received({"topic": "publicTrade.BTC", "ts": 5, "data": rows})
    assert [(frame["topic"], frame["ts"], [row["i"] for row in frame["data"]]) for frame in parted] == [
        (f"publicTrade.{CALL}", 5, ["1", "3"]),
        (f"publicTrade.{PUT}", 5, ["2"]),
    ]
    for other in ({"op": "pong"}, [1], "pong", {"topic": "publicTrade.BTCUSDT", "data": rows}):
        assert names.received(other) == (other,)


def test_krakens_names_come_from_the_venue() -> None:
    assert kraken_name({"symbol": "LUNC/USD", "info": {"wsname": "LUNA/USD"}}) == "LUNA/USD"
    assert kraken_name({"symbol": "ETH/BTC", "info": {"wsname": "ETH/XBT"}}) == "ETH/BTC"
    assert kraken_name({"symbol": "DOGE/USD", "info": {"wsname": "XDG/USD"}}) == "DOGE/USD"
    assert kraken_name({"symbol": "LUNC/USD", "info": {"base": "LUNA", "quote": "USD"}}) == "LUNA/USD"


def test_what_kraken_sends_of_a_market_that_rest_does_not_list_is_nobodys() -> None:
    """`LUNA/USD` of the socket would be taken for what the library calls so, which is `LUNA2/USD`."""
    markets = {"LUNA/USD": {"symbol": "LUNA/USD", "info": {"wsname": "LUNA2/USD"}}}
    names = names_of("kraken", lambda: markets)
    assert names.received({"channel": "trade", "data": [{"symbol": "LUNA/USD"}]}) == ()
    (frame,) = names.received({"channel": "trade", "data": [{"symbol": "LUNA2/USD"}]})
    assert frame["data"] == [{"symbol": "LUNA/USD"}]
    (error,) = names.received({"method": "subscribe", "success": False, "symbol": "LUNA2/USD"})
    assert error["symbol"] == "LUNA/USD"
    assert names.sent({"method": "ping"}) == {"method": "ping"}
    assert names.received("pong") == ("pong",)


@pytest.mark.parametrize(
    ("exchange", "message", "sent"),
    [
        ("bithumb", {"type": "ticker", "symbols": ["FTC2_KRW", "BTC_KRW"]}, {"symbols": ["FTC_KRW", "BTC_KRW"]}),
        ("cex", {"e": "subscribe", "rooms": ["pair-FTC2-KRW"]}, {"rooms": ["pair-FTC-KRW"]}),
        ("cex", {"data": ["BTC", "KRW"]}, {"data": ["BTC", "KRW"]}),
        (
            "coinone",
            {"topic": {"quote_currency": "KRW", "target_currency": "FTC2"}},
            {"topic": {"quote_currency": "KRW", "target_currency": "FTC"}},
        ),
    ],
)
def test_coins_are_asked_for_by_the_venues_ids(exchange: str, message: dict[str, Any], sent: dict[str, Any]) -> None:
    markets = {
        "FTC2/KRW": {"base": "FTC2", "quote": "KRW", "baseId": "FTC", "quoteId": "KRW"},
        "BTC/KRW": {"base": "BTC", "quote": "KRW", "baseId": "btc", "quoteId": "krw"},
    }
    names = names_of(exchange, lambda: markets)
    assert names.sent(message) == {**message, **sent}
    assert names.received(message) == (message,)


def test_where_the_library_says_the_venues_own_there_is_nothing_to_put_right() -> None:
    assert facts_of("okx").corrections.names is None
