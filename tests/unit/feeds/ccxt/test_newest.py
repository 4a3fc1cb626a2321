"""What the venues' own replies say of their newest trades, and which requests are made for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ingestd.errors import ChannelError, FeedError
from ingestd.feeds.ccxt.channels import names_stream
from ingestd.feeds.ccxt.newest import Newest, bulk_for
from ingestd.venues.trades import NewestAnswer
from tests.unit.feeds.doubles import feed_config

# From the venues' documentation, shortened.
REPLIES: dict[str, tuple[str, Any]] = {
    # https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints#24hr-ticker-price-change-statistics
    "binance": (
        "spot",
        [
            {"symbol": "BNBBTC", "lastPrice": "4.00000200", "firstId": 28385, "lastId": 28460, "count": 76},
            {"symbol": "OLDBTC", "firstId": -1, "lastId": -1, "count": 0},
        ],
    ),
    # https://docs.kraken.com/api/docs/rest-api/get-ticker-information
    "kraken": ("spot", {"error": [], "result": {"XXBTZUSD": {"c": ["30303.2", "0.00067643"], "t": [36999, 62584]}}}),
    # https://docs.kraken.com/api/docs/futures-api/trading/get-tickers
    "krakenfutures": (
        "inverse",
        {
            "tickers": [
                {"symbol": "pi_xbtusd", "last": 9400, "lastTime": "2020-11-03T01:23:45.678Z"},
                {"symbol": "in_xbt"},
            ]
        },
    ),
    # https://docs.upbit.com/reference/ticker
    "upbit": ("spot", [{"market": "KRW-BTC", "trade_timestamp": 1524047020000, "timestamp": 1524047026072}]),
}


def said(exchange: str, stream: str | None = None) -> dict[str, NewestAnswer | None]:
    kind, reply = REPLIES[exchange]
    bulk = bulk_for(exchange, kind, stream)
    assert bulk is not None
    return {name: bulk.read(row) for name, row in bulk.rows(reply).items()}


def test_binance_names_the_last_trade_of_every_market() -> None:
    answers = said("binance", "trade")
    assert answers["BNBBTC"] == NewestAnswer(("last id", 28460), number=28460)
    assert answers["OLDBTC"] is None
    aggregates = said("binance", "aggTrade")["BNBBTC"]
    assert aggregates is not None
    assert aggregates.number is None  # aggregate trades are counted apart
    futures = bulk_for("binanceusdm", "linear", "trade")
    assert futures is not None
    assert futures.read({"symbol": "BTCUSDT", "lastId": 5}) == NewestAnswer(("last id", 5), number=5, is_certain=False)
    assert bulk_for("binance", "option", None) is None


def test_krakens_count_begins_anew_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = []
    for day in (19_000, 19_001):
        monkeypatch.setattr("ingestd.venues.kraken.now_us", lambda day=day: day * 86_400_000_000 + 5)
        answer = said("kraken")["XXBTZUSD"]
        assert answer is not None
        marks.append(answer.mark)
    assert [mark[1] for mark in marks] == [36999, 36999]
    assert marks[0][0] != marks[1][0]


def test_kraken_futures_and_upbit_say_when_the_last_trade_was() -> None:
    futures, upbit = said("krakenfutures")["PI_XBTUSD"], said("upbit")["KRW-BTC"]
    assert futures is not None
    assert futures.time == 1_604_366_625_678_000
    assert upbit is not None
    assert upbit.time == 1_524_047_020_000_000


@pytest.mark.parametrize("exchange", ["okx", "bybit", "gate", "kucoin", "bitget", "coinbaseexchange"])
def test_what_proves_nothing_is_not_asked(exchange: str) -> None:
    assert bulk_for(exchange, "spot", None) is None


class Exchange(SimpleNamespace):
    """As much of ccxt's object as is asked; `replies` by method."""

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            self.calls.append((name, *args))
            reply = self.replies[name]
            if isinstance(reply, Exception):
                raise reply
            return reply

        return call


def exchange(id_: str, **replies: Any) -> Any:
    markets = {"BTC/USD": {"id": "BTC-USD", "type": "spot"}, "ETH/USD": {"id": "ETH-USD", "type": "spot"}}
    has = {"fetchTrades": True, "fetchTickers": True, "fetchTicker": True}
    return Exchange(id=id_, markets=markets, has=has, replies=replies, calls=[])


