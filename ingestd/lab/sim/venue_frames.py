"""Templates of a trade frame and a best-price frame for several venues, in current formats, for bulk sending."""

from __future__ import annotations

from dataclasses import dataclass

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
        '{"type":"match","trade_id":{n},"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","taker_order_id":'
        '"132fb6ae-456b-4654-b4e0-d681ac05cea1","side":"sell","size":"985.10","price":"0.00001305","product_id":"BTC-USD",'
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


def numbered(frame: str, count: int = BURST) -> list[str]:
    """Build that many frames, numbered from 1."""
    return [frame.replace("{n}", str(number)) for number in range(1, count + 1)]


def raw(frame: str) -> str:
    """The same frame as sent by a socket without envelopes."""
    if not frame.startswith('{"stream":'):
        return frame
    return "{" + frame.partition('"data":{')[2][:-1]
