"""Mark and index prices of each exchange, by the frames that its documentation shows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingestd.records import MarkPrice
from ingestd.venues.all import native_channels, native_exchanges
from ingestd.venues.binance import Binance
from ingestd.venues.bybit import Bybit
from ingestd.venues.messages import Message
from ingestd.venues.okx import Okx
from ingestd.venues.venue import Asked, Venue

AT = 1_790_000_000_000_123


def decoded(venue: Venue, symbols: dict[str, str], *documents: Any) -> list[Message]:
    """What the last of these frames says."""
    decode = venue.decoder(symbols, 0)
    return [list(decode(json.dumps(document).encode(), AT)) for document in documents][-1]


# https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Mark-Price-Stream
USD_M = {
    "e": "markPriceUpdate",
    "E": 1562305380000,
    "s": "BTCUSDT",
    "p": "11794.15000000",
    "i": "11784.62659091",
    "P": "11784.25641265",
    "r": "0.00038167",
    "T": 1562306400000,
}
# https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams/Mark-Price-Stream
COIN_M = {
    "e": "markPriceUpdate",
    "E": 1596095725000,
    "s": "BTCUSD_201225",
    "p": "10934.62615417",
    "P": "10962.17178236",
    "i": "10933.62615417",
    "r": "",
    "T": 0,
}


def test_binance_says_both() -> None:
    assert decoded(Binance("binanceusdm", {}), {"BTCUSDT": "BTC/USDT:USDT"}, USD_M) == [
        MarkPrice("binanceusdm", "BTC/USDT:USDT", 1562305380000000, AT, "11794.15000000", "11784.62659091")
    ]
    assert decoded(Binance("binance", {}), {"BTCUSD_201225": "BTC/USD:BTC-201225"}, COIN_M) == [
        MarkPrice("binance", "BTC/USD:BTC-201225", 1596095725000000, AT, "10934.62615417", "10933.62615417")
    ]


def test_binance_is_asked_for_one_a_second_on_the_socket_of_the_market() -> None:
    venue = Binance("binance", {})
    assert venue.address({"linear": True}, "mark_prices") == "wss://fstream.binance.com/market/ws"
    [request] = venue.subscribe([Asked("mark_prices", "BTCUSDT")], 7)
    assert json.loads(request)["params"] == ["btcusdt@markPrice@1s"]


# https://www.okx.com/docs-v5/en/#public-data-websocket-mark-price-channel
OKX = {
    "arg": {"channel": "mark-price", "instId": "BTC-USDT-SWAP"},
    "data": [{"instType": "SWAP", "instId": "BTC-USDT-SWAP", "markPx": "42310.6", "ts": "1630049139746"}],
}


def test_okx_says_the_mark_price_alone() -> None:
    assert decoded(Okx({}), {"BTC-USDT-SWAP": "BTC/USDT:USDT"}, OKX) == [
        MarkPrice("okx", "BTC/USDT:USDT", 1630049139746000, AT, "42310.6", None)
    ]
    [request] = Okx({}).subscribe([Asked("mark_prices", "BTC-USDT-SWAP")], 1)
    assert json.loads(request)["args"] == [{"channel": "mark-price", "instId": "BTC-USDT-SWAP"}]


BYBIT = {"BTCUSDT": "BTC/USDT:USDT", "ETHUSDT": "ETH/USDT:USDT"}


def ticker(kind: str, ts: int = 1673272861686, market_id: str = "BTCUSDT", **data: str) -> dict[str, Any]:
    """A frame of https://bybit-exchange.github.io/docs/v5/websocket/public/ticker."""
    return {
        "topic": f"tickers.{market_id}",
        "type": kind,
        "data": {"symbol": market_id, "lastPrice": "17216.00", **data},
        "cs": 24987956059,
        "ts": ts,
    }


SNAPSHOT = ticker("snapshot", markPrice="17217.33", indexPrice="17227.36", fundingRate="-0.000212")


def bybit(mark: str, index: str | None, ts: int = 1673272861686) -> list[Message]:
    return [MarkPrice("bybit", "BTC/USDT:USDT", ts * 1000, AT, mark, index)]


def test_bybit_says_both_at_first_and_then_what_changed() -> None:
    venue = Bybit({})
    assert decoded(venue, BYBIT, SNAPSHOT) == bybit("17217.33", "17227.36")
    marked = ticker("delta", 1673272861786, markPrice="17218.00")
    assert decoded(venue, BYBIT, SNAPSHOT, marked) == bybit("17218.00", "17227.36", 1673272861786)
    indexed = ticker("delta", 1673272861886, indexPrice="17228.10")
    assert decoded(venue, BYBIT, SNAPSHOT, marked, indexed) == bybit("17218.00", "17228.10", 1673272861886)
    assert decoded(venue, BYBIT, SNAPSHOT, marked, SNAPSHOT) == bybit("17217.33", "17227.36"), "it begins anew"


def test_bybits_changes_of_other_fields_say_nothing() -> None:
    assert decoded(Bybit({}), BYBIT, SNAPSHOT, ticker("delta", fundingRate="0.0001")) == []


def test_bybits_change_of_what_was_never_said_is_left_out() -> None:
    assert decoded(Bybit({}), BYBIT, ticker("delta", markPrice="1")) == []
    assert decoded(Bybit({}), BYBIT, SNAPSHOT, ticker("delta", market_id="ETHUSDT", markPrice="1")) == []
    assert decoded(Bybit({}), BYBIT, ticker("snapshot"), ticker("delta", indexPrice="1")) == [], "no mark price yet"


def test_bybit_is_asked_for_its_tickers() -> None:
    [request] = Bybit({}).subscribe([Asked("mark_prices", "BTCUSDT")], 1)
    assert json.loads(request)["args"] == ["tickers.BTCUSDT"]


@pytest.mark.parametrize(
    ("venue", "document", "changes"),
    [
        (Binance("binanceusdm", {}), USD_M, [("p", ""), ("p", 1), ("E", 0), ("i", 5)]),
        (Okx({}), OKX, [("markPx", ""), ("markPx", None), ("ts", "")]),
        (Bybit({}), SNAPSHOT, [("markPrice", ""), ("indexPrice", 1)]),
    ],
)
def test_what_the_documentation_does_not_allow_is_refused(venue: Venue, document: Any, changes: Any) -> None:
    for name, value in changes:
        changed = json.loads(json.dumps(document))
        data = changed.get("data", changed)
        (data[0] if isinstance(data, list) else data)[name] = value
        with pytest.raises(ValueError, match=r"."):
            decoded(venue, {"BTCUSDT": "a", "BTC-USDT-SWAP": "b"}, changed)


def test_a_ticker_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="type"):
        decoded(Bybit({}), BYBIT, ticker("update", markPrice="1"))


def test_which_exchanges_have_them() -> None:
    having = [exchange for exchange in native_exchanges() if "mark_prices" in native_channels(exchange)]
    assert having == ["binance", "binancecoinm", "binanceusdm", "bybit", "okx"]
