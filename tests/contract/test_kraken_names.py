"""Kraken by its own names: ccxt calls Terra Classic LUNC and Terra 2 LUNA, the venue LUNA and LUNA2.

The names are those of the venue's REST answer (`wsname`) and of its channel `instrument`; the sockets of both kinds of
feed are asked for the same market as REST.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import pytest

from ingestd.config.models import FeedConfig
from ingestd.feeds.streams import quarantine
from ingestd.records import BookSnapshot, FeedGap, MarketRecord, Tick, Trade
from ingestd.venues.kraken import Kraken
from tests.support.feeds import DECODERS
from tests.support.small_venue import FakeVenue, RunningFeed

# REST's id, its name of WebSocket v1, the assets; what v2 calls it; what ccxt calls it; the price that tells it apart.
LISTED = [
    ("LUNAUSD", "LUNA/USD", "LUNA", "ZUSD", "LUNA/USD", "LUNC/USD", "0.00006"),
    ("LUNA2USD", "LUNA2/USD", "LUNA2", "ZUSD", "LUNA2/USD", "LUNA/USD", "0.17"),
    ("USTUSD", "UST/USD", "UST", "ZUSD", "UST/USD", "USTC/USD", "0.011"),
    ("REPV2USD", "REPV2/USD", "REPV2", "ZUSD", "REPV2/USD", "REP/USD", "1.5"),
    # Read by the list of assets, which is not to be had here, it would be another REP/USD.
    ("XREPZUSD", "REP/USD", "XREP", "ZUSD", "REP/USD", "REPV1/USD", "0.6"),
    ("XXBTZUSD", "XBT/USD", "XXBT", "ZUSD", "BTC/USD", "BTC/USD", "64000"),
    ("XDGUSD", "XDG/USD", "XXDG", "ZUSD", "DOGE/USD", "DOGE/USD", "0.1"),
    ("XETHXXBT", "ETH/XBT", "XETH", "XXBT", "ETH/BTC", "ETH/BTC", "0.04"),
]
# What REST says of each besides: https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs
TERMS = {
    "aclass_base": "currency",
    "aclass_quote": "currency",
    "lot": "unit",
    "cost_decimals": 5,
    "pair_decimals": 1,
    "lot_decimals": 8,
    "lot_multiplier": 1,
    "ordermin": "0.00005",
    "costmin": "0.5",
    "tick_size": "0.1",
    "status": "online",
    "leverage_buy": [],
    "leverage_sell": [],
    "fees": [[0, 0.4]],
    "fees_maker": [[0, 0.25]],
}
PRICE_BY_UNIFIED = {unified: price for *_, unified, price in LISTED}
PRICE_BY_NAME = {name: price for *_, name, _unified, price in LISTED}


def rest(path: str, _query: dict[str, str]) -> Any:
    if not path.endswith("AssetPairs"):
        return {"error": [], "result": {}}
    pairs = {
        market_id: {**TERMS, "altname": market_id, "wsname": wsname, "base": base, "quote": quote}
        for market_id, wsname, base, quote, *_ in LISTED
    }
    return {"error": [], "result": pairs}


class Socket:
    """WebSocket v2: what it lists, and one trade, ticker and book of each market that is asked for by its name."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(self, _path: str, asked: Any) -> list[Any]:
        params = asked.get("params", {})
        if asked["method"] != "subscribe":
            return []
        if params["channel"] == "instrument":
            pairs = [dict(zip(("symbol", "base", "quote"), (n, *n.split("/")), strict=True)) for n in self.names]
            return [{"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": pairs}}]
        return [frame for name in params["symbol"] for frame in self._stream(asked, params["channel"], name)]

    def _stream(self, asked: Any, channel: str, name: str) -> list[Any]:
        if name not in PRICE_BY_NAME:
            error = f"Currency pair not supported {name}"
            return [
                {"error": error, "method": "subscribe", "success": False, "symbol": name, "req_id": asked["req_id"]}
            ]
        price, at = PRICE_BY_NAME[name], "2026-11-20T10:00:00.000001Z"
        answer = {"method": "subscribe", "success": True, "result": {"channel": channel, "symbol": name}}
        digits = price.replace(".", "").lstrip("0") + "10"  # as the venue's checksum reads the one level
        rows = {
            "trade": f'"side":"buy","price":{price},"qty":1.50,"ord_type":"market","trade_id":7,"timestamp":"{at}"',
            "ticker": f'"bid":{price},"bid_qty":1.0,"ask":{price},"ask_qty":2.0,"timestamp":"{at}"',
            "book": f'"bids":[{{"price":{price},"qty":1.0}}],"asks":[],"checksum":{crc32(digits.encode())}',
        }
        data = f'{{"channel":"{channel}","type":"snapshot","data":[{{"symbol":"{name}",{rows[channel]}}}]}}'
        return [{**answer, "req_id": asked["req_id"]}, data]


