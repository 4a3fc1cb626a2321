"""Bitget: the public channels of WebSocket v2, for spot and contracts.

https://www.bitget.com/api-doc/common/websocket-intro, https://www.bitget.com/api-doc/spot/websocket/public/Depth-Channel,
https://www.bitget.com/api-doc/contract/websocket/public/Order-Book-Channel
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ingestd.records import Channel, Tick, Trade
from ingestd.venues import families
from ingestd.venues.ccxt_books import Book, BookFrame, CcxtBooks, Levels, in_turn, signed
from ingestd.venues.decoding import NESTED, SIDES, Level, Milliseconds, Text, at, part
from ingestd.venues.facts import Ccxt, Facts, OpenInterestUnits, Quantities
from ingestd.venues.messages import CONFIRMED, BookChange, Message, Notice
from ingestd.venues.numbers import as_int, best_price
from ingestd.venues.requests import chunks
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trades import Ids, Marks, Paging, Series, Trades
from ingestd.venues.venue import Asked, BestLevels, BookRule, KeepAlive, Limits, Venue

EXCHANGE = "bitget"

_NAMES: Mapping[Channel, str] = {"trades": "trade", "ticks": "ticker", "order_book": "books"}
_METHODS = ("watchTradesForSymbols", "watchBidsAsks", "watchOrderBookForSymbols")
_ELSEWHERE = ("uta", "instType", "productType", "sandbox", "sandboxMode")  # options that choose other sockets
_CHECKED_LEVELS = 25
_NAMED_MARKET = re.compile(r"instType:([\w-]+),channel:\w+,instId:([\w-]+)").search


class _Arg(msgspec.Struct, gc=False):
    instType: str = ""
    channel: str = ""
    instId: str = ""


class _Frame(msgspec.Struct, gc=False):
    arg: _Arg | None = None
    action: str = ""
    data: msgspec.Raw = msgspec.Raw(b"")
    event: str = ""
    code: int | str = ""
    msg: str = ""


class _Trade(msgspec.Struct, gc=False):
    ts: Milliseconds
    price: Text
    size: Text
    tradeId: Text
    side: str = ""
    isRPI: str | bool | None = None


class _Ticker(msgspec.Struct, gc=False):
    ts: Milliseconds
    bidPr: str | None = None
    bidSz: str | None = None
    askPr: str | None = None
    askSz: str | None = None


class _Book(msgspec.Struct, gc=False):
    bids: list[Level]
    asks: list[Level]
    ts: Milliseconds
    seq: int | None = None
    checksum: int | None = None


_frames = msgspec.json.Decoder(_Frame)
# Not strict: Bitget sends times as texts.
_trades = msgspec.json.Decoder(list[_Trade], strict=False)
_tickers = msgspec.json.Decoder(list[_Ticker], strict=False)
_books = msgspec.json.Decoder(list[_Book], strict=False)

# https://www.bitget.com/api-doc/uta/websocket/public/New-Trades-Channel (yes or no)
_MARKS = Marks(flags={"isRPI": "rpi"})


class BitgetDecoder:
    """Decodes the frames of one socket. Market ids are `instType:instId`: spot and contracts share ids and socket."""

    def __init__(self, symbols: Mapping[str, str], start: int) -> None:
        self._symbols = symbols
        self._ids = TradeIds(start)

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
        symbol = self._symbols.get(f"{arg.instType}:{arg.instId}")
        if symbol is None:
            return ()
        if arg.channel == "trade":
            return self._trades(symbol, message.data, received_at)
        if arg.channel == "books":
            return _book_changes(symbol, message, received_at)
        return _ticks(symbol, message.data, received_at) if arg.channel == "ticker" else ()

    def _trades(self, symbol: str, data: msgspec.Raw, received_at: int) -> list[Message]:
        """Decode trades. Bitget sends the newest first."""
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
                row.price,
                row.size,
                None if row.isRPI is None else _MARKS.kind({"isRPI": row.isRPI}),
            )
            for row in reversed(_trades.decode(data))
        ]


def _ticks(symbol: str, data: msgspec.Raw, received_at: int) -> list[Message]:
    ticks: list[Message] = []
    for row in _tickers.decode(data):
        bid, ask = best_price(row.bidPr), best_price(row.askPr)
        if bid or ask:
            bid_size, ask_size = row.bidSz if bid else None, row.askSz if ask else None
            ticks.append(
                Tick(EXCHANGE, symbol, row.ts * 1000, received_at, bid, bid_size or None, ask, ask_size or None)
            )
    return ticks


def _book_changes(symbol: str, message: _Frame, received_at: int) -> list[Message]:
    if message.action not in ("snapshot", "update"):
        raise ValueError(f"a book's action is {message.action!r}")
    return [
        BookChange(
            symbol,
            row.ts * 1000,
            received_at,
            row.bids,
            row.asks,
            message.action == "snapshot",
            last=row.seq,
            checksum=row.checksum or None,  # 0 means not computed
        )
        for row in _books.decode(message.data)
    ]


def _notices(message: _Frame) -> Sequence[Message]:
    """Decode an event, which is the answer to a request."""
    arg = message.arg
    market_id = f"{arg.instType}:{arg.instId}" if arg is not None and arg.instId else None
    if message.event in CONFIRMED:
        return (Notice(CONFIRMED[message.event], "" if arg is None else arg.channel, market_id),)
    if message.event == "error":
        named = _NAMED_MARKET(message.msg)
        if named is not None:
            market_id = f"{named[1].upper()}:{named[2]}"
        return (Notice("refused", f"{message.code}: {message.msg}", market_id),)
    if message.event == "login":
        return ()
    raise ValueError(f"neither a channel's data nor a known event: {message.event!r}")


def bitget_checksum(bids: Levels, asks: Levels) -> int:
    """Signed CRC32 of price and amount of a bid, an ask, the next bid, …, in the digits of the rows.

    https://www.bitget.com/api-doc/spot/websocket/public/Depth-Channel
    """
    sides = [[(str(row[0]), str(row[1])) for row in rows[:_CHECKED_LEVELS]] for rows in (bids, asks)]
    return signed(zlib.crc32(in_turn(*sides).encode()))


def _agrees(book: Book, frame: Any) -> bool | None:
    """Whether the checksum matches; None if the frame has none. ccxt keeps the raw row at the end of each level."""
    if (at(frame, "arg", "channel") or at(frame, "arg", "topic")) != "books":
        return None
    stated = at(frame, "data", 0, "checksum")
    bids, asks = ([level[-1] for level in book[side][:_CHECKED_LEVELS]] for side in ("bids", "asks"))
    return None if stated is None else as_int(stated) == bitget_checksum(bids, asks)


class BitgetBookRule(BookRule):
    """Sequence numbers (`seq`) only rise: a lower one is out of order. A lost change shows by the checksum."""

    def follows(self, change: BookChange, sequence: int | None) -> bool | None:
        return change.last is None or sequence is None or change.last >= sequence

    def agrees(self, change: BookChange, bids: BestLevels, asks: BestLevels) -> bool:
        return change.checksum == bitget_checksum(bids(_CHECKED_LEVELS), asks(_CHECKED_LEVELS))


class Bitget(Venue):
    """Bitget's socket. If the feed's options choose another one (`uta`, a demo), ccxt reads it."""

    exchange = EXCHANGE
    decoder = BitgetDecoder
    markets = frozenset({"spot", "linear", "inverse"})
    limits = Limits(
        streams_per_socket=49,  # 1000 are allowed, "less than 50" recommended
        streams_per_message=40,  # a request has at most 4096 bytes, an argument about 85
        messages_per_s=9.0,  # 10 with the pings
        messages_per_hour=240,
        sockets_per_s=1.0,  # 300 in five minutes
        source="https://www.bitget.com/api-doc/common/websocket-intro",
    )
    url = "wss://ws.bitget.com/v2/ws/public"
    keep_alive = KeepAlive(25.0, b"ping")  # Bitget wants one every 30 s, and closes a socket after two minutes without
    book_rule = BitgetBookRule()

    def __init__(self, options: Mapping[str, Any]) -> None:
        asked = (options, *(part(options, method) for method in _METHODS))
        is_elsewhere = any(name in chosen for chosen in asked for name in _ELSEWHERE)
        self.channels = frozenset() if is_elsewhere else frozenset(_NAMES)

    def market_id(self, market: Mapping[str, Any]) -> str:
        if market.get("spot"):
            return f"SPOT:{market['id']}"
        settle = market.get("settle")
        return f"{settle if settle in ('USDT', 'USDC') else 'COIN'}-FUTURES:{market['id']}"

    def requests(self, operation: str, streams: Sequence[Asked], request_id: int) -> list[bytes]:
        args = []
        for channel, market_id in streams:
            inst_type, _, inst_id = market_id.partition(":")
            args.append({"instType": inst_type, "channel": _NAMES[channel], "instId": inst_id})
        size = self.limits.streams_per_message
        return [msgspec.json.encode({"op": operation, "args": group}) for group in chunks(args, size)]


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """Find the book of a snapshot: https://www.bitget.com/api-doc/spot/websocket/public/Depth-Channel"""
    asked = part(frame, "arg")
    if at(frame, "action") != "snapshot" or (asked.get("channel") or asked.get("topic")) != "books":
        return None
    spot = str(asked.get("instType")).lower() in ("spot", "sp")
    return BookFrame(str(asked.get("instId") or asked.get("symbol")), "spot" if spot else "contract")


