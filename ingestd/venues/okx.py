"""OKX v5: the public channels. https://www.okx.com/docs-v5/en/#overview-websocket

Liquidations: https://www.okx.com/docs-v5/en/#public-data-websocket-liquidation-orders-channel. One
subscription covers all instruments of a type.
Mark prices: https://www.okx.com/docs-v5/en/#public-data-websocket-mark-price-channel
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from ingestd.errors import Unfillable
from ingestd.records import Channel, Funding, Liquidation, MarkPrice, OpenInterestUnit, Tick, Trade
from ingestd.venues import families
from ingestd.venues.book_frames import BookFrame, mapping
from ingestd.venues.counting import IN_CONTRACTS, Quantities
from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import CcxtBooks, Facts, Trades
from ingestd.venues.fields import SIDES, Level, Milliseconds, Text
from ingestd.venues.messages import BookChange, Decoder, Message, Notice
from ingestd.venues.numbers import annualised_rate
from ingestd.venues.past import Ids, Paging, Series
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trade_kinds import Marks
from ingestd.venues.venue import Asked, KeepAlive, Limits

EXCHANGE = "okx"

_PUBLIC = "wss://ws.okx.com:443/ws/v5/public"
# The same server by another port, for subscriptions by instrument type, which cover every market: if they shared
# sockets with other channels, several sockets would deliver the same liquidations.
_OF_TYPES = "wss://ws.okx.com:8443/ws/v5/public"
_BUSINESS = "wss://ws.okx.com:443/ws/v5/business"

_TRADES = frozenset({"trades", "trades-all"})
_TICKS = frozenset({"bbo-tbt", "tickers"})
_BOOKS = frozenset({"books", "books-rpi", "books5"})  # the others need a key, or have one level
_INCREMENTAL_BOOKS = frozenset({"books", "books-rpi"})
_FUNDING = "funding-rate"
_LIQUIDATIONS = "liquidation-orders"
_MARK_PRICE = "mark-price"

_INTERVAL_HOURS = frozenset({1, 2, 4, 8, 16, 24})  # the intervals that ccxt annualises
_HOUR_MS = 3_600_000
_NO_MESSAGE_BEFORE = -1
_SERVICE_UPGRADE = "64008"
_NAMED_MARKET = re.compile(r"\binstId:([\w-]+)").search  # of: channel:trades,instId:BTC-USDT doesn't exist


class _Arg(msgspec.Struct, gc=False):
    channel: str
    instId: str = ""


class _Frame(msgspec.Struct, gc=False):
    arg: _Arg | None = None
    action: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    event: str = ""
    code: str = ""
    msg: str = ""


class _Trade(msgspec.Struct, gc=False):
    tradeId: Text
    px: Text
    sz: Text
    ts: Milliseconds
    side: str = ""
    source: str | None = None


class _Level(msgspec.Struct, array_like=True, gc=False):
    price: str
    amount: str


class _Best(msgspec.Struct, gc=False):
    bids: list[_Level]
    asks: list[_Level]
    ts: Milliseconds


_NOTHING = _Level("", "")


class _Ticker(msgspec.Struct, gc=False):
    bidPx: str
    bidSz: str
    askPx: str
    askSz: str
    ts: Milliseconds


class _Book(msgspec.Struct, gc=False):
    bids: list[Level]
    asks: list[Level]
    ts: Milliseconds
    seqId: int | None = None
    prevSeqId: int | None = None
    checksum: int | None = None


class _Funding(msgspec.Struct, gc=False):
    fundingRate: str
    fundingTime: str = ""
    nextFundingTime: str = ""


class _Mark(msgspec.Struct, gc=False):
    markPx: Text
    ts: Milliseconds


class _ForcedOrder(msgspec.Struct, gc=False):
    side: Literal["buy", "sell"]
    bkPx: Text
    sz: Text  # contracts
    ts: Milliseconds


class _Liquidations(msgspec.Struct, gc=False):
    instId: str
    details: list[_ForcedOrder]


_frames = msgspec.json.Decoder(_Frame)
# Not strict: OKX sends times as texts.
_trades = msgspec.json.Decoder(list[_Trade], strict=False)
_bests = msgspec.json.Decoder(list[_Best], strict=False)
_tickers = msgspec.json.Decoder(list[_Ticker], strict=False)
_books = msgspec.json.Decoder(list[_Book], strict=False)
_fundings = msgspec.json.Decoder(list[_Funding])
_liquidations = msgspec.json.Decoder(list[_Liquidations], strict=False)
_marks = msgspec.json.Decoder(list[_Mark], strict=False)

# 1: an order of the Enhanced Liquidity Program; orders from OKX's own screens match these first.
# https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel
_MARKS = Marks({"source": {"0": None, "1": "rpi"}})
_KINDS = _MARKS.kinds_of("source")
_PONG = (Notice("heartbeat"),)


class OkxDecoder:
    """Decodes the frames of one socket."""

    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols
        self._ids = TradeIds(start)

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        """See `Decoder`."""
        if frame == b"pong":
            return _PONG
        try:
            message = _frames.decode(frame)
        except RecursionError as error:
            raise ValueError("nested without end") from error
        arg = message.arg
        if message.event:
            return _notices(message)
        if arg is None:
            raise ValueError("neither an event nor a channel's data")
        symbol = self._symbols.get(arg.instId)
        if symbol is None:
            return self._forced(message.data, received_at) if arg.channel == _LIQUIDATIONS else ()
        channel = arg.channel
        if channel in _TRADES:
            seq = self._ids.seq
            return [
                Trade(
                    EXCHANGE,
                    symbol,
                    row.ts * 1000,
                    received_at,
                    row.tradeId,
                    seq(row.tradeId),
                    SIDES.get(row.side),
                    row.px,
                    row.sz,
                    _KINDS.get(row.source, "other"),
                )
                for row in _trades.decode(message.data)
            ]
        if channel == "bbo-tbt":
            return _best(symbol, message.data, received_at)
        if channel in _BOOKS:
            return _book_changes(symbol, channel, message, received_at)
        if channel == "tickers":
            return _best_of_tickers(symbol, message.data, received_at)
        if channel == _MARK_PRICE:
            return [
                MarkPrice(EXCHANGE, symbol, row.ts * 1000, received_at, row.markPx)
                for row in _marks.decode(message.data)
            ]
        return _funding(symbol, message.data, received_at) if channel == _FUNDING else ()

    def _forced(self, data: msgspec.Raw, received_at: int) -> Sequence[Message]:
        return [
            Liquidation(EXCHANGE, symbol, order.ts * 1000, received_at, order.side, order.bkPx, order.sz)
            for instrument in _liquidations.decode(data)
            if (symbol := self._symbols.get(instrument.instId)) is not None
            for order in instrument.details
        ]


def _best(symbol: str, data: msgspec.Raw, received_at: int) -> list[Message]:
    """Decode `bbo-tbt`. A side without orders is an empty list."""
    ticks: list[Message] = []
    for row in _bests.decode(data):
        bid = row.bids[0] if row.bids else _NOTHING
        ask = row.asks[0] if row.asks else _NOTHING
        if bid.price or ask.price:
            ticks.append(
                Tick(
                    EXCHANGE,
                    symbol,
                    row.ts * 1000,
                    received_at,
                    bid.price or None,
                    bid.amount or None,
                    ask.price or None,
                    ask.amount or None,
                )
            )
    return ticks


def _best_of_tickers(symbol: str, data: msgspec.Raw, received_at: int) -> list[Message]:
    """Decode `tickers`. A side without orders has empty texts."""
    return [
        Tick(
            EXCHANGE,
            symbol,
            row.ts * 1000,
            received_at,
            row.bidPx or None,
            (row.bidSz or None) if row.bidPx else None,
            row.askPx or None,
            (row.askSz or None) if row.askPx else None,
        )
        for row in _tickers.decode(data)
        if row.bidPx or row.askPx
    ]


def _book_changes(symbol: str, channel: str, message: _Frame, received_at: int) -> list[Message]:
    """Decode a book. Each `books5` is a snapshot; we ignore its number, as ccxt does."""
    is_numbered = channel in _INCREMENTAL_BOOKS
    if is_numbered and message.action not in ("snapshot", "update"):
        raise ValueError(f"a book's action is {message.action!r}")
    is_snapshot = not is_numbered or message.action == "snapshot"
    return [
        BookChange(
            symbol,
            row.ts * 1000,
            received_at,
            row.bids,
            row.asks,
            is_snapshot,
            None,
            row.seqId if is_numbered else None,
            row.prevSeqId if is_numbered and row.prevSeqId != _NO_MESSAGE_BEFORE else None,
            row.checksum or None,  # 0 since June 2026: no longer computed
        )
        for row in _books.decode(message.data)
    ]


def _funding(symbol: str, data: msgspec.Raw, received_at: int) -> list[Message]:
    found: list[Message] = []
    for row in _fundings.decode(data):
        rate, due, following = decimal_text(row.fundingRate), int(row.fundingTime or 0), int(row.nextFundingTime or 0)
        if rate is None:
            continue
        hours, rest = divmod(following - due, _HOUR_MS)
        is_annualised = due and not rest and hours in _INTERVAL_HOURS
        found.append(
            Funding(
                EXCHANGE,
                symbol,
                received_at,  # the message has no time
                received_at,
                rate,
                (due or following) * 1000 or None,
                annualised_rate(rate, str(hours)) if is_annualised else None,
            )
        )
    return found


def _notices(message: _Frame) -> Sequence[Message]:
    """Decode an event: the answer to a request, or a notice about the connection."""
    channel, market_id = (message.arg.channel, message.arg.instId or None) if message.arg else ("", None)
    match message.event:
        case "subscribe":
            return (Notice("subscribed", channel, market_id),)
        case "unsubscribe":
            return (Notice("unsubscribed", channel, market_id),)
        case "error" | "channel-conn-count-error":
            named = _NAMED_MARKET(message.msg)
            text = f"{message.code}: {message.msg or channel}"
            return (Notice("refused", text, named.group(1) if named else market_id),)
        case "notice":
            return (Notice("restarting", message.msg),) if message.code == _SERVICE_UPGRADE else ()
        case "channel-conn-count" | "login":
            return ()
    raise ValueError(f"there is no event {message.event!r}")


class OkxBookRule:
    """Each change names the one before it (`prevSeqId`).

    After a minute without changes an empty change repeats the number, and after a maintenance the numbers restart
    lower: both still name the number before. Messages from before 2022 have no numbers.
    """

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        """See `BookRule`."""
        return change.previous is None or change.previous == sequence


class Okx:
    """See `Venue`. `options` are the feed's: they choose channels as they do in ccxt."""

    exchange = EXCHANGE
    markets = frozenset({"spot", "linear", "inverse", "option"})  # one socket and one naming for all
    limits = Limits(
        streams_per_socket=300,  # no limit is documented; subscribing must stay within the hourly limit
        streams_per_message=100,  # a request has at most 64 KB, an argument about 60 bytes
        messages_per_s=3.0,
        messages_per_hour=480,
        sockets_per_s=3.0,
        source="https://www.okx.com/docs-v5/en/#overview-websocket-connect",
    )
    keep_alive = KeepAlive(15.0, b"ping")  # OKX closes a socket that was silent for 30 s
    book_over_rest = False
    book_rule = OkxBookRule()

    def __init__(self, options: Mapping[str, Any]) -> None:
        chosen: dict[Channel, tuple[str, frozenset[str]]] = {
            "trades": (_option(options, "watchTrades", "channel", "trades"), _TRADES),
            "ticks": (_option(options, "watchBidsAsks", "channel", "bbo-tbt"), _TICKS),
            "order_book": (_option(options, "watchOrderBook", "depth", "books"), _BOOKS),
            "funding": (_FUNDING, frozenset({_FUNDING})),
            "liquidations": (_LIQUIDATIONS, frozenset({_LIQUIDATIONS})),
            "mark_prices": (_MARK_PRICE, frozenset({_MARK_PRICE})),
        }
        self._names = {channel: name for channel, (name, ours) in chosen.items() if name in ours}
        self.channels = frozenset(self._names)

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        """See `Venue`."""
        if channel == "liquidations":
            return _OF_TYPES
        return _BUSINESS if self._names[channel] == "trades-all" else _PUBLIC

    def subscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """See `Venue`."""
        return self._requests("subscribe", streams)

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """See `Venue`. Liquidations stay subscribed, because other markets of the type may be followed."""
        return self._requests("unsubscribe", [stream for stream in streams if stream.channel != "liquidations"])

    def decoder(self, symbols: Mapping[str, str], start: int) -> Decoder:
        """See `Venue`."""
        return OkxDecoder(symbols, start)

    def _requests(self, operation: str, streams: Sequence[Asked]) -> list[bytes]:
        args = [dict(pairs) for pairs in dict.fromkeys(map(self._arg, streams))]
        size = self.limits.streams_per_message
        return [
            msgspec.json.encode({"op": operation, "args": args[start : start + size]})
            for start in range(0, len(args), size)
        ]

    def _arg(self, stream: Asked) -> tuple[tuple[str, str], tuple[str, str]]:
        name = self._names[stream.channel]
        if name == _LIQUIDATIONS:
            return ("channel", name), ("instType", "SWAP" if stream.market_id.endswith("-SWAP") else "FUTURES")
        return ("channel", name), ("instId", stream.market_id)


