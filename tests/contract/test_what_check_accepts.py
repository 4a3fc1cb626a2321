"""`check` accepts what can be streamed: held against what each venue's code in the exchange library really asks."""

from __future__ import annotations

import ccxt
import pytest

from ingestd.feeds import catalog
from ingestd.feeds.ccxt.channels import method_for, offered_channels, single_method_for
from ingestd.feeds.ccxt.tap import exchange_ids, features, timeframes
from ingestd.feeds.markets.symbols import serves
from ingestd.records import Channel
from tests.support.ccxt_requests import MARKET_TYPES, Asking, symbol_of
from tests.unit.feeds.doubles import feed_config

REFUSALS = (ccxt.NotSupported, ccxt.BadSymbol, ccxt.BadRequest, ccxt.AuthenticationError, ccxt.ExchangeError)

# By the venues' documents; the code asks for them.
REFUSED_BY_THE_VENUE = {
    ("bybit", "option", "candles"),  # https://bybit-exchange.github.io/docs/v5/market/kline
    ("bybit", "option", "open_interest"),  # https://bybit-exchange.github.io/docs/v5/market/open-interest
    ("bybitid", "option", "candles"),
    ("bybitid", "option", "open_interest"),
    ("gate", "option", "candles"),  # its channel is options.contract_candlesticks
}
LISTED = {("lbank", "swap")}  # though its table does not say so


@pytest.mark.parametrize("exchange_id", exchange_ids())
async def test_check_refuses_the_streams_that_the_venues_code_refuses(exchange_id: str) -> None:
    has, code = features(exchange_id), Asking(exchange_id)
    for market_type in MARKET_TYPES:
        if not has.get(market_type) and (exchange_id, market_type) not in LISTED:
            continue
        for channel in offered_channels(exchange_id, has):
            if not serves(channel, {market_type: True, "contract": market_type != "spot"}):
                continue
            refused = (exchange_id, market_type, channel) in REFUSED_BY_THE_VENUE or await is_refused(
                code, exchange_id, channel, market_type
            )
            config = feed_config(
                exchange_id, [symbol_of(market_type)], channels=[channel], decoder="ccxt",
                candle_timeframe=a_timeframe(exchange_id),
            )  # fmt: skip
            assert bool(catalog.check([config])) == refused, (market_type, channel)


@pytest.mark.parametrize("exchange_id", [e for e in exchange_ids() if features(e).get("watchOHLCV") is True])
async def test_check_refuses_the_candles_that_the_venue_does_not_stream(exchange_id: str) -> None:
    has, code = features(exchange_id), Asking(exchange_id, with_key=True)
    types = ("swap", "spot") if exchange_id == "bitrue" else ("spot", "swap")
    market_type = next(name for name in types if has.get(name))
    for timeframe in timeframes(exchange_id):
        outcome = await code.call("watch_ohlcv", symbol_of(market_type), timeframe)
        config = feed_config(exchange_id, ["*"], channels=["candles"], decoder="ccxt", candle_timeframe=timeframe)
        found = [problem for problem in catalog.check([config]) if problem.path.endswith("candle_timeframe")]
        assert bool(found) == (outcome.error is not None), (timeframe, outcome.error)


async def is_refused(code: Asking, exchange_id: str, channel: Channel, market_type: str) -> bool:
    has = features(exchange_id)
    method = method_for(channel, exchange_id, has, market_type)
    assert method is not None
    symbol = symbol_of(market_type)
    more = (a_timeframe(exchange_id),) if channel == "candles" else ()
    outcome = await code.call(method.name, [symbol] if method.many else symbol, *more)
    single = single_method_for(channel, has, polled=True) if method.many and method.polled else None
    if isinstance(outcome.error, REFUSALS) and single is not None:
        outcome = await code.call(single.name, symbol)
    return isinstance(outcome.error, REFUSALS)


def a_timeframe(exchange_id: str) -> str:
    return {"upbit": "1s", "p2b": "1h"}.get(exchange_id, "1m")
