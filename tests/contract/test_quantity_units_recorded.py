"""Volumes and quote volumes of recorded futures against the venue's own candles, and what each way to a trade says."""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest

from ingestd.config.loading import parse
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.feeds.ccxt.records import market_info
from ingestd.feeds.markets import quantity_units
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.past.trade_search import Request
from ingestd.records import Trade
from ingestd.venues.messages import Message
from ingestd.venues.okx import Okx
from ingestd.venues.trades import Ids, Paging, Series
from tests.support.captures import capture_bodies, capture_lines, recorded_markets
from tests.unit.feeds.doubles import ListIntake, feed_config


def test_recorded_candles_of_binance_agree() -> None:
    """Between two states of one candle lie the aggregates of the trades whose ids it counts: volume and quote volume
    grow by their quantities, and by price x quantity. So a quantity there is of the base currency."""
    states: defaultdict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    aggregates: list[dict[str, Any]] = []
    for line in capture_lines("binance-usdm-2021-07"):
        data = json.loads(line["data"], parse_float=str).get("data", {}) if line["kind"] == "recv" else {}
        if data.get("e") == "kline":
            states[data["s"], data["k"]["t"]].append(data["k"])
        elif data.get("e") == "aggTrade":
            aggregates.append(data)
    compared = 0
    for (market, _), candle in states.items():
        for first, last in pairwise(candle):
            between = [a for a in aggregates if a["s"] == market and first["L"] < a["f"] and a["l"] <= last["L"]]
            if sum(a["l"] - a["f"] + 1 for a in between) != last["L"] - first["L"]:
                continue  # an aggregate lies across the two states, or was not recorded
            compared += bool(between)
            amounts = [Decimal(a["p"]) * Decimal(a["q"]) for a in between]
            assert Decimal(last["v"]) - Decimal(first["v"]) == sum(Decimal(a["q"]) for a in between)
            assert Decimal(last["q"]) - Decimal(first["q"]) == sum(amounts)
    assert compared > 20


@pytest.mark.parametrize(
    ("capture", "exchange", "units"),
    [
        # ctVal and ctValCcy of the recorded lists
        ("okx-v5-2022-05", "okx", {"BTC-USDT": None, "UNI-USD-SWAP": "10 quote", "BTC-USD-220527": "100 quote"}),
        ("krakenfutures-2021-07", "krakenfutures", {"PI_XBTUSD": "quote", "FI_ETHUSD_211231": "quote"}),
        ("binance-usdm-2021-07", "binanceusdm", {"SUSHIUSDT": None}),
    ],
)
async def test_recorded_lists_say_what_a_quantity_counts(
    capture: str, exchange: str, units: dict[str, str | None]
) -> None:
    options = {"fetchMarkets": {"types": ["linear"]}} if "binance" in exchange else {}
    markets = await recorded_markets(exchange, capture_bodies(capture_lines(capture)), options)
    found = {market["id"]: quantity_units.unit_of(exchange, market) for market in markets.values()}
    assert {market_id: found[market_id] for market_id in units} == units


def test_native_trades_say_it_and_follow_a_new_list() -> None:
    intake = ListIntake()
    config = feed_config("okx", ["BTC/USDT:USDT", "BTC/USDT"])
    reader = MessageReader(config, Okx({}), intake)
    market = {"contract": True, "linear": True, "inverse": False, "type": "swap", "contractSize": "0.01"}
    for symbol in config.symbols:
        reader.add_stream("trades", symbol)
    reader.ledger.set_units({"BTC/USDT:USDT": market, "BTC/USDT": {"contract": False}}, config.symbols)
    reader.take([trade("BTC/USDT:USDT", "1"), trade("BTC/USDT", "2")], ignored)
    reader.ledger.set_units({}, config.symbols)  # a list that lacks them for once changes nothing
    reader.take([trade("BTC/USDT:USDT", "3")], ignored)
    reader.ledger.set_units({"BTC/USDT:USDT": {**market, "contractSize": "0.001"}}, config.symbols)
    reader.take([trade("BTC/USDT:USDT", "4")], ignored)
    units = [(record.trade_id, record.unit) for record in intake.of(Trade)]
    assert units == [("1", "0.01 base"), ("2", None), ("3", "0.01 base"), ("4", "0.001 base")]


