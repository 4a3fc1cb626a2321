"""Templates of a trade frame for several venues, in current formats, for bulk sending."""

from __future__ import annotations

from dataclasses import dataclass

BURST = 5000


@dataclass(frozen=True)
class Venue:
    """A venue's frame of a trade; `{n}` in it is a number that increases. Prices are decimal text, in quotes or not."""

    exchange: str
    symbol: str
    market_id: str
    url: str
    trade: str


VENUES = [
    Venue(
        "binance",
        "BTC/USDT",
        "BTCUSDT",
        "wss://stream.binance.com:9443/ws/0",
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1672515782136,"s":"BTCUSDT","t":{n},"p":"0.00100000",'
        '"q":"100.00","T":1672515782136,"m":true,"M":true}}',
    ),
    Venue(
        "binanceusdm",
        "BTC/USDT:USDT",
        "BTCUSDT",
        "wss://fstream.binance.com/ws/0",
        '{"e":"aggTrade","E":1672515782136,"s":"BTCUSDT","a":{n},"p":"7.6110","q":"2.000","f":1,"l":1,'
        '"T":1672515782136,"m":false}',
    ),
    Venue(
        "okx",
        "BTC/USDT",
        "BTC-USDT",
        "wss://ws.okx.com:8443/ws/v5/public",
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"{n}",'
        '"px":"42219.90","sz":"0.120","side":"buy","ts":"1630048897897","count":"3"}]}',
    ),
    Venue(
        "coinbaseexchange",
        "BTC/USD",
        "BTC-USD",
        "wss://ws-feed.exchange.coinbase.com",
        '{"type":"match","trade_id":{n},"maker_order_id":"ac928c66-ca53-498f-9c13-a110027a60e8","taker_order_id":'
        '"132fb6ae-456b-4654-b4e0-d681ac05cea1","side":"sell","size":"985.10","price":"0.00001305","product_id":"BTC-USD",'
        '"sequence":1,"time":"2021-04-17T16:43:37.075687Z"}',
    ),
    Venue(
        "coinbase",
        "BTC/USD",
        "BTC-USD",
        "wss://advanced-trade-ws.coinbase.com",
        '{"channel":"market_trades","timestamp":"2026-04-07T14:30:02.789012Z","sequence_num":5,"events":['
        '{"type":"update","trades":[{"trade_id":"{n}","product_id":"BTC-USD","price":"68900.50","size":"0.00150000",'
        '"side":"BUY","time":"2026-04-07T14:30:02.700000Z"}]}]}',
    ),
    Venue(
        "kraken",
        "BTC/USD",
        "XXBTZUSD",
        "wss://ws.kraken.com/v2",
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,'
        '"qty":0.00027620,"ord_type":"market","trade_id":{n},"timestamp":"2023-09-25T07:49:37.708706Z"}]}',
    ),
    Venue(
        "krakenfutures",
        "BTC/USD:BTC",
        "PI_XBTUSD",
        "wss://futures.kraken.com/ws/v1",
        '{"feed":"trade","product_id":"PI_XBTUSD","uid":"u-{n}","side":"sell","type":"fill","seq":{n},'
        '"time":1612269657781,"qty":440.0,"price":34893.50}',
    ),
    Venue(
        "bybit",
        "BTC/USDT:USDT",
        "BTCUSDT",
        "wss://stream.bybit.com/v5/public/linear",
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1709891679005,"data":[{"T":1709891679000,'
        '"s":"BTCUSDT","S":"Buy","v":"0.0010","p":"27451.00","i":"id-{n}","BT":false}]}',
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
