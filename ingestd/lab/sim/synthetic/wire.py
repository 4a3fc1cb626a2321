"""Builds Binance's websocket payloads, byte for byte, from templates filled once per market.

Spot: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
USDⓈ-M: https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams
"""

from __future__ import annotations

from ingestd.lab.sim.synthetic.market import (
    MINUTE_MS,
    QUANTITY_DECIMALS,
    TICK_DECIMALS,
    Candle,
    Market,
    Trade,
    decimal_text,
)

AGGREGATE_OFFSET = 1_000_000  # trade id less aggregate id: Binance numbers them separately
FUNDING_INTERVAL_MS = 8 * 3_600_000
_BOOLEAN = (b"false", b"true")
# templates of templates: the market's name comes first
SPOT_TRADE = b'{"e":"trade","E":%%d,"s":"%b","t":%%d,"p":"%%b","q":"%%b","T":%%d,"m":%%b,"M":true}'
SPOT_BOOK_TICKER = b'{"u":%%d,"s":"%b","b":"%%b","B":"%%b","a":"%%b","A":"%%b"}'


class Wire:
    """The payloads of one market."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._name = name = market.listing.market_id.encode()
        self._linear = linear = market.listing.linear
        if linear:
            self._trade = (
                b'{"e":"trade","E":%%d,"T":%%d,"s":"%b","t":%%d,"p":"%%b","q":"%%b","X":"MARKET","m":%%b}' % name
            )
            self._book_ticker = (
                b'{"e":"bookTicker","u":%%d,"s":"%b","b":"%%b","B":"%%b","a":"%%b","A":"%%b","T":%%d,"E":%%d}' % name
            )
        else:
            self._trade = SPOT_TRADE % name
            self._book_ticker = SPOT_BOOK_TICKER % name
        self._aggregate = (
            b'{"e":"aggTrade","E":%%d,"s":"%b","a":%%d,"p":"%%b","q":"%%b","f":%%d,"l":%%d,"T":%%d,"m":%%b%b}'
            % (name, b"" if linear else b',"M":true')
        )

    def trade(self, trade: Trade) -> bytes:
        """`@trade`."""
        market, at = self._market, trade.time_ms
        price, size, maker = market.price(trade.tick), market.sizes[trade.size], _BOOLEAN[trade.seller_takes]
        if self._linear:
            return self._trade % (at, at, trade.trade_id, price, size, maker)
        return self._trade % (at, trade.trade_id, price, size, at, maker)

    def aggregate(self, trade: Trade) -> bytes:
        """`@aggTrade`; here every aggregate contains one trade."""
        market, number, at = self._market, trade.trade_id, trade.time_ms
        price, size, maker = market.price(trade.tick), market.sizes[trade.size], _BOOLEAN[trade.seller_takes]
        return self._aggregate % (at, number - AGGREGATE_OFFSET, price, size, number, number, at, maker)

    def book_ticker(self, now_ms: int) -> bytes:
        """`@bookTicker`; without a time on spot."""
        market = self._market
        bid, ask = market.bid, market.ask
        best = (
            market.update_id,
            market.price(bid),
            market.sizes[market.bids[bid]],
            market.price(ask),
            market.sizes[market.asks[ask]],
        )
        return self._book_ticker % ((*best, now_ms, now_ms) if self._linear else best)

    def depth(self, now_ms: int) -> bytes:
        """`@depth@100ms`: `U` continues the last frame's `u`, which futures also send as `pu`."""
        previous, last, bids, asks = self._market.take_changes()
        linear = b'"T":%d,' % now_ms if self._linear else b""
        before = b'"pu":%d,' % previous if self._linear else b""
        return b'{"e":"depthUpdate","E":%d,%b"s":"%b","U":%d,"u":%d,%b"b":[%b],"a":[%b]}' % (
            now_ms,
            linear,
            self._name,
            previous + 1,
            last,
            before,
            self._levels(bids),
            self._levels(asks),
        )

    def mark_price(self, now_ms: int) -> bytes:
        """`@markPrice@1s`."""
        mark, index = self._market.price(self._market.bid), self._market.price(self._market.ask)
        return (
            b'{"e":"markPriceUpdate","E":%d,"s":"%b","p":"%b","ap":"%b","i":"%b","P":"%b","r":"0.00010000","T":%d}'
            % (now_ms, self._name, mark, mark, index, index, next_funding_ms(now_ms))
        )

    def kline(self, now_ms: int) -> bytes:
        """`@kline_1m` of the current minute."""
        market = self._market
        candle = market.candles[-1] if market.candles else Candle(now_ms - now_ms % MINUTE_MS, market.bid)
        opened, high, low, close = map(market.price, (candle.open, candle.high, candle.low, candle.close))
        volume, quote, taker, taker_quote = self.volumes(candle)
        return (
            b'{"e":"kline","E":%d,"s":"%b","k":{"t":%d,"T":%d,"s":"%b","i":"1m","f":%d,"L":%d,"o":"%b","c":"%b",'
            b'"h":"%b","l":"%b","v":"%b","n":%d,"x":%b,"q":"%b","V":"%b","Q":"%b","B":"0"}}'
            % (
                *(now_ms, self._name, candle.open_ms, candle.open_ms + MINUTE_MS - 1, self._name),
                *(market.trade_id - candle.count + 1, market.trade_id, opened, close, high, low, volume),
                *(candle.count, _BOOLEAN[now_ms - candle.open_ms >= MINUTE_MS], quote, taker, taker_quote),
            )
        )

    def volumes(self, candle: Candle) -> tuple[bytes, bytes, bytes, bytes]:
        """Base, quote, taker base and taker quote volume, as texts."""
        listing = self._market.listing
        base, quote = listing.quantity_decimals, TICK_DECIMALS + QUANTITY_DECIMALS
        return (
            decimal_text(candle.volume, QUANTITY_DECIMALS, base),
            decimal_text(candle.quote, quote, max(quote, listing.price_decimals)),
            decimal_text(candle.taker_base, QUANTITY_DECIMALS, base),
            decimal_text(candle.taker_quote, quote, max(quote, listing.price_decimals)),
        )

    def _levels(self, levels: list[tuple[int, int | None]]) -> bytes:
        market = self._market
        zero = decimal_text(0, QUANTITY_DECIMALS, market.listing.quantity_decimals)
        return b",".join(
            b'["%b","%b"]' % (market.price(tick), zero if size is None else market.sizes[size]) for tick, size in levels
        )


def next_funding_ms(now_ms: int) -> int:
    """The next funding time: every eight hours, at 0, 8 and 16 UTC."""
    return now_ms - now_ms % FUNDING_INTERVAL_MS + FUNDING_INTERVAL_MS
