"""Digits, times, sides and sizes as the venue's message and its documents have them, through the exchange library."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from ingestd.feeds.ccxt import records
from ingestd.feeds.markets.quantity_units import unit_of
from ingestd.records import BookSnapshot, Candle, Tick, Trade
from ingestd.venues.binance import Binance
from ingestd.venues.trade_identity import TradeIds
from tests.unit.feeds.doubles import Wire, market

MS = 1_700_000_000_123
AT = MS * 1000 + 500_000

PHEMEX = "wss://ws.phemex.com"
BITHUMB = "wss://pubwss.bithumb.com/pub/ws"
COINONE = "wss://stream.coinone.co.kr"
BITSTAMP = "wss://ws.bitstamp.net"
GATE = "wss://api.gateio.ws/ws/v4/"
BITFINEX = "wss://api-pub.bitfinex.com/ws/2"


async def trades(exchange: str, names: dict[str, str], url: str, *messages: Any) -> list[Trade]:
    wire = Wire(exchange, names, url)
    try:
        wire.frames(*map(json.dumps, messages))
        assert wire.ledger.counts.malformed_frames == 0
        return wire.intake.of(Trade)
    finally:
        await wire.close()


def phemex(symbol: str, *rows: list[Any], key: str = "trades") -> dict[str, Any]:
    return {"sequence": 1, "symbol": symbol, key: list(rows), "type": "snapshot"}


async def phemex_trades(symbol: str, market_id: str, message: dict[str, Any]) -> list[Trade]:
    """Its markets have scales: prices in 10^-4 (contracts) or 10^-8 (spot), spot amounts in 10^-8."""
    wire = Wire("phemex", {symbol: market_id}, PHEMEX)
    scales = {"priceScale": 4 if ":" in symbol else 8, "valueScale": 8, "ratioScale": 8}
    wire.exchange.set_markets([market(wire.exchange, symbol, market_id, **scales)])
    wire.frames(json.dumps(message))
    await wire.close()
    return wire.intake.of(Trade)


async def test_phemex_contracts_are_whole_and_have_their_microseconds() -> None:
    message = phemex("BTCUSD", [MS * 1_000_000 + 456_789, "Buy", 96_402_5000, 1431])

    (trade,) = await phemex_trades("BTC/USD:BTC", "BTCUSD", message)

    assert (trade.price, trade.quantity, trade.side) == ("96402.5", "1431", "buy")
    assert trade.time == MS * 1000 + 456


async def test_phemex_spot_is_scaled_and_its_newer_contracts_are_not() -> None:
    spot = phemex("sBTCUSDT", [MS * 1_000_000 + 1_000, "Sell", 964_020_000_000, 1_431_000])
    hedged = phemex("BTCUSDT", [MS * 1_000_000 + 999_999, "Sell", "23800.40", "2.4550"], key="trades_p")

    (first,) = await phemex_trades("BTC/USDT", "sBTCUSDT", spot)
    (second,) = await phemex_trades("BTC/USDT:USDT", "BTCUSDT", hedged)

    assert (first.price, first.quantity, first.time) == ("9640.2", "0.01431", MS * 1000 + 1)
    assert (second.price, second.quantity, second.time) == ("23800.40", "2.4550", MS * 1000 + 999)


@pytest.mark.parametrize(("sent", "side"), [("1", "sell"), ("2", "buy")])
async def test_bithumbs_first_socket_says_1_for_a_sale(sent: str, side: str) -> None:
    row = {"symbol": "BTC_KRW", "buySellGb": sent, "contPrice": "10579000", "contQty": "0.0100", "contAmt": "105790.00"}
    row["contDtm"] = "2023-11-15 07:13:20.123456"  # the local time of Seoul

    (trade,) = await trades(
        "bithumb", {"BTC/KRW": "BTC_KRW"}, BITHUMB, {"type": "transaction", "content": {"list": [row]}}
    )

    assert (trade.side, trade.quantity, trade.time) == (side, "0.0100", MS * 1000 + 456)


@pytest.mark.parametrize(("sent", "side"), [("ASK", "sell"), ("BID", "buy")])
async def test_bithumbs_second_socket_is_as_ccxt_says(sent: str, side: str) -> None:
    row = {"type": "trade", "code": "KRW-BTC", "trade_price": 95539000, "trade_volume": 0.00022664, "ask_bid": sent}
    row |= {"trade_timestamp": MS, "sequential_id": "862683813820523888"}

    (trade,) = await trades(
        "bithumb",
        {"BTC/KRW": "KRW-BTC"},
        BITHUMB,
        {**row, "trade_timestamp": MS, "sequential_id": "862683813820523888"},
    )

    assert (trade.side, trade.quantity) == (side, "0.00022664")


@pytest.mark.parametrize(("seller_is_maker", "side"), [(True, "buy"), (False, "sell")])
async def test_coinones_taker_is_the_one_who_is_not_the_maker(seller_is_maker: bool, side: str) -> None:
    row = {"quote_currency": "KRW", "target_currency": "BTC", "id": "1701075265708001", "timestamp": MS}
    row |= {"price": "50020000", "qty": "0.00155170", "is_seller_maker": seller_is_maker}

    (trade,) = await trades(
        "coinone", {"BTC/KRW": "BTC"}, COINONE, {"response_type": "DATA", "channel": "TRADE", "data": row}
    )

    assert (trade.side, trade.quantity) == (side, "0.00155170")


async def test_bitstamps_texts_are_taken_before_its_numbers() -> None:
    row = {"id": 7, "timestamp": str(MS // 1000), "amount": 0.0792, "amount_str": "0.07920000", "price": 3800.8}
    row |= {"price_str": "3800.80", "type": 1, "microtimestamp": str(MS * 1000 + 456)}

    (trade,) = await trades(
        "bitstamp", {"BTC/USD": "btcusd"}, BITSTAMP, {"data": row, "channel": "live_trades_btcusd", "event": "trade"}
    )

    assert (trade.price, trade.quantity, trade.side) == ("3800.80", "0.07920000", "sell")
    assert trade.time == MS * 1000 + 456


async def test_gates_sizes_keep_their_zeros_also_without_their_sign() -> None:
    spot = {"id": 7, "create_time": MS // 1000, "create_time_ms": f"{MS}.4567", "side": "sell"}
    spot |= {"currency_pair": "BTC_USDT", "amount": "0.2010000000", "price": "1000.50"}
    swap = {"contract": "BTC_USDT", "create_time": MS // 1000, "create_time_ms": MS, "id": 8, "price": "96.40"}
    swap["size"] = "-108.00"

    (first,) = await trades(
        "gate", {"BTC/USDT": "BTC_USDT"}, GATE, {"channel": "spot.trades", "event": "update", "result": spot}
    )
    (second,) = await trades(
        "gate",
        {"BTC/USDT:USDT": "BTC_USDT"},
        "wss://fx-ws.gateio.ws/v4/ws/usdt",
        {"channel": "futures.trades", "event": "update", "result": [swap]},
    )

    assert (first.price, first.quantity, first.time) == ("1000.50", "0.2010000000", MS * 1000 + 456)
    assert (second.price, second.quantity, second.side) == ("96.40", "108.00", "sell")


async def bitfinex(channel: dict[str, Any], *texts: str) -> Wire:
    wire = Wire("bitfinex", {"BTC/USD": "tBTCUSD"}, BITFINEX)
    subscribed = {"event": "subscribed", "chanId": 5, "symbol": "tBTCUSD", "pair": "BTCUSD", **channel}
    wire.frames(json.dumps(subscribed), *texts)
    assert wire.ledger.counts.malformed_frames == 0
    wire.recorder.sample_books()
    await wire.close()
    return wire


async def test_bitfinex_sells_are_negative_and_keep_their_digits() -> None:
    book = {"channel": "book", "prec": "P0", "freq": "F0", "len": "25"}
    asks = "[100.10,1,-12000],[100.20,2,-0.50],[100.30,1,-5.60e-7]"

    books = await bitfinex(book, f"[5,[[99.90,1,3],[99.80,1,0.250],{asks}]]")
    traded = await bitfinex({"channel": "trades"}, f'[5,"te",[401597395,{MS},-0.0050,10.20]]')

    (snapshot,) = books.intake.of(BookSnapshot)
    (trade,) = traded.intake.of(Trade)
    assert snapshot.asks == (("100.10", "12000"), ("100.20", "0.50"), ("100.30", "5.60e-7"))
    assert snapshot.bids == (("99.90", "3"), ("99.80", "0.250"))
    assert (trade.quantity, trade.price, trade.side) == ("0.0050", "10.20", "sell")


@pytest.mark.parametrize("order", ["u,e,s", "e,u,s", "u,s,e"])
async def test_a_best_price_of_contracts_has_the_venues_time_in_whatever_order_its_fields_come(order: str) -> None:
    fields = {"e": '"e":"bookTicker"', "u": '"u":17242169', "s": '"s":"BTCUSD_PERP"'}
    rest = f'"b":"9548.10","B":"52","a":"9548.50","A":"11","ps":"BTCUSD","T":{MS - 5},"E":{MS}'
    frame = "{" + ",".join(fields[name] for name in order.split(",")) + "," + rest + "}"
    symbol, url = "BTC/USD:BTC", "wss://dstream.binance.com/ws"
    wire = Wire("binancecoinm", {symbol: "BTCUSD_PERP"}, f"{url}/0")

    wire.frames(frame)
    (theirs,) = wire.intake.of(Tick)
    (ours,) = Binance("binancecoinm", {}).decoder({"BTCUSD_PERP": symbol}, 0)(frame.encode(), AT)
    await wire.close()

    assert isinstance(ours, Tick)
    assert (ours.time, ours.bid_price, ours.ask_volume) == (MS * 1000, "9548.10", "11")
    assert (theirs.time, theirs.bid_price, theirs.ask_volume) == (MS * 1000, "9548.10", "11")


@pytest.mark.parametrize(("sent", "time"), [(MS * 1000 + 456, MS * 1000 + 456), (MS, MS * 1000)])
async def test_binances_microseconds_and_a_venue_that_ignores_the_wish(sent: int, time: int) -> None:
    trade = {"e": "trade", "E": sent, "s": "BTCUSDT", "t": 7, "p": "1.0", "q": "2.0", "T": sent, "m": True, "M": True}
    depth = {"e": "depthUpdate", "E": sent, "s": "BTCUSDT", "U": 1, "u": 2, "b": [["1.0", "1"]], "a": []}
    options = {"timeUnit": "MICROSECOND"}
    venue = Binance("binance", options)
    decode = venue.decoder({"BTCUSDT": "BTC/USDT"}, 0)
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws/0", options=options)

    wire.frames(json.dumps(trade))
    (theirs,) = wire.intake.of(Trade)
    ours = [decode(json.dumps(frame).encode(), AT)[0] for frame in (trade, depth)]
    await wire.close()

    assert [message.time for message in ours] == [time, time]  # type: ignore[union-attr]  # records and book changes
    assert theirs.time == time
    assert venue.address({"spot": True}, "trades") == "wss://stream.binance.com:9443/ws?timeUnit=MICROSECOND"
    assert wire.exchange.headers == {"X-MBX-TIME-UNIT": "MICROSECOND"}


def levels(number: int) -> dict[str, Any]:
    return {"bids": [["99.5", str(number), "1"]], "asks": [["100.5", str(number), "1"]]}


async def book_times(exchange: str, names: dict[str, str], url: str, *frames: Any) -> list[int]:
    """The time of the book after each frame."""
    wire = Wire(exchange, names, url, order_book_interval_ms=0)
    wire.frames(*map(json.dumps, frames))
    await wire.close()
    assert wire.ledger.counts.malformed_frames == 0
    return [book.time for book in wire.intake.of(BookSnapshot)]


async def test_a_change_of_crypto_coms_book_has_its_own_time() -> None:
    about = {"instrument_name": "BTC_USDT", "subscription": "book.BTC_USDT.50", "depth": 50}
    change = {"update": levels(2), "t": MS + 70, "tt": MS + 60, "u": 2, "pu": 1, "cs": -781431132}
    frames = [
        {"id": 1, "method": "subscribe", "code": 0, "result": {**about, "channel": channel, "data": [data]}}
        for channel, data in (("book", {**levels(1), "t": MS, "u": 1}), ("book.update", change))
    ]

    times = await book_times(
        "cryptocom", {"BTC/USDT": "BTC_USDT"}, "wss://stream.crypto.com/exchange/v1/market", *frames
    )

    assert times == [MS * 1000, (MS + 70) * 1000]


async def test_phemex_books_have_their_microseconds() -> None:
    rows = {"bids": [["99.5", "1"]], "asks": [["100.5", "1"]]}
    about = {"symbol": "BTCUSDT", "depth": 30, "dts": 1, "mts": 2}
    snapshot = {**about, "orderbook_p": rows, "sequence": 1, "timestamp": MS * 1_000_000 + 456_789, "type": "snapshot"}
    change = {**snapshot, "sequence": 2, "timestamp": MS * 1_000_000 + 556_789, "type": "incremental"}

    times = await book_times("phemex", {"BTC/USDT:USDT": "BTCUSDT"}, PHEMEX, snapshot, change)

    assert times == [MS * 1000 + 456, MS * 1000 + 556]


async def test_a_backpack_books_change_has_its_microseconds() -> None:
    """https://docs.backpack.exchange/#tag/Streams/Public/Depth: event and engine times are in microseconds."""
    wire = Wire("backpack", {"BTC/USDT": "BTC_USDT"}, "wss://ws.backpack.exchange", order_book_interval_ms=0)
    wire.exchange.market("BTC/USDT")["stock"] = False  # asked for by its code
    book = wire.exchange.orderbooks["BTC/USDT"] = wire.exchange.order_book({})
    book.reset({"nonce": 10, "timestamp": MS, "bids": [[99.0, 1.0]], "asks": [[101.0, 1.0]]})
    book["symbol"] = "BTC/USDT"
    times = {"E": MS * 1000 + 999, "T": MS * 1000 + 456}
    change = {"e": "depth", **times, "s": "BTC_USDT", "U": 11, "u": 11, "b": [["99.50", "1.0"]], "a": []}

    wire.frames(json.dumps({"stream": "depth.BTC_USDT", "data": change}))
    await wire.close()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert (snapshot.time, snapshot.bids[0]) == (MS * 1000 + 456, ("99.50", "1.0"))


