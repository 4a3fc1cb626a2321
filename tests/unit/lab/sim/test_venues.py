"""Each venue's file: which stream a frame is of, what a subscription asks, and that shifting touches times only."""

from __future__ import annotations

import json
import re
import zlib

import pytest

from ingestd.lab.sim.capture import venue_of_url
from ingestd.lab.sim.venues.base import RecordedBook, Stream, Venue, shift_instant
from ingestd.lab.sim.venues.binance import Binance
from ingestd.lab.sim.venues.coinbase import Coinbase
from ingestd.lab.sim.venues.kraken_futures import KrakenFutures
from ingestd.lab.sim.venues.okx import Okx

BINANCE_TRADE = (
    '{"e":"trade","E":1633998523963,"s":"NKNUSDT","t":1633998523000,"p":"0.35280000","q":"58.00000000",'
    '"T":1633998523961,"m":false,"M":true}'
)
BINANCE_KLINE = (
    '{"e":"kline","E":1633998523963,"s":"NKNUSDT","k":{"t":1633998480000,"T":1633998539999,"s":"NKNUSDT","i":"1m",'
    '"f":19862761,"L":19862790,"o":"0.35270000","c":"0.35280000","n":30,"x":false,"B":"0"}}'
)
BINANCE_DEPTH = (
    '{"e":"depthUpdate","E":1626992741037,"T":1626992741024,"s":"SUSHIUSDT","U":1626992741000,"u":1626992741001,'
    '"pu":1626992740999,"b":[["7.5040","813"]],"a":[]}'
)
COINBASE_MATCH = (
    '{"type":"match","trade_id":280232,"side":"sell","size":"985","price":"0.00001305","product_id":"SKL-BTC",'
    '"sequence":177100030,"time":"2021-04-17T16:43:37.089723Z"}'
)
OKX_TRADES = (
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1652459199958",'
    '"px":"30218.8","sz":"1","side":"buy","ts":"1652459199958"}]}'
)
OKX_BOOK = (
    '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["3366.8","9","0","1"],'
    '["3368","8","0","3"]],"bids":[["3366.1","7","0","3"]],"ts":"1652459225464","checksum":1}]}'
)
KRAKEN_TRADE = (
    '{"feed":"trade","product_id":"PI_LTCUSD","uid":"e2429e31","side":"buy","type":"fill","seq":5956,'
    '"time":1626994929946,"qty":320.0,"price":119.44}'
)
KRAKEN_LITE = (
    '{"feed":"ticker_lite","product_id":"FI_BCHUSD_210730","bid":439.3,"ask":439.6,"maturityTime":1627657200000}'
)
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("venue", "text", "expected"),
    [
        (Binance(), f'{{"stream":"nknusdt@trade","data":{BINANCE_TRADE}}}', ("nknusdt@trade", "trades", "NKNUSDT")),
        (Binance(), BINANCE_TRADE, ("nknusdt@trade", "trades", "NKNUSDT")),
        (Binance(), BINANCE_KLINE, ("nknusdt@kline_1m", "candles", "NKNUSDT")),
        (Binance(), BINANCE_DEPTH, ("sushiusdt@depth@100ms", "order_book", "SUSHIUSDT")),
        (Binance(), '{"u":1,"s":"A","b":"1","B":"1","a":"2","A":"1"}', ("a@bookTicker", "ticks", "A")),
        (Binance(), '{"result":null,"id":1}', None),
        (Coinbase(), COINBASE_MATCH, ("matches:SKL-BTC", "trades", "SKL-BTC")),
        (Coinbase(), '{"type":"subscriptions","channels":[]}', None),
        (Okx(), OKX_TRADES, ("trades:BTC-USDT", "trades", "BTC-USDT")),
        (Okx(), '{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}', None),
        (KrakenFutures(), KRAKEN_TRADE, ("trade:PI_LTCUSD", "trades", "PI_LTCUSD")),
        (KrakenFutures(), '{"feed":"book_snapshot","product_id":"PI_A"}', ("book:PI_A", "order_book", "PI_A")),
        (KrakenFutures(), '{"event":"info","version":1}', None),
    ],
)
def test_a_frame_belongs_to_its_stream(venue: Venue, text: str, expected: tuple[str, str, str] | None) -> None:
    assert venue.stream_of(text) == (Stream(*expected) if expected else None)


