"""What the exchange library says of a trade or a book, or leaves out, against the venue's documents, which win. Pure.

One row a venue: what is wrong, and where the venue says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from ingestd.venues.exact import decimal_text
from ingestd.venues.venue_time import moment_us

Trade = Mapping[str, Any]
Changes = Mapping[str, Any]

_OTHER_SIDE = {"buy": "sell", "sell": "buy"}
_SIDE_OF_BITHUMB = {"1": "sell", "2": "buy"}
# Venues whose sockets write their local time, which the library takes for UTC: how far it is ahead, in milliseconds.
# LBank's is that of Shanghai, of which its documents say nothing; its times over REST are since the epoch.
# https://www.lbank.com/en-US/docs/index.html#trade-record, https://github.com/thrasher-corp/gocryptotrader/pull/2272
_AHEAD_OF_UTC_MS = {"lbank": 8 * 3_600_000}


def corrected(exchange: str, trade: Trade) -> Trade:
    """The library's dict of a trade, with what the venue's documents say of it."""
    correction = _TRADES.get(exchange)
    if correction is None:
        return trade
    changes = correction(trade, trade.get("info"))
    return {**trade, **changes} if changes else trade


def book_time_us(exchange: str, frame: Any) -> int | None:
    """When the venue says that the book of this frame changed, in microseconds; None: the library's time will do.

    In the place of the frame stands the library's book, where it has put that together of one over REST.
    """
    for path in _BOOK_TIMES.get(exchange, ()):
        value = frame
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                break
        else:
            moment = moment_us(value)
            return None if moment is None else moment - _AHEAD_OF_UTC_MS.get(exchange, 0) * 1000
    return None


def ticker_time_us(exchange: str, info: Any) -> int | None:
    """When the best prices of the ticker in this message were so, in microseconds; None: the library's time will do."""
    field = _TICKER_TIMES.get(exchange)
    return moment_us(info.get(field)) if field is not None and isinstance(info, Mapping) else None


def streamed_candle(exchange: str, row: Sequence[Any]) -> Sequence[Any]:
    """The library's row of a candle from the venue's socket, with the moment at which it opens in UTC."""
    ahead_ms = _AHEAD_OF_UTC_MS.get(exchange)
    return [row[0] - ahead_ms, *row[1:]] if ahead_ms and row and row[0] else row


def frame_correction(exchange: str) -> Callable[[Any], Sequence[Any]] | None:
    """What makes of a frame the ones that the library is to read in its place; None: it reads them as they are."""
    return _FRAMES.get(exchange)


def _with_liquidations(frame: Any) -> Sequence[Any]:
    """Lighter: the trades of liquidations are in a list of their own, which the library leaves out.

    https://apidocs.lighter.xyz/docs/websocket-reference#trade
    """
    others = frame.get("liquidation_trades") if isinstance(frame, dict) else None
    if not isinstance(others, list) or not others:
        return (frame,)
    trades = frame.get("trades")
    both = [*trades, *others] if isinstance(trades, list) else others
    by_id = {trade.get("trade_id"): trade for trade in both if isinstance(trade, dict)}
    newest_first = sorted(by_id.values(), key=_number_of_lighter, reverse=True)  # as the library expects them
    return ({**frame, "trades": newest_first, "liquidation_trades": []},)


def _number_of_lighter(trade: Mapping[str, Any]) -> int:
    number = trade.get("trade_id")
    return number if isinstance(number, int) else 0


def _one_by_one(frame: Any) -> Sequence[Any]:
    """Deepcoin: a frame of trades holds a list of them (`r`), of which the library takes the first.

    https://www.deepcoin.com/docs/publicWS/lastTransactions
    """
    rows = frame.get("r") if isinstance(frame, dict) and frame.get("a") == "PMT" else None
    return [{**frame, "r": [row]} for row in rows] if isinstance(rows, list) and len(rows) > 1 else (frame,)


def _once_a_trade(frame: Any) -> Sequence[Any]:
    """Derive: of a trade whose both rows are in the frame the taker's alone (see `_derive`).

    The library goes through the list of trades by number, but takes it where it is a dictionary only.
    """
    params = frame.get("params") if isinstance(frame, dict) else None
    if not isinstance(params, dict) or not str(params.get("channel")).startswith("trades."):
        return (frame,)
    rows = params.get("data")
    if not isinstance(rows, list):
        return (frame,)
    takers = {row.get("trade_id") for row in rows if row.get("liquidity_role") != "maker"}
    kept = [row for row in rows if row.get("liquidity_role") != "maker" or row.get("trade_id") not in takers]
    return ({**frame, "params": {**params, "data": dict(enumerate(kept))}},)


