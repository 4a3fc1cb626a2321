"""The stored name of a market from any of its names, and what its trades count."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ingestd.errors import MarketUnknown, SchemaError
from ingestd.repository.markets import market_of, unified_of


def row(name: str, **changes: Any) -> dict[str, Any]:
    """What the database answers about a name: of a market that nobody has listed, unless `changes` say more."""
    nothing = dict.fromkeys(
        ("following", "symbol", "venue_name", "linear", "contract_size", "quantity_unit", "open_interest_unit")
    )
    return {"exchange": "binance", "name": name, "recorded": "unified", **nothing, **changes}


@pytest.mark.parametrize(
    ("exchange", "name", "unified"),
    [
        ("binance", "BTC/USDT", "BTC/USDT"),
        ("binance", "BTCUSDT", "BTC/USDT"),
        ("binance", "BTC-USDT", "BTC/USDT"),
        ("binance", "BTCUSDT.P", "BTC/USDT:USDT"),
        ("binance", "BTC-USDT.P", "BTC/USDT:USDT"),
        ("binance", "BTCUSD.BTC.P", "BTC/USD:BTC"),
        ("binance", "BTC-USD.BTC.P", "BTC/USD:BTC"),
        ("binance", "BTCUSD.BTC-261225", "BTC/USD:BTC-261225"),
        ("binance", "BTC-USD.BTC-261225", "BTC/USD:BTC-261225"),
        ("binance", "BTCUSDT-261225-50000-C", "BTC/USDT:USDT-261225-50000-C"),
        ("binance", "BTC-USDT-261225-50000-C", "BTC/USDT:USDT-261225-50000-C"),
        ("binanceusdm", "BTCUSDT", "BTC/USDT:USDT"),
        ("binanceusdm", "BTC-USDT", "BTC/USDT:USDT"),
        ("coinbase", "AR_BUSD", "AR/BUSD"),
    ],
)
def test_the_form_of_a_name_says_the_market(exchange: str, name: str, unified: str) -> None:
    assert unified_of(exchange, name) == unified


@pytest.mark.parametrize("name", ["", "btcusdt", "btc-usdt", "USD", "BTC/", "/USDT", "-", "."])
def test_a_name_without_such_a_form_is_no_market(name: str) -> None:
    assert unified_of("binance", name) is None
    with pytest.raises(MarketUnknown, match="is the name of no market of binance"):
        market_of(row(name))


@pytest.mark.parametrize(
    ("style", "stored"), [("unified", "BTC/USDT"), ("compact", "BTCUSDT"), ("dash", "BTC-USDT"), ("venue", "XBTUSDT")]
)
def test_a_listed_market_is_stored_in_the_style_of_the_database(style: str, stored: str) -> None:
    found = market_of(row("XBTUSDT", recorded=style, symbol="BTC/USDT", venue_name="XBTUSDT"))
    assert (found.stored, found.contract_size, found.contract_currency) == (stored, None, None)


def test_the_venue_s_own_name_is_not_guessed() -> None:
    with pytest.raises(MarketUnknown, match="own name of BTCUSDT on binance is not known"):
        market_of(row("BTCUSDT", recorded="venue"))


def test_while_symbols_are_renamed_nothing_is_read_or_written() -> None:
    with pytest.raises(SchemaError, match="finish `ingestd migrate --rename-symbols`"):
        market_of(row("BTCUSDT", following="compact"))
    with pytest.raises(SchemaError, match="run `ingestd migrate`"):
        market_of(row("BTCUSDT", recorded=None))


# The rows of the first table in docs/schema.md.
@pytest.mark.parametrize(
    ("symbol", "counts", "linear", "size", "unit"),
    [
        ("BTC/USDT", "base", None, None, (None, None)),
        ("BTC/USDT:USDT", "base", True, "0.01", (None, "base")),
        ("BTC/USDT:USDT", "contracts", True, "0.01", (Decimal("0.01"), "base")),
        ("BTC/USD:BTC", "base", False, None, (None, "base")),
        ("BTC/USD:BTC", "contracts", False, "100", (Decimal(100), "quote")),
        ("BTC/USD:BTC", "quote", False, "10", (None, "quote")),
        ("BTC/USD:ETH", "contracts", None, "1", (None, "unknown")),
        ("BTC/USD:BTC", "contracts", False, None, (None, "unknown")),
        ("BTC/USD:BTC", None, False, "1", (None, "unknown")),
    ],
)
def test_the_unit_of_a_listed_market_is_that_of_symbols(
    symbol: str, counts: str | None, linear: bool | None, size: str | None, unit: tuple[Decimal | None, str | None]
) -> None:
    listed = row(
        "X", symbol=symbol, quantity_unit=counts, linear=linear, contract_size=None if size is None else Decimal(size)
    )
    found = market_of(listed)
    assert (found.contract_size, found.contract_currency) == unit


@pytest.mark.parametrize(
    ("exchange", "symbol", "currency"),
    [
        ("binance", "BTC/USDT", None),
        ("binance", "BTC/USDT:USDT", "base"),
        ("bybit", "BTC/USDT:USDT-261225", "base"),
        ("binance", "BTC/USD:BTC", "unknown"),
        ("okx", "BTC/USDT:USDT", "unknown"),
    ],
)
def test_the_unit_of_an_unlisted_market_is_unknown_but_where_the_venue_has_one_only(
    exchange: str, symbol: str, currency: str | None
) -> None:
    found = market_of(row(symbol, exchange=exchange))
    assert (found.contract_size, found.contract_currency) == (None, currency)
