"""Order book frames of many venues, made from a model's book as the venues' documents write them."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingestd.records import BookSnapshot

MS = 1_790_000_000_000

Side = dict[str, str]  # amounts by price, as texts


@dataclass
class ModelBook:
    """What the venue has."""

    bids: Side = field(default_factory=dict)
    asks: Side = field(default_factory=dict)

    def change(self, side: str, price: str, amount: str) -> None:
        """An amount of zero takes the level away."""
        levels = self.bids if side == "bids" else self.asks
        levels.pop(price, None)
        if float(amount):
            levels[price] = amount

    def rows(self, side: str) -> list[tuple[str, str]]:
        """Best first."""
        levels = self.bids if side == "bids" else self.asks
        return sorted(levels.items(), key=lambda level: float(level[0]), reverse=side == "bids")

    def as_numbers(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        return as_numbers(self.rows("bids")), as_numbers(self.rows("asks"))


def as_numbers(levels: Sequence[tuple[str, str]]) -> list[tuple[float, float]]:
    """Digits are another test's."""
    return [(float(price), float(amount)) for price, amount in levels]


def stored(book: BookSnapshot) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """A record's levels in the same form."""
    return as_numbers(book.bids), as_numbers(book.asks)


Change = tuple[str, str, str]  # side, price, amount


class Numbers:
    """What the venue counts with on one socket, and in all."""

    def __init__(self) -> None:
        self._count = itertools.count(1000)
        self.now = next(self._count)
        self.channel = 0

    def next(self) -> tuple[int, int]:
        """The number before, and the new one."""
        before, self.now = self.now, next(self._count)
        return before, self.now

    def socket(self) -> None:
        """Another connection."""
        self.channel += 1


@dataclass(frozen=True)
class BookVenue:
    """`whole` and `change` are the frames; `begun` what comes when the book was asked for (after `Numbers.socket`)."""

    exchange: str
    url: str
    whole: Callable[[ModelBook, Numbers], str]
    change: Callable[[Change, ModelBook, Numbers], str]
    symbol: str = "BTC/USDT"
    market_id: str = "BTCUSDT"
    begun: Callable[[Numbers], Sequence[str]] = lambda _numbers: ()
    noted: Mapping[str, Any] = field(default_factory=dict)
    """ccxt's own notes of the subscription, where its code looks for them: for tests that subscribe to nothing."""


def _rows(book: ModelBook, side: str) -> list[list[str]]:
    return [list(row) for row in book.rows(side)]


def _one(change: Change, side: str) -> list[list[str]]:
    return [[change[1], change[2]]] if change[0] == side else []


def _gemini_whole(book: ModelBook, _: Numbers) -> str:
    events = [
        {"type": "change", "reason": "initial", "price": price, "delta": amount, "remaining": amount, "side": name}
        | {"symbol": "BTCUSD"}
        for side, name in (("bids", "bid"), ("asks", "ask"))
        for price, amount in book.rows(side)
    ]
    return json.dumps({"type": "update", "eventId": 1, "timestampms": MS, "socket_sequence": 0, "events": events})


def _gemini_change(change: Change, _book: ModelBook, _: Numbers) -> str:
    side, price, amount = change
    event = {"type": "change", "reason": "place", "price": price, "delta": "1", "remaining": amount, "symbol": "BTCUSD"}
    event["side"] = "bid" if side == "bids" else "ask"
    return json.dumps({"type": "update", "eventId": 2, "timestampms": MS, "socket_sequence": 1, "events": [event]})


def _l2_changes(rows: Sequence[tuple[str, str, str]]) -> list[list[str]]:
    return [["buy" if side == "bids" else "sell", price, amount] for side, price, amount in rows]


def _gemini2_whole(book: ModelBook, _: Numbers) -> str:
    changes = _l2_changes([(side, *row) for side in ("bids", "asks") for row in book.rows(side)])
    return json.dumps({"type": "l2_updates", "symbol": "BTCUSD", "changes": changes, "trades": []})


