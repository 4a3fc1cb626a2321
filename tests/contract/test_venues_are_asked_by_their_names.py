"""A venue is asked for its markets by its own names, where the library's codes of the coins are others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingestd.feeds.ccxt.channels import method_for, offered_channels
from ingestd.feeds.ccxt.tap import exchange_ids, features
from ingestd.records import Trade
from ingestd.venues.all import facts_of
from tests.support.ccxt_requests import MARKET_TYPES, Asking, symbol_of
from tests.support.fake_venue import FakeVenue, Running

AT_MS = 1_760_968_672_380


@pytest.fixture
async def venue() -> AsyncIterator[FakeVenue]:
    made = FakeVenue(lambda _connection, _message: [])
    await made.start()
    yield made
    await made.stop()


@pytest.mark.parametrize("exchange_id", exchange_ids())
async def test_nothing_that_is_asked_on_a_socket_has_the_librarys_codes(exchange_id: str) -> None:
    """Of a made-up coin that the venue calls VBASE and the library UNIB."""
    has, code = features(exchange_id), Asking(exchange_id, with_key=True)
    make_names = facts_of(exchange_id).corrections.names
    names = None if make_names is None else make_names(lambda: code.markets)
    for market_type in MARKET_TYPES:
        if not has.get(market_type):
            continue
        for channel in offered_channels(exchange_id, has):
            method = method_for(channel, exchange_id, has, market_type)
            assert method is not None
            if method.polled:
                continue
            symbol, timeframe = symbol_of(market_type), {"upbit": "1s", "p2b": "1h"}.get(exchange_id, "1m")
            more = (timeframe,) if channel == "candles" else ()
            outcome = await code.call(method.name, [symbol] if method.many else symbol, *more)
            for url, message in outcome.requests:
                asked = (url, message) if names is None else (names.dialled(url), names.sent(message))
                text = json.dumps(asked).upper()
                assert "UNIB" not in text, (channel, asked)
                assert "UNIQ" not in text, (channel, asked)


async def test_independent_reserve_is_asked_for_xbt(venue: FakeVenue) -> None:
    """https://github.com/independentreserve/websockets/blob/master/orderbook-ticker.md: `ticker-xbt`"""
    venue.replies["/Public/GetValidPrimaryCurrencyCodes"] = ["Xbt", "Eth"]
    venue.replies["/Public/GetValidSecondaryCurrencyCodes"] = ["Aud"]
    venue.replies["/Public/GetOrderMinimumVolumes"] = {"Xbt": 0.0001, "Eth": 0.001}
    asked: list[str] = []
    serve = venue.serve_socket

    async def socket(request: Any) -> Any:
        asked.append(request.path_qs)
        return await serve(request)

    venue.serve_socket = socket  # type: ignore[method-assign]
    hosts = ("https://api.independentreserve.com", "wss://websockets.independentreserve.com")
    running = Running(
        venue, "independentreserve", *hosts, symbols=["BTC/AUD", "ETH/AUD"], channels=["trades", "order_book"]
    )
    await running.until(lambda: len(asked) == 4)
    await running.close()
    assert sorted(query.partition("subscribe=")[2] for query in asked) == [
        "ETH-AUD", "Xbt-Aud", "ticker-ETH-AUD", "ticker-Xbt-Aud",
    ]  # fmt: skip


async def test_deepcoins_spot_is_asked_for_by_its_ids_and_read_by_them(venue: FakeVenue) -> None:
    """https://www.deepcoin.com/docs/publicWS/lastTransactions"""
    row = {"instType": "SPOT", "uly": "", "ctVal": "1", "listTime": "0", "tickSz": "0.01", "lotSz": "0.001"}
    row |= {"minSz": "0.5", "state": "live", "maxLmtSz": "77", "maxMktSz": "77", "quoteCcy": "USDT"}

    def instruments(request: Any) -> Any:
        spot = [{**row, "instId": f"{base}-USDT", "baseCcy": base} for base in ("XBT", "ETH")]
        return {"code": "0", "msg": "", "data": spot if request.query["instType"] == "SPOT" else []}

    venue.replies["/deepcoin/market/instruments"] = instruments
    hosts = ("https://api.deepcoin.com", "wss://stream.deepcoin.com")
    running = Running(venue, "deepcoin", *hosts, symbols=["BTC/USDT", "ETH/USDT"], channels=["trades", "order_book"])
    wanted = {"DeepCoin_XBT/USDT", "DeepCoin_ETH/USDT", "DeepCoin_XBT/USDT_0.01", "DeepCoin_ETH/USDT_0.01"}
    await running.until(lambda: filters(venue) == wanted)
    trade = {"TradeID": "7", "I": "XBT/USDT", "D": "1", "P": 111061, "V": 0.00137, "T": AT_MS // 1000}
    for connection in venue.open:
        await connection.send({"a": "PMT", "b": 0, "tt": AT_MS, "mt": AT_MS, "r": [{"d": trade}]})
    await running.until(lambda: running.intake.of(Trade))
    assert {(found.symbol, found.trade_id) for found in running.intake.of(Trade)} == {("BTC/USDT", "7")}
    await running.close()


def filters(venue: FakeVenue) -> set[str]:
    messages = [asked for connection in venue.open for asked in connection.asked if isinstance(asked, dict)]
    return {message["sendTopicAction"]["FilterValue"] for message in messages}
