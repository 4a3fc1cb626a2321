"""How venues mark trades that are none of the market's own: raw frames in, `kind` and `in_candles` out.

Each frame is of the form the venue documents; the kind is what its documentation says the mark means.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from ingestd.config.models import FeedConfig
from ingestd.feeds.ccxt import records
from ingestd.records import TRADE_KINDS, Trade
from ingestd.venues.all import FACTS, facts_of, native_venue
from ingestd.venues.trade_identity import TradeIds
from tests.unit.feeds.doubles import Wire

RECEIVED_AT = 1_790_000_000_000_000


@dataclass(frozen=True)
class Venue:
    """A venue's socket and its trade frame; `{mark}` is where the marks stand."""

    exchange: str
    symbol: str
    market_id: str
    url: str
    frame: str

    def frame_with(self, mark: str) -> str:
        return self.frame.replace("{mark}", mark)


BINANCE_TRADE = (
    '{"e":"trade","E":1790371723022,"T":1790371723021,"s":"BTCUSDT","t":4511605,"p":"84000.5","q":"2"{mark},"m":false}'
)
USDM = Venue("binanceusdm", "BTC/USDT:USDT", "BTCUSDT", "wss://fstream.binance.com/public/ws/0", BINANCE_TRADE)
BINANCE = Venue("binance", "BTC/USDT", "BTCUSDT", "wss://stream.binance.com:9443/ws/0", BINANCE_TRADE)
BYBIT = Venue(
    "bybit", "BTC/USDT:USDT", "BTCUSDT", "wss://stream.bybit.com/v5/public/linear",
    '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1709891679005,"data":[{"T":1709891679000,"s":"BTCUSDT",'
    '"S":"Buy","v":"0.0010","p":"27451.00","i":"id-1"{mark}}]}',
)  # fmt: skip
OKX = Venue(
    "okx", "BTC/USDT", "BTC-USDT", "wss://ws.okx.com:8443/ws/v5/public",
    '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"7","px":"42219.90",'
    '"sz":"0.120","side":"buy","ts":"1630048897897","count":"1"{mark}}]}',
)  # fmt: skip
KRAKEN_FUTURES = Venue(
    "krakenfutures", "BTC/USD:USD", "PF_XBTUSD", "wss://futures.kraken.com/ws/v1",
    '{"feed":"trade","product_id":"PF_XBTUSD","uid":"u-1","side":"sell","seq":1,"time":1612269657781,"qty":440.0,'
    '"price":34893.50{mark}}',
)  # fmt: skip
GATE = Venue(
    "gate", "BTC/USDT:USDT", "BTC_USDT", "wss://fx-ws.gateio.ws/v4/ws/usdt",
    '{"time":1541503698,"channel":"futures.trades","event":"update","result":[{"size":-108,"id":27753479,'
    '"create_time":1545136464,"create_time_ms":1545136464123,"price":"96.4","contract":"BTC_USDT"{mark}}]}',
)  # fmt: skip
DERIBIT = Venue(
    "deribit", "BTC/USD:BTC", "BTC-PERPETUAL", "wss://www.deribit.com/ws/api/v2",
    '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-PERPETUAL.100ms","data":[{"trade_seq":1,'
    '"trade_id":"168","timestamp":1643781930123,"tick_direction":0,"price":37500.5,"mark_price":37500.1,'
    '"instrument_name":"BTC-PERPETUAL","index_price":37505.2,"direction":"buy","amount":180{mark}}]}}',
)  # fmt: skip
DYDX = Venue(
    "dydx", "BTC/USDC:USDC", "BTC-USD", "wss://indexer.dydx.trade/v4/ws",
    '{"type":"channel_data","connection_id":"4b","message_id":5,"id":"BTC-USD","channel":"v4_trades","version":"2.1.0",'
    '"contents":{"trades":[{"id":"02ad","size":"0.01","price":"68222","side":"SELL",'
    '"createdAt":"2024-07-30T15:26:14.003Z"{mark}}]}}',
)  # fmt: skip
PARADEX = Venue(
    "paradex", "BTC/USD:USDC", "BTC-USD-PERP", "wss://ws.api.prod.paradex.trade/v1",
    '{"jsonrpc":"2.0","method":"subscription","params":{"channel":"trades.BTC-USD-PERP","data":{"id":"1718","market":'
    '"BTC-USD-PERP","side":"SELL","size":"0.01","price":"63500.1","created_at":1718179273230{mark}}}}',
)  # fmt: skip

