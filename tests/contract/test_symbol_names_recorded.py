"""Over every recorded market list: each market has a short name of its own, and a spot one the venue's usual one."""

from __future__ import annotations

import json

import pytest

from ingestd.venues.symbol_names import compact_symbol, dash_symbol
from tests.support.captures import capture_bodies, capture_lines, recorded_markets

LISTS = [
    ("binance-spot-2021-10", "binance"),
    ("binance-usdm-2021-07", "binanceusdm"),
    ("bitget-spot-2022-04", "bitget"),
    ("bitstamp-2022-01", "bitstamp"),
    ("coinbase-exchange-2021-04", "coinbaseexchange"),
    ("gemini-2021-06", "gemini"),
    ("krakenfutures-2021-07", "krakenfutures"),
    ("kucoin-2021-04", "kucoin"),
    ("okx-v5-2022-05", "okx"),
]


async def listed(capture: str, exchange: str) -> dict[str, bool]:
    """Whether it is a spot market, by unified symbol."""
    bodies = capture_bodies(capture_lines(capture))
    if exchange == "bitstamp":  # the exchange library asks today's address, which was not recorded
        (pairs,) = [body for url, body in bodies.items() if "trading-pairs-info" in url]
        return {pair["name"]: True for pair in json.loads(pairs)}
    return {symbol: bool(market["spot"]) for symbol, market in (await recorded_markets(exchange, bodies)).items()}


@pytest.mark.parametrize(("capture", "exchange"), LISTS)
async def test_every_recorded_market_has_its_own_name(capture: str, exchange: str) -> None:
    markets = await listed(capture, exchange)
    assert markets
    for name_of in (compact_symbol, dash_symbol):
        assert len({name_of(exchange, symbol) for symbol in markets}) == len(markets)
    spot = [symbol for symbol, is_spot in markets.items() if is_spot]
    assert [compact_symbol(exchange, symbol) for symbol in spot] == [symbol.replace("/", "") for symbol in spot]
    assert [dash_symbol(exchange, symbol) for symbol in spot] == [symbol.replace("/", "-") for symbol in spot]


async def test_the_two_bitcoin_perpetuals_of_kraken_are_told_apart() -> None:
    """`PI_XBTUSD` is settled in bitcoin, `PF_XBTUSD` in dollars."""
    markets = await listed("krakenfutures-2021-07", "krakenfutures")
    assert "BTC/USD:BTC" in markets
    assert compact_symbol("krakenfutures", "BTC/USD:BTC") != compact_symbol("krakenfutures", "BTC/USD:USD")
