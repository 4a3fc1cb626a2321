"""One feed over markets of several kinds: each on the socket that the venue has for its kind, by either kind of feed.

Bybit's options have a socket of their own, on which trades are asked for by the coin (`publicTrade.BTC`) and come with
the option in each row: https://bybit-exchange.github.io/docs/v5/websocket/public/trade
"""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.config.models import FeedConfig
from ingestd.errors import ConfigError
from ingestd.feeds.catalog import check
from ingestd.feeds.markets.symbols import kind_by_name, kind_of
from ingestd.records import BookSnapshot, FeedGap, Tick, Trade
from ingestd.venues.all import native_venue
from tests.support.captures import capture_bodies, capture_lines, recorded_markets
from tests.support.feeds import DECODERS
from tests.support.small_venue import FakeVenue, RunningFeed
from tests.unit.feeds.doubles import feed_config

CALL, PUT = "BTC-26DEC25-100000-C", "BTC-26DEC25-100000-P"
UNIFIED = {
    "BTCUSDT": "BTC/USDT:USDT",
    CALL: "BTC/USDC:USDC-251226-100000-C",
    PUT: "BTC/USDC:USDC-251226-100000-P",
}
# https://bybit-exchange.github.io/docs/v5/market/instrument
LINEAR = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "launchTime": "1699990000000",
    "deliveryTime": "1702592000000",
    "deliveryFeeRate": "0.0005",
    "priceScale": "2",
    "leverageFilter": {"minLeverage": "1", "maxLeverage": "100", "leverageStep": "1"},
    "priceFilter": {"minPrice": "1", "maxPrice": "1000000", "tickSize": "0.5"},
    "lotSizeFilter": {
        "maxOrderQty": "100.0",
        "minOrderQty": "0.001",
        "qtyStep": "0.001",
        "postOnlyMaxOrderQty": "100.0",
        "maxMktOrderQty": "50.0",
        "minNotionalValue": "5",
    },
    "unifiedMarginTrade": True,
    "fundingInterval": 8,
    "settleCoin": "USDT",
}


def rest(path: str, query: dict[str, str]) -> Any:
    if not path.endswith("instruments-info"):
        return {"retCode": 0, "result": {"list": []}}
    rows: list[Any] = []
    if query["category"] == "linear":
        rows = [LINEAR]
    if query["category"] == "option" and query.get("baseCoin", "BTC") == "BTC":
        rows = [option(name) for name in (CALL, PUT)]
    return {"retCode": 0, "retMsg": "OK", "result": {"category": query["category"], "list": rows}}


def option(name: str) -> dict[str, Any]:
    """https://bybit-exchange.github.io/docs/v5/market/instrument"""
    return {
        "symbol": name,
        "status": "Trading",
        "baseCoin": "BTC",
        "quoteCoin": "USDC",
        "settleCoin": "USDC",
        "optionsType": "Call" if name.endswith("C") else "Put",
        "launchTime": "1735113600000",
        "deliveryTime": "1766736000000",
        "deliveryFeeRate": "0.00015",
        "priceFilter": {"minPrice": "5", "maxPrice": "1110000", "tickSize": "5"},
        "lotSizeFilter": {"maxOrderQty": "500", "minOrderQty": "0.01", "qtyStep": "0.01"},
    }


def trade(topic: str, *names: str) -> dict[str, Any]:
    row = {"T": 1672304486865, "S": "Buy", "v": "0.010", "p": "165.50", "BT": False}
    data = [{**row, "s": name, "i": f"of {name}"} for name in names]
    return {"topic": f"publicTrade.{topic}", "type": "snapshot", "ts": 1672304486868, "data": data}