def _gemini2_change(change: Change, _book: ModelBook, _: Numbers) -> str:
    return json.dumps({"type": "l2_updates", "symbol": "BTCUSD", "changes": _l2_changes([change])})


def _bitget_checksum(book: ModelBook) -> int:
    """https://www.bitget.com/api-doc/common/websocket-intro#checksum: a bid, an ask, the next bid, in turn; signed."""
    sides = itertools.zip_longest(book.rows("bids")[:25], book.rows("asks")[:25])
    text = ":".join(f"{row[0]}:{row[1]}" for pair in sides for row in pair if row is not None)
    number = zlib.crc32(text.encode())
    return number - 2**32 if number >= 2**31 else number


def _bitget(action: str, bids: Any, asks: Any, checksum: int) -> str:
    data = {"asks": asks, "bids": bids, "checksum": checksum, "seq": 1, "ts": str(MS)}
    asked = {"instType": "SPOT", "channel": "books", "instId": "BTCUSDT"}
    return json.dumps({"action": action, "arg": asked, "data": [data], "ts": MS})


def _okx(action: str, bids: Any, asks: Any, before: int, number: int) -> str:
    def four(rows: Any) -> Any:
        return [[*row, "0", "1"] for row in rows]

    data = {"asks": four(asks), "bids": four(bids), "ts": str(MS), "prevSeqId": before, "seqId": number, "checksum": 0}
    return json.dumps({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [data]})


def _bitfinex_row(side: str, price: str, amount: str) -> str:
    """`[price, count, amount]`; a level that goes has a count of 0 and an amount of ±1."""
    if not float(amount):
        return f"[{price},0,{1 if side == 'bids' else -1}]"
    return f"[{price},1,{'' if side == 'bids' else '-'}{amount}]"


def _bitfinex_whole(book: ModelBook, numbers: Numbers) -> str:
    rows = [_bitfinex_row(side, *row) for side in ("bids", "asks") for row in book.rows(side)]
    return f"[{7000 + numbers.channel},[{','.join(rows)}]]"


def _bitfinex_begun(numbers: Numbers) -> Sequence[str]:
    said = {"event": "subscribed", "channel": "book", "chanId": 7000 + numbers.channel, "symbol": "tBTCUSD"}
    return (json.dumps({**said, "prec": "P0", "freq": "F0", "len": "25", "pair": "BTCUSD"}),)


def _gate(bids: Any, asks: Any, before: int, number: int, **more: Any) -> str:
    """https://www.gate.com/docs/developers/apiv4/ws/en/#order-book-v2-api"""
    result = {"t": MS, "s": "ob.BTC_USDT.50", "U": before + 1, "u": number, "b": bids, "a": asks, **more}
    return json.dumps({"channel": "spot.obu", "result": result, "time_ms": MS, "event": "update"})


def _htx(event: str, bids: Any, asks: Any, version: int) -> str:
    """https://huobiapi.github.io/docs/usdt_swap/v1/en/#general-subscribe-incremental-market-depth-data"""
    channel = "market.BTC-USDT.depth.size_150.high_freq"
    rows = {side: [[float(price), float(amount)] for price, amount in levels] for side, levels in
            (("bids", bids), ("asks", asks))}  # fmt: skip
    tick = {**rows, "ch": channel, "event": event, "id": version, "mrid": version, "ts": MS, "version": version}
    return json.dumps({"ch": channel, "tick": tick, "ts": MS})


def _deribit(kind: str, bids: Any, asks: Any, before: int | None, number: int) -> str:
    data = {"type": kind, "timestamp": MS, "instrument_name": "BTC-PERPETUAL", "change_id": number}
    data |= {"bids": bids, "asks": asks} | ({"prev_change_id": before} if before is not None else {})
    params = {"channel": "book.BTC-PERPETUAL.100ms", "data": data}
    return json.dumps({"jsonrpc": "2.0", "method": "subscription", "params": params})


def _deribit_rows(rows: Any) -> Any:
    return [["change" if float(amount) else "delete", float(price), float(amount)] for price, amount in rows]


