"""Raw frames through the real client of each venue: every update, in order, with the venue's own text."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from ingestd.feeds.ccxt_channels import method_for, ticks_from_tickers
from ingestd.records import BookSnapshot, Tick, Trade
from tests.unit.feeds.doubles import Wire

BURST = 5000


@dataclass(frozen=True)
class Venue:
    """One venue's frames; `{n}` in them is a number that increases. Prices are decimal text, JSON string or not."""

    exchange: str
    symbol: str
    market_id: str
    url: str
    trade: str
    tick: str
    price_key: str
    size_key: str
    bid_keys: tuple[str, str]


VENUES = [
    Venue(
        "binance",
        "BTC/USDT",
        "BTCUSDT",
        "wss://stream.binance.com:9443/ws/0",
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":{n},"p":"0.00100000",'
        '"q":"100.00","T":1672515782136,"m":true,"M":true}}',
        '{"stream":"btcusdt@bookTicker","data":{"u":{n},"s":"BTCUSDT","b":"25.35190000","B":"31.21000000",'
        '"a":"25.36520000","A":"40.66000000"}}',
        "p",
        "q",
        ("b", "B"),
    ),
    Venue(
        "binanceusdm",
        "BTC/USDT:USDT",
        "BTCUSDT",
        "wss://fstream.binance.com/ws/0",
        '{"e":"aggTrade","E":1672515782136,"s":"BTCUSDT","a":{n},"p":"7.6110","q":"2.000","f":1,"l":1,'
        '"T":1672515782136,"m":false}',
        '{"e":"bookTicker","u":{n},"E":1568014460893,"T":1568014460891,"s":"BTCUSDT","b":"25.35190000",'
        '"B":"31.21000000","a":"25.36520000","A":"40.66000000"}',
        "p",
        "q",
        ("b", "B"),
    ),
    Venue(
        "okx",
        "BTC/USDT",
        "BTC-USDT",
        "wss://ws.okx.com:8443/ws/v5/public",
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"{n}",'
        '"px":"42219.90","sz":"0.120","side":"buy","ts":"1630048897897","count":"3"}]}',
        '{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT",'
        '"last":"9999.99","askPx":"9999.90","askSz":"11","bidPx":"8888.880","bidSz":"5.0","ts":"1597026383085",'
        '"vol24h":"{n}"}]}',
        "px",
        "sz",
        ("bidPx", "bidSz"),
    ),
    Venue(
        "coinbaseexchange",
        "BTC/USD",
        "BTC-USD",
        "wss://ws-feed.exchange.coinbase.com",
        '{"type":"match","trade_id":{n},"side":"sell","size":"985.10","price":"0.00001305","product_id":"BTC-USD",'
        '"sequence":1,"time":"2021-04-17T16:43:37.075687Z"}',
        '{"type":"ticker","sequence":{n},"product_id":"BTC-USD","price":"14.7775","best_bid":"14.70",'
        '"best_bid_size":"1.0","best_ask":"14.80","best_ask_size":"2.00","time":"2021-04-17T16:43:37.075687Z"}',
        "price",
        "size",
        ("best_bid", "best_bid_size"),
    ),
    Venue(
        "coinbase",
        "BTC/USD",
        "BTC-USD",
        "wss://advanced-trade-ws.coinbase.com",
        '{"channel":"market_trades","timestamp":"2026-04-07T14:30:02.789012Z","sequence_num":5,"events":['
        '{"type":"update","trades":[{"trade_id":"{n}","product_id":"BTC-USD","price":"68900.50","size":"0.00150000",'
        '"side":"BUY","time":"2026-04-07T14:30:02.700000Z"}]}]}',
        '{"channel":"ticker","timestamp":"2026-04-07T14:30:03.000000Z","sequence_num":{n},"events":[{"type":"update",'
        '"tickers":[{"type":"ticker","product_id":"BTC-USD","price":"68900.50","best_bid":"68900.10",'
        '"best_bid_quantity":"0.10","best_ask":"68900.90","best_ask_quantity":"0.20"}]}]}',
        "price",
        "size",
        ("best_bid", "best_bid_quantity"),
    ),
    Venue(
        "kraken",
        "BTC/USD",
        "XXBTZUSD",
        "wss://ws.kraken.com/v2",
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,'
        '"qty":0.00027620,"ord_type":"market","trade_id":{n},"timestamp":"2023-09-25T07:49:37.708706Z"}]}',
        '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":105944.20,"bid_qty":2.50,'
        '"ask":105944.30,"ask_qty":3.0,"last":105944.2,"volume":10.5,"vwap":105900.1,"change":{n}}]}',
        "price",
        "qty",
        ("bid", "bid_qty"),
    ),
    Venue(
        "krakenfutures",
        "BTC/USD:BTC",
        "PI_XBTUSD",
        "wss://futures.kraken.com/ws/v1",
        '{"feed":"trade","product_id":"PI_XBTUSD","uid":"u-{n}","side":"sell","type":"fill","seq":{n},'
        '"time":1612269657781,"qty":440.0,"price":34893.50}',
        '{"feed":"ticker_lite","product_id":"PI_XBTUSD","bid":34932.0,"ask":34949.50,"bid_size":1.0,"ask_size":2.0,'
        '"volume":{n}}',
        "price",
        "qty",
        ("bid", "bid_size"),
    ),
    Venue(
        "bybit",
        "BTC/USDT:USDT",
        "BTCUSDT",
        "wss://stream.bybit.com/v5/public/linear",
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1709891679005,"data":[{"T":1709891679000,'
        '"s":"BTCUSDT","S":"Buy","v":"0.0010","p":"27451.00","i":"id-{n}","BT":false}]}',
        '{"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1709891679000,"data":{"s":"BTCUSDT",'
        '"b":[["27450.00","0.500"]],"a":[["27450.50","1.000"]],"u":{n},"seq":7961638724},"cts":1709891679000}',
        "p",
        "v",
        ("", ""),
    ),
]


@pytest.fixture(params=VENUES, ids=lambda venue: venue.exchange)
def venue(request: pytest.FixtureRequest) -> Venue:
    found: Venue = request.param
    return found


@pytest.fixture
async def wire(venue: Venue) -> AsyncIterator[Wire]:
    made = Wire(venue.exchange, {venue.symbol: venue.market_id}, venue.url)
    method = method_for("ticks", made.exchange.has)
    assert method is not None
    made.recorder.ticks_from_tickers = ticks_from_tickers(venue.exchange, method)
    yield made
    await made.close()


def numbered(frame: str, count: int = BURST) -> list[str]:
    return [frame.replace("{n}", str(number)) for number in range(1, count + 1)]


def text_of(frame: str, key: str) -> str:
    """The value of a key as it stands in the frame: without quotes, never through a float."""
    match = re.search(rf'"{key}":"?([0-9.eE+-]+)"?', frame)
    assert match is not None
    return match.group(1)


async def test_a_burst_of_trades_is_complete_ordered_and_exact(venue: Venue, wire: Wire) -> None:
    frames = numbered(venue.trade)

    wire.frames(*frames)

    trades = wire.intake.of(Trade)
    assert len(trades) == BURST
    assert [int(trade.trade_id.rpartition("-")[2]) for trade in trades] == list(range(1, BURST + 1))
    assert {(trade.price, trade.quantity) for trade in trades} == {
        (text_of(venue.trade, venue.price_key), text_of(venue.trade, venue.size_key))
    }
    assert all(before.seq < after.seq for before, after in itertools.pairwise(trades))
    assert len(wire.exchange.trades[venue.symbol]) <= 16  # ccxt's own cache stays small
    assert wire.recorder.counts.malformed_frames == 0


async def test_a_burst_of_ticks_is_complete_and_exact(venue: Venue, wire: Wire) -> None:
    wire.frames(*numbered(venue.tick))

    ticks = wire.intake.of(Tick)
    assert len(ticks) == BURST
    expected = ("27450.00", "0.500")
    if venue.bid_keys[0]:
        expected = (text_of(venue.tick, venue.bid_keys[0]), text_of(venue.tick, venue.bid_keys[1]))
    assert {(tick.bid_price, tick.bid_volume) for tick in ticks} == {expected}


async def test_a_malformed_frame_is_counted_and_the_next_is_processed(venue: Venue, wire: Wire) -> None:
    good = numbered(venue.trade, 2)

    wire.frames(good[0], '{"truncated": [1.5, ', good[1])

    assert len(wire.intake.of(Trade)) == 2
    assert wire.recorder.counts.malformed_frames == 1


async def test_an_error_in_the_venues_code_costs_only_its_frame(venue: Venue, wire: Wire) -> None:
    good = numbered(venue.trade, 2)
    real: Callable[..., None] = wire.client.on_message_callback

    def broken_for_one(client: object, message: object) -> None:
        if "boom" in json.dumps(message, default=str):
            raise KeyError("boom")
        real(client, message)

    wire.client.on_message_callback = broken_for_one
    wire.frames(good[0], '{"boom": 1}', good[1])

    assert len(wire.intake.of(Trade)) == 2
    assert wire.recorder.counts.malformed_frames == 1


async def test_every_record_of_a_frame_has_the_time_of_its_frame(venue: Venue, wire: Wire) -> None:
    wire.frames(*numbered(venue.trade, 3))

    arrivals = [trade.received_at for trade in wire.intake.of(Trade)]
    assert arrivals == sorted(arrivals)


async def test_several_symbols_withhold_nothing() -> None:
    symbols = {"BTC/USDT": "BTCUSDT", "ETH/USDT": "ETHUSDT", "SOL/USDT": "SOLUSDT"}
    wire = Wire("binance", symbols, "wss://stream.binance.com:9443/ws/0")
    frame = VENUES[0].trade
    frames = [frame.replace("BTCUSDT", market_id).replace("{n}", "7") for market_id in symbols.values()]

    wire.frames(*frames)

    assert [trade.symbol for trade in wire.intake.of(Trade)] == list(symbols)
    await wire.close()


async def test_a_symbol_nobody_asked_for_is_counted_not_delivered() -> None:
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws/0")
    wire.recorder.streams["trades"].clear()

    wire.frames(*numbered(VENUES[0].trade, 3))

    assert wire.intake.records == []
    assert wire.recorder.counts.unrequested_records == 3
    await wire.close()


async def test_a_book_that_is_being_rebuilt_is_not_sampled() -> None:
    wire = Wire("binance", {"BTC/USDT": "BTCUSDT"}, "wss://stream.binance.com:9443/ws/0")
    delta = (
        '{"e":"depthUpdate","E":1672515782136,"s":"BTCUSDT","U":{n},"u":{n},"b":[["0.0024000","10.50"]],'
        '"a":[["0.0026","100"]]}'
    )
    book = wire.exchange.orderbooks["BTC/USDT"] = wire.exchange.order_book({})
    wire.frames(*[delta.replace("{n}", str(number)) for number in range(101, 105)])
    wire.recorder.sample_books()
    assert wire.intake.of(BookSnapshot) == []  # its snapshot has not come: the changes wait

    book.reset({"symbol": "BTC/USDT", "nonce": 104, "bids": [[0.0023, 1.0]], "asks": [[0.0027, 1.0]]})
    wire.frames(delta.replace("{n}", "105"))
    wire.recorder.sample_books()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert snapshot.bids[0] == ("0.0024000", "10.50")
    assert (snapshot.sequence, snapshot.valid) == (105, True)
    await wire.close()


async def test_book_sides_that_negate_prices_work_with_exact_numbers() -> None:
    wire = Wire("gemini", {"BTC/USD": "btcusd"}, "wss://api.gemini.com/v2/marketdata/BTCUSD")
    wire.frames(
        '{"type":"l2_updates","symbol":"BTCUSD","changes":[["buy","22252.370","0.0200"],["buy","22251.6","0.04"],'
        '["sell","22254.0","0.10"]],"trades":[]}'
    )
    wire.recorder.sample_books()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert snapshot.bids == (("22252.370", "0.0200"), ("22251.6", "0.04"))
    await wire.close()


async def test_books_of_json_numbers_keep_their_text() -> None:
    wire = Wire("krakenfutures", {"BTC/USD:BTC": "PI_XBTUSD"}, "wss://futures.kraken.com/ws/v1")
    wire.frames(
        '{"feed":"book_snapshot","product_id":"PI_XBTUSD","timestamp":1612269825817,"seq":1,"bids":[{"price":34892.50,'
        '"qty":6385.0}],"asks":[{"price":34911.5,"qty":20598.10}]}',
        '{"feed":"book","product_id":"PI_XBTUSD","side":"sell","seq":2,"price":34910.10,"qty":5.0,'
        '"timestamp":1612269953629}',
    )
    wire.recorder.sample_books()

    (snapshot,) = wire.intake.of(BookSnapshot)
    assert snapshot.bids == (("34892.50", "6385.0"),)
    assert snapshot.asks == (("34910.10", "5.0"), ("34911.5", "20598.10"))
    await wire.close()
