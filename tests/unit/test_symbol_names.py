"""Short names of markets, before and after a venue's markets are loaded."""

from __future__ import annotations

from ingestd.symbol_names import CompactNames


def test_names_follow_what_the_venue_lists() -> None:
    markets: list[tuple[str, str]] = []
    names = CompactNames(lambda: markets)
    assert names("binance", "BTC/USDT") == "BTCUSDT"
    assert names("binance", "BTC/USDT:USDT") == "BTCUSDT.P"
    assert names("krakenfutures", "BTC/USD:USD") == "BTCUSD.P"
    markets += [("binance", "BTC/USDT"), ("binance", "BTC/USDT:USDT"), ("krakenfutures", "BTC/USD:USD")]
    assert names("binance", "BTC/USDT:USDT") == "BTCUSDT.P"
    assert names("krakenfutures", "BTC/USD:USD") == "BTCUSD"
    assert names("binance", "BTC/USDT:USDT-261225") == "BTCUSDT-261225"


def test_the_markets_are_asked_for_once() -> None:
    asked: list[int] = []

    def markets() -> list[tuple[str, str]]:
        asked.append(1)
        return [("binance", "BTC/USDT")]

    names = CompactNames(markets)
    for _ in range(3):
        names("binance", "BTC/USDT")
    assert len(asked) == 1