@pytest.mark.parametrize(
    ("venue", "text", "subscribed", "replies"),
    [
        (Binance(), '{"method":"SUBSCRIBE","params":["a@trade"],"id":7}', ["a@trade"], ['{"result":null,"id":7}']),
        (
            Coinbase(),
            '{"type":"subscribe","product_ids":["A-B"],"channels":["matches",{"name":"level2","product_ids":["C-D"]}]}',
            ["matches:A-B", "level2:C-D"],
            [
                '{"type":"subscriptions","channels":[{"name":"matches","product_ids":["A-B"]},'
                '{"name":"level2","product_ids":["C-D"]}]}'
            ],
        ),
        (
            Okx(),
            '{"op":"subscribe","args":[{"channel":"trades","instId":"A-B"}]}',
            ["trades:A-B"],
            ['{"event":"subscribe","arg":{"channel":"trades","instId":"A-B"},"connId":"sim"}'],
        ),
        (Okx(), "ping", [], ["pong"]),
        (
            KrakenFutures(),
            '{"event":"subscribe","feed":"trade","product_ids":["pi_xbtusd"]}',
            ["trade:PI_XBTUSD"],
            ['{"event":"subscribed","feed":"trade","product_ids":["PI_XBTUSD"]}'],
        ),
    ],
)
def test_a_subscription_is_understood_and_answered(
    venue: Venue, text: str, subscribed: list[str], replies: list[str]
) -> None:
    request = venue.request(text)
    assert request.subscribe == subscribed
    assert request.replies == replies


@pytest.mark.parametrize(
    ("venue", "payload", "times"),
    [
        (Binance(), BINANCE_TRADE, ["1633998523963", "1633998523961"]),
        (Binance(), BINANCE_DEPTH, ["1626992741037", "1626992741024"]),
        (Binance(), BINANCE_KLINE, ["1633998523963", "1633998480000", "1633998539999"]),
        (Okx(), OKX_TRADES, ['"ts":"1652459199958']),
        (Okx(), OKX_BOOK, ["1652459225464"]),
        (KrakenFutures(), KRAKEN_TRADE, ["1626994929946"]),
        (KrakenFutures(), KRAKEN_LITE, []),
    ],
)
def test_shifting_touches_only_times(venue: Venue, payload: str, times: list[str]) -> None:
    stream = venue.stream_of(payload)
    assert stream is not None
    expected = payload
    for text in times:
        number = re.sub(r"\D", "", text)
        expected = expected.replace(text, text.replace(number, str(int(number) + DAY_MS)))
    assert venue.shift(stream, payload, DAY_MS) == expected
    assert venue.shift(stream, payload, 0) == payload


def test_a_shifted_candle_stays_on_its_minute() -> None:
    stream = Stream("nknusdt@kline_1m", "candles", "NKNUSDT")
    candle = json.loads(Binance().shift(stream, BINANCE_KLINE, 123_456))
    assert candle["E"] == 1633998523963 + 123_456
    assert (candle["k"]["t"] % 60_000, candle["k"]["T"] % 60_000) == (0, 59_999)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2021-04-17T16:43:37.089723Z", "2021-04-17T16:43:38.589723Z"),
        ("2021-12-31T23:59:59.5Z", "2022-01-01T00:00:01.0Z"),
        ("2021-04-17T16:43:37Z", "2021-04-17T16:43:38Z"),
    ],
)
def test_an_instant_keeps_its_form(before: str, after: str) -> None:
    assert shift_instant(before, 1500) == after
    match = COINBASE_MATCH.replace("2021-04-17T16:43:37.089723Z", before)
    stream = Stream("matches:SKL-BTC", "trades", "SKL-BTC")
    assert Coinbase().shift(stream, match, 1500) == match.replace(before, after)