def answer(path: str, asked: Any) -> list[Any]:
    """As the venue: a topic of another socket, and an option's trades by the option, are refused."""
    if asked["op"] != "subscribe":
        return []
    frames: list[Any] = []
    for topic in asked["args"]:
        name, _, market = topic.rpartition(".")
        place = path.rpartition("/")[2]
        if place == "linear" and market == "BTCUSDT" and name == "publicTrade":
            frames.append(trade(market, market))
        elif place == "option" and topic == "publicTrade.BTC":
            frames.append(trade("BTC", CALL, PUT, "BTC-26DEC25-999999-C"))
        elif place == "option" and name in ("orderbook.25", "orderbook.100") and market in (CALL, PUT):
            book = {"s": market, "b": [["165", "1.5"]], "a": [["170", "2"]], "u": 1, "seq": 1}
            frames.append({"topic": topic, "type": "snapshot", "ts": 1672304486868, "data": book})
        else:
            text = f"error:handler not found,topic:{topic}"
            return [{"success": False, "ret_msg": text, "op": "subscribe", "req_id": asked.get("req_id")}]
    return [{"success": True, "ret_msg": "", "op": "subscribe", "req_id": asked.get("req_id")}, *frames]


def config(address: str, decoder: str, **changes: Any) -> FeedConfig:
    return FeedConfig.model_validate(
        {
            "exchange": "bybit",
            "decoder": decoder,
            "channels": ["trades"],
            "symbols": list(UNIFIED.values()),
            "order_book_interval_ms": 0,
            "url_map": {"https://api.bybit.com": f"http://{address}", "wss://stream.bybit.com": f"ws://{address}"},
            **changes,
        }
    )


@pytest.mark.parametrize("decoder", DECODERS)
async def test_options_and_contracts_of_one_feed_come_by_the_socket_of_their_kind(decoder: str) -> None:
    async with FakeVenue(rest, answer) as venue:
        settings = config(venue.address, "auto" if decoder == "native" else "ccxt")
        async with RunningFeed(settings, decoder) as running:
            await running.until(lambda: len({trade.symbol for trade in running.intake.of(Trade)}) == len(UNIFIED))
            status, aside = running.feed.status(), running.aside()
    assert {trade.symbol: trade.trade_id for trade in running.intake.of(Trade)} == {
        unified: f"of {name}" for name, unified in UNIFIED.items()
    }
    assert aside == {}
    assert sorted((s.channel, s.symbol) for s in status.streams) == sorted(("trades", s) for s in UNIFIED.values())
    assert running.intake.of(FeedGap) == []
    asked = [
        (path.rpartition("/")[2], topic) for path, m in venue.asked if m["op"] == "subscribe" for topic in m["args"]
    ]
    assert sorted(asked) == [("linear", "publicTrade.BTCUSDT"), ("option", "publicTrade.BTC")]


async def test_books_of_options_come_through_ccxt_within_the_native_feed() -> None:
    async with FakeVenue(rest, answer) as venue:
        settings = config(venue.address, "auto", channels=["order_book"], symbols=[UNIFIED[CALL], UNIFIED[PUT]])
        async with RunningFeed(settings, "native") as running:
            await running.until(lambda: len({book.symbol for book in running.intake.of(BookSnapshot)}) == 2)
    assert {path for path, _ in venue.asked} == {"/v5/public/option"}


@pytest.mark.parametrize("decoder", DECODERS)
async def test_ticks_of_options_come_from_their_books_as_they_have_no_level_1(decoder: str) -> None:
    """https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook: options have the levels 25 and 100 alone."""
    async with FakeVenue(rest, answer) as venue:
        symbols = [UNIFIED[CALL], UNIFIED[PUT]]
        changes = {"channels": ["ticks"], "symbols": symbols}
        settings = config(venue.address, "auto" if decoder == "native" else "ccxt", **changes)
        async with RunningFeed(settings, decoder) as running:
            await running.until(lambda: len({tick.symbol for tick in running.intake.of(Tick)}) == len(symbols))
            aside = running.aside()
    assert aside == {}
    found = {(t.symbol, t.bid_price, t.bid_volume, t.ask_price, t.ask_volume) for t in running.intake.of(Tick)}
    assert found == {(symbol, "165", "1.5", "170", "2") for symbol in symbols}


