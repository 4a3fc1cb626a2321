"""Which endpoint belongs to which stream, also asked of the exchange library itself."""

from __future__ import annotations

from typing import Any

import pytest

from ingestd.config.loading import parse
from ingestd.errors import Unfillable
from ingestd.feeds.ccxt.history import CcxtHistory, series_for
from ingestd.venues.trades import Ids, Paging


@pytest.mark.parametrize(
    ("kind", "stream", "has_key", "method", "paging"),
    [
        ("spot", "trade", True, "publicGetHistoricalTrades", Paging.FROM_ID),
        ("spot", "trade", False, "publicGetHistoricalTrades", Paging.FROM_ID),
        ("spot", "aggTrade", False, "publicGetAggTrades", Paging.FROM_ID),
        ("linear", "trade", True, "fapiPublicGetHistoricalTrades", Paging.FROM_ID),
        ("linear", "aggTrade", True, "fapiPublicGetAggTrades", Paging.FROM_ID),
        ("inverse", "trade", False, "dapiPublicGetTrades", Paging.RECENT),
    ],
)
def test_binance_has_two_series(kind: str, stream: str, has_key: bool, method: str, paging: Paging) -> None:
    series = series_for("binance", kind, stream, has_key=has_key)
    assert (series.params, series.paging, series.ids) == ({"fetchTradesMethod": method}, paging, Ids.CONSECUTIVE)


def test_only_binances_own_spot_market_serves_old_trades_without_a_key() -> None:
    assert series_for("binanceus", "spot", "trade", has_key=False).paging is Paging.RECENT
    assert series_for("binanceus", "spot", "trade", has_key=True).paging is Paging.FROM_ID
    assert series_for("binanceusdm", "linear", "trade", has_key=False).paging is Paging.RECENT


def test_what_has_no_matching_past_is_refused() -> None:
    with pytest.raises(Unfillable, match="for option markets"):
        series_for("binance", "option", "trade", has_key=True)
    with pytest.raises(Unfillable, match="blockTrade"):
        series_for("binance", "spot", "blockTrade", has_key=True)
    with pytest.raises(Unfillable, match="trades-all"):
        series_for("okx", "spot", "trades", has_key=True)
    assert series_for("okx", "spot", "trades-all", has_key=True).id_param == "after"


def test_a_venue_that_is_not_in_the_table_is_believed_only_by_overlap() -> None:
    series = series_for("bitstamp", "spot", None, has_key=False)
    assert not series.is_known
    assert series.ids is Ids.OPAQUE


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ({}, "publicGetHistoricalTrades"),
        ({"watchTradesForSymbols": {"name": "aggTrade"}}, "publicGetAggTrades"),
        # The feed calls watch_trades_for_symbols, which does not look here: the stream stays @trade.
        ({"watchTrades": {"name": "aggTrade"}}, "publicGetHistoricalTrades"),
    ],
)
async def test_the_stream_is_what_the_exchange_library_subscribes_to(options: dict[str, Any], method: str) -> None:
    document = {"feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"], "options": options}]}
    history = CcxtHistory(parse(document, {}).feeds[0], rate_share=0.5)
    try:
        history.exchange.markets = {"BTC/USDT": {"type": "spot", "linear": None, "inverse": None}}
        assert history.series("BTC/USDT").params == {"fetchTradesMethod": method}
    finally:
        await history.close()


async def test_an_option_is_no_future_though_it_is_linear_too() -> None:
    history = CcxtHistory(
        parse({"feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}]}, {}).feeds[0], rate_share=1
    )
    try:
        option = {"type": "option", "option": True, "contract": True, "linear": True}
        history.exchange.markets = {"BTC/USDT:USDT-261225-50000-C": option}
        with pytest.raises(Unfillable, match="for option markets"):
            history.series("BTC/USDT:USDT-261225-50000-C")
    finally:
        await history.close()


async def test_the_budget_is_a_share_of_the_venues() -> None:
    feed = parse({"feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}]}, {}).feeds[0]
    whole, fifth = CcxtHistory(feed, rate_share=1.0), CcxtHistory(feed, rate_share=0.2)
    try:
        assert fifth.exchange.throttler.config["refillRate"] == pytest.approx(
            whole.exchange.throttler.config["refillRate"] / 5
        )
    finally:
        await whole.close()
        await fifth.close()