def test_trades_are_the_takers() -> None:
    assert Binance().trades(BINANCE_TRADE)[0].side == "buy"
    assert Coinbase().trades(COINBASE_MATCH)[0].side == "buy"  # the maker sold
    assert KrakenFutures().trades(KRAKEN_TRADE)[0][1:4] == ("e2429e31", "119.44", "320.0")
    assert Okx().trades(OKX_TRADES)[0].time_us == 1652459199958000


@pytest.mark.parametrize(
    ("venue", "asked", "available", "sent"),
    [
        (Binance(), "a@trade", ["a@aggTrade", "b@trade"], "a@aggTrade"),
        (Binance(), "a@trade", ["a@aggTrade", "a@trade"], "a@trade"),
        (Binance(), "a@depth@100ms", ["a@depth"], "a@depth"),
        (Binance(), "a@miniTicker", ["a@trade"], None),
        (Coinbase(), "ticker_batch:A-B", ["ticker:A-B"], "ticker:A-B"),
        (Okx(), "bbo-tbt:A-B", ["tickers:A-B"], "tickers:A-B"),
        (KrakenFutures(), "ticker:PI_A", ["ticker_lite:PI_A"], "ticker_lite:PI_A"),
    ],
)
def test_an_old_stream_stands_in(venue: Venue, asked: str, available: list[str], sent: str | None) -> None:
    assert venue.stands_in(asked, available) == sent


def test_the_envelope_goes_and_the_payload_stays() -> None:
    venue = Binance()
    enveloped = f'{{"stream":"nknusdt@trade","data":{BINANCE_TRADE}}}'
    assert venue.payload(enveloped) == BINANCE_TRADE
    assert venue.wrap("nknusdt@trade", BINANCE_TRADE) == enveloped


def test_the_url_names_streams_and_envelope() -> None:
    venue = Binance()
    assert venue.handshake("ws/3", {}).streams == []
    assert venue.handshake("market/ws/a@trade", {}).streams == ["a@trade"]
    combined = venue.handshake("stream", {"streams": "a@trade/b@depth@100ms"})
    assert (combined.streams, combined.combined) == (["a@trade", "b@depth@100ms"], True)


def test_a_late_okx_snapshot_carries_the_venues_checksum() -> None:
    # OKX's documentation: bid and ask of each level in turn, "bid1:size:ask1:size:bid2:…"
    book = RecordedBook()
    change = Okx().book_change(
        OKX_BOOK.replace('["3366.1","7","0","3"]', '["3366.1","7","0","3"],["3366","6","3","4"]')
    )
    assert change is not None
    book.apply(change)
    snapshot = Okx().book_snapshot(Stream("books:BTC-USDT", "order_book", "BTC-USDT"), book)
    assert snapshot is not None
    unsigned = zlib.crc32(b"3366.1:7:3366.8:9:3366:6:3368:8")
    assert json.loads(snapshot)["data"][0]["checksum"] % (1 << 32) == unsigned


def test_kraken_futures_symbols_are_ccxts() -> None:
    found = KrakenFutures().symbols(["PI_XBTUSD", "FI_ETHUSD_211231", "PF_SOLUSD"], source=None)  # type: ignore[arg-type]
    assert list(found) == ["BTC/USD:BTC", "ETH/USD:ETH-211231", "SOL/USD:USD"]


@pytest.mark.parametrize(
    ("url", "exchange"),
    [
        ("wss://fstream.binance.com/stream?streams=a", "binanceusdm"),
        ("https://api.binance.com/api/v3/exchangeInfo", "binance"),
        ("wss://ws-feed.pro.coinbase.com", "coinbaseexchange"),
        ("wss://ws.okx.com:8443/ws/v5/public", "okx"),
        ("wss://futures.kraken.com/ws/v1", "krakenfutures"),
    ],
)
def test_a_capture_tells_its_venue(url: str, exchange: str) -> None:
    venue = venue_of_url(url)
    assert venue is not None
    assert venue.exchange == exchange
    assert venue_of_url("https://example.com") is None