async def test_grvts_books_have_their_microseconds() -> None:
    rows = {
        "bids": [{"price": "99.5", "size": "1", "num_orders": 1}],
        "asks": [{"price": "100.5", "size": "1", "num_orders": 1}],
    }
    frames = [
        {
            "stream": "v1.book.d",
            "selector": "BTC_USDT_Perp@500",
            "sequence_number": str(number),
            "feed": {"event_time": str(MS * 1_000_000 + number * 1_000_000 + 456_789), **rows},
        }
        for number in (0, 1)
    ]

    names = {"BTC/USDT:USDT": "BTC_USDT_Perp"}
    times = await book_times("grvt", names, "wss://market-data.grvt.io/ws/full", *frames)

    assert times == [MS * 1000 + 456, MS * 1000 + 1456]


async def test_books_whose_time_is_a_text_have_its_microseconds() -> None:
    second = "2023-11-14T22:13:20"  # as MS
    levels = {"bids": [["99.5", "1"]], "asks": [["100.5", "1"]]}
    about = {"instrument_code": "BTC_EUR", "channel_name": "ORDER_BOOK"}
    onetrading = [
        {**about, "type": "ORDER_BOOK_SNAPSHOT", "time": f"{second}.123456Z", **levels},
        {**about, "type": "ORDER_BOOK_UPDATE", "time": f"{second}.9Z", "changes": [["BUY", "99.6", "2"]]},
    ]
    coinbase = [
        {"type": "snapshot", "product_id": "BTC-USD", "time": f"{second}.123456Z", **levels},
        {"type": "l2update", "product_id": "BTC-USD", "time": f"{second}.9Z", "changes": [["buy", "99.6", "2"]]},
    ]

    expected = [MS * 1000 + 456, MS * 1000 + 777_000]
    assert (
        await book_times("onetrading", {"BTC/EUR": "BTC_EUR"}, "wss://streams.onetrading.com/", *onetrading) == expected
    )
    url = "wss://ws-feed.exchange.coinbase.com"
    assert await book_times("coinbaseexchange", {"BTC/USD": "BTC-USD"}, url, *coinbase) == expected


