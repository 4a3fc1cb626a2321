"""Recognises the frames of books whose venue numbers them, where its code in the exchange library looks at no number.

For other venues that code compares the numbers, or `NUMBERINGS` is asked when it puts a change on a book. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class NumberedFrame(NamedTuple):
    """A frame about one book. `market_id`: in the venue's words; `market_type`: where its ids are not unique.

    `numbers`: the part of it that states them.
    """

    frame: Any
    market_id: str
    numbers: Mapping[str, Any]
    is_whole: bool
    market_type: str | None = None


Reader = Callable[[Any, str], Iterable[NumberedFrame]]
"""The frame, one for each book that it is about. Of no book: none. The second argument is the URL of its socket."""


def numbered_frame_reader(exchange: str) -> Reader | None:
    """The reader for an exchange; `exchange` is the name its code has in the exchange library."""
    return _READERS.get(exchange)


def _bybit(frame: Any, url: str) -> Iterable[NumberedFrame]:
    """A book of one level is another one. https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook"""
    data, topic = _at(frame, "data"), str(frame.get("topic") if isinstance(frame, dict) else None)
    if data and topic.startswith("orderbook.") and not topic.startswith("orderbook.1."):
        market_type = "spot" if "spot" in url else "contract"
        yield NumberedFrame(frame, str(data.get("s")), data, frame.get("type") == "snapshot", market_type)


def _deribit(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The channel of one group and depth has no `type`: each of its messages is a whole book.

    https://docs.deribit.com/subscriptions/orderbook/bookinstrument_nameinterval
    """
    params = _at(frame, "params")
    data = _at(params, "data")
    if str(params.get("channel")).startswith("book.") and data.get("type") in ("snapshot", "change"):
        yield NumberedFrame(frame, str(data.get("instrument_name")), data, data["type"] == "snapshot")


def _poloniex(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://api-docs.poloniex.com/spot/websocket/market-data#book-level-2"""
    if not isinstance(frame, dict) or frame.get("channel") != "book_lv2" or not isinstance(frame.get("data"), list):
        return
    for data in frame["data"]:
        if isinstance(data, dict):
            one = {**frame, "data": [data]}
            yield NumberedFrame(one, str(data.get("symbol")), data, frame.get("action") == "snapshot")


def _hitbtc(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://api.hitbtc.com/#subscribe-to-full-order-book"""
    if not isinstance(frame, dict) or not str(frame.get("ch")).startswith("orderbook/full"):
        return
    for kind in ("snapshot", "update"):
        for market_id, book in _at(frame, kind).items():
            if isinstance(book, dict):
                one = {"ch": frame["ch"], kind: {market_id: book}}
                yield NumberedFrame(one, market_id, book, kind == "snapshot")


def _htx(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Of contracts: that code passes over every change after one that is missing, and hands the book over all the same.

    https://huobiapi.github.io/docs/usdt_swap/v1/en/#general-subscribe-incremental-market-depth-data
    """
    tick, channel = _at(frame, "tick"), str(frame.get("ch") if isinstance(frame, dict) else None)
    if "version" in tick and ".depth.size_" in channel:
        yield NumberedFrame(frame, channel.split(".")[1], tick, tick.get("event") == "snapshot")


def _xt(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The whole book comes over REST.

    https://doc.xt.com/docs/spot/WebSocket%20Public/IncrementalDepth and
    https://doc.xt.com/docs/futures/WebsocKetV2/IncrementalDepth
    """
    data = _at(frame, "data")
    if data and str(frame.get("event")).startswith("depth_update@"):
        yield NumberedFrame(frame, str(data.get("s")), data, False, "contract" if "fu" in data else "spot")


def _blofin(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://docs.blofin.com/index.html#ws-order-book-channel"""
    asked = _at(frame, "arg")
    if asked.get("channel") == "books" and "action" in frame:
        yield NumberedFrame(frame, str(asked.get("instId")), _at(frame, "data"), frame["action"] == "snapshot")


def _weex(frame: Any, url: str) -> Iterable[NumberedFrame]:
    """https://www.weex.com/api-doc/spot/Websocket/public/Depth-Channel"""
    kind = frame.get("e") if isinstance(frame, dict) else None
    if kind in ("depth", "depthSnapshot"):
        market_type = "swap" if "contract" in url else "spot"
        yield NumberedFrame(frame, str(frame.get("s")), frame, kind == "depthSnapshot", market_type)


def _krakenfutures(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://docs.kraken.com/api/docs/futures-api/websocket/book"""
    if isinstance(frame, dict) and frame.get("feed") in ("book", "book_snapshot") and "seq" in frame:
        yield NumberedFrame(frame, str(frame.get("product_id")), frame, frame["feed"] == "book_snapshot")


def _lighter(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://apidocs.lighter.xyz/docs/websocket-reference#order-book"""
    kind = frame.get("type") if isinstance(frame, dict) else None
    if kind in ("subscribed/order_book", "update/order_book"):
        market_id = str(frame.get("channel")).partition(":")[2]
        yield NumberedFrame(frame, market_id, _at(frame, "order_book"), kind == "subscribed/order_book")


def _apex(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """https://api-docs.pro.apex.exchange/#websocket-v3-for-omni-websocket-endpoint"""
    data = _at(frame, "data")
    if data and str(frame.get("topic")).startswith("orderBook"):
        yield NumberedFrame(frame, str(data.get("s")), data, frame.get("type") == "snapshot")


def _grvt(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The whole book that a subscription begins with has the number 0, which is not of the series of its changes.

    https://api-docs.grvt.io/market_data_streams/#orderbook-delta
    """
    if isinstance(frame, dict) and frame.get("stream") == "v1.book.d" and "feed" in frame:
        is_whole = str(frame.get("sequence_number") or "0") == "0"
        market_id = str(frame.get("selector")).partition("@")[0]
        yield NumberedFrame(frame, market_id, {} if is_whole else frame, is_whole)


def _whitebit(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """A whole book may lack the number. https://docs.whitebit.com/websocket/market-streams/depth"""
    params = frame.get("params") if isinstance(frame, dict) and frame.get("method") == "depth_update" else None
    if isinstance(params, list) and len(params) > 2 and isinstance(params[1], dict):
        yield NumberedFrame(frame, str(params[2]), params[1], params[0] is True)


def _nado(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The whole book comes over REST. https://docs.nado.xyz/developer-resources/api/subscriptions/events"""
    if isinstance(frame, dict) and frame.get("type") == "book_depth":
        yield NumberedFrame(frame, str(frame.get("product_id")), frame, is_whole=False)


def _at(frame: Any, name: str) -> Mapping[str, Any]:
    part = frame.get(name) if isinstance(frame, Mapping) else None
    return part if isinstance(part, dict) else {}


_READERS: Mapping[str, Reader] = {
    "apex": _apex,
    "blofin": _blofin,
    "bybit": _bybit,
    "coinbaseinternational": _deribit,  # which it runs on
    "deribit": _deribit,
    "grvt": _grvt,
    "hitbtc": _hitbtc,
    "htx": _htx,
    "krakenfutures": _krakenfutures,
    "lighter": _lighter,
    "nado": _nado,
    "poloniex": _poloniex,
    "weex": _weex,
    "whitebit": _whitebit,
    "xt": _xt,
}
