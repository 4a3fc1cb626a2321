"""Short names of markets: readable, of one market each, and whatever else the venue lists."""

from __future__ import annotations

import ccxt.pro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.venues.symbol_names import CONTRACTS_ONLY, compact_symbol, dash_symbol


@pytest.mark.parametrize(
    ("exchange", "symbol", "compact", "dash"),
    [
        ("binance", "BTC/USDT", "BTCUSDT", "BTC-USDT"),
        ("binance", "BTC/USDT:USDT", "BTCUSDT.P", "BTC-USDT.P"),
        ("binance", "BTC/USD:BTC", "BTCUSD.BTC.P", "BTC-USD.BTC.P"),
        ("binance", "BTC/USDT:USDT-261225", "BTCUSDT-261225", "BTC-USDT-261225"),
        ("binanceusdm", "BTC/USDT:USDT", "BTCUSDT", "BTC-USDT"),
        ("binanceusdm", "BTC/USDT:USDT-261225", "BTCUSDT-261225", "BTC-USDT-261225"),
        ("binancecoinm", "BTC/USD:BTC", "BTCUSD.BTC", "BTC-USD.BTC"),
        ("krakenfutures", "BTC/USD:USD", "BTCUSD", "BTC-USD"),
        ("krakenfutures", "BTC/USD:BTC", "BTCUSD.BTC", "BTC-USD.BTC"),
        ("krakenfutures", "BTC/USD:BTC-261225", "BTCUSD.BTC-261225", "BTC-USD.BTC-261225"),
        ("krakenfutures", "BTC/USD:USD-261225", "BTCUSD-261225", "BTC-USD-261225"),
        ("bybit", "BTC/USDT:USDT-261225-50000-C", "BTCUSDT-261225-50000-C", "BTC-USDT-261225-50000-C"),
        ("deribit", "BTC/USD:BTC-261225-0.5-P", "BTCUSD.BTC-261225-0.5-P", "BTC-USD.BTC-261225-0.5-P"),
        ("bitmex", "ETH/USD:BTC", "ETHUSD.BTC.P", "ETH-USD.BTC.P"),
        ("polymarket", "NVDA/USD:PUSD", "NVDAUSD.PUSD", "NVDA-USD.PUSD"),
        ("hyperliquid", "XYZ-TSLA/USDC:USDC", "XYZ~TSLAUSDC.P", "XYZ~TSLA-USDC.P"),
        # Of two pairs that would be one name, the one that the venue's customers read has it.
        ("binance", "BTC/BUSD", "BTCBUSD", "BTC-BUSD"),
        ("binance", "AR/BUSD", "ARBUSD", "AR-BUSD"),
        ("binance", "BNB/USD:BNB", "BNBUSD.BNB.P", "BNB-USD.BNB.P"),
        ("binance", "ADA/EUR", "ADAEUR", "ADA-EUR"),
        ("binance", "LUNA/EUR", "LUNAEUR", "LUNA-EUR"),
        ("coinbase", "ARB/USD", "ARBUSD", "ARB-USD"),
        ("coinbase", "AR/BUSD", "AR_BUSD", "AR-BUSD"),
        ("kraken", "UFD/USD", "UFDUSD", "UFD-USD"),
        ("gemini", "BTC/GUSD", "BTCGUSD", "BTC-GUSD"),
        # What separates keys, or matches more than itself in a pattern, is never in a name.
        ("binance", "A:B", ".A%3AB", ".A%3AB"),
        ("bitmex", ".BXBT", "..BXBT", "..BXBT"),
        ("gate", "A*/B[]C", "A%2A_B%5B%5DC", "A%2A-B%5B%5DC"),
        ("binance", "币安人生/USDT", "币安人生USDT", "币安人生-USDT"),
    ],
)
def test_names(exchange: str, symbol: str, compact: str, dash: str) -> None:
    assert (compact_symbol(exchange, symbol), dash_symbol(exchange, symbol)) == (compact, dash)


CODES = st.sampled_from(["B", "BTC", "BTCB", "A", "AR", "ARB", "USD", "BUSD", "EUR", "AEUR", "P", "USDT", "1.5", "a-b"])
ANY = st.text("ABUSDPTC~_%.-@0", min_size=1, max_size=5)
CODE = CODES | ANY
DATE = st.sampled_from(["261225", "270326"])
STRIKE = st.sampled_from(["50000", "0.5", "5000"])


PAIR = st.tuples(CODE, CODE).map("/".join)
SETTLED = st.tuples(PAIR, CODE.map(lambda code: code.replace("-", "") + "S")).map(":".join)
TERMS = DATE | st.tuples(DATE, STRIKE, st.sampled_from("CP")).map("-".join)
# What ccxt calls markets, and what it might.
SYMBOL = PAIR | SETTLED | st.tuples(SETTLED, TERMS).map("-".join) | st.text("AB/:-.USD", max_size=8)


@given(st.lists(SYMBOL, unique=True), st.sampled_from(["binance", "coinbase", "krakenfutures"]))
def test_no_two_markets_of_a_venue_share_a_name(listed: list[str], exchange: str) -> None:
    for name_of in (compact_symbol, dash_symbol):
        names = [name_of(exchange, symbol) for symbol in listed]
        assert len(set(names)) == len(listed)
        assert not any(set(name) & set(" :*?[]\\^\r\n") for name in names)


def test_the_venues_without_spot_are_the_ones_that_the_exchange_library_knows() -> None:
    """A venue that begins to trade spot stays in the table: its running keys are not renamed. One that is new and
    trades contracts only is entered before it is followed."""
    without = {name for name in ccxt.pro.exchanges if getattr(ccxt.pro, name)().has.get("spot") is not True}
    assert without <= CONTRACTS_ONLY
