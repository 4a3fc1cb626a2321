"""Configured symbols against markets."""

from __future__ import annotations

from ingestd.feeds.markets.symbols import may_serve, resolve, serves

MARKETS = {
    "BTC/USDT": {"active": True, "spot": True},
    "ETH/USDT": {"active": True, "spot": True},
    "OLD/USDT": {"active": False, "spot": True},
    "BTC/USDT:USDT": {"active": True, "swap": True, "contract": True},
    "BTC/USDT:USDT-261225": {"active": True, "swap": False, "contract": True},
}


def test_globs_expand_over_active_markets_only() -> None:
    assert resolve(["*/USDT"], MARKETS).symbols == ["BTC/USDT", "ETH/USDT"]


def test_a_named_market_that_is_halted_is_kept() -> None:
    assert resolve(["OLD/USDT"], MARKETS).symbols == ["OLD/USDT"]


def test_each_symbol_once_in_the_order_of_the_configuration() -> None:
    assert resolve(["ETH/USDT", "*/USDT", "ETH/USDT"], MARKETS).symbols == ["ETH/USDT", "BTC/USDT"]


def test_unknown_names_come_with_the_nearest() -> None:
    resolution = resolve(["BTC/USDTT", "*/XYZ", "ETH/USDT"], MARKETS)

    assert resolution.symbols == ["ETH/USDT"]
    assert "BTC/USDT" in resolution.unknown["BTC/USDTT"]
    assert resolution.unknown["*/XYZ"] == "matches no active market"
    said = resolve(["*/usdt"], {"BTC/USDT": {"symbol": "BTC/USDT"}}).unknown["*/usdt"]
    assert said == "matches no active market: symbols are in capitals, as in */USDT"


def test_funding_is_for_perpetuals_and_open_interest_for_contracts() -> None:
    assert [s for s in MARKETS if serves("funding", MARKETS[s])] == ["BTC/USDT:USDT"]
    assert [s for s in MARKETS if serves("open_interest", MARKETS[s])] == ["BTC/USDT:USDT", "BTC/USDT:USDT-261225"]
    assert all(serves("trades", market) for market in MARKETS.values())


def test_liquidations_are_of_perpetual_and_dated_contracts() -> None:
    kinds = {kind: {kind: True, "contract": kind != "spot"} for kind in ("spot", "swap", "future", "option")}
    for channel in ("liquidations", "mark_prices"):
        assert [kind for kind, market in kinds.items() if serves(channel, market)] == ["swap", "future"]
    names = ("BTC/USDT", "BTC/USDT:USDT", "BTC/USDT:USDT-261225", "BTC/USDT:USDT-261225-90000-C", "BTC*")
    assert [name for name in names if may_serve("liquidations", name)] == [names[1], names[2], names[4]]