def _option(options: Mapping[str, Any], method: str, name: str, default: str) -> str:
    of_method = options.get(method)
    chosen = of_method.get(name) if isinstance(of_method, Mapping) else None
    return default if chosen is None else str(chosen)


def _past(_kind: str, stream: str | None, _has_key: bool) -> Series:
    """The series of past trades. `trades` may merge trades under the last one's id; `trades-all` and REST do not."""
    if stream != "trades-all":
        raise Unfillable(
            "OKX's stream 'trades' may sum several trades under one id, its past trades come one by one: only with "
            'options = { watchTrades = { channel = "trades-all" } } are they the same series'
        )
    return Series(
        Paging.BEFORE_ID,
        Ids.INCREASING,
        100,
        {"method": "publicGetMarketHistoryTrades"},
        "after",
        source="https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history",
    )


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    if not isinstance(frame, dict) or frame.get("action") != "snapshot":
        return None
    asked = mapping(frame.get("arg"))
    return BookFrame(str(asked.get("instId"))) if str(asked.get("channel")).startswith("books") else None


def _unit_of_sample(info: Any) -> OpenInterestUnit | None:
    """The unit of open interest in a row. A row of the history with fewer than four fields does not count contracts."""
    return "base" if isinstance(info, list) and len(info) < 4 else None