def _with_block_trades(frame: Any) -> Sequence[Any]:
    """Gemini: a block trade is an event of its own type, which the library passes over; `block_trade` keeps the mark.

    https://docs.gemini.com/websocket/market-data/v1/market-data-v1
    """
    events = frame.get("events") if isinstance(frame, dict) else None
    if not isinstance(events, list) or not any(_is_block_trade(event) for event in events):
        return (frame,)
    told = [{**event, "type": "trade", "block_trade": True} if _is_block_trade(event) else event for event in events]
    return ({**frame, "events": told},)


def _is_block_trade(event: Any) -> bool:
    return isinstance(event, dict) and event.get("type") == "block_trade"


def _with_time(frame: Any) -> Sequence[Any]:
    """Luno: the time stands beside the trades, of which the library keeps nothing else.

    https://www.luno.com/en/developers/api#tag/Streaming-API-(beta)
    """
    trades = frame.get("trade_updates") if isinstance(frame, dict) else None
    if not isinstance(trades, list):
        return (frame,)
    time = frame.get("timestamp")
    dated = [{"timestamp": time, **trade} if isinstance(trade, dict) else trade for trade in trades]
    return ({**frame, "trade_updates": dated},)


def _backpack(_trade: Trade, info: Any) -> Changes:
    """Its socket: `T` is when the engine matched the trade, `E`, which the library takes, when it was told of.

    Both in microseconds: https://docs.backpack.exchange/#tag/Streams/Public/Trade
    """
    return _at(info, "T")


def _bithumb(_trade: Trade, info: Any) -> Changes:
    """Its first socket: `buySellGb` is 1 for a sale and 2 for a purchase; the library has it the other way round.

    https://apidocs.bithumb.com/reference/빗썸-거래소-정보-수신
    """
    side = _SIDE_OF_BITHUMB.get(str(info.get("buySellGb"))) if isinstance(info, Mapping) else None
    return {} if side is None else {"side": side}


def _bitstamp(_trade: Trade, info: Any) -> Changes:
    """Its socket sends each number twice; the text is the exact one: `price` 3800.8 is `price_str` "3800.80".

    https://www.bitstamp.net/websocket/v2/
    """
    if not isinstance(info, Mapping):
        return {}
    texts = {"price": info.get("price_str"), "amount": info.get("amount_str")}
    return {field: text for field, text in texts.items() if isinstance(text, str) and text}


def _bullish(_trade: Trade, info: Any) -> Changes:
    """`side` is that of the order of which it says whether it was the taker.

    https://api.exchange.bullish.com/docs/api/rest/trading-api/v2/ (`isTaker`)
    """
    is_makers = isinstance(info, Mapping) and info.get("isTaker") is False
    return _other_side(info.get("side")) if is_makers else {}


def _derive(_trade: Trade, info: Any) -> Changes:
    """A trade comes as a row of the taker's and one of the maker's: `direction` is that of the one in the row.

    https://docs.derive.xyz/reference/trades-instrument_name (`liquidity_role`)
    """
    is_makers = isinstance(info, Mapping) and info.get("liquidity_role") == "maker"
    return _other_side(info.get("direction")) if is_makers else {}


def _other_side(makers: Any) -> Changes:
    takers = _OTHER_SIDE.get(str(makers).lower())
    return {} if takers is None else {"side": takers}


def _lbank(trade: Trade, info: Any) -> Changes:
    """Its socket's times are local ones: see `_AHEAD_OF_UTC_MS`."""
    is_local = isinstance(info, Mapping) and isinstance(info.get("TS"), str) and trade.get("timestamp")
    return {"timestamp": trade["timestamp"] - _AHEAD_OF_UTC_MS["lbank"]} if is_local else {}


def _luno(trade: Trade, info: Any) -> Changes:
    """Its socket says how much of both currencies went over; the price is the one by the other.

    https://www.luno.com/en/developers/api#tag/Streaming-API-(beta)
    """
    if trade.get("price") is not None or not isinstance(info, Mapping):
        return {}
    base, counter = _positive(info.get("base")), _positive(info.get("counter"))
    if base is None or counter is None:
        return {}
    return {"price": f"{(counter / base).normalize():f}", "timestamp": info.get("timestamp")}


def _poloniex(_trade: Trade, info: Any) -> Changes:
    """`createTime` is when the trade was made, `ts` when the record was pushed: the library takes that over REST.

    https://api-docs.poloniex.com/spot/websocket/market-data#trades, https://api-docs.poloniex.com/spot/api/public/market-data#trades
    """
    return _at(info, "createTime")


def _upbit(_trade: Trade, info: Any) -> Changes:
    """Its socket: `trade_timestamp` is the trade's, `timestamp` the message's; over REST `timestamp` is the trade's.

    https://docs.upbit.com/kr/reference/websocket-trade
    """
    return _at(info, "trade_timestamp")