async def test_lbanks_socket_writes_the_time_of_shanghai() -> None:
    """As a capture in https://github.com/thrasher-corp/gocryptotrader/pull/2272 shows; all would lie 8 h ahead."""
    local, open_ms = "2023-11-15T06:13:20.123", MS - 20_123
    about = {"pair": "btc_usdt", "SERVER": "V2", "TS": local}
    sold = {"volume": 6.3607, "amount": 77148.9303, "price": 12129, "direction": "sell", "TS": local}
    depth = {"bids": [["99.5", "1"]], "asks": [["100.5", "1"]]}
    wire = Wire("lbank", {"BTC/USDT": "btc_usdt"}, "wss://www.lbkex.net/ws/V2/", order_book_interval_ms=0)
    wire.frames(
        json.dumps({"trade": sold, "type": "trade", **about}),
        json.dumps({"depth": depth, "count": 100, "type": "depth", **about}),
    )
    rows = [
        {"t": f"2023-11-15T06:{minute}:00.000", "slot": "1min", "o": 1.5, "h": 2.5, "l": 1.5, "c": 2.5, "v": 3.5}
        for minute in (13, 14)
    ]
    for row in rows:
        wire.frames(json.dumps({"kbar": row, "type": "kbar", **about}))
    wire.reader.on_returned("candles", ["BTC/USDT"], wire.exchange.ohlcvs["BTC/USDT"]["1m"], AT)
    await wire.close()

    assert {trade.time for trade in wire.intake.of(Trade)} == {MS * 1000}
    assert {book.time for book in wire.intake.of(BookSnapshot)} == {MS * 1000}
    assert {candle.time for candle in wire.intake.of(Candle)} == {open_ms * 1000}