# "For FUTURES/SWAP/OPTION, the unit is contract", of ctVal: https://www.okx.com/docs-v5/en/
_QUANTITIES = Quantities(in_contracts=True, contract_value=True)
# oi: "Open interest in number of contracts"; https://www.okx.com/docs-v5/en/#public-data-rest-api-get-open-interest
_OPEN_INTEREST = replace(IN_CONTRACTS, unit_of_sample=_unit_of_sample)

FACTS = (
    Facts(
        exchange="okx",
        native=Okx,
        sampled=frozenset({"liquidations"}),  # "This data doesn't represent the total number of liquidations on OKX"
        former_names=("okex", "okex5"),
        quantities=_QUANTITIES,
        open_interest=_OPEN_INTEREST,
        lists=(
            ("=SPOT", families.SPOT),
            ("=FUTURES", families.DATED),
            ("=SWAP", families.SWAPS),
            ("=OPTION", families.OPTIONS),
        ),
        trades=Trades(
            stream_option=("watchTrades", "channel", "trades"),
            past=_past,
            marks=_MARKS,
        ),
        books=CcxtBooks(
            whole_book=_whole_book,
        ),
    ),
    *(
        Facts(exchange=name, quantities=_QUANTITIES, open_interest=_OPEN_INTEREST, trades=Trades(marks=_MARKS))
        for name in ("okxus", "myokx")
    ),
)