async def test_a_kind_without_a_native_decoder_is_put_aside_where_native_is_asked_for() -> None:
    async with FakeVenue(rest, answer) as venue:
        settings = config(venue.address, "native")
        async with RunningFeed(settings, "native") as running:
            await running.until(lambda: running.intake.of(Trade))
            aside = running.aside()
    assert sorted(aside) == sorted([UNIFIED[CALL], UNIFIED[PUT]])
    assert all("no native decoder for option markets of bybit" in reason for reason in aside.values())
    assert {path for path, _ in venue.asked} == {"/v5/public/linear"}


async def test_nothing_but_kinds_without_a_native_decoder_is_a_mistake() -> None:
    async with FakeVenue(rest, answer) as venue:
        running = RunningFeed(config(venue.address, "native", symbols=[UNIFIED[CALL]]), "native")
        with pytest.raises(ConfigError, match="option markets of bybit"):
            await running.until(lambda: False)


@pytest.mark.parametrize(
    ("exchange", "served", "others"),
    [
        ("binance", ["BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC-261225"], ["BTC/USDT:USDT-261225-50000-C"]),
        ("binanceus", ["BTC/USDT"], ["BTC/USDT:USDT"]),
        ("binanceusdm", ["BTC/USDT:USDT", "BTC/USDT:USDT-261225"], ["BTC/USD:BTC", "BTC/USDT"]),
        ("binancecoinm", ["BTC/USD:BTC", "BTC/USD:BTC-261225"], ["BTC/USDT:USDT", "BTC/USDT"]),
        ("bybit", ["BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"], ["BTC/USDT:USDT-261225-50000-C"]),
        ("coinbase", ["BTC/USD", "BTC/USDC:USDC"], ["BTC/USD:BTC", "BTC/USD:USD-261225-50000-C"]),
        ("coinbaseexchange", ["BTC/USD"], ["BTC/USD:USD"]),
        ("kraken", ["BTC/USD"], ["BTC/USD:USD"]),
        ("krakenfutures", ["BTC/USD:USD", "BTC/USD:BTC", "BTC/USD:BTC-261225"], ["BTC/USD:USD-261225-50000-C"]),
        ("okx", ["BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC-261225-50000-C"], ["ETH/USD:BTC"]),
    ],
)
def test_check_refuses_by_name_what_no_native_decoder_serves(
    exchange: str, served: list[str], others: list[str]
) -> None:
    problems = check([feed_config(exchange, served + others, channels=["trades"], decoder="native")])
    assert [problem.value for problem in problems] == [repr(symbol) for symbol in others]
    assert [problem.path for problem in problems] == [
        f"feeds[0].symbols[{len(served) + number}]" for number in range(len(others))
    ]
    assert check([feed_config(exchange, served + others, channels=["trades"])]) == []


@pytest.mark.parametrize(
    ("capture", "exchange"),
    [
        ("binance-spot-2021-10", "binance"),
        ("binance-usdm-2021-07", "binanceusdm"),
        ("krakenfutures-2021-07", "krakenfutures"),
        ("okx-v5-2022-05", "okx"),
    ],
)
async def test_a_name_tells_the_kind_of_every_recorded_market(capture: str, exchange: str) -> None:
    """So that `check` judges as the daemon does; indices have no unified name, and no decoder."""
    markets = await recorded_markets(exchange, capture_bodies(capture_lines(capture)))
    named = {symbol: market for symbol, market in markets.items() if "/" in symbol}
    assert {symbol: kind_by_name(symbol) for symbol in named} == {s: kind_of(m) for s, m in named.items()}
    venue = native_venue(feed_config(exchange, ["*"], channels=["trades"]))
    assert venue is not None
    assert {kind_of(market) in venue.markets for market in named.values()} == {True}
    assert not any(kind_of(market) in venue.markets for symbol, market in markets.items() if symbol not in named)