def config(address: str, decoder: str, symbols: list[str], channels: list[str]) -> FeedConfig:
    return FeedConfig.model_validate(
        {
            "exchange": "kraken",
            "decoder": decoder,
            "channels": channels,
            "symbols": symbols,
            "order_book_interval_ms": 0,
            "url_map": {"https://api.kraken.com": f"http://{address}", "wss://ws.kraken.com": f"ws://{address}"},
        }
    )


def prices(records: Sequence[MarketRecord | FeedGap]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for record in records:
        if isinstance(record, Trade):
            found[record.symbol] = record.price
        elif isinstance(record, Tick):
            found[record.symbol] = record.bid_price
        elif isinstance(record, BookSnapshot):
            found[record.symbol] = record.bids[0][0]
    return found


@pytest.mark.parametrize("channel", ["trades", "ticks", "order_book"])
@pytest.mark.parametrize("decoder", DECODERS)
async def test_what_is_stored_under_a_name_is_the_market_that_rest_means_by_it(decoder: str, channel: str) -> None:
    socket = Socket(list(PRICE_BY_NAME))
    async with FakeVenue(rest, socket) as venue:
        settings = config(venue.address, decoder, list(PRICE_BY_UNIFIED), [channel])
        async with RunningFeed(settings, decoder) as running:
            await running.until(lambda: len(prices(running.intake.records)) == len(LISTED))
            aside = running.aside()
    assert prices(running.intake.records) == PRICE_BY_UNIFIED
    assert aside == {}
    assert {name for _, asked in venue.asked for name in asked["params"].get("symbol", ())} == set(PRICE_BY_NAME)


async def test_a_market_that_the_socket_does_not_list_is_put_aside_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stream would be another's, or none; it is not asked for under the name that ccxt has for it."""
    monkeypatch.setattr(quarantine, "RETRY_S", 0.01)
    monkeypatch.delitem(PRICE_BY_NAME, "LUNA2/USD")
    socket = Socket(list(PRICE_BY_NAME))
    async with FakeVenue(rest, socket) as venue:
        settings = config(venue.address, "native", ["LUNA/USD", "BTC/USD"], ["trades"])
        async with RunningFeed(settings, "native") as running:
            await running.until(lambda: running.aside() and running.intake.of(Trade))
            aside = running.aside()
    assert list(aside) == ["LUNA/USD"]
    assert {trade.symbol for trade in running.intake.of(Trade)} == {"BTC/USD"}
    assert {n for _, asked in venue.asked for n in asked["params"].get("symbol", ())} == {"LUNA2/USD", "BTC/USD"}


def test_the_channel_instrument_alone_is_enough_to_refuse_a_name() -> None:
    decoder = Kraken({}).decoder({"LUNA2/USD": "LUNA/USD", "BTC/USD": "BTC/USD"}, 1)
    listed = {"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [{"symbol": "BTC/USD"}]}}
    (refused,) = decoder(json.dumps(listed).encode(), 1)
    assert (refused.kind, refused.market_id) == ("refused", "LUNA2/USD")  # type: ignore[union-attr]
    assert "instrument" in refused.text  # type: ignore[union-attr]
    answer = {"method": "subscribe", "success": True, "result": {"channel": "trade", "symbol": "LUNA2/USD"}}
    (again,) = decoder(json.dumps(answer).encode(), 1)
    assert (again.kind, again.market_id) == ("refused", "LUNA2/USD")  # type: ignore[union-attr]