async def test_bitstamps_books_have_their_microseconds() -> None:
    wire = Wire("bitstamp", {"BTC/USD": "btcusd"}, BITSTAMP, order_book_interval_ms=0)
    book = wire.exchange.orderbooks["BTC/USD"] = wire.exchange.order_book({})
    book.reset({"nonce": MS * 1000, "timestamp": MS // 1000 * 1000, "bids": [[99.0, 1.0]], "asks": [[101.0, 1.0]]})
    book["symbol"] = "BTC/USD"
    data = {
        "timestamp": str(MS // 1000),
        "microtimestamp": str(MS * 1000 + 456),
        "bids": [["99.50", "1.0"]],
        "asks": [],
    }

    wire.frames(json.dumps({"data": data, "event": "data", "channel": "diff_order_book_btcusd"}))
    await wire.close()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert (snapshot.time, snapshot.bids[0]) == (MS * 1000 + 456, ("99.50", "1.0"))


async def test_bitstamps_first_book_has_the_microseconds_of_its_last_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put together of one over REST and the changes since."""

    async def fetch(*_: Any, **__: Any) -> Any:
        levels = {"bids": [["99.00", "1.0"]], "asks": [["101.00", "1.0"]]}
        return {"timestamp": str(MS // 1000), "microtimestamp": str(MS * 1000 + 3), **levels}

    wire = Wire("bitstamp", {"BTC/USD": "btcusd"}, BITSTAMP, order_book_interval_ms=0)
    monkeypatch.setattr(wire.exchange, "fetch", fetch)
    channel = "diff_order_book_btcusd"
    wire.frames(json.dumps({"event": "bts:subscription_succeeded", "channel": channel, "data": {}}))
    for number in range(1, 9):
        times = {"timestamp": str(MS // 1000), "microtimestamp": str(MS * 1000 + number)}
        data = {**times, "bids": [["99.50", str(number)]], "asks": []}
        wire.frames(json.dumps({"data": data, "event": "data", "channel": channel}))
    async with asyncio.timeout(60):
        while not wire.intake.of(BookSnapshot):
            await asyncio.sleep(0.002)
    await wire.close()

    assert [(book.time, book.bids[0]) for book in wire.intake.of(BookSnapshot)] == [(MS * 1000 + 8, ("99.50", "8"))]


async def test_a_time_in_the_venues_zone_keeps_its_microseconds() -> None:
    """https://github.com/independentreserve/websockets/blob/master/ticker.md: the local time of Sydney."""
    row: dict[str, Any] = {"TradeGuid": "2f316718", "Pair": "xbt-aud", "Price": 31573.8, "Volume": 0.05, "Side": "Buy"}
    row |= {"TradeDate": "2023-11-15T09:13:20.1234567+11:00", "BidGuid": "a", "OfferGuid": "b"}

    (trade,) = await trades(
        "independentreserve",
        {"BTC/AUD": "xbt-aud"},
        "wss://websockets.independentreserve.com?subscribe=ticker-xbt-aud",
        {"Channel": "ticker-xbt-aud", "Nonce": 1, "Data": row, "Time": MS, "Event": "Trade"},
    )

    assert (trade.time, trade.price) == (MS * 1000 + 456, "31573.8")


async def test_a_trade_has_the_time_at_which_it_was_made_and_not_told_of() -> None:
    """https://docs.upbit.com/kr/reference/websocket-trade, https://docs.backpack.exchange/#tag/Streams/Public/Trade"""
    row = {"type": "trade", "code": "KRW-BTC", "timestamp": MS + 812, "trade_timestamp": MS, "trade_price": 6747000.0}
    row |= {"trade_volume": 0.06499468, "ask_bid": "ASK", "sequential_id": 1584508285000002}
    (upbit,) = await trades("upbit", {"BTC/KRW": "KRW-BTC"}, "wss://api.upbit.com/websocket/v1", row)
    made, told = MS * 1000 + 4, MS * 1000 + 746
    row = {"e": "trade", "E": told, "T": made, "a": "1", "b": "2", "m": False, "p": "3870.25", "q": "0.0008"}
    row |= {"s": "BTC_USDT", "t": 10782547}
    (backpack,) = await trades(
        "backpack",
        {"BTC/USDT": "BTC_USDT"},
        "wss://ws.backpack.exchange",
        {"stream": "trade.BTC_USDT", "data": row},
    )

    assert (upbit.time, backpack.time) == (MS * 1000, made)


async def test_a_trade_of_poloniex_has_one_time_on_the_socket_and_over_rest() -> None:
    """https://api-docs.poloniex.com/spot/api/public/market-data#trades: `createTime`, and `ts` of the record."""
    row = {"id": "62486976", "price": "24983.89", "quantity": "0.000537", "amount": "13.41634893"}
    row |= {"takerSide": "buy"}
    times = {"createTime": MS, "ts": MS + 5}
    (streamed,) = await trades(
        "poloniex",
        {"BTC/USDT": "BTC_USDT"},
        "wss://ws.poloniex.com/ws/public",
        {"channel": "trades", "data": [{"symbol": "BTC_USDT", **row, **times}]},
    )
    wire = Wire("poloniex", {"BTC/USDT": "BTC_USDT"}, "wss://ws.poloniex.com/ws/public")
    parsed = wire.exchange.parse_trade({**row, "takerSide": "BUY", **times}, wire.exchange.market("BTC/USDT"))
    await wire.close()
    fetched = records.trade_record("poloniex", "BTC/USDT", parsed, AT, TradeIds(0))

    assert fetched is not None
    assert (fetched.time, fetched.trade_id, fetched.side) == (streamed.time, streamed.trade_id, streamed.side)
    assert streamed.time == MS * 1000


def lighter(number: int, kind: str, price: str) -> dict[str, Any]:
    row = {"trade_id": number, "type": kind, "market_id": 1, "size": "0.0346", "price": price, "is_maker_ask": False}
    return {**row, "timestamp": MS, "transaction_time": MS * 1000 + number}


async def test_lighters_liquidations_are_trades_though_they_are_listed_apart() -> None:
    """https://apidocs.lighter.xyz/docs/websocket-reference#trade: `trades` and `liquidation_trades`, newest first."""
    about = {"channel": "trade:1", "nonce": 7, "type": "update/trade"}
    found = await trades(
        "lighter",
        {"BTC/USDC:USDC": "1"},
        "wss://mainnet.zklighter.elliot.ai/stream",
        {**about, "trades": [lighter(4, "trade", "3028.80")], "liquidation_trades": []},
        {
            **about,
            "trades": [lighter(7, "trade", "3028.90"), lighter(5, "trade", "3028.85")],
            "liquidation_trades": [lighter(8, "deleverage", "3000.00"), lighter(6, "liquidation", "3001.10")],
        },
        {**about, "trades": [], "liquidation_trades": [lighter(9, "liquidation", "3001.20")]},
    )

    assert [(trade.trade_id, trade.kind, trade.price) for trade in found] == [
        ("4", None, "3028.80"),
        ("5", None, "3028.85"),
        ("6", "liquidation", "3001.10"),
        ("7", None, "3028.90"),
        ("8", "adl", "3000.00"),
        ("9", "liquidation", "3001.20"),
    ]
    assert [trade.time - MS * 1000 for trade in found] == [4, 5, 6, 7, 8, 9]


async def test_geminis_block_trades_are_trades() -> None:
    """https://docs.gemini.com/websocket/market-data/v1/market-data-v1: events `trade` and `block_trade`."""
    traded = {"type": "trade", "symbol": "BTCUSD", "tid": 7, "price": "22299.24", "amount": "0.0026620"}
    block = {"type": "block_trade", "symbol": "BTCUSD", "tid": 8, "price": "22100.50", "amount": "1000.0"}
    found = await trades(
        "gemini",
        {"BTC/USD": "btcusd"},
        "wss://api.gemini.com/v1/multimarketdata?symbols=BTCUSD&heartbeat=true&trades=true",
        {
            "type": "update",
            "eventId": 7,
            "timestamp": MS // 1000,
            "timestampms": MS,
            "socket_sequence": 5,
            "events": [{**traded, "makerSide": "bid"}, block],
        },
    )

    assert [(trade.trade_id, trade.side, trade.kind, trade.price, trade.quantity) for trade in found] == [
        ("7", "sell", None, "22299.24", "0.0026620"),
        ("8", None, "block", "22100.50", "1000.0"),
    ]


async def test_lunos_trades_have_a_price_and_a_time() -> None:
    """https://www.luno.com/en/developers/api#tag/Streaming-API-(beta): of a trade how much of either currency."""
    wire = Wire("luno", {"BTC/ZAR": "XBTZAR"}, "wss://ws.luno.com/api/1/stream/XBTZAR")
    wire.client.subscriptions["/stream/XBTZAR"] = {"symbol": "BTC/ZAR"}
    row = {"base": "69.00000000", "counter": "113.6499000000000000", "maker_order_id": "B", "taker_order_id": "T"}
    wire.frames(
        json.dumps(
            {
                "sequence": "110980825",
                "trade_updates": [{**row, "order_id": "B"}],
                "create_update": None,
                "delete_update": None,
                "status_update": None,
                "timestamp": MS,
            }
        )
    )
    await wire.close()

    (trade,) = wire.intake.of(Trade)
    assert (trade.price, trade.quantity, trade.time, trade.side) == ("1.6471", "69.00000000", MS * 1000, None)


async def test_xts_contracts_are_counted_alike_in_trades_and_books() -> None:
    """https://doc.xt.com/docs/futures: `a` is how many contracts, of 0.0001 BTC here."""
    wire = Wire("xt", {"BTC/USDT:USDT": "btc_usdt"}, "wss://fstream.xt.com/ws/market", order_book_interval_ms=0)
    wire.exchange.set_markets([market(wire.exchange, "BTC/USDT:USDT", "btc_usdt", contractSize=0.0001)])
    data = {"s": "btc_usdt", "p": "27367.70", "a": "2707", "m": "BID", "t": MS}
    wire.frames(json.dumps({"topic": "trade", "event": "trade@btc_usdt", "data": data}))
    parsed = wire.exchange.parse_trade(data, wire.exchange.market("BTC/USDT:USDT"))
    await wire.close()

    (trade,) = wire.intake.of(Trade)
    fetched = records.trade_record("xt", "BTC/USDT:USDT", parsed, AT, TradeIds(0))
    assert fetched is not None
    assert (trade.quantity, trade.side, trade.trade_id) == ("2707", "buy", fetched.trade_id)
    assert unit_of("xt", {"contract": True, "linear": True, "contractSize": "0.0001"}) == "0.0001 base"


async def test_an_amount_that_the_library_works_out_is_not_a_rounded_float() -> None:
    """Bitrue: 3 contracts of 0.1 are 0.3, and as floats 0.30000000000000004."""
    wire = Wire("bitrue", {"ETH/USDT:USDT": "E-ETH-USDT"}, "wss://fmarket-ws.bitrue.com/kline-api/ws")
    made = market(wire.exchange, "ETH/USDT:USDT", "E-ETH-USDT", contractSize=0.1)
    wire.exchange.set_markets([{**made, "baseId": "ETH", "quoteId": "USDT"}])
    row = {"amount": "3600.3", "ds": "2023-11-15 06:13:20", "price": "1200.10", "side": "SELL", "ts": MS, "vol": "3"}
    frame = {"event_rep": "", "channel": "market_e_ethusdt_trade_ticker", "ts": MS, "status": "ok"}
    wire.frames(json.dumps({**frame, "tick": {"data": [row]}}))
    await wire.close()

    (trade,) = wire.intake.of(Trade)
    assert (trade.quantity, trade.price, trade.side) == ("0.3", "1200.10", "sell")


async def test_bingxs_best_prices_have_the_time_of_their_message() -> None:
    """`E` is the event's time, `C` the end of the statistics: in the library's own example 40 s before it."""
    data = {"e": "24hTicker", "E": MS, "s": "BTC-USDT", "O": MS - 901, "C": MS - 40_673, "c": "42432.5"}
    data |= {"A": "42437.80", "a": "1.4160", "B": "42437.1", "b": "2.5747"}
    wire = Wire("bingx", {"BTC/USDT:USDT": "BTC-USDT"}, "wss://open-api-swap.bingx.com/swap-market")
    wire.reader.ticks_from_tickers = True
    wire.frames(json.dumps({"code": 0, "dataType": "BTC-USDT@ticker", "data": data}))
    await wire.close()

    (tick,) = wire.intake.of(Tick)
    assert (tick.time, tick.ask_price, tick.ask_volume) == (MS * 1000, "42437.80", "1.4160")


async def test_derives_two_rows_of_a_trade_are_one_of_the_takers_side() -> None:
    """https://docs.derive.xyz/reference/trades-instrument_name: `liquidity_role`, and `direction` of who has it."""

    def row(trade_id: str, role: str, direction: str, **more: Any) -> dict[str, Any]:
        price = {"trade_price": "83863", "trade_amount": "0.0357", "timestamp": MS, "instrument_name": "BTC-PERP"}
        return {"trade_id": trade_id, "liquidity_role": role, "direction": direction, "rfq_id": None, **price, **more}

    def frame(*rows: dict[str, Any]) -> dict[str, Any]:
        return {"method": "subscription", "params": {"channel": "trades.BTC-PERP", "data": list(rows)}}

    found = await trades(
        "derive",
        {"BTC/USD:USDC": "BTC-PERP"},
        "wss://api.derive.xyz/v3/ws",
        frame(row("a", "maker", "sell"), row("a", "taker", "buy"), row("b", "taker", "sell", rfq_id="r-1")),
        frame(row("c", "maker", "sell")),
    )

    assert [(trade.trade_id, trade.side, trade.kind) for trade in found] == [
        ("a", "buy", None),
        ("b", "sell", "block"),
        ("c", "buy", None),
    ]


@pytest.mark.parametrize(("is_taker", "side"), [(True, "buy"), (False, "sell")])
async def test_bullishs_side_is_of_the_order_that_it_tells_of(is_taker: bool, side: str) -> None:
    """https://api.exchange.bullish.com/docs/api/rest/trading-api/v2/: `isTaker`"""
    row = {"tradeId": "100086000000609304", "isTaker": is_taker, "price": "104889.2060", "quantity": "0.01000000"}
    row |= {"createdAtTimestamp": str(MS), "publishedAtTimestamp": str(MS + 9), "side": "BUY", "symbol": "BTCUSDC"}
    data = {"trades": [row], "createdAtTimestamp": str(MS), "symbol": "BTCUSDC"}
    (trade,) = await trades(
        "bullish",
        {"BTC/USDC": "BTCUSDC"},
        "wss://api.exchange.bullish.com",
        {"type": "update", "dataType": "V1TAAnonymousTradeUpdate", "data": data},
    )

    assert (trade.side, trade.quantity, trade.time) == (side, "0.01000000", MS * 1000)


async def test_whitebits_rpi_trades_are_marked() -> None:
    """https://docs.whitebit.com/websocket/market-streams/trades: `rpi`"""
    rows = [{"id": 7, "time": MS / 1000, "price": "0.020857", "amount": "5.511", "type": "sell"}]
    rows += [{**rows[0], "id": 8, "rpi": True}, {**rows[0], "id": 9, "rpi": False}]
    found = await trades(
        "whitebit",
        {"ETH/BTC": "ETH_BTC"},
        "wss://api.whitebit.com/ws",
        {"id": None, "method": "trades_update", "params": ["ETH_BTC", rows]},
    )

    assert {trade.trade_id: trade.kind for trade in found} == {"7": None, "8": "rpi", "9": None}


async def test_all_trades_of_a_frame_of_deepcoin_are_stored() -> None:
    """https://www.deepcoin.com/docs/publicWS/lastTransactions: `r` is a list."""
    rows = [
        {"d": {"TradeID": name, "I": "BTC/USDT", "D": "1", "P": 118.5, "V": 0.25, "T": MS // 1000}} for name in "ab"
    ]
    found = await trades(
        "deepcoin",
        {"BTC/USDT": "BTC-USDT"},
        "wss://stream.deepcoin.com/streamlet/trade/public/spot?platform=api",
        {"a": "PMT", "b": 0, "tt": MS, "mt": MS, "r": rows},
    )

    assert [trade.trade_id for trade in found] == ["a", "b"]


async def test_equal_trades_without_ids_of_mexc_are_two() -> None:
    """https://mexcdevelop.github.io/apidocs/contract_v1_en/#public-channels: its contracts' deals."""
    row = {"p": 27307.3, "v": 5, "T": 2, "O": 3, "M": 1, "t": MS}
    found = await trades(
        "mexc",
        {"BTC/USDT:USDT": "BTC_USDT"},
        "wss://contract.mexc.com/edge",
        {"symbol": "BTC_USDT", "data": [row, row], "channel": "push.deal", "ts": MS + 5},
    )

    assert len({trade.trade_id for trade in found}) == len(found) == 2
