"""Names of every style, from the symbol and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import MarketUnknown
from ingestd.status import MarketInfo
from ingestd.venues.market_names import KnownMarkets, Names
from ingestd.venues.symbol_names import compact_symbol, dash_symbol, unified_symbol, venue_symbol

codes = st.text(st.sampled_from("ABUSDTCP1-_.@%~:/ é€"), max_size=6) | st.sampled_from(
    ["BTC", "USDT", "BUSD", "P", "BTCB"]
)
endings = st.sampled_from(["", "-261225", "-261225-50000-C", "-a.b", "-x%y", "-"])
symbols = st.builds(
    lambda base, quote, settle, dates: f"{base}/{quote}" + ("" if settle is None else f":{settle}{dates}"),
    codes,
    codes,
    st.none() | codes,
    endings,
) | st.text(max_size=12)
exchanges = st.sampled_from(["binance", "binanceusdm", "deribit", "kraken", "upbit", "one of nobody"])


@given(exchanges, symbols)
def test_a_compact_or_dash_name_is_read_back(exchange: str, symbol: str) -> None:
    assert unified_symbol(exchange, compact_symbol(exchange, symbol), "compact") == symbol
    assert unified_symbol(exchange, dash_symbol(exchange, symbol), "dash") == symbol


@pytest.mark.parametrize(
    ("exchange", "symbol", "market_id", "name"),
    [
        ("binance", "BTC/USDT", "BTCUSDT", "BTCUSDT"),
        ("binance", "BTC/USDT:USDT", "BTCUSDT", "BTCUSDT.P"),  # both are called BTCUSDT there
        ("binance", "BTC/USDT:USDT-261225", "BTCUSDT_261225", "BTCUSDT_261225"),
        ("binance", "BTC/USD:BTC", "BTCUSD_PERP", "BTCUSD_PERP"),
        ("binanceusdm", "BTC/USDT:USDT", "BTCUSDT", "BTCUSDT"),  # trades no spot
        ("bybit", "BTC/USD:BTC", "BTCUSD", "BTCUSD.BTC.P"),
        ("okx", "BTC/USDT:USDT", "BTC-USDT-SWAP", "BTC-USDT-SWAP"),
        ("gate", "BTC/USDT:USDT", "BTC_USDT", "BTC_USDT.P"),
        ("x", "not a market", "id", "id"),
    ],
)
def test_the_venues_own_name_is_its_id_where_no_spot_market_has_that(
    exchange: str, symbol: str, market_id: str, name: str
) -> None:
    assert venue_symbol(exchange, symbol, market_id) == name


def market(symbol: str, market_id: str) -> MarketInfo:
    return MarketInfo("binance", symbol, market_id, "", "", "spot", True)


def test_the_venues_own_names_come_from_lists_and_stay_with_their_market() -> None:
    listed: list[MarketInfo] = []
    names = Names("venue", KnownMarkets(lambda: list(listed), awaited={"binance"}))
    with pytest.raises(MarketUnknown):
        names.has("binance", "BTC/USDT")  # its list is still to come
    listed.append(market("BTC/USDT", "BTCUSDT"))
    assert names.name("binance", "BTC/USDT") == "BTCUSDT"
    assert names.symbol("binance", "BTCUSDT") == "BTC/USDT"
    assert not names.has("binance", "ETH/USDT")
    listed += [market("XBT/USDT", "BTCUSDT"), market("ETH/USDT", "ETHUSDT")]
    assert names.name("binance", "ETH/USDT") == "ETHUSDT"
    assert not names.has("binance", "XBT/USDT"), "the name is another market's"
    assert names.symbol("binance", "BTCUSDT") == "BTC/USDT"
    assert names.symbol("binance", "WHAT") == "WHAT"


@pytest.mark.parametrize(("style", "name"), [("unified", "BTC/USDT"), ("compact", "BTCUSDT"), ("dash", "BTC-USDT")])
def test_the_other_styles_need_no_list(style: str, name: str) -> None:
    names = Names(style, KnownMarkets(awaited={"binance"}))  # type: ignore[arg-type] # three of the styles
    assert names.name("binance", "BTC/USDT") == name
    assert names.symbol("binance", name) == "BTC/USDT"
    assert names.has("binance", "BTC/USDT")


def test_a_list_is_awaited_though_the_table_has_older_markets_of_that_venue() -> None:
    """A market may be captured, and the process killed, before the table gets it."""
    listed: list[MarketInfo] = []
    known = KnownMarkets(lambda: list(listed), awaited={"binance"})
    known.learn("binance", "BTC/USDT", "BTCUSDT")  # from the table
    names = Names("venue", known)
    assert names.name("binance", "BTC/USDT") == "BTCUSDT"
    with pytest.raises(MarketUnknown):
        names.has("binance", "NEW/USDT")
    listed.append(market("NEW/USDT", "NEWUSDT"))
    assert names.has("binance", "NEW/USDT")
    assert not names.has("binance", "ETH/USDT")


def test_no_list_is_awaited_of_a_venue_that_no_feed_follows() -> None:
    """One that was taken out of the configuration, of which the journal still has records."""
    names = Names("venue", KnownMarkets(awaited={"binance"}))
    assert not names.has("kraken", "BTC/USD")


@pytest.mark.parametrize(
    ("style", "name"),
    [
        ("compact", "BTC/USDT"),
        ("compact", "BTC/USDT:USDT"),
        ("dash", "BTC/USDT"),
        ("compact", "B-T/C"),
        ("dash", "A-/B"),
    ],
)
def test_a_text_that_is_never_written_as_a_name_is_read_as_none(style: str, name: str) -> None:
    assert unified_symbol("binance", name, style) is None  # type: ignore[arg-type] # two of the styles
