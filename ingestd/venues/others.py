"""Exchanges of ccxt with few facts: one row each. An exchange that needs a function has its own file."""

from __future__ import annotations

from functools import partial

from ingestd.records import CHANNELS
from ingestd.venues import families
from ingestd.venues.binance import BINANCE_LABELS
from ingestd.venues.counting import ANY_KIND, IN_CONTRACTS, Counting, Quantities
from ingestd.venues.facts import Ccxt, CcxtBooks, Corrections, Facts, Trades
from ingestd.venues.names import CodeNames
from ingestd.venues.numbering import Numbering
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
        first_market="BTC/USD",
        ccxt=Ccxt(
            with_key_only=frozenset(CHANNELS),
        ),
    ),
    Facts(
        exchange="aster",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        lists=(("sapiPublic", families.SPOT), ("fapiPublic", families.LINEAR)),
        trades=Trades(
            # a fork of Binance; nothing is known about its candles
            marks=Marks(labels=BINANCE_LABELS, flags={"isRPITrade": "rpi"}),
        ),
    ),
    Facts(
        exchange="bingx",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        # in USDT; https://bingx-api.github.io/docs/#/en-us/swapV2/market-api.html
        open_interest=Counting("quote"),
        lists=(("cswap", families.INVERSE), ("swap", families.LINEAR), ("spot", families.SPOT)),
        corrections=Corrections(
            # not C, which is the end of the 24-hour statistics:
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
        lists=(("spot", families.SPOT), ("fapi", families.LINEAR), ("dapi", families.INVERSE)),
        ccxt=Ccxt(
            ticks_from_books=True,
            unserved={"spot": frozenset({"trades", "candles"})},
        ),
    ),
    Facts(
        exchange="bittrade",
        first_market="BTC/JPY",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
        books=CcxtBooks(
            numbering=Numbering((), ("seqNum",), before=("prevSeqNum",), within="tick"),
            changes_in_messages=True,
            left_standing=True,
        ),
    ),
    Facts(
        exchange="bitvavo",
        books=CcxtBooks(
            # https://docs.bitvavo.com/docs/manage-order-book
            numbering=Numbering(("nonce",), ("nonce",)),
            changes_in_messages=True,
            left_standing=True,
        ),
    ),
    Facts(
        exchange="blockchaincom",
        former_names=("blockchain",),
        ccxt=Ccxt(
            ticks_from_books=True,
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
        first_market="BTC/USD",
        names=partial(CodeNames, ("pair-{0}-{1}", "{0}", "{1}")),
        ccxt=Ccxt(
            ticks_from_books=True,
            with_key_only=frozenset({"ticks", "order_book"}),
        ),
    ),
    Facts(
        exchange="coincheck",
        first_market="BTC/JPY",
        trades=Trades(
            # socket, the first of the list: seconds; REST, `created_at`: milliseconds
            two_times=True,
        ),
        ccxt=Ccxt(
            # Its messages are changes, which ccxt takes for snapshots, and no sequence number says how to apply
            # them: https://coincheck.com/documents/exchange/api#websocket-order-book
            misread=frozenset({"order_book"}),
        ),
    ),
    Facts(
        exchange="cryptocom",
        former_names=("cryptodotcom",),
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        books=CcxtBooks(
            left_standing=True,
        ),
        corrections=Corrections(
            # ccxt keeps no time of a change:
            # https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#book-instrument_name-depth
            book_times=(("result", "data", 0, "t"), ("data", 0, "t")),
        ),
    ),
    Facts(
        exchange="extended",
        first_market="BTC/USD:USD",
        # I: "Open interest in synthetic asset", i: "in USD";
        # https://api.docs.extended.exchange/#get-open-interest-history
        open_interest=Counting("base", other="base"),
        contracts_only=True,
        trades=Trades(
            # https://api.docs.extended.exchange/#trades-stream (tradeType over REST, tT on the socket)
            marks=Marks({"tradeType": _EXTENDED, "tT": _EXTENDED}),
        ),
    ),
    Facts(
        exchange="hashkey",
        ccxt=Ccxt(
            ticks_from_books=True,
        ),
    ),
    Facts(
        exchange="hyperliquid",
        first_market="BTC/USDC:USDC",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        # in coins; https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint/perpetuals
        open_interest=Counting("base", other="base"),
        lists=(("=spotMeta", families.SPOT), ("=metaAndAssetCtxs", families.LINEAR), ("=perpDexs", families.LINEAR)),
        ccxt=Ccxt(
            # its best prices are impact prices
            ticks_from_books=True,
            needs_currencies=True,
            ids_by_place=True,
        ),
    ),
    Facts(
        exchange="kucoinfutures",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        # in lots, which are contracts;
        # https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-symbol
        open_interest=IN_CONTRACTS,
        contracts_only=True,
        corrections=Corrections(
            book_times=(("data", "M"), ("data", "ts")),
        ),
    ),
    Facts(
        exchange="modetrade",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
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
        exchange="ndax",
        trades=Trades(
            # https://apidoc.ndax.io/#subscribetrades
            marks=Marks(flags={"IsBlockTrade": "block", 9: "block"}),
        ),
    ),
    Facts(
        exchange="onetrading",
        first_market="BTC/EUR",
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
        first_market="BTC/USDC:USDC",
        # "Current open interest in USD"; ccxt multiplies it by the price again
        # https://docs.pacifica.fi/api-documentation/api/rest-api/markets/get-prices
        open_interest=Counting("quote", other="quote", valued=ANY_KIND),
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
        first_market="BTC/USD:USD",
        # in base currency; https://docs.paradex.trade/api/prod/markets/get-markets-summary
        open_interest=Counting("base", other="base"),
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
        exchange="woo",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
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
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        contracts_only=True,
        ccxt=Ccxt(
            bids_asks_in_tickers=True,
            timeframes_not_streamed=frozenset({"4h", "12h", "1y"}),
        ),
    ),
)
