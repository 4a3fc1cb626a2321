"""OKX v5: the public channels. https://www.okx.com/docs-v5/en/#overview-websocket

Liquidations: https://www.okx.com/docs-v5/en/#public-data-websocket-liquidation-orders-channel
Mark prices: https://www.okx.com/docs-v5/en/#public-data-websocket-mark-price-channel
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from ingestd.errors import Unfillable
from ingestd.records import Channel, Funding, Liquidation, MarkPrice, OpenInterestUnit, Tick, Trade
from ingestd.venues import families
from ingestd.venues.ccxt_books import BookFrame, CcxtBooks
from ingestd.venues.decoding import NESTED, SIDES, Level, Milliseconds, Text, at
from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import IN_CONTRACTS, Facts, Quantities
from ingestd.venues.messages import CONFIRMED, BookChange, Message, Notice
from ingestd.venues.numbers import annualised_rate
from ingestd.venues.requests import chunks, option
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trades import Ids, Marks, Paging, Series, Trades
from ingestd.venues.venue import Asked, BookRule, KeepAlive, Limits, Venue

EXCHANGE = "okx"

_TRADES = frozenset({"trades", "trades-all"})
_LIQUIDATIONS = "liquidation-orders"

_INTERVAL_HOURS = frozenset({1, 2, 4, 8, 16, 24})  # the intervals that ccxt annualises
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


class OkxDecoder:
    """Decodes the frames of one socket."""

    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols
        self._seq = TradeIds(start).seq

    def __call__(self, frame: bytes, received_at: int, /) -> Sequence[Message]:
        try:
            message = _frames.decode(frame)
        except RecursionError as error:
            raise ValueError(NESTED) from error
        except msgspec.DecodeError:
            if frame == b"pong":
                return (Notice("heartbeat"),)
            raise
        arg = message.arg
        if message.event or arg is None:
            return _notices(message)
        symbol = self._symbols.get(arg.instId)
        if symbol is None:
            return self._forced(message.data, received_at) if arg.channel == _LIQUIDATIONS else ()
        if arg.channel in _TRADES:
            return self._trades(symbol, message.data, received_at)
        read = _READERS.get(arg.channel)
        return () if read is None else read(symbol, message, received_at)

    def _trades(self, symbol: str, data: msgspec.Raw, received_at: int) -> list[Message]:
        seq = self._seq
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
            for row in _trades.decode(data)
        ]

    def _forced(self, data: msgspec.Raw, received_at: int) -> list[Message]:
        return [
            Liquidation(EXCHANGE, symbol, order.ts * 1000, received_at, order.side, order.bkPx, order.sz)
            for instrument in _liquidations.decode(data)
            if (symbol := self._symbols.get(instrument.instId)) is not None
            for order in instrument.details
        ]


def _best(symbol: str, message: _Frame, received_at: int) -> list[Message]:
    """Decode `bbo-tbt`. A side without orders is an empty list."""
    ticks: list[Message] = []
    for row in _bests.decode(message.data):
        bid = row.bids[0] if row.bids else _NOTHING
        ask = row.asks[0] if row.asks else _NOTHING
        if bid.price or ask.price:
            bid_price, bid_size = bid.price or None, bid.amount or None
            ask_price, ask_size = ask.price or None, ask.amount or None
            ticks.append(Tick(EXCHANGE, symbol, row.ts * 1000, received_at, bid_price, bid_size, ask_price, ask_size))
    return ticks


def _best_of_tickers(symbol: str, message: _Frame, received_at: int) -> list[Message]:
    """Decode `tickers`. A side without orders has empty texts."""
    ticks: list[Message] = []
    for row in _tickers.decode(message.data):
        bid, ask = row.bidPx or None, row.askPx or None
        if bid or ask:
            bid_size, ask_size = (row.bidSz or None) if bid else None, (row.askSz or None) if ask else None
            ticks.append(Tick(EXCHANGE, symbol, row.ts * 1000, received_at, bid, bid_size, ask, ask_size))
    return ticks


def _book_changes(symbol: str, message: _Frame, received_at: int) -> list[Message]:
    if message.action not in ("snapshot", "update"):
        raise ValueError(f"a book's action is {message.action!r}")
    is_snapshot = message.action == "snapshot"
    return [
        BookChange(
            symbol,
            row.ts * 1000,
            received_at,
            row.bids,
            row.asks,
            is_snapshot,
            None,
            row.seqId,
            None if row.prevSeqId == -1 else row.prevSeqId,  # -1: no message before
            row.checksum or None,  # 0 since June 2026: no longer computed
        )
        for row in _books.decode(message.data)
    ]


def _whole_books(symbol: str, message: _Frame, received_at: int) -> list[Message]:
    """Decode `books5`: each is a snapshot. We ignore its number, as ccxt does."""
    return [
        BookChange(symbol, row.ts * 1000, received_at, row.bids, row.asks, True, checksum=row.checksum or None)
        for row in _books.decode(message.data)
    ]


def _mark_prices(symbol: str, message: _Frame, received_at: int) -> list[Message]:
    rows = _marks.decode(message.data)
    return [MarkPrice(EXCHANGE, symbol, row.ts * 1000, received_at, row.markPx) for row in rows]


def _funding(symbol: str, message: _Frame, received_at: int) -> list[Message]:
    found: list[Message] = []
    for row in _fundings.decode(message.data):
        rate, due, following = decimal_text(row.fundingRate), int(row.fundingTime or 0), int(row.nextFundingTime or 0)
        if rate is None:
            continue
        hours, rest = divmod(following - due, 3_600_000)
        yearly = annualised_rate(rate, str(hours)) if due and not rest and hours in _INTERVAL_HOURS else None
        due_us = (due or following) * 1000 or None  # the message itself has no time
        found.append(Funding(EXCHANGE, symbol, received_at, received_at, rate, due_us, yearly))
    return found


_READERS: Mapping[str, Callable[[str, _Frame, int], list[Message]]] = {
    "bbo-tbt": _best,
    "tickers": _best_of_tickers,
    "books": _book_changes,
    "books-rpi": _book_changes,
    "books5": _whole_books,
    "mark-price": _mark_prices,
    "funding-rate": _funding,
}


def _notices(message: _Frame) -> Sequence[Message]:
    """Decode an event: the answer to a request, or a notice about the connection."""
    channel, market_id = (message.arg.channel, message.arg.instId or None) if message.arg else ("", None)
    if message.event in CONFIRMED:
        return (Notice(CONFIRMED[message.event], channel, market_id),)
    match message.event:
        case "error" | "channel-conn-count-error":
            named = _NAMED_MARKET(message.msg)
            return (Notice("refused", f"{message.code}: {message.msg or channel}", named[1] if named else market_id),)
        case "notice":
            return (Notice("restarting", message.msg),) if message.code == "64008" else ()  # service upgrade
        case "channel-conn-count" | "login":
            return ()
    raise ValueError(f"neither a channel's data nor a known event: {message.event!r}")


class OkxBookRule(BookRule):
    """Each change names the one before it (`prevSeqId`).

    After a minute without changes an empty change repeats the number, and after a maintenance the numbers restart
    lower: both still name the number before. Messages from before 2022 have no numbers.
    """

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        return change.previous is None or change.previous == sequence


class Okx(Venue):
    """OKX's sockets. The feed's options choose channels as they do in ccxt."""

    exchange = EXCHANGE
    decoder = OkxDecoder
    markets = frozenset({"spot", "linear", "inverse", "option"})  # one socket and one naming for all
    limits = Limits(
        streams_per_message=100,  # a request has at most 64 KB, an argument about 60 bytes
        messages_per_s=3.0,
        messages_per_hour=480,  # subscribing must stay within it
        sockets_per_s=3.0,
        source="https://www.okx.com/docs-v5/en/#overview-websocket-connect",
    )
    keep_alive = KeepAlive(15.0, b"ping")  # OKX closes a socket that was silent for 30 s
    book_rule = OkxBookRule()

    def __init__(self, options: Mapping[str, Any]) -> None:
        chosen: Mapping[Channel, tuple[Any, Collection[str]]] = {
            "trades": (option(options, "watchTrades", "channel", "trades"), _TRADES),
            "ticks": (option(options, "watchBidsAsks", "channel", "bbo-tbt"), ("bbo-tbt", "tickers")),
            # the other books need a key, or have one level
            "order_book": (option(options, "watchOrderBook", "depth", "books"), ("books", "books-rpi", "books5")),
        }
        self._names: dict[Channel, str] = {
            "funding": "funding-rate",
            "liquidations": _LIQUIDATIONS,
            "mark_prices": "mark-price",
            **{channel: name for channel, (name, ours) in chosen.items() if str(name) in ours},
        }
        self.channels = frozenset(self._names)

    def address(self, market: Mapping[str, Any], channel: Channel) -> str:
        if channel == "liquidations":
            # The same server by another port: a subscription by instrument type covers every market. If these shared
            # sockets with other channels, several sockets would deliver the same liquidations.
            return "wss://ws.okx.com:8443/ws/v5/public"
        return f"wss://ws.okx.com:443/ws/v5/{'business' if self._names[channel] == 'trades-all' else 'public'}"

    def unsubscribe(self, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        """Liquidations stay subscribed, because other markets of the type may be followed."""
        return super().unsubscribe([stream for stream in streams if stream.channel != "liquidations"], request_id)

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        args = [dict(pairs) for pairs in dict.fromkeys(map(self._arg, streams))]
        groups = chunks(args, self.limits.streams_per_message)
        return [msgspec.json.encode({"op": operation, "args": group}) for group in groups]

    def _arg(self, stream: Asked) -> tuple[tuple[str, str], tuple[str, str]]:
        name = self._names[stream.channel]
        if name == _LIQUIDATIONS:
            return ("channel", name), ("instType", "SWAP" if stream.market_id.endswith("-SWAP") else "FUTURES")
        return ("channel", name), ("instId", stream.market_id)


def _past(_kind: str, stream: str | None, _has_key: bool) -> Series:
    """The series of past trades. `trades` may merge trades under the last one's id; `trades-all` and REST do not."""
    if stream != "trades-all":
        raise Unfillable(
            "OKX's stream 'trades' may sum several trades under one id, its past trades come one by one: only with "
            'options = { watchTrades = { channel = "trades-all" } } are they the same series'
        )
    source = "https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history"
    params = {"method": "publicGetMarketHistoryTrades"}
    return Series(Paging.BEFORE_ID, Ids.INCREASING, 100, params, "after", source=source)


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    is_whole = at(frame, "action") == "snapshot" and str(at(frame, "arg", "channel")).startswith("books")
    return BookFrame(str(at(frame, "arg", "instId"))) if is_whole else None


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
        families_by_request=(
            ("=SPOT", families.SPOT),
            ("=FUTURES", families.DATED),
            ("=SWAP", families.SWAPS),
            ("=OPTION", families.OPTIONS),
        ),
        trades=Trades(stream_option=("watchTrades", "channel", "trades"), past=_past, marks=_MARKS),
        books=CcxtBooks(whole_book=_whole_book),
    ),
    *(
        Facts(exchange=name, quantities=_QUANTITIES, open_interest=_OPEN_INTEREST, trades=Trades(marks=_MARKS))
        for name in ("okxus", "myokx")
    ),
)