def _dydx_whole(book: ModelBook, _: Numbers) -> str:
    contents = {side: [{"price": p, "size": a} for p, a in book.rows(side)] for side in ("bids", "asks")}
    said = {"type": "subscribed", "connection_id": "c", "message_id": 1, "channel": "v4_orderbook", "id": "BTC-USD"}
    return json.dumps({**said, "contents": contents})


def _dydx_change(change: Change, _book: ModelBook, numbers: Numbers) -> str:
    said = {
        "type": "channel_data",
        "connection_id": "c",
        "channel": "v4_orderbook",
        "id": "BTC-USD",
        "version": "1.0.0",
    }
    contents = {change[0]: [[change[1], change[2]]]}
    return json.dumps({**said, "message_id": numbers.next()[1], "contents": contents})


def _typed(kind: str, bids: Any, asks: Any, topic: str, **more: Any) -> str:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, **more}
    return json.dumps({"topic": topic, "type": kind, "ts": MS, "data": data})


def _coinbase_exchange_whole(book: ModelBook, _: Numbers) -> str:
    sides = {side: _rows(book, side) for side in ("bids", "asks")}
    return json.dumps({"type": "snapshot", "product_id": "BTC-USDT", "time": "2026-09-21T00:00:00Z", **sides})


def _coinbase_exchange_change(change: Change, _book: ModelBook, _: Numbers) -> str:
    said = {"type": "l2update", "product_id": "BTC-USDT", "time": "2026-09-21T00:00:00.1Z"}
    return json.dumps({**said, "changes": _l2_changes([change])})


def _coinbase(kind: str, rows: Sequence[tuple[str, str, str]]) -> str:
    updates = [
        {"side": "bid" if side == "bids" else "offer", "price_level": price, "new_quantity": amount}
        | {"event_time": "2026-09-21T00:00:00Z"}
        for side, price, amount in rows
    ]
    event = {"type": kind, "product_id": "BTC-USDT", "updates": updates}
    said = {"channel": "l2_data", "timestamp": "2026-09-21T00:00:00Z", "sequence_num": 0}
    return json.dumps({**said, "events": [event]})


def _all_rows(book: ModelBook) -> list[tuple[str, str, str]]:
    return [(side, *row) for side in ("bids", "asks") for row in book.rows(side)]


def _kraken(kind: str, bids: Any, asks: Any) -> str:
    """The digits as they are; without a checksum, which another test is of."""
    sides = {
        side: "[" + ",".join(f'{{"price":{price},"qty":{amount}}}' for price, amount in rows) + "]"
        for side, rows in (("bids", bids), ("asks", asks))
    }
    data = f'{{"symbol":"BTC/USDT","bids":{sides["bids"]},"asks":{sides["asks"]},"timestamp":"2026-09-21T00:00:00Z"}}'
    return f'{{"channel":"book","type":"{kind}","data":[{data}]}}'


def _krakenfutures_whole(book: ModelBook, numbers: Numbers) -> str:
    sides = {side: [{"price": float(p), "qty": float(a)} for p, a in book.rows(side)] for side in ("bids", "asks")}
    said = {"feed": "book_snapshot", "product_id": "PF_XBTUSD", "timestamp": MS, "seq": numbers.next()[1]}
    return json.dumps({**said, "tickSize": None, **sides})


def _krakenfutures_change(change: Change, _book: ModelBook, numbers: Numbers) -> str:
    side, price, amount = change
    said = {"feed": "book", "product_id": "PF_XBTUSD", "timestamp": MS, "seq": numbers.next()[1]}
    said["side"] = "buy" if side == "bids" else "sell"
    return json.dumps({**said, "price": float(price), "qty": float(amount)})


def _upbit(book: ModelBook, kind: str) -> str:
    """Every message is a whole book; the first of a subscription says so."""
    units = [
        {"ask_price": float(ask[0]), "ask_size": float(ask[1]), "bid_price": float(bid[0]), "bid_size": float(bid[1])}
        for ask, bid in zip(book.rows("asks"), book.rows("bids"), strict=False)
    ]
    said = {"type": "orderbook", "code": "USDT-BTC", "timestamp": MS, "stream_type": kind}
    return json.dumps({**said, "orderbook_units": units})


