"""Binance spot and USDⓈ-M futures. https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from ingestd.lab.sim.venues import base

SPOT_WS = base.Host(
    "/binance-spot-ws",
    ("wss://stream.binance.com:9443", "wss://stream.binance.com:443", "wss://data-stream.binance.vision"),
)
SPOT_REST = base.Host("/binance-spot-rest", ("https://api.binance.com", "https://data-api.binance.vision"))
LINEAR_WS = base.Host("/binance-usdm-ws", ("wss://fstream.binance.com",))
LINEAR_REST = base.Host("/binance-usdm-rest", ("https://fapi.binance.com",))
# ccxt's `binance` loads all three families at once; the coin-margined one is always served empty
INVERSE_REST = base.Host("/binance-coinm-rest", ("https://dapi.binance.com",))

_CHANNELS = {
    "trade": "trades",
    "aggTrade": "trades",
    "bookTicker": "ticks",
    "depth": "order_book",
    "markPrice": "funding",
    "kline_1m": "candles",
}
_EVENT_TIME = base.times_of("E", "T", "O", "C", "serverTime", "time", "nextFundingTime")
_KLINE_EVENT = base.times_of("E")
_KLINE_BOUND = base.times_of("t", "T")
_MINUTE_MS = 60_000
_RECORDED_UNDER = {
    SPOT_REST.path: "api.binance.com/api/v3/",
    LINEAR_REST.path: "fapi.binance.com/fapi/v1/",
    INVERSE_REST.path: "dapi.binance.com/dapi/v1/",
}
_EMPTY_MARKETS = '{"timezone":"UTC","serverTime":0,"rateLimits":[],"exchangeFilters":[],"symbols":[]}'


class Binance(base.Venue):
    """`linear` names the family of the capture; both families' hosts are always served."""

    hosts = (SPOT_WS, SPOT_REST, LINEAR_WS, LINEAR_REST, INVERSE_REST)
    times = _EVENT_TIME

    def __init__(self, *, linear: bool = False) -> None:
        self.linear = linear
        self.exchange = "binanceusdm" if linear else "binance"

    def handshake(self, path: str, query: Mapping[str, str]) -> base.Handshake:
        """`/ws/<stream>` is raw, `/stream?streams=a/b` enveloped; ccxt connects to `/ws/<its connection number>`."""
        parts = [part for part in path.split("/") if part]
        combined = "stream" in parts
        after_ws = parts[parts.index("ws") + 1 :] if "ws" in parts else []
        named = query.get("streams", "").split("/") if combined else after_ws
        return base.Handshake(streams=[name for name in named if "@" in name], combined=combined)

    def request(self, text: str) -> base.Request:
        """`{"method": "SUBSCRIBE", "params": [...], "id": 1}`, answered `{"result": null, "id": 1}`."""
        asked = json.loads(text)
        names = [str(name) for name in asked.get("params", [])]
        operation = str(asked.get("method", "")).lower()
        return base.Request.of(operation, names, [base.compact({"result": None, "id": asked.get("id")})])

    def stream_of(self, text: str) -> base.Stream | None:
        """By the envelope's stream name, or by a raw frame's event."""
        document = json.loads(text)
        if not isinstance(document, dict):
            return None
        name = document.get("stream") or _raw_name(document)
        return stream_named(name) if name else None

    def stands_in(self, asked: str, available: Iterable[str]) -> str | None:
        """Aggregate trades replace trades and vice versa; depth or mark price of any speed replaces any other speed."""
        market, _, kind = asked.partition("@")
        family = kind.split("@")[0]
        swapped = {"trade": "aggTrade", "aggTrade": "trade"}.get(family, kind)
        candidates = [asked, f"{market}@{swapped}"]
        if family in ("depth", "markPrice"):
            candidates += [name for name in available if name.startswith(f"{market}@{family}")]
        return base.first_available(candidates, available)

    def payload(self, text: str) -> str:
        """The `data` of an enveloped frame, byte for byte."""
        if text.startswith('{"stream":'):
            return text[text.index('"data":') + 7 : -1]
        return text

    def wrap(self, stream: str, payload: str) -> str:
        return f'{{"stream":"{stream}","data":{payload}}}'

    def shift(self, stream: base.Stream, payload: str, delta_ms: int) -> str:
        """`t` is a time only in a kline (elsewhere a trade id); a candle stays on its minute."""
        if stream.channel != "candles":
            return super().shift(stream, payload, delta_ms)
        head, marker, candle = payload.partition('"k":')
        whole_minutes = delta_ms // _MINUTE_MS * _MINUTE_MS
        return base.shifted(_KLINE_EVENT, head, delta_ms) + marker + base.shifted(_KLINE_BOUND, candle, whole_minutes)

    def trades(self, payload: str) -> list[base.SentTrade]:
        """`m` means that the buyer is the maker, so the taker sold."""
        data = base.parse_exact(payload)
        trade_id = data["t"] if data["e"] == "trade" else data["a"]
        side = "sell" if data["m"] else "buy"
        return [base.SentTrade(data["s"], trade_id, data["p"], data["q"], int(data["T"]) * 1000, side)]

    def ticks(self, payload: str) -> list[base.SentTick]:
        """Spot's bookTicker has no exchange time."""
        data = base.parse_exact(payload)
        time_us = int(data["T"]) * 1000 if "T" in data else None
        return [base.SentTick(data["s"], data["b"], data["B"], data["a"], data["A"], time_us)]

    def book_change(self, payload: str) -> base.BookChange:
        """A diff; the snapshot comes over REST."""
        data = json.loads(payload)
        return base.BookChange(data["s"], False, data["b"], data["a"], data["u"], str(data["E"]))

    def first_book(self, market_id: str, source: base.RestSource) -> base.BookChange | None:
        """The last recorded depth body."""
        bodies = source.recorded(f"depth?symbol={market_id}&")
        if not bodies:
            return None
        data = json.loads(bodies[-1])
        return base.BookChange(market_id, True, data["bids"], data["asks"], data["lastUpdateId"], "")

    def rest(self, call: base.RestCall, source: base.RestSource) -> base.RestAnswer | None:
        """exchangeInfo and depth come from the capture; time and ping from the replay's clock."""
        match call.path.rsplit("/", 1)[-1]:
            case "exchangeInfo":
                bodies = source.recorded(_RECORDED_UNDER[call.host] + "exchangeInfo")
                empty = base.RestAnswer(_EMPTY_MARKETS, "no markets recorded: empty")
                return base.RestAnswer(bodies[0]) if bodies else empty
            case "depth":
                return _depth(call.query.get("symbol", ""), source)
            case "time":
                return base.RestAnswer(f'{{"serverTime":{source.now_ms()}}}')
            case "ping":
                return base.RestAnswer("{}")
        return None

    def symbols(self, market_ids: Iterable[str], source: base.RestSource) -> dict[str, str]:
        """By base and quote in exchangeInfo."""
        wanted = set(market_ids)
        unified = "{baseAsset}/{quoteAsset}:{marginAsset}" if self.linear else "{baseAsset}/{quoteAsset}"
        listed = (market for body in source.recorded("exchangeInfo")[:1] for market in json.loads(body)["symbols"])
        return {unified.format_map(market): market["symbol"] for market in listed if market["symbol"] in wanted}


