"""Exchanges of ccxt with few facts: one row each. An exchange that needs a function has its own file."""

from __future__ import annotations

from functools import partial

from ingestd.records import CHANNELS
from ingestd.venues import families
from ingestd.venues.binance import BINANCE_LABELS
from ingestd.venues.ccxt_books import CcxtBooks, Numbering
from ingestd.venues.corrections import Corrections, time_of
from ingestd.venues.facts import ANY_KIND, IN_CONTRACTS, QUANTITIES_AS_IN_CCXT, Ccxt, Facts, OpenInterestUnits
from ingestd.venues.names import CodeNames
from ingestd.venues.trades import Labels, Marks, Trades

_EXTENDED: Labels = {"TRADE": None, "LIQUIDATION": "liquidation", "DELEVERAGE": "adl"}
_PACIFICA: Labels = {
    "normal": None,
    "market_liquidation": "liquidation",
    "backstop_liquidation": "liquidation",
    "settlement": "settlement",
}
_PARADEX: Labels = {
    "FILL": None,
    "LIQUIDATION": "liquidation",
    "RPI": "rpi",
    "BLOCK_TRADE": "block",
    "SETTLE_MARKET": "settlement",
}

FACTS = (
    Facts(exchange="alpaca", example_market="BTC/USD", ccxt=Ccxt(with_key_only=frozenset(CHANNELS))),
    Facts(
        exchange="aster",
        quantities=QUANTITIES_AS_IN_CCXT,
        families_by_request=(("sapiPublic", families.SPOT), ("fapiPublic", families.LINEAR)),
        # a fork of Binance; nothing is known about its candles
        trades=Trades(marks=Marks(labels=BINANCE_LABELS, flags={"isRPITrade": "rpi"})),
    ),
    Facts(
        exchange="backpack",
        # in base; 1273.85 BTC in July 2025, which ccxt reads as 1273.85 USDC;
        # https://docs.backpack.exchange/#tag/Markets
        open_interest=OpenInterestUnits("base", other="base", count_read_as_value=ANY_KIND),
        # socket, `E` and `T`: microseconds; REST, `timestamp`: milliseconds
        trades=Trades(two_times=True),
        corrections=Corrections(
            # On the socket `T` is the time of the match; ccxt uses `E`, the time of the message. Both in microseconds:
            # https://docs.backpack.exchange/#tag/Streams/Public/Trade
            trade=time_of("T"),
            book_times=(("data", "T"),),  # microseconds
        ),
        # https://docs.backpack.exchange/#tag/Streams/Public/Depth
        books=CcxtBooks(numbering=Numbering(("U",), ("u",))),
    ),
    Facts(
        exchange="bingx",
        quantities=QUANTITIES_AS_IN_CCXT,
        # in USDT; https://bingx-api.github.io/docs/#/en-us/swapV2/market-api.html
        open_interest=OpenInterestUnits("quote"),
        families_by_request=(("cswap", families.INVERSE), ("swap", families.LINEAR), ("spot", families.SPOT)),
        # not C, which is the end of the 24-hour statistics:
        # https://bingx-api.github.io/docs-v3/#/en/Swap/Websocket%20Market%20Data
        corrections=Corrections(ticker_time="E"),
    ),
    Facts(exchange="bitopro", ccxt=Ccxt(ticks_from_books=True)),
    Facts(
        exchange="bitrue",
        families_by_request=(("spot", families.SPOT), ("fapi", families.LINEAR), ("dapi", families.INVERSE)),
        ccxt=Ccxt(ticks_from_books=True, unserved={"spot": frozenset({"trades", "candles"})}),
    ),
    Facts(
        exchange="bittrade",
        example_market="BTC/JPY",
        ccxt=Ccxt(ticks_from_books=True),
        books=CcxtBooks(
            numbering=Numbering((), ("seqNum",), before=("prevSeqNum",), within="tick"),
            changes_in_messages=True,
            kept_when_broken=True,
        ),
    ),
    Facts(
        exchange="bitvavo",
        books=CcxtBooks(
            # https://docs.bitvavo.com/docs/manage-order-book
            numbering=Numbering(("nonce",), ("nonce",)),
            changes_in_messages=True,
            kept_when_broken=True,
        ),
    ),
    Facts(exchange="blockchaincom", former_names=("blockchain",), ccxt=Ccxt(ticks_from_books=True)),
    Facts(exchange="bydfi", contracts_only=True, ccxt=Ccxt(ticks_from_books=True)),
    Facts(
        exchange="cex",
        example_market="BTC/USD",
        ccxt=Ccxt(ticks_from_books=True, with_key_only=frozenset({"ticks", "order_book"})),
        corrections=Corrections(names=partial(CodeNames, ("pair-{0}-{1}", "{0}", "{1}"))),
    ),
    Facts(
        exchange="coincheck",
        example_market="BTC/JPY",
        # the socket sends seconds (first in the list), REST milliseconds (`created_at`)
        trades=Trades(two_times=True),
        # Its messages are changes, which ccxt takes for snapshots, and no sequence number says how to apply
        # them: https://coincheck.com/documents/exchange/api#websocket-order-book
        ccxt=Ccxt(misread=frozenset({"order_book"})),
    ),
    Facts(
        exchange="cryptocom",
        former_names=("cryptodotcom",),
        quantities=QUANTITIES_AS_IN_CCXT,
        books=CcxtBooks(kept_when_broken=True),
        # ccxt keeps no time of a change:
        # https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#book-instrument_name-depth
        corrections=Corrections(book_times=(("result", "data", 0, "t"), ("data", 0, "t"))),
    ),
    Facts(
        exchange="extended",
        example_market="BTC/USD:USD",
        # I: "Open interest in synthetic asset", i: "in USD";
        # https://api.docs.extended.exchange/#get-open-interest-history
        open_interest=OpenInterestUnits("base", other="base"),
        contracts_only=True,
        # https://api.docs.extended.exchange/#trades-stream (tradeType over REST, tT on the socket)
        trades=Trades(marks=Marks({"tradeType": _EXTENDED, "tT": _EXTENDED})),
    ),
    Facts(exchange="hashkey", ccxt=Ccxt(ticks_from_books=True)),
    Facts(
        exchange="hyperliquid",
        example_market="BTC/USDC:USDC",
        quantities=QUANTITIES_AS_IN_CCXT,
        # in coins; https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint/perpetuals
        open_interest=OpenInterestUnits("base", other="base"),
        families_by_request=(
            ("=spotMeta", families.SPOT),
            ("=metaAndAssetCtxs", families.LINEAR),
            ("=perpDexs", families.LINEAR),
        ),
        ccxt=Ccxt(
            # the best prices of its tickers are impact prices
            ticks_from_books=True,
            needs_currencies=True,
            ids_by_place=True,
        ),
    ),
    Facts(
        exchange="kucoinfutures",
        quantities=QUANTITIES_AS_IN_CCXT,
        # in lots, which are contracts;
        # https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-symbol
        open_interest=IN_CONTRACTS,
        contracts_only=True,
        corrections=Corrections(book_times=(("data", "M"), ("data", "ts"))),
    ),
    Facts(
        exchange="modetrade",
        quantities=QUANTITIES_AS_IN_CCXT,
        contracts_only=True,
        ccxt=Ccxt(bids_asks_in_tickers=True, timeframes_not_streamed=frozenset({"4h", "12h", "1y"})),
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
        # https://apidoc.ndax.io/#subscribetrades
        trades=Trades(marks=Marks(flags={"IsBlockTrade": "block", 9: "block"})),
    ),
    Facts(
        exchange="onetrading",
        example_market="BTC/EUR",
        ccxt=Ccxt(ticks_from_books=True),
        corrections=Corrections(book_times=(("time",),)),  # a text with microseconds
    ),
    Facts(exchange="p2b", ccxt=Ccxt(ticks_from_books=True, timeframes_not_streamed=frozenset({"1m"}))),
    Facts(
        exchange="pacifica",
        example_market="BTC/USDC:USDC",
        # "Current open interest in USD"; ccxt multiplies it by the price again
        # https://docs.pacifica.fi/api-documentation/api/rest-api/markets/get-prices
        open_interest=OpenInterestUnits("quote", other="quote", value_read_as_count=ANY_KIND),
        # https://docs.pacifica.fi/api-documentation/api/websocket/subscriptions/trades (cause over REST, tc
        # on the socket)
        trades=Trades(marks=Marks({"cause": _PACIFICA, "tc": _PACIFICA})),
        ccxt=Ccxt(ticks_from_books=True),
    ),
    Facts(
        exchange="paradex",
        example_market="BTC/USD:USD",
        # in base currency; https://docs.paradex.trade/api/prod/markets/get-markets-summary
        open_interest=OpenInterestUnits("base", other="base"),
        contracts_only=True,
        # https://docs.paradex.trade/ws/web-socket-channels/trades/trades
        trades=Trades(marks=Marks({"trade_type": _PARADEX})),
    ),
    Facts(exchange="polymarket", contracts_only=True, ccxt=Ccxt(timeframes_not_streamed=frozenset({"1s"}))),
    Facts(exchange="tokocrypto", quotes_in_coins=True),
    Facts(exchange="toobit", ccxt=Ccxt(ticks_from_books=True)),
    Facts(
        exchange="woo",
        quantities=QUANTITIES_AS_IN_CCXT,
        # https://docs.woox.io/#trade
        trades=Trades(marks=Marks(flags={"rpi": "rpi"})),
        ccxt=Ccxt(timeframes_not_streamed=frozenset({"4h", "12h", "1y"})),
    ),
    Facts(
        exchange="woofipro",
        quantities=QUANTITIES_AS_IN_CCXT,
        contracts_only=True,
        ccxt=Ccxt(bids_asks_in_tickers=True, timeframes_not_streamed=frozenset({"4h", "12h", "1y"})),
    ),
)