def _whitebit(book_or_change: Any, *, whole: bool) -> str:
    return json.dumps({"method": "depth_update", "params": [whole, book_or_change, "BTC_USDT"], "id": None})


def _phemex(kind: str, bids: Any, asks: Any, number: int) -> str:
    book = {"asks": asks, "bids": bids}
    said = {"depth": 30, "sequence": number, "symbol": "BTCUSDT", "timestamp": MS * 10**6, "type": kind}
    return json.dumps({"orderbook_p": book, **said})


def _poloniex(action: str, bids: Any, asks: Any, before: int, number: int) -> str:
    data = {
        "symbol": "BTC_USDT",
        "createTime": MS,
        "asks": asks,
        "bids": bids,
        "lastId": before,
        "id": number,
        "ts": MS,
    }
    return json.dumps({"channel": "book_lv2", "data": [data], "action": action})


def _cryptocom_whole(book: ModelBook, numbers: Numbers) -> str:
    levels = {side: [[*row, "1"] for row in book.rows(side)] for side in ("bids", "asks")}
    data = {**levels, "t": MS, "tt": MS, "u": numbers.next()[1], "cs": 1}
    return _cryptocom("book", data)


def _cryptocom_change(change: Change, _book: ModelBook, numbers: Numbers) -> str:
    before, number = numbers.next()
    update = {side: [[*row, "1" if float(row[1]) else "0"] for row in _one(change, side)] for side in ("bids", "asks")}
    return _cryptocom("book.update", {"update": update, "t": MS, "tt": MS, "u": number, "pu": before, "cs": 1})


def _cryptocom(channel: str, data: Any) -> str:
    result = {"instrument_name": "BTC_USDT", "subscription": "book.BTC_USDT", "channel": channel, "depth": 50}
    return json.dumps({"id": -1, "method": "subscribe", "code": 0, "result": {**result, "data": [data]}})


def _hitbtc(kind: str, bids: Any, asks: Any, number: int) -> str:
    return json.dumps({"ch": "orderbook/full", kind: {"BTCUSDT": {"t": MS, "s": number, "a": asks, "b": bids}}})


def _onetrading_whole(book: ModelBook, _: Numbers) -> str:
    return json.dumps(
        {"instrument_code": "BTC_USDT", "bids": _rows(book, "bids"), "asks": _rows(book, "asks")}
        | {"channel_name": "ORDER_BOOK", "type": "ORDER_BOOK_SNAPSHOT", "time": "2026-09-21T00:00:00Z"}
    )


def _onetrading_change(change: Change, _book: ModelBook, _: Numbers) -> str:
    side, price, amount = change
    return json.dumps(
        {"instrument_code": "BTC_USDT", "changes": [["BUY" if side == "bids" else "SELL", price, amount]]}
        | {"channel_name": "ORDER_BOOK", "type": "ORDER_BOOK_UPDATE", "time": "2026-09-21T00:00:00Z"}
    )


def _p2b(book_or_change: Any, *, whole: bool) -> str:
    return json.dumps({"method": "depth.update", "params": [whole, book_or_change, "BTC_USDT"], "id": None})


def _alpaca(bids: Any, asks: Any, *, whole: bool) -> str:
    sides = {key: [{"p": float(p), "s": float(a)} for p, a in rows] for key, rows in (("b", bids), ("a", asks))}
    return json.dumps(
        [{"T": "o", "S": "BTC/USDT", "t": "2026-09-21T00:00:00Z", **sides} | ({"r": True} if whole else {})]
    )


