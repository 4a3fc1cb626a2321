"""Which markets the text of an error names."""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.feeds.ccxt.market_names import MarketNames, book_named_in

MARKETS: dict[str, dict[str, Any]] = {
    "BTC/USDT": {"id": "BTC-USDT", "spot": True, "base": "BTC", "quote": "USDT"},
    "BTC/USDT:USDT": {"id": "BTC-USDT-SWAP"},
    "ETH/BTC": {"id": "ethbtc", "spot": True, "base": "ETH", "quote": "BTC"},
    "S/USDC:USDC": {"id": "S"},
}


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ('{"msg":"instId:BTC-USDT doesn\'t exist"}', {"BTC/USDT"}),
        ('{"msg":"instId:BTC-USDT-SWAP doesn\'t exist"}', {"BTC/USDT:USDT"}),
        ('{"err-msg":"invalid topic market.ethbtc.trade.detail"}', {"ETH/BTC"}),
        ("trades:BTC/USDT:USDT", {"BTC/USDT:USDT"}),
        ('{"error":"ETHBTC@trade, BTC_USDT@trade"}', {"ETH/BTC", "BTC/USDT"}),
        ('{"code":"40000","msg":"param error of BTC"}', set()),
        ('{"data":"this is s not known"}', set()),
        ('{"data":"Invalid {\\"coin\\":\\"S\\"}"}', {"S/USDC:USDC"}),
        ("", set()),
    ],
)
def test_names_are_found_whole_and_the_longest_first(text: str, symbols: set[str]) -> None:
    assert MarketNames(MARKETS).named_in(text) == symbols


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("orderbook::BTC/USDT", "BTC/USDT"),
        ("books:BTC/USDT:USDT", "BTC/USDT:USDT"),
        ("orderbook@BTC/USDT", "BTC/USDT"),
        ("orderbook:WBTC/USDT", None),
        ("book:tBTCUSD", None),
    ],
)
def test_the_symbol_in_the_librarys_name(name: str, symbol: str | None) -> None:
    assert book_named_in(name, ["BTC/USDT", "BTC/USDT:USDT"]) == symbol
