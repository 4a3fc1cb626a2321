"""Forced orders of each exchange, by the frames that its documentation shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import Liquidation
from ingestd.venues.all import facts_of, native_channels, native_exchanges
from ingestd.venues.binance import Binance
from ingestd.venues.bybit import Bybit
from ingestd.venues.messages import Message
from ingestd.venues.okx import Okx
from ingestd.venues.venue import Asked, Venue

AT = 1_790_000_000_000_123


def decoded(venue: Venue, symbols: dict[str, str], document: Any) -> list[Message]:
    return list(venue.decoder(symbols, 0)(json.dumps(document).encode(), AT))


# https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Liquidation-Order-Streams
USD_M = {
    "e": "forceOrder",
    "E": 1568014460893,
    "o": {
        "s": "BTCUSDT",
        "S": "SELL",
        "o": "LIMIT",
        "f": "IOC",
        "q": "0.014",
        "p": "9910",
        "ap": "9905.5",
        "X": "FILLED",
        "l": "0.010",
        "z": "0.012",
        "T": 1568014460890,
    },
}
# https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams/Liquidation-Order-Streams
COIN_M = {
    "e": "forceOrder",
    "E": 1591154240950,
    "o": {
        "s": "BTCUSD_200925",
        "ps": "BTCUSD",
        "S": "BUY",
        "o": "LIMIT",
        "f": "IOC",
        "q": "1",
        "p": "9425.5",
        "ap": "9496.5",
        "X": "FILLED",
        "l": "1",
        "z": "1",
        "T": 1591154240949,
    },
}


def test_binance_gives_the_orders_own_price_and_quantity() -> None:
    """Not the average price of its fills (`ap`), nor what was filled (`z`). The time is the order's."""
    assert decoded(Binance("binanceusdm", {}), {"BTCUSDT": "BTC/USDT:USDT"}, USD_M) == [
        Liquidation("binanceusdm", "BTC/USDT:USDT", 1568014460890000, AT, "sell", "9910", "0.014")
    ]
    assert decoded(Binance("binance", {}), {"BTCUSD_200925": "BTC/USD:BTC-200925"}, COIN_M) == [
        Liquidation("binance", "BTC/USD:BTC-200925", 1591154240949000, AT, "buy", "9425.5", "1")
    ]


def test_binance_gives_them_in_a_combined_stream_too() -> None:
    combined = {"stream": "btcusdt@forceOrder", "data": USD_M}
    assert len(decoded(Binance("binanceusdm", {}), {"BTCUSDT": "BTC/USDT:USDT"}, combined)) == 1


def test_binance_is_asked_on_the_socket_of_the_market() -> None:
    venue = Binance("binance", {})
    assert venue.address({"linear": True}, "liquidations") == "wss://fstream.binance.com/market/ws"
    assert venue.address({"inverse": True}, "liquidations") == "wss://dstream.binance.com/ws"
    [request] = venue.subscribe([Asked("liquidations", "BTCUSDT")], 7)
    assert json.loads(request) == {"method": "SUBSCRIBE", "params": ["btcusdt@forceOrder"], "id": 7}


# https://bybit-exchange.github.io/docs/v5/websocket/public/all-liquidation
BYBIT = {
    "topic": "allLiquidation.ROSEUSDT",
    "type": "snapshot",
    "ts": 1739502303204,
    "data": [
        {"T": 1739502302929, "s": "ROSEUSDT", "S": "Sell", "v": "20000", "p": "0.04499"},
        {"T": 1739502302930, "s": "ROSEUSDT", "S": "Buy", "v": "10", "p": "0.04400"},
    ],
}


def test_bybit_names_the_side_of_the_position() -> None:
    """`Buy`: a long position was liquidated, so the order sold."""
    assert decoded(Bybit({}), {"ROSEUSDT": "ROSE/USDT:USDT"}, BYBIT) == [
        Liquidation("bybit", "ROSE/USDT:USDT", 1739502302929000, AT, "buy", "0.04499", "20000"),
        Liquidation("bybit", "ROSE/USDT:USDT", 1739502302930000, AT, "sell", "0.04400", "10"),
    ]


def test_bybit_is_asked_for_each_market() -> None:
    [request] = Bybit({}).subscribe([Asked("liquidations", "ROSEUSDT"), Asked("trades", "ROSEUSDT")], 1)
    assert json.loads(request)["args"] == ["allLiquidation.ROSEUSDT", "publicTrade.ROSEUSDT"]