def stream_named(name: str) -> base.Stream:
    """`btcusdt@depth@100ms` → its channel and market."""
    market, _, kind = name.partition("@")
    return base.Stream(name, _CHANNELS.get(kind.split("@")[0], "other"), market.upper())


def _raw_name(data: dict[str, object]) -> str | None:
    market = str(data.get("s", "")).lower()
    match data.get("e"):
        case "depthUpdate":
            return f"{market}@depth@100ms"
        case "markPriceUpdate":
            return f"{market}@markPrice@1s"
        case "kline":
            candle = data.get("k")
            return f"{market}@kline_{candle['i']}" if isinstance(candle, dict) else None
        case "trade" | "aggTrade" | "bookTicker" as event:
            return f"{market}@{event}"
        case None if "b" in data and "a" in data:
            return f"{market}@bookTicker"
    return None


def _depth(market_id: str, source: base.RestSource) -> base.RestAnswer | None:
    """The recorded snapshot, updated to the cursor once the replay has passed it."""
    bodies = source.recorded(f"depth?symbol={market_id}&")
    if not bodies:
        return None
    book = source.books.get(market_id)
    snapshot = json.loads(bodies[-1])
    if book is None or book.sequence <= snapshot["lastUpdateId"]:
        return base.RestAnswer(bodies[-1])
    snapshot.update(lastUpdateId=book.sequence, bids=book.sorted_bids(), asks=book.sorted_asks())
    return base.RestAnswer(base.compact(snapshot), "snapshot brought up to the replay's cursor")