def trade(trade_id: str, at_ms: int) -> dict[str, Any]:
    return {"id": trade_id, "timestamp": at_ms, "price": 1.5, "amount": 2.0, "side": "buy", "info": {}}


async def test_the_newest_trade_of_one_market_is_the_record_the_stream_would_have_brought() -> None:
    made = exchange("coinbaseexchange", fetch_trades=[trade("12", 1_700_000_000_002), trade("11", 1_700_000_000_001)])
    answer = await Newest(feed_config("coinbaseexchange", ["BTC/USD"]), lambda: made).trade("BTC/USD")
    assert answer is not None
    assert (answer.trade_id, answer.number, answer.time) == ("12", 12, 1_700_000_000_002_000)
    assert answer.record is not None
    record = answer.record
    assert (record.trade_id, record.symbol, record.time) == ("12", "BTC/USD", 1_700_000_000_002_000)


async def test_ids_of_another_series_are_not_compared() -> None:
    made = exchange("bitstamp", fetch_trades=[trade("12", 1_700_000_000_002)])
    answer = await Newest(feed_config("bitstamp", ["BTC/USD"]), lambda: made).trade("BTC/USD")
    assert answer is not None
    assert (answer.trade_id, answer.number, answer.record) == (None, None, None)
    assert answer.time == 1_700_000_000_002_000


async def test_a_request_that_does_not_work_is_left_for_the_next_one() -> None:
    made = exchange("x", fetch_tickers=TypeError("so it is"), fetch_ticker={"bid": 1.5, "ask": 2.5})
    newest = Newest(feed_config("coinbaseexchange", ["BTC/USD"]), lambda: made)
    assert newest.has_best_of_many()
    with pytest.raises(FeedError):
        await newest.best(["BTC/USD"])
    assert not newest.has_best_of_many()
    answers = await newest.best(["BTC/USD"])
    assert answers["BTC/USD"].best == ("1.5", "2.5", None, None)


async def test_a_venue_without_past_trades() -> None:
    made = exchange("x")
    made.has = {}
    with pytest.raises(ChannelError):
        await Newest(feed_config("coinbaseexchange", ["BTC/USD"]), lambda: made).trade("BTC/USD")


async def test_a_venue_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.feeds.ccxt.newest.REPLY_WITHIN_S", 0.01)
    made = exchange("coinbaseexchange")
    made.fetch_trades = lambda *_: asyncio.sleep(10)
    with pytest.raises(FeedError):
        await Newest(feed_config("coinbaseexchange", ["BTC/USD"]), lambda: made).trade("BTC/USD")


NAMES = [
    ("trade::BTC/USDT", "trades", "BTC/USDT", "BTCUSDT", True),
    ("trade::BTC/USDT:USDT", "trades", "BTC/USDT", "BTCUSDT", False),
    ("trade::BTC/USDT:USDT", "trades", "BTC/USDT:USDT", "BTCUSDT", True),
    ("market.btcusdt.trade.detail", "trades", "BTC/USDT", "btcusdt", True),
    ("/market/match:BTC-USDT", "trades", "BTC/USDT", "BTC-USDT", True),
    ("/market/match:BTC-USDT", "trades", "BTC/USD", "BTC-USD", False),
    ("trades:BTC/USDT", "ticks", "BTC/USDT", "BTCUSDT", False),
    ("btcusdt@bookTicker", "order_book", "BTC/USDT", "BTCUSDT", False),
    ("btcusdt@bookTicker", "ticks", "BTC/USDT", "BTCUSDT", True),
    ("orderbook:WBTC/USDT", "order_book", "BTC/USDT", "BTCUSDT", False),
    ("orderbook.50.BTCUSDT", "order_book", "BTC/USDT", "BTCUSDT", True),
]


@pytest.mark.parametrize(("name", "channel", "symbol", "market_id", "is_it"), NAMES)
def test_which_stream_a_subscription_is_of(name: str, channel: str, symbol: str, market_id: str, is_it: bool) -> None:
    assert names_stream(name, channel, symbol, market_id) is is_it
