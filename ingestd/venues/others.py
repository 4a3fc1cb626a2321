"""Exchanges of ccxt of which little is to be said: a row each. One that needs a function has a file of its own."""

from __future__ import annotations

from functools import partial

from ingestd.records import CHANNELS
from ingestd.venues.binance import BINANCE_LABELS
from ingestd.venues.facts import Ccxt, CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.names import CodeNames
from ingestd.venues.trade_kinds import Labels, Marks

_EXTENDED: Labels = {"TRADE": None, "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}
_PACIFICA: Labels = {
    "normal": None,
    "market_liquidation": "liquidation",
    "backstop_liquidation": "liquidation",
    "settlement": "settlement",
}

FACTS = (
    Facts(
        exchange="alpaca",
        ccxt=Ccxt(
            with_key_only=frozenset(CHANNELS),
        ),
    ),
    Facts(
        exchange="apex",
        contracts_only=True,
        trades=Trades(
            # messages of Bybit's form
            marks=Marks(flags={"BT": "block"}),
        ),
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        books=CcxtBooks(
            unsubscribed_here=True,
            asks_for_missing=True,
        ),
        corrections=Corrections(
            # microseconds
            book_times=(("ts",),),
        ),
    ),
    Facts(
        exchange="aster",
        trades=Trades(
            # a fork of Binance, of whose candles nothing is known
            marks=Marks(labels=BINANCE_LABELS, flags={"isRPITrade": "rpi"}),
        ),
    ),
    Facts(
        exchange="bequant",
        books=CcxtBooks(
            unsubscribed_here=True,
        ),
    ),
    Facts(
        exchange="bingx",
        corrections=Corrections(
            # not C, the end of the day's statistics:
            # https://bingx-api.github.io/docs-v3/#/en/Swap/Websocket%20Market%20Data
            ticker_time="E",
        ),
    ),
    Facts(
        exchange="bitopro",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
    ),
    Facts(
        exchange="bitrue",
        ccxt=Ccxt(
            ticks_from_books=True,
            unserved={"spot": frozenset({"trades", "candles"})},
        ),
    ),
    Facts(
        exchange="bittrade",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        books=CcxtBooks(
            left_standing=True,
        ),
    ),
    Facts(
        exchange="bitvavo",
        books=CcxtBooks(
            left_standing=True,
        ),
    ),
    Facts(
        exchange="blockchaincom",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
    ),
    Facts(
        exchange="blofin",
        contracts_only=True,
        books=CcxtBooks(
            unsubscribed_here=True,
            listed_in=("args",),
        ),
    ),
    Facts(
        exchange="bydfi",
        contracts_only=True,
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
    ),
    Facts(
        exchange="cex",
        names=partial(CodeNames, ("pair-{0}-{1}", "{0}", "{1}")),
        ccxt=Ccxt(
            ticks_from_books=True,
            with_key_only=frozenset({"ticks", "order_book"}),
        ),
    ),
    Facts(
        exchange="coincheck",
        trades=Trades(
            # socket, the first of the list: seconds; REST, `created_at`: milliseconds
            two_times=True,
        ),
        ccxt=Ccxt(
            # Its messages are changes, which ccxt takes for whole books, and there is no number by which to put
            # them on one: https://coincheck.com/documents/exchange/api#websocket-order-book
            misread=frozenset({"order_book"}),
        ),
    ),
    Facts(
        exchange="cryptocom",
        books=CcxtBooks(
            left_standing=True,
        ),
        corrections=Corrections(
            # Of a change the library keeps none:
            # https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#book-instrument_name-depth
            book_times=(("result", "data", 0, "t"), ("data", 0, "t")),
        ),
    ),
    Facts(
        exchange="dydx",
        contracts_only=True,
        trades=Trades(
            # https://docs.dydx.xyz/types/trade_type
            marks=Marks({"type": {"LIMIT": None, "MARKET": None, "LIQUIDATED": "liquidation", "DELEVERAGED": "adl"}}),
        ),
    ),
    Facts(
        exchange="extended",
        contracts_only=True,
        trades=Trades(
            # https://api.docs.extended.exchange/#trades-stream (tradeType over REST, tT on the socket)
            marks=Marks({"tradeType": _EXTENDED, "tT": _EXTENDED}),
        ),
    ),
    Facts(
        exchange="grvt",
        contracts_only=True,
        trades=Trades(
            # https://api-docs.grvt.io/market_data_streams/#trade
            marks=Marks(flags={"is_rpi": "rpi"}),
        ),
        ccxt=Ccxt(
            # ccxt names a subscription by market and interval alone: at 500 ms, the default, books are taken for
            # tickers
            options={"watchOrderBook": {"interval": 100}},
        ),
        books=CcxtBooks(
            unsubscribed_here=True,
            listed_in=("params", "selectors"),
        ),
        corrections=Corrections(
            # nanoseconds
            book_times=(("feed", "event_time"),),
        ),
    ),
    Facts(
        exchange="hashkey",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
    ),
    Facts(
        exchange="hitbtc",
        books=CcxtBooks(
            unsubscribed_here=True,
        ),
    ),
    Facts(
        exchange="htx",
        quotes_in_coins=True,
        ccxt=Ccxt(
            # "Best Bid/Offer": the default, `detail`, has neither: https://www.htx.com/en-us/opend/newApiPages/
            options={"watchTicker": {"name": "market.{marketId}.bbo"}},
        ),
        books=CcxtBooks(
            left_standing=True,
        ),
    ),
    Facts(
        exchange="hyperliquid",
        ccxt=Ccxt(
            # its are prices of impact
            ticks_from_books=True,
            needs_currencies=True,
        ),
    ),
    Facts(
        exchange="kucoin",
        quotes_in_coins=True,
        corrections=Corrections(
            # nanoseconds
            book_times=(("data", "M"), ("data", "ts")),
        ),
    ),
    Facts(
        exchange="kucoinfutures",
        contracts_only=True,
        corrections=Corrections(
            book_times=(("data", "M"), ("data", "ts")),
        ),
    ),
    Facts(
        exchange="modetrade",
        contracts_only=True,
        ccxt=Ccxt(
            bids_asks_in_tickers=True,
            timeframes_not_streamed=frozenset({"4h", "12h", "1y"}),
        ),
    ),
    Facts(
        exchange="mudrex",
        contracts_only=True,
        ccxt=Ccxt(
            ticks_from_books=True,
            timeframes_not_streamed=frozenset(
                {"3m", "5m", "10m", "15m", "30m", "1h", "4h", "6h", "12h", "1d", "1w", "1M"}
            ),
        ),
    ),
    Facts(
        exchange="nado",
        books=CcxtBooks(
            gathered_here=True,
        ),
        corrections=Corrections(
            # nanoseconds
            book_times=(("max_timestamp",),),
        ),
    ),
    Facts(
        exchange="ndax",
        trades=Trades(
            # https://apidoc.ndax.io/#subscribetrades
            marks=Marks(flags={"IsBlockTrade": "block", 9: "block"}),
        ),
    ),
    Facts(
        exchange="onetrading",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        corrections=Corrections(
            # a text with microseconds
            book_times=(("time",),),
        ),
    ),
    Facts(
        exchange="p2b",
        ccxt=Ccxt(
            ticks_from_books=True,
            timeframes_not_streamed=frozenset({"1m"}),
        ),
    ),
    Facts(
        exchange="pacifica",
        trades=Trades(
            # https://docs.pacifica.fi/api-documentation/api/websocket/subscriptions/trades (cause over REST, tc
            # on the socket)
            marks=Marks({"cause": _PACIFICA, "tc": _PACIFICA}),
        ),
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
    ),
    Facts(
        exchange="paradex",
        contracts_only=True,
        trades=Trades(
            # https://docs.paradex.trade/ws/web-socket-channels/trades/trades
            marks=Marks(
                {
                    "trade_type": {
                        "FILL": None,
                        "LIQUIDATION": "liquidation",
                        "RPI": "rpi",
                        "BLOCK_TRADE": "block",
                        "SETTLE_MARKET": "settlement",
                    }
                }
            ),
        ),
    ),
    Facts(
        exchange="polymarket",
        contracts_only=True,
        ccxt=Ccxt(
            timeframes_not_streamed=frozenset({"1s"}),
        ),
    ),
    Facts(
        exchange="tokocrypto",
        quotes_in_coins=True,
    ),
    Facts(
        exchange="toobit",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
    ),
    Facts(
        exchange="weex",
        ccxt=Ccxt(
            # ccxt has the stream of best prices for spot alone; the tickers of contracts have neither bid nor ask
            ticks_from_books_of=frozenset({"swap"}),
        ),
        books=CcxtBooks(
            left_standing=True,
            listed_in=("params",),
        ),
    ),
    Facts(
        exchange="whitebit",
        trades=Trades(
            # https://docs.whitebit.com/websocket/market-streams/trades
            marks=Marks(flags={"rpi": "rpi"}),
            # socket, `time`: seconds and microseconds; REST, `trade_timestamp`: seconds
            two_times=True,
        ),
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        books=CcxtBooks(
            unsubscribed_here=True,
        ),
        corrections=Corrections(
            # seconds, with a fraction
            book_times=(("params", 1, "timestamp"),),
        ),
    ),
    Facts(
        exchange="woo",
        trades=Trades(
            # https://docs.woox.io/#trade
            marks=Marks(flags={"rpi": "rpi"}),
        ),
        ccxt=Ccxt(
            timeframes_not_streamed=frozenset({"4h", "12h", "1y"}),
        ),
    ),
    Facts(
        exchange="woofipro",
        contracts_only=True,
        ccxt=Ccxt(
            bids_asks_in_tickers=True,
            timeframes_not_streamed=frozenset({"4h", "12h", "1y"}),
        ),
    ),
)