def _blofin(action: str, bids: Any, asks: Any, before: int, number: int) -> str:
    data = {"asks": asks, "bids": bids, "ts": str(MS), "prevSeqId": str(before), "seqId": str(number)}
    return json.dumps({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": data})


def _weex(kind: str, bids: Any, asks: Any, before: int, number: int) -> str:
    said = {"e": kind, "E": MS, "s": "BTCUSDT", "U": before + 1, "u": number, "l": 200}
    return json.dumps({**said, "d": "SNAPSHOT" if kind == "depthSnapshot" else "CHANGED", "b": bids, "a": asks})


def _lighter(kind: str, bids: Any, asks: Any, before: int, number: int) -> str:
    """`offset` is of the server that one is connected to, and may leap."""
    sides = {side: [{"price": p, "size": a} for p, a in rows] for side, rows in (("bids", bids), ("asks", asks))}
    book = {"code": 0, **sides, "offset": 7 * number, "nonce": number, "begin_nonce": before}
    return json.dumps({"channel": "order_book:1", "order_book": book, "timestamp": MS, "type": f"{kind}/order_book"})


def _apex(kind: str, bids: Any, asks: Any, number: int) -> str:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": number, "seq": 7 * number}
    return json.dumps({"topic": "orderBook25.H.BTCUSDT", "type": kind, "ts": MS * 1000, "data": data})


def _grvt(bids: Any, asks: Any, before: int, number: int) -> str:
    """The whole book has the number 0, whatever that of the next change is."""
    sides = {
        side: [{"price": p, "size": a, "num_orders": 1} for p, a in rows]
        for side, rows in (("bids", bids), ("asks", asks))
    }
    feed = {"event_time": str(MS * 10**6), "instrument": "BTC_USDT_Perp", **sides}
    said = {"stream": "v1.book.d", "selector": "BTC_USDT_Perp@100", "feed": feed}
    return json.dumps({**said, "sequence_number": str(number), "prev_sequence_number": str(before)})


def _sided(maker: Callable[..., str], *fixed: Any, **named: Any) -> Callable[[Change, ModelBook, Numbers], str]:
    return lambda change, _book, _numbers: maker(*fixed, _one(change, "bids"), _one(change, "asks"), **named)


def _sides(book: ModelBook) -> dict[str, list[list[str]]]:
    return {side: _rows(book, side) for side in ("bids", "asks")}


def _side_of(change: Change) -> dict[str, list[list[str]]]:
    return {change[0]: _one(change, change[0])}


BOOK_VENUES = (
    BookVenue(
        "gemini",
        "wss://api.gemini.com/v1/multimarketdata?symbols=btcusd&heartbeat=true&trades=false&bids=true&offers=true",
        _gemini_whole,
        _gemini_change,
        "BTC/USD",
        "btcusd",
    ),
    BookVenue(
        "gemini",
        "wss://api.gemini.com/v2/marketdata",
        _gemini2_whole,
        _gemini2_change,
        "BTC/USD",
        "btcusd",
    ),
    BookVenue(
        "bitget",
        "wss://ws.bitget.com/v2/ws/public",
        lambda book, _: _bitget("snapshot", _rows(book, "bids"), _rows(book, "asks"), _bitget_checksum(book)),
        lambda change, book, _: _bitget("update", _one(change, "bids"), _one(change, "asks"), _bitget_checksum(book)),
        noted={"orderbook:BTC/USDT": True},
    ),
    BookVenue(
        "bitfinex",
        "wss://api-pub.bitfinex.com/ws/2",
        _bitfinex_whole,
        lambda change, _, numbers: f"[{7000 + numbers.channel},{_bitfinex_row(*change)}]",
        "BTC/USD",
        "tBTCUSD",
        _bitfinex_begun,
    ),
    BookVenue(
        "okx",
        "wss://ws.okx.com:8443/ws/v5/public",
        lambda book, numbers: _okx("snapshot", _rows(book, "bids"), _rows(book, "asks"), -1, numbers.next()[1]),
        lambda change, _, numbers: _okx("update", _one(change, "bids"), _one(change, "asks"), *numbers.next()),
        market_id="BTC-USDT",
        noted={"books:BTC/USDT": True},
    ),
    BookVenue(
        "deribit",
        "wss://www.deribit.com/ws/api/v2",
        lambda book, numbers: _deribit(
            "snapshot",
            _deribit_rows(book.rows("bids")),
            _deribit_rows(book.rows("asks")),
            None,
            numbers.next()[1],
        ),
        lambda change, _, numbers: _deribit(
            "change", _deribit_rows(_one(change, "bids")), _deribit_rows(_one(change, "asks")), *numbers.next()
        ),
        "BTC/USD:BTC",
        "BTC-PERPETUAL",
    ),
    BookVenue(
        "coinbaseinternational",
        "wss://streams.drb.coinbase.com/ws/api/v2",
        lambda book, numbers: _deribit(
            "snapshot",
            _deribit_rows(book.rows("bids")),
            _deribit_rows(book.rows("asks")),
            None,
            numbers.next()[1],
        ),
        lambda change, _, numbers: _deribit(
            "change", _deribit_rows(_one(change, "bids")), _deribit_rows(_one(change, "asks")), *numbers.next()
        ),
        "BTC/USDC:USDC",
        "BTC-PERPETUAL",
    ),
    BookVenue(
        "htx",
        "wss://api.hbdm.vn/linear-swap-ws",
        lambda book, numbers: _htx("snapshot", _rows(book, "bids"), _rows(book, "asks"), numbers.next()[1]),
        lambda change, _, numbers: _htx("update", _one(change, "bids"), _one(change, "asks"), numbers.next()[1]),
        "BTC/USDT:USDT",
        "BTC-USDT",
    ),
    BookVenue(
        "gate",
        "wss://api.gateio.ws/ws/v4/",
        lambda book, numbers: _gate(_rows(book, "bids"), _rows(book, "asks"), *numbers.next(), full=True),
        lambda change, _, numbers: _gate(_one(change, "bids"), _one(change, "asks"), *numbers.next()),
        market_id="BTC_USDT",
    ),
    BookVenue("dydx", "wss://indexer.dydx.trade/v4/ws", _dydx_whole, _dydx_change, "BTC/USDC:USDC", "BTC-USD"),
    BookVenue(
        "bybit",
        "wss://stream.bybit.com/v5/public/spot",
        lambda book, numbers: _typed(
            "snapshot", _rows(book, "bids"), _rows(book, "asks"), "orderbook.50.BTCUSDT", u=numbers.next()[1]
        ),
        lambda change, _, numbers: _typed(
            "delta", _one(change, "bids"), _one(change, "asks"), "orderbook.50.BTCUSDT", u=numbers.next()[1]
        ),
    ),
    BookVenue(
        "coinbaseexchange",
        "wss://ws-feed.exchange.coinbase.com",
        _coinbase_exchange_whole,
        _coinbase_exchange_change,
        market_id="BTC-USDT",
    ),
    BookVenue(
        "coinbase",
        "wss://advanced-trade-ws.coinbase.com",
        lambda book, _: _coinbase("snapshot", _all_rows(book)),
        lambda change, _, __: _coinbase("update", [change]),
        market_id="BTC-USDT",
    ),
    BookVenue(
        "kraken",
        "wss://ws.kraken.com/v2",
        lambda book, _: _kraken("snapshot", book.rows("bids"), book.rows("asks")),
        lambda change, _, __: _kraken("update", _one(change, "bids"), _one(change, "asks")),
        market_id="XBTUSDT",
    ),
    BookVenue(
        "krakenfutures",
        "wss://futures.kraken.com/ws/v1",
        _krakenfutures_whole,
        _krakenfutures_change,
        "BTC/USD:USD",
        "PF_XBTUSD",
    ),
    BookVenue(
        "upbit",
        "wss://api.upbit.com/websocket/v1",
        lambda book, _: _upbit(book, "SNAPSHOT"),
        lambda _, book, __: _upbit(book, "REALTIME"),
        market_id="USDT-BTC",
    ),
    BookVenue(
        "whitebit",
        "wss://api.whitebit.com/ws",
        lambda book, _: _whitebit({"timestamp": MS / 1000, **_sides(book)}, whole=True),
        lambda change, _, numbers: _whitebit(
            {"timestamp": MS / 1000, **dict(zip(("past_update_id", "update_id"), numbers.next(), strict=True))}
            | _side_of(change),
            whole=False,
        ),
        market_id="BTC_USDT",
    ),
    BookVenue(
        "phemex",
        "wss://ws.phemex.com",
        lambda book, numbers: _phemex("snapshot", _rows(book, "bids"), _rows(book, "asks"), numbers.next()[1]),
        lambda change, _, numbers: _phemex(
            "incremental", _one(change, "bids"), _one(change, "asks"), numbers.next()[1]
        ),
        "BTC/USDT:USDT",
    ),
    BookVenue(
        "poloniex",
        "wss://ws.poloniex.com/ws/public",
        lambda book, numbers: _poloniex("snapshot", _rows(book, "bids"), _rows(book, "asks"), *numbers.next()),
        lambda change, _, numbers: _poloniex("update", _one(change, "bids"), _one(change, "asks"), *numbers.next()),
        market_id="BTC_USDT",
    ),
    BookVenue(
        "cryptocom",
        "wss://stream.crypto.com/exchange/v1/market",
        _cryptocom_whole,
        _cryptocom_change,
        market_id="BTC_USDT",
    ),
    BookVenue(
        "hitbtc",
        "wss://api.hitbtc.com/api/3/ws/public",
        lambda book, numbers: _hitbtc("snapshot", _rows(book, "bids"), _rows(book, "asks"), numbers.next()[1]),
        lambda change, _, numbers: _hitbtc("update", _one(change, "bids"), _one(change, "asks"), numbers.next()[1]),
    ),
    BookVenue(
        "onetrading",
        "wss://streams.onetrading.com/",
        _onetrading_whole,
        _onetrading_change,
        market_id="BTC_USDT",
    ),
    BookVenue(
        "p2b",
        "wss://apiws.p2pb2b.com/",
        lambda book, _: _p2b(_sides(book), whole=True),
        lambda change, _, __: _p2b(_side_of(change), whole=False),
        market_id="BTC_USDT",
    ),
    BookVenue(
        "alpaca",
        "wss://stream.data.alpaca.markets/v1beta3/crypto/us",
        lambda book, _: _alpaca(_rows(book, "bids"), _rows(book, "asks"), whole=True),
        _sided(_alpaca, whole=False),
        market_id="BTC/USDT",
    ),
    BookVenue(
        "blofin",
        "wss://openapi.blofin.com/ws/public",
        lambda book, numbers: _blofin("snapshot", _rows(book, "bids"), _rows(book, "asks"), *numbers.next()),
        lambda change, _, numbers: _blofin("update", _one(change, "bids"), _one(change, "asks"), *numbers.next()),
        "BTC/USDT:USDT",
        "BTC-USDT",
    ),
    BookVenue(
        "weex",
        "wss://ws-spot.weex.com/v3/ws/public",
        lambda book, numbers: _weex("depthSnapshot", _rows(book, "bids"), _rows(book, "asks"), *numbers.next()),
        lambda change, _, numbers: _weex("depth", _one(change, "bids"), _one(change, "asks"), *numbers.next()),
    ),
    BookVenue(
        "lighter",
        "wss://mainnet.zklighter.elliot.ai/stream",
        lambda book, numbers: _lighter("subscribed", _rows(book, "bids"), _rows(book, "asks"), *numbers.next()),
        lambda change, _, numbers: _lighter("update", _one(change, "bids"), _one(change, "asks"), *numbers.next()),
        "BTC/USDC:USDC",
        "1",
    ),
    BookVenue(
        "apex",
        "wss://quote.omni.apex.exchange/realtime_public?v=2",
        lambda book, numbers: _apex("snapshot", _rows(book, "bids"), _rows(book, "asks"), numbers.next()[1]),
        lambda change, _, numbers: _apex("delta", _one(change, "bids"), _one(change, "asks"), numbers.next()[1]),
        "BTC/USDT:USDT",
    ),
    BookVenue(
        "grvt",
        "wss://market-data.grvt.io/ws/full",
        lambda book, _: _grvt(_rows(book, "bids"), _rows(book, "asks"), 0, 0),
        lambda change, _, numbers: _grvt(_one(change, "bids"), _one(change, "asks"), *numbers.next()),
        "BTC/USDT:USDT",
        "BTC_USDT_Perp",
    ),
)
