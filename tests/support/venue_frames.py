"""What else tests know of the frames in `ingestd.lab.sim.venue_frames`: best prices, and keys to read frames by."""

from __future__ import annotations

import re
from typing import NamedTuple

# exchange → template of a best-price frame
TICKS = {
    "binance": (
        '{"stream":"btcusdt@bookTicker","data":{"u":{n},"s":"BTCUSDT","b":"25.35190000","B":"31.21000000",'
        '"a":"25.36520000","A":"40.66000000"}}'
    ),
    "binanceusdm": (
        '{"e":"bookTicker","u":{n},"E":1568014460893,"T":1568014460891,"s":"BTCUSDT","b":"25.35190000",'
        '"B":"31.21000000","a":"25.36520000","A":"40.66000000"}'
    ),
    "okx": (
        '{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instType":"SPOT","instId":"BTC-USDT",'
        '"last":"9999.99","askPx":"9999.90","askSz":"11","bidPx":"8888.880","bidSz":"5.0","ts":"1597026383085",'
        '"vol24h":"{n}"}]}'
    ),
    "coinbaseexchange": (
        '{"type":"ticker","sequence":{n},"product_id":"BTC-USD","price":"14.7775","best_bid":"14.70",'
        '"best_bid_size":"1.0","best_ask":"14.80","best_ask_size":"2.00","time":"2021-04-17T16:43:37.075687Z"}'
    ),
    "coinbase": (
        '{"channel":"ticker","timestamp":"2026-04-07T14:30:03.000000Z","sequence_num":{n},"events":[{"type":"update",'
        '"tickers":[{"type":"ticker","product_id":"BTC-USD","price":"68900.50","best_bid":"68900.10",'
        '"best_bid_quantity":"0.10","best_ask":"68900.90","best_ask_quantity":"0.20"}]}]}'
    ),
    "kraken": (
        '{"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":105944.20,"bid_qty":2.50,'
        '"ask":105944.30,"ask_qty":3.0,"last":105944.2,"volume":10.5,"vwap":105900.1,"change":{n}}]}'
    ),
    "krakenfutures": (
        '{"feed":"ticker_lite","product_id":"PI_XBTUSD","bid":34932.0,"ask":34949.50,"bid_size":1.0,"ask_size":2.0,'
        '"volume":{n}}'
    ),
    "bybit": (
        '{"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1709891679000,"data":{"s":"BTCUSDT",'
        '"b":[["27450.00","0.500"]],"a":[["27450.50","1.000"]],"u":{n},"seq":7961638724},"cts":1709891679000}'
    ),
}


class Keys(NamedTuple):
    """The keys of a trade's price and size, and of the best bid's; empty where the venue sends rows without keys."""

    price: str
    size: str
    bid: str
    bid_size: str


KEYS = {
    "binance": Keys("p", "q", "b", "B"),
    "binanceusdm": Keys("p", "q", "b", "B"),
    "okx": Keys("px", "sz", "bidPx", "bidSz"),
    "coinbaseexchange": Keys("price", "size", "best_bid", "best_bid_size"),
    "coinbase": Keys("price", "size", "best_bid", "best_bid_quantity"),
    "kraken": Keys("price", "qty", "bid", "bid_qty"),
    "krakenfutures": Keys("price", "qty", "bid", "bid_size"),
    "bybit": Keys("p", "v", "", ""),
}


def text_of(frame: str, key: str) -> str:
    """The value of a key as it stands in the frame: without quotes, never through a float."""
    match = re.search(rf'"{key}":"?([0-9.eE+-]+)"?', frame)
    assert match is not None
    return match.group(1)
