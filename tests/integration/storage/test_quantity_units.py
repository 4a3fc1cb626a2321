"""What a trade is worth, from the venue's market to the candle: against the worked numbers of the venues' documents.

Each row is a trade, or a candle's whole volume as one trade, with the quote amount that the venue's own figures give.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from ingestd.backfill.audit import Minute, comparable_volume, compare
from ingestd.feeds.ccxt.records import market_info
from ingestd.feeds.markets.quantity_units import unit_of
from ingestd.records import Candle, Trade
from ingestd.status import MarketInfo
from ingestd.storage import engine as engines
from ingestd.storage import rollups, symbols
from ingestd.storage.database import Database
from ingestd.storage.writer import copy_text
from ingestd.storage.writer.tables import TABLES
from ingestd.validation import all_valid, rejection_reason, time_window
from ingestd.venues.all import FACTS
from tests.support.records import NOW_US, copy_lines, trade

LINEAR, INVERSE = {"linear": True, "inverse": False}, {"linear": False, "inverse": True}
# exchange, the market as ccxt has it, price, quantity, its worth in the quote currency, its unit in `symbols`
CASES: list[tuple[str, Mapping[str, Any], str, str, str | None, str | None]] = [
    # Spot: the base currency.
    ("okx", {"symbol": "BTC/USDT"}, "41006.8", "0.6", "24604.08", "base"),
    # https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Kline-Candlestick-Data:
    # volume 206 contracts (of 100 USD), base asset volume 2.13660389 at prices from 9640.6 to 9642.4.
    ("binance", {"symbol": "BTC/USD:BTC", **INVERSE, "contractSize": 100}, "9641.5", "206", "20600", "contracts"),
    ("binancecoinm", {"symbol": "ETH/USD:ETH", **INVERSE, "contractSize": 10}, "240.1", "3", "30", "contracts"),
    ("binanceusdm", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 1}, "7.5", "3", "22.5", "base"),
    # https://bybit-exchange.github.io/docs/v5/market/kline, inverse BTCUSD: volume 268611 (USD), turnover 15.74462667
    # BTC at 17071. ccxt's contractSize is the least order: it has nothing to do with it.
    ("bybit", {"symbol": "BTC/USD:BTC", **INVERSE, "contractSize": 10}, "17071", "268611", "268611", "quote"),
    ("bybit", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 1}, "16578.50", "0.001", "16.57850", "base"),
    ("bybit", {"symbol": "BTC/USDC:USDC-261225-40000-C", **LINEAR, "contractSize": 1, "type": "option"}, "5", "2",
     "10", "base"),
    # https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments: ctVal 0.01 BTC; 100 USD.
    ("okx", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": "0.01"}, "40000.1", "7", "2800.0070", "contracts"),
    ("okx", {"symbol": "BTC/USD:BTC-260327", **INVERSE, "contractSize": 100}, "40000.1", "7", "700", "contracts"),
    # Options there are priced in the base currency.
    ("okx", {"symbol": "BTC/USD:BTC-260327-40000-C", **INVERSE, "contractSize": 1, "type": "option"}, "0.05", "7",
     None, None),
    # https://docs.deribit.com, public/get_last_trades: USD for inverse, the base coin for linear; contract_size 10 is
    # of one contract, of which a trade says nothing.
    ("deribit", {"symbol": "BTC/USD:BTC", **INVERSE, "contractSize": 10}, "7713", "10", "10", "quote"),
    ("deribit", {"symbol": "BTC/USDC:USDC", **LINEAR, "contractSize": "0.001"}, "25000", "0.02", "500.00", "base"),
    ("deribit", {"symbol": "BTC/USD:BTC-260327-40000-C", **INVERSE, "contractSize": 1, "type": "option"}, "0.05", "1",
     None, None),
    # https://docs.kraken.com/api/docs/futures-api: PI_ of 1 USD, PF_ in the base currency.
    ("krakenfutures", {"symbol": "BTC/USD:BTC", **INVERSE, "contractSize": "1"}, "34893", "60", "60", "quote"),
    ("krakenfutures", {"symbol": "BTC/USD:USD", **LINEAR, "contractSize": "1"}, "30000", "0.25", "7500.00", "base"),
    # https://huobiapi.github.io/docs/usdt_swap/v1/en: amount 2, quantity 0.002, price 13073.3, trade_turnover 26.1466.
    ("htx", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 0.001}, "13073.3", "2", "26.1466", "contracts"),
    ("gate", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 0.0001}, "96000", "5", "48.0000", "contracts"),
    ("mexc", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 0.0001}, "96000", "5", "48.0000", "contracts"),
    ("kucoin", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 0.001}, "96000", "5", "480.000", "contracts"),
    ("kucoin", {"symbol": "BTC/USD:BTC", **INVERSE, "contractSize": 1}, "96000", "5", "5", "quote"),
    ("bitget", {"symbol": "BTC/USD:BTC", **INVERSE, "contractSize": 1}, "96000", "0.5", "48000.0", "base"),
    ("hyperliquid", {"symbol": "BTC/USDC:USDC", **LINEAR, "contractSize": 1}, "96000", "0.5", "48000.0", "base"),
    # Neither the one nor the other (quanto), a size that is not said, a venue of which nothing is known.
    ("okx", {"symbol": "ETH/USD:BTC", "linear": False, "inverse": False, "contractSize": 1}, "3", "1", None, None),
    ("gate", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": None}, "96000", "5", None, None),
    ("gate", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": "x"}, "96000", "5", None, None),
    ("lbank", {"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 1}, "96000", "5", None, None),
]  # fmt: skip


def market_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    symbol = facts["symbol"]
    base, _, quote = symbol.partition(":")[0].partition("/")
    contract = ":" in symbol
    given = {"type": "swap" if contract else "spot", "linear": None, "inverse": None, **facts}
    return {"id": symbol, "base": base, "quote": quote, "contract": contract, **given}


async def test_candles_are_worth_what_the_venues_say(db: Database) -> None:
    records = []
    for number, (exchange, facts, price, quantity, _, _) in enumerate(CASES):
        unit = unit_of(exchange, market_of(facts))
        records.append(
            trade(
                number,
                exchange=exchange,
                symbol=f"{number} {facts['symbol']}",
                price=price,
                quantity=quantity,
                unit=unit,
            )
        )
    found = await quote_volumes(db, records)
    for number, (exchange, facts, price, quantity, worth, _) in enumerate(CASES):
        symbol = f"{number} {facts['symbol']}"
        volume, quote_volume, bought = found[symbol]
        assert quote_volume == (None if worth is None else Decimal(worth)), (exchange, symbol)
        assert bought == quote_volume, (exchange, symbol)
        assert volume == Decimal(quantity), (exchange, symbol, price)


async def test_one_trade_of_unknown_worth_makes_its_candle_so_in_every_timeframe(db: Database) -> None:
    whole = [
        trade(1, symbol="A/B:C", unit="quote", quantity="5"),
        trade(2, symbol="A/B:C", unit="7 quote", quantity="2"),
    ]
    later = NOW_US + 120_000_000
    unsaid = trade(3, symbol="A/B:C", time=later, unit="unknown")  # in another minute of the hour
    assert await quote_volumes(db, whole) == {"A/B:C": (Decimal(7), Decimal(19), Decimal(19))}
    assert (await quote_volumes(db, [unsaid], "candles_1h"))["A/B:C"][1:] == (None, None)
    rows = await db.fetch("SELECT quote_volume, volume FROM candles_1m ORDER BY bucket_start")
    assert [row["quote_volume"] for row in rows] == [19, None]
    assert await db.fetchval('SELECT count(*) FROM "candles_1M" WHERE quote_volume IS NULL AND volume > 7') == 1


async def test_what_nobody_has_to_be_told_is_the_same_on_both_sides(db: Database) -> None:
    """The trades of these venues' linear contracts carry no unit, and the database knows what they count."""
    linear = market_of({"symbol": "BTC/USDT:USDT", **LINEAR, "contractSize": 1})
    inverse = market_of({"symbol": "BTC/USD:BTC", **INVERSE, "contractSize": 1})
    for exchange in (name for name, facts in FACTS.items() if facts.quantities.base_by_default):
        assert unit_of(exchange, linear) is None
        assert await db.fetchval("SELECT ingestd_counted_base($1, 'BTC/USDT:USDT-260327')", exchange) is True
        assert unit_of(exchange, inverse) is not None
    assert await db.fetchval("SELECT ingestd_counted_base('binance', 'BTC/USD:BTC')") is False
    for exchange in ("okx", "gate", "krakenfutures", "hyperliquid", "x"):
        assert await db.fetchval("SELECT ingestd_counted_base($1, 'BTC/USDT:USDT')", exchange) is False
        assert await db.fetchval("SELECT ingestd_counted_base($1, 'BTC/USDT')", exchange) is True
    # and so are those of before, of which nobody can say any more what they counted
    old = trade(1, exchange="okx", symbol="BTC/USDT:USDT", unit=None)
    assert (await quote_volumes(db, [old]))["BTC/USDT:USDT"][1:] == (None, None)