FACTS = Facts(
    exchange=EXCHANGE,
    native=Bitget,
    # Its candles and tickers have the "trading volume of the coin", for coin-M too; of trades nothing was
    # found. https://www.bitget.com/api-doc/contract/websocket/public/Tickers-Channel
    quantities=Quantities(currency={"linear": "base", "inverse": "base"}),
    # size, in the base coin; https://www.bitget.com/api-doc/contract/market/Get-Open-Interest
    open_interest=OpenInterestUnits("base"),
    families_by_request=(
        ("margin/currencies", families.BESIDE),
        ("COIN-FUTURES", families.INVERSE),
        ("-FUTURES", families.LINEAR),
        ("SPOT", families.SPOT),
        ("spot/public/symbols", families.SPOT),
        ("MARGIN", families.BESIDE),
    ),
    trades=Trades(
        # "tradeId, descending"; not documented as the stream's ids, so a page must share trades with the stream
        past=Series(
            Paging.BEFORE_ID,
            Ids.INCREASING,
            1000,
            id_param="idLessThan",
            is_known=False,
            source="https://www.bitget.com/api-doc/spot/market/Get-Market-Trades",
        ),
        two_times=True,  # socket: milliseconds; REST: "Transaction time (second level)"
        marks=_MARKS,
    ),
    ccxt=Ccxt(symbols_per_call=30, timeframes_not_streamed=frozenset({"2h", "3d", "1M"})),
    books=CcxtBooks(whole_book=_whole_book, agrees=_agrees),
)