CASES: list[tuple[Venue, str, str | None, bool]] = [
    (USDM, "", None, True),
    (USDM, ',"X":"MARKET"', None, True),
    (USDM, ',"X":"INSURANCE_FUND"', "insurance_fund", False),
    (USDM, ',"X":"ADL"', "adl", False),
    (USDM, ',"X":"RPI"', "rpi", True),
    (USDM, ',"X":"BLOCK"', "block", True),
    (USDM, ',"X":null', None, True),
    (USDM, ',"X":"SOMETHING_NEW"', "other", True),
    (BINANCE, ',"M":true', None, True),
    (BYBIT, ',"BT":false,"RPI":false', None, True),
    (BYBIT, "", None, True),
    (BYBIT, ',"BT":null,"RPI":null', None, True),
    (BYBIT, ',"BT":true,"RPI":false', "block", True),
    (BYBIT, ',"BT":false,"RPI":true', "rpi", True),
    (OKX, "", None, True),
    (OKX, ',"source":null', None, True),
    (OKX, ',"source":"0"', None, True),
    (OKX, ',"source":"1"', "rpi", True),
    (OKX, ',"source":"2"', "other", True),
    (KRAKEN_FUTURES, ',"type":"fill"', None, True),
    (KRAKEN_FUTURES, ',"type":null', None, True),
    (KRAKEN_FUTURES, ',"type":"liquidation"', "liquidation", True),
    (KRAKEN_FUTURES, ',"type":"termination"', "adl", True),
    (KRAKEN_FUTURES, ',"type":"block"', "block", True),
    (KRAKEN_FUTURES, ',"type":"novelty"', "other", True),
    (GATE, "", None, True),
    (GATE, ',"is_internal":true', "liquidation", False),
    (DERIBIT, "", None, True),
    (DERIBIT, ',"liquidation":"MT"', "liquidation", True),
    (DERIBIT, ',"block_trade_id":"BLOCK-1"', "block", True),
    (DERIBIT, ',"block_rfq_id":7', "block", True),
    (DYDX, ',"type":"LIMIT"', None, True),
    (DYDX, ',"type":"LIQUIDATED"', "liquidation", True),
    (DYDX, ',"type":"DELEVERAGED"', "adl", True),
    (PARADEX, ',"trade_type":"FILL"', None, True),
    (PARADEX, ',"trade_type":"LIQUIDATION"', "liquidation", True),
    (PARADEX, ',"trade_type":"RPI"', "rpi", True),
]  # fmt: skip


def name_of(value: object) -> str:
    return value.exchange if isinstance(value, Venue) else str(value)


@pytest.mark.parametrize(("venue", "mark", "kind", "in_candles"), CASES, ids=name_of)
async def test_through_ccxt(venue: Venue, mark: str, kind: str | None, in_candles: bool) -> None:
    wire = Wire(venue.exchange, {venue.symbol: venue.market_id}, venue.url)
    wire.frames(venue.frame_with(mark))
    trades = [(trade.kind, trade.in_candles) for trade in wire.intake.of(Trade)]
    counted = wire.ledger.counts.trade_kinds
    await wire.close()
    assert trades == [(kind, in_candles)]
    assert counted == ({} if kind is None else {kind: 1})


@pytest.mark.parametrize(
    ("venue", "mark", "kind", "in_candles"),
    [case for case in CASES if native_venue(FeedConfig(exchange=case[0].exchange, symbols=["*"])) is not None],
    ids=name_of,
)
def test_through_our_decoders(venue: Venue, mark: str, kind: str | None, in_candles: bool) -> None:
    ours = native_venue(FeedConfig(exchange=venue.exchange, symbols=["*"]))
    assert ours is not None
    decode = ours.decoder({venue.market_id: venue.symbol}, 0)
    (trade,) = decode(venue.frame_with(mark).encode(), RECEIVED_AT)
    assert isinstance(trade, Trade)
    assert (trade.kind, trade.in_candles) == (kind, in_candles)


