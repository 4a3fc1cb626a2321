"""Which families of markets a feed needs."""

from __future__ import annotations

import pytest

from ingestd.feeds.markets.families import family_of, needed

LINEAR = family_of("binance", ["fapiPublic"], "exchangeInfo", {})
INVERSE = family_of("binance", ["dapiPublic"], "exchangeInfo", {})
SPOT = family_of("binance", ["public"], "exchangeInfo", {})
OPTIONS = family_of("okx", ["public"], "public/instruments", {"instType": "OPTION", "uly": "BTC-USD"})


@pytest.mark.parametrize(
    ("pattern", "families"),
    [
        ("*/USDT", [SPOT]),
        ("BTC/*", [LINEAR, INVERSE, SPOT, OPTIONS]),
        ("*", [LINEAR, INVERSE, SPOT, OPTIONS]),
        ("*/USDT:USDT", [LINEAR]),
        ("*/USD:BTC", [INVERSE]),
        ("*:USDT", [LINEAR, INVERSE]),
        ("*/USDT:USDT-2612??", [LINEAR, INVERSE, SPOT, OPTIONS]),
        ("*/USD:BTC-*-C", [LINEAR, INVERSE, SPOT, OPTIONS]),
    ],
)
def test_a_pattern_needs_the_families_that_it_may_match(pattern: str, families: list[object]) -> None:
    missing = [family for family in (LINEAR, INVERSE, SPOT, OPTIONS) if family is not None]
    assert needed([pattern], [], missing) == families


def test_a_name_needs_its_family_only_while_it_is_not_found() -> None:
    assert LINEAR is not None
    assert needed(["BTC/USDT:USDT"], ["BTC/USDT:USDT"], [LINEAR]) == [LINEAR]
    assert needed(["BTC/USDT:USDT"], [], [LINEAR]) == []
    assert needed(["BTC/USDT"], ["BTC/USDT"], [LINEAR]) == []


def test_what_decides_over_names_is_no_family() -> None:
    assert family_of("kraken", ["public"], "AssetPairs", {}) is None
    assert family_of("nado", ["gateway", "public"], "symbols", {}) is None


def test_fees_and_margin_are_needed_by_nothing() -> None:
    fees = family_of("kucoin", ["public"], "market/allTickers", {})
    assert fees is not None
    assert needed(["*"], ["BTC/USDT"], [fees]) == []