async def test_a_backfilled_trade_says_it() -> None:
    feed = parse({"feeds": [{"exchange": "okx", "symbols": ["BTC/USD:BTC"]}]}, {}).feeds[0]
    history = CcxtHistory(feed, rate_share=0.5)
    try:
        exchange = history.exchange
        exchange.set_markets([exchange.parse_market(SWAP)])

        async def fetch(*_: Any, **__: Any) -> Any:
            return {"code": "0", "data": [ROW]}

        exchange.fetch = fetch
        series = Series(Paging.RECENT, Ids.INCREASING, 100)
        (found,) = await history.trades("BTC/USD:BTC", series, Request())
        assert (found.trade_id, found.quantity, found.unit) == ("7", "3", "100 quote")
    finally:
        await history.close()


@pytest.mark.parametrize(
    ("name", "multiplier", "symbol", "unit", "size"),
    [
        ("BTC_USD", "0", "BTC/USD:BTC", "quote", "1"),
        ("BTC_USD", "0.0", "BTC/USD:BTC", "quote", "1"),
        ("ETH_USD", "0.000001", "ETH/USD:BTC", "unknown", "0.000001"),  # a quanto: settled in neither of its currencies
        ("BTC_USDT", "0.0001", "BTC/USDT:USDT", "0.0001 base", "0.0001"),
        ("BTC_USDT", "0", "BTC/USDT:USDT", "unknown", None),
    ],
)
async def test_gates_multiplier_of_0_is_a_contract_of_1_usd_of_an_inverse_one_alone(
    name: str, multiplier: str, symbol: str, unit: str, size: str | None
) -> None:
    """https://www.gate.com/docs/developers/apiv4/en/#futures: BTC_USD has the type `inverse` and `quanto_multiplier` 0;
    its contract is 1 USD, by the venue's site. The other types count a multiple of the base currency."""
    history = CcxtHistory(parse({"feeds": [{"exchange": "gate", "symbols": [symbol]}]}, {}).feeds[0], rate_share=0.5)
    try:
        exchange = history.exchange
        listed = {"name": name, "quanto_multiplier": multiplier, "order_price_deviate": "0.5", "mark_price": "100"}
        exchange.set_markets([exchange.parse_contract_market(listed, "usdt" if name.endswith("USDT") else "btc")])

        async def fetch(*_: Any, **__: Any) -> Any:
            return [{"id": 7, "create_time": 1700000000, "contract": name, "size": 3, "price": "40000.1"}]

        exchange.fetch = fetch
        (found,) = await history.trades(symbol, Series(Paging.RECENT, Ids.INCREASING, 100), Request())
        assert (found.quantity, found.unit) == ("3", unit)
        listing = market_info("gate", exchange.market(symbol))
        assert (listing.contract_size, listing.quantity_unit == "contracts") == (size, " " in unit)
    finally:
        await history.close()


@pytest.mark.parametrize(
    ("changes", "unit"),
    [
        ({}, "100 quote"),
        ({"ctMult": "0.1"}, "unknown"),
        ({"ctValCcy": "BTC"}, "unknown"),
        ({"ctVal": ""}, "unknown"),
        ({"ctVal": "0"}, "unknown"),
    ],
)
async def test_okxs_contract_counts_what_its_list_says_or_nothing_that_is_known(
    changes: dict[str, str], unit: str
) -> None:
    """https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments: ctVal of ctValCcy, and ctMult"""
    history = CcxtHistory(parse({"feeds": [{"exchange": "okx", "symbols": ["*"]}]}, {}).feeds[0], rate_share=0.5)
    try:
        assert quantity_units.unit_of("okx", history.exchange.parse_market(SWAP | changes)) == unit
    finally:
        await history.close()


SWAP = {
    "instId": "BTC-USD-SWAP", "instType": "SWAP", "uly": "BTC-USD", "settleCcy": "BTC", "ctVal": "100", "ctMult": "1",
    "ctValCcy": "USD", "ctType": "inverse", "tickSz": "0.1", "lotSz": "1", "minSz": "1", "state": "live", "baseCcy": "",
    "quoteCcy": "", "lever": "100", "listTime": "1606468572000", "expTime": "", "alias": "", "optType": "", "stk": "",
}  # fmt: skip
ROW = {"instId": "BTC-USD-SWAP", "tradeId": "7", "px": "40000.1", "sz": "3", "side": "buy", "ts": "1700000000000"}


def trade(symbol: str, trade_id: str) -> Trade:
    return Trade("okx", symbol, 1_700_000_000_000_000, 1_700_000_000_000_000, trade_id, int(trade_id), "buy", "1", "1")


def ignored(_: Message) -> None:
    """What is of the connection itself."""