# What the venues' REST says of the same trades, for what a backfill stores.
REST: list[tuple[str, str, str, dict[str, Any], str | None, bool]] = [
    ("binanceusdm", "BTC/USDT:USDT", "BTCUSDT",
     {"id": 28, "price": "4.1", "qty": "12", "quoteQty": "48", "time": 1499865549590, "isBuyerMaker": True,
      "isRPITrade": True}, "rpi", True),
    ("binanceusdm", "BTC/USDT:USDT", "BTCUSDT",
     {"id": 28, "price": "4.1", "qty": "12", "quoteQty": "48", "time": 1499865549590, "isBuyerMaker": True,
      "isRPITrade": False}, None, True),
    ("bybit", "BTC/USDT:USDT", "BTCUSDT",
     {"execId": "1", "symbol": "BTCUSDT", "price": "16618.49", "size": "0.1", "side": "Buy", "time": "1672052955758",
      "isBlockTrade": True, "isRPITrade": False}, "block", True),
    ("bybit", "BTC/USDT:USDT", "BTCUSDT",
     {"execId": "1", "symbol": "BTCUSDT", "price": "16618.49", "size": "0.1", "side": "Buy", "time": "1672052955758",
      "isBlockTrade": False, "isRPITrade": True}, "rpi", True),
    ("okx", "BTC/USDT", "BTC-USDT",
     {"instId": "BTC-USDT", "side": "sell", "sz": "0.1", "px": "29963.2", "source": "1", "tradeId": "2427",
      "ts": "1654161646974"}, "rpi", True),
    ("gate", "BTC/USDT:USDT", "BTC_USDT",
     {"id": 121234231, "create_time": 1514764800, "create_time_ms": 1514764800.123, "contract": "BTC_USDT", "size": 100,
      "price": "100.1", "is_internal": True}, "liquidation", False),
    ("krakenfutures", "BTC/USD:USD", "PF_XBTUSD",
     {"time": "2019-02-14T09:25:33.920Z", "trade_id": 100, "price": 3574, "size": 100, "side": "buy",
      "type": "liquidation", "uid": "11c3"}, "liquidation", True),
    ("gemini", "BTC/USD", "BTCUSD",
     {"timestamp": 1601617445, "timestampms": 1601617445144, "tid": 14122489752, "price": "0.46", "amount": "28.4",
      "exchange": "gemini", "type": "buy"}, None, True),
    ("gemini", "BTC/USD", "BTCUSD",
     {"timestamp": 1601617445, "timestampms": 1601617445144, "tid": 14122489752, "price": "0.46", "amount": "28.4",
      "exchange": "gemini", "type": "block"}, "block", True),
]  # fmt: skip


@pytest.mark.parametrize(("exchange", "symbol", "market_id", "raw", "kind", "in_candles"), REST, ids=name_of)
async def test_over_rest(
    exchange: str, symbol: str, market_id: str, raw: dict[str, Any], kind: str | None, in_candles: bool
) -> None:
    wire = Wire(exchange, {symbol: market_id}, "wss://localhost")
    parsed = wire.exchange.parse_trade(json.loads(json.dumps(raw)), wire.exchange.market(symbol))
    await wire.close()
    record = records.trade_record(exchange, symbol, parsed, RECEIVED_AT, TradeIds(0))
    assert record is not None
    assert (record.kind, record.in_candles) == (kind, in_candles)


def test_every_kind_of_the_table_is_one_of_the_list() -> None:
    for marks in (facts.trades.marks for facts in FACTS.values()):
        found = {kind for kinds in marks.labels.values() for kind in kinds.values()} | set(marks.flags.values())
        assert found | marks.not_in_candles <= {*TRADE_KINDS, None}


def test_a_venue_that_marks_nothing() -> None:
    assert facts_of("kraken").trades.marks.kind({"ord_type": "market", "type": "anything", "source": 3}) is None
    assert facts_of("okx").trades.marks.kind(None) is None