# https://www.okx.com/docs-v5/en/#public-data-websocket-liquidation-orders-channel
OKX = {
    "arg": {"channel": "liquidation-orders", "instType": "SWAP"},
    "data": [
        {
            "details": [
                {
                    "bkLoss": "0",
                    "bkPx": "0.007831",
                    "ccy": "",
                    "posSide": "short",
                    "side": "buy",
                    "sz": "13",
                    "ts": "1692266434010",
                },
                {"bkPx": "0.0078", "posSide": "net", "side": "sell", "sz": "1.5", "ts": "1692266434000"},
            ],
            "instFamily": "IOST-USDT",
            "instId": "IOST-USDT-SWAP",
            "instType": "SWAP",
            "uly": "IOST-USDT",
        },
        {
            "details": [{"bkPx": "1", "side": "buy", "sz": "1", "ts": "1692266434010"}],
            "instId": "BTC-USDT-SWAP",
        },
    ],
}  # fmt: skip


def test_okx_sends_every_market_of_a_type_and_those_that_are_followed_are_taken() -> None:
    assert decoded(Okx({}), {"IOST-USDT-SWAP": "IOST/USDT:USDT"}, OKX) == [
        Liquidation("okx", "IOST/USDT:USDT", 1692266434010000, AT, "buy", "0.007831", "13"),
        Liquidation("okx", "IOST/USDT:USDT", 1692266434000000, AT, "sell", "0.0078", "1.5"),
    ]


def test_okx_is_asked_once_for_each_type_of_market() -> None:
    venue = Okx({})
    markets = ["IOST-USDT-SWAP", "BTC-USDT-SWAP", "BTC-USD-260925"]
    [request] = venue.subscribe([Asked("liquidations", market) for market in markets], 1)
    assert json.loads(request) == {
        "op": "subscribe",
        "args": [
            {"channel": "liquidation-orders", "instType": "SWAP"},
            {"channel": "liquidation-orders", "instType": "FUTURES"},
        ],
    }


def test_okx_goes_on_with_the_type_when_one_market_of_it_is_left() -> None:
    asked = [Asked("liquidations", "BTC-USDT-SWAP"), Asked("trades", "BTC-USDT-SWAP")]
    [request] = Okx({}).unsubscribe(asked, 1)
    assert json.loads(request)["args"] == [{"channel": "trades", "instId": "BTC-USDT-SWAP"}]
    assert Okx({}).unsubscribe(asked[:1], 1) == []


def test_okx_brings_them_on_a_socket_of_their_own() -> None:
    """A socket for trades of BTC and one for liquidations of BTC would both bring BTC's liquidations."""
    venue = Okx({})
    assert venue.address({"swap": True}, "liquidations") != venue.address({"swap": True}, "trades")


@pytest.mark.parametrize(
    ("venue", "document", "changes"),
    [
        (Binance("binanceusdm", {}), USD_M, [("S", "LONG"), ("S", None), ("p", ""), ("q", 1), ("T", 0), ("T", "1")]),
        (Bybit({}), BYBIT, [("S", "Long"), ("S", ""), ("p", ""), ("v", 20000), ("T", 0)]),
        (Okx({}), OKX, [("side", ""), ("side", None), ("bkPx", ""), ("sz", ""), ("ts", "")]),
    ],
)  # fmt: skip
def test_what_the_documentation_does_not_allow_is_refused(venue: Venue, document: Any, changes: Any) -> None:
    symbols = {"BTCUSDT": "a", "ROSEUSDT": "b", "IOST-USDT-SWAP": "c"}
    for name, value in changes:
        changed = json.loads(json.dumps(document))
        rows = changed.get("data") or [changed["o"]]
        row = rows[0].get("details", rows)[0]
        row[name] = value
        with pytest.raises(ValueError, match=r"."):
            decoded(venue, symbols, changed)


@pytest.mark.parametrize(
    ("venue", "document"), [(Binance("binanceusdm", {}), USD_M), (Bybit({}), BYBIT), (Okx({}), OKX)]
)
def test_a_market_that_is_not_followed_is_left_out(venue: Venue, document: Any) -> None:
    assert decoded(venue, {"ETHUSDT": "ETH/USDT:USDT"}, document) == []


def test_which_exchanges_have_them_and_which_send_samples() -> None:
    assert "liquidations" not in native_channels("binanceus"), "spot only"
    having = ["binance", "binancecoinm", "binanceusdm", "bybit", "okx"]
    assert [exchange for exchange in native_exchanges() if "liquidations" in native_channels(exchange)] == having
    sampled = [exchange for exchange in having if facts_of(exchange).sampled]
    assert sampled == ["binance", "binancecoinm", "binanceusdm", "okx"]