async def test_symbols_say_what_a_quantity_counts(db: Database) -> None:
    markets: list[MarketInfo] = []
    for number, (exchange, facts, *_) in enumerate(CASES):
        markets.append(market_info(exchange, {**market_of(facts), "symbol": f"{number} {facts['symbol']}"}))
    assert await symbols.upsert_symbols(db, markets) == len(CASES)
    assert await symbols.upsert_symbols(db, markets) == 0
    rows = {row["symbol"]: row for row in await db.fetch("SELECT * FROM symbols")}
    for number, (_, facts, _, _, _, unit) in enumerate(CASES):
        row = rows[f"{number} {facts['symbol']}"]
        assert row["quantity_unit"] == unit
        linear, inverse = facts.get("linear"), facts.get("inverse")
        assert row["linear"] == (None if linear == inverse else linear)
        size = facts.get("contractSize")
        assert row["contract_size"] == (None if size in (None, "x") else Decimal(str(size)))


async def test_the_candle_audit_compares_volumes_in_one_unit(db: Database) -> None:
    """OKX' swaps: 7 contracts of 0.01 BTC are 0.07 in the library's candle; of inverse ones only prices are judged."""
    cases: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
        ("A/USDT:USDT", {**LINEAR, "contractSize": "0.01"}, ["7", "0.07"], ["0.7", "8"]),
        ("A/USD:A", {**INVERSE, "contractSize": 100}, ["7", "0.0175", "0.0174"], []),
        ("A/USDT", {}, ["7"], ["0.07"]),
    ]
    markets = [market_of({"symbol": symbol, **facts}) for symbol, facts, _, _ in cases]
    await symbols.upsert_symbols(db, [market_info("okx", market) for market in markets])
    ours = {0: Minute(Decimal(4), Decimal(4), Decimal(4), Decimal(4), Decimal(7))}
    for symbol, _, same, different in cases:
        size = await comparable_volume(db, "okx", symbol)
        for volume in (*same, *different):
            theirs = [Candle("okx", symbol, 0, 0, "1m", "4", "4", "4", "4", volume)]
            found = [disagreement.fields for disagreement in compare(ours, theirs, size)[1]]
            assert found == ([] if volume in same else ["volume"]), (symbol, volume)
            wrong_price = [Candle("okx", symbol, 0, 0, "1m", "4", "5", "4", "4", volume)]
            assert compare(ours, wrong_price, size)[1][0].fields.startswith("high")
    assert await comparable_volume(db, "okx", "not listed") == 1


@pytest.mark.parametrize("unit", ["", "BASE", "0 base", "-1 quote", "NaN base", "1 unknown", "base\t1", "1e999 base"])
def test_a_unit_that_is_none_is_refused_by_name(unit: str) -> None:
    window = time_window(NOW_US, 10.0, {})
    assert rejection_reason(trade(1, unit=unit), window) == "unit"
    assert not all_valid([trade(1), trade(2, unit=unit)], window)
    assert all_valid([trade(1), trade(2, unit="0.01 base"), trade(3, unit="unknown")], window)


async def quote_volumes(
    db: Database, records: list[Trade], relation: str = "candles_1m"
) -> dict[str, tuple[Decimal, Decimal | None, Decimal | None]]:
    """Store the trades as the sink does; volume, quote volume and what takers bought of it, by symbol."""
    payload = copy_text.payload(copy_lines(records))
    assert await db.copy_text("trades", TABLES["trades"].columns, payload) == len(records)
    await rollups.refresh(db, await engines.detect(db))
    rows = await db.fetch(f"SELECT * FROM {relation}")
    return {row["symbol"]: (row["volume"], row["quote_volume"], row["taker_buy_quote_volume"]) for row in rows}