def _xt(_trade: Trade, info: Any) -> Changes:
    """Of contracts `a` is counted in whole contracts, as in its books; the library multiplies it by their size.

    https://doc.xt.com/docs/futures/WebSocket/Public/Trade%20Record
    """
    is_contract = isinstance(info, Mapping) and "a" in info and "q" not in info
    amount = decimal_text(info["a"]) if is_contract else None
    return {} if amount is None else {"amount": amount}


def _at(info: Any, field: str) -> Changes:
    """The trade's time by this field of the message, since the epoch in milliseconds or microseconds."""
    value = info.get(field) if isinstance(info, Mapping) else None
    number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
    return {"timestamp": number} if isinstance(number, int) and number > 0 else {}


def _positive(text: Any) -> Decimal | None:
    try:
        number = Decimal(text) if isinstance(text, str) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() and number > 0 else None


def _mexc(trade: Trade, _info: Any) -> Changes:
    """Where a trade has no id the library writes its fields, so that two equal ones of a millisecond are one."""
    made_up = f"{trade.get('timestamp')}-{trade.get('side')}-"
    return {"id": None} if str(trade.get("id")).startswith(made_up) else {}


def _makers_side(_trade: Trade, info: Any) -> Changes:
    """Coinbase, both of its venues: `side` is the maker's.

    https://docs.cdp.coinbase.com/exchange/websocket-feed/channels#match ("the maker order side");
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/advanced-trade-asyncapi.json ("the maker's side of
    the trade").
    """
    return _other_side(info.get("side")) if isinstance(info, Mapping) else {}


def _coinone(_trade: Trade, info: Any) -> Changes:
    """`is_seller_maker`: then the buyer is the taker; the library has it the other way round.

    https://docs.coinone.co.kr/reference/recent-completed-orders
    """
    seller_is_maker = info.get("is_seller_maker") if isinstance(info, Mapping) else None
    return {"side": "buy" if seller_is_maker else "sell"} if isinstance(seller_is_maker, bool) else {}


def _phemex(trade: Trade, info: Any) -> Changes:
    """Contracts with scaled prices are counted in whole contracts; only spot's amounts are scaled (`valueScale`).

    https://phemex-docs.github.io/#subscribe-trade
    """
    if not isinstance(info, list) or ":" not in str(trade.get("symbol")) or isinstance(info[-1], str):
        return {}
    return {"amount": decimal_text(info[-1])}


_TRADES: Mapping[str, Callable[[Trade, Any], Changes]] = {
    "backpack": _backpack,
    "bithumb": _bithumb,
    "bitstamp": _bitstamp,
    "bullish": _bullish,
    "coinbase": _makers_side,
    "coinbaseexchange": _makers_side,
    "coinone": _coinone,
    "derive": _derive,
    "lbank": _lbank,
    "luno": _luno,
    "mexc": _mexc,
    "phemex": _phemex,
    "poloniex": _poloniex,
    "upbit": _upbit,
    "xt": _xt,
}

# Where a ticker says its time, on venues of which the library takes none, or that of something else.
_TICKER_TIMES: Mapping[str, str] = {
    # not C, the end of the day's statistics: https://bingx-api.github.io/docs-v3/#/en/Swap/Websocket%20Market%20Data
    "bingx": "E",
    "kraken": "timestamp",  # a text with microseconds: https://docs.kraken.com/api/docs/websocket-v2/ticker
}

_FRAMES: Mapping[str, Callable[[Any], Sequence[Any]]] = {
    "deepcoin": _one_by_one,
    "derive": _once_a_trade,
    "gemini": _with_block_trades,
    "lighter": _with_liquidations,
    "luno": _with_time,
}

# Where a book's change says its time, on venues of which the library keeps the snapshot's, or less of the digits.
_BOOK_TIMES: Mapping[str, Sequence[Sequence[str | int]]] = {
    "apex": (("ts",),),  # microseconds
    "backpack": (("data", "T"),),  # microseconds
    "bithumb": (("content", "datetime"),),  # microseconds
    "bitstamp": (("data", "microtimestamp"), ("nonce",)),  # it numbers its books by their microseconds
    "coinbaseexchange": (("time",),),  # a text with microseconds
    # Of a change the library keeps none: https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html#book-instrument_name-depth
    "cryptocom": (("result", "data", 0, "t"), ("data", 0, "t")),
    "grvt": (("feed", "event_time"),),  # nanoseconds
    "kraken": (("data", 0, "timestamp"),),  # a text with microseconds; of a snapshot the library keeps none
    "kucoin": (("data", "M"), ("data", "ts")),  # nanoseconds
    "kucoinfutures": (("data", "M"), ("data", "ts")),
    "lbank": (("TS",),),
    "nado": (("max_timestamp",),),  # nanoseconds
    "onetrading": (("time",),),  # a text with microseconds
    "phemex": (("timestamp",),),  # nanoseconds
    "whitebit": (("params", 1, "timestamp"),),  # seconds, with a fraction
}
