"""The live view of the market: the last known values, which of them must still be written, and the commands that do it.

Channels get every record. Caches are conflated: each flush writes a key once, with its last value. Memory is bounded by
the number of symbols.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import msgspec

from ingestd.channels import ROWS
from ingestd.clock import iso_text
from ingestd.errors import MarketUnknown
from ingestd.records import BookSnapshot, Candle, MarketRecord, Tick, Trade
from ingestd.sinks.redis import payloads
from ingestd.sinks.redis.candles import BUILT_INTERVAL, RecentCandles
from ingestd.sinks.redis.indicators import RecentIndicators
from ingestd.sinks.redis.orders import Order, Orders
from ingestd.sinks.redis.resp import pack, publish, publish_head

MARKET_TTL_S = 60
METRIC_TTL_S = 300

_TICK, _TRADE, _BOOK = 1, 2, 4
_PUBLISHED = {row.record: row.redis_channel for row in ROWS if row.redis_channel is not None}


class Command(msgspec.Struct, frozen=True, gc=False):
    """Packed commands for one key, for the server that holds `key` (in a cluster, its slot).

    Not a frozen dataclass, which takes six times as long to make: there is one for each record.
    """

    key: bytes
    packed: bytes
    count: int


class Stream:
    """The last known values of one (exchange, symbol)."""

    def __init__(self, exchange: str, name: str, primary: bool, candles_kept: int) -> None:
        """`name` is the symbol in keys. A `primary` stream also feeds the keys that name no exchange."""
        self.exchange, self.name = exchange, name
        self.head = payloads.head(name, exchange)
        self.ticks_channel = _PUBLISHED[Tick].format(symbol=name).encode() if primary else None
        self.ticks_head = publish_head(self.ticks_channel) if self.ticks_channel else b""
        self.trades_channel = _PUBLISHED[Trade].format(exchange=exchange, symbol=name).encode()
        self.trades_head = publish_head(self.trades_channel)
        self.tick: Tick | None = None
        self.trade: Trade | None = None
        self.book: BookSnapshot | None = None
        self.seen_s: dict[int, float] = {}  # by part: monotonic time when it was last received
        self.dirty = 0
        self.candles: dict[str, RecentCandles] = {}
        self.dirty_candles: set[str] = set()
        self.built = self.candles_of(BUILT_INTERVAL, candles_kept)

    def candles_of(self, interval: str, kept: int) -> RecentCandles:
        """The candles of this interval, created empty if there are none."""
        found = self.candles.get(interval)
        if found is None:
            key = f"candle:{self.exchange}:{self.name}:{interval}".encode()
            found = self.candles[interval] = RecentCandles(key, self.head, kept)
        return found

    def commands(self, now_s: float) -> Iterator[Command]:
        """Commands for everything changed since the last call. Each value keeps its remaining time to live."""
        dirty, self.dirty = self.dirty, 0
        tick, trade, book = self.tick, self.trade, self.book
        full_name = f"{self.exchange}:{self.name}"
        if dirty & _TICK and tick is not None and self.ticks_channel is not None:
            yield self._hash(f"market:tick:{self.name}", payloads.tick_fields(tick), now_s, _TICK)
        if dirty & (_TICK | _TRADE):
            yield self._hash(f"market:{full_name}", payloads.market_fields(tick, trade), now_s, _TICK, _TRADE)
        if dirty & _TRADE and trade is not None:
            yield self._hash(f"price:{full_name}", payloads.price_fields(trade), now_s, _TRADE)
        if dirty & _BOOK and book is not None:
            yield self._hash(f"orderbook:{full_name}", payloads.book_fields(book), now_s, _BOOK)
        intervals, self.dirty_candles = self.dirty_candles, set()
        for interval in sorted(intervals):
            commands = self.candles[interval].commands()
            yield Command(self.candles[interval].key, b"".join(commands), len(commands))

    def refill(self, now_s: float) -> bool:
        """Mark every value that has not expired, and all candles, as not written. False: there are none."""
        for part, at_s in list(self.seen_s.items()):
            if now_s - at_s < MARKET_TTL_S - 1:
                self.dirty |= part
        for interval, candles in self.candles.items():
            if not candles.is_empty:
                candles.distrust()
                self.dirty_candles.add(interval)
        return bool(self.dirty or self.dirty_candles)

    def _hash(self, key: str, fields: tuple[bytes, ...], now_s: float, *parts: int) -> Command:
        youngest_s = max(self.seen_s.get(part, 0.0) for part in parts)
        return hash_command(key, fields, max(1, round(MARKET_TTL_S - (now_s - youngest_s))))


def hash_command(key: str, fields: tuple[bytes, ...], ttl_s: int) -> Command:
    """Pack the commands that set these fields and the key's time to live."""
    name = key.encode()
    return Command(name, pack(b"HSET", name, *fields) + pack(b"EXPIRE", name, b"%d" % ttl_s), 2)


def _order_command(order_id: str, order: Order, now_s: float) -> Command:
    flat = tuple(part.encode() for pair in order.fields.items() for part in pair)
    return hash_command(f"order:{order_id}", flat, max(1, order.ttl_s(now_s)))


class View:
    """The live view of all streams. `take` returns a record's message, `cache_commands` the pending cache writes."""

    def __init__(self, name_of: Callable[[str, str], str], *, primary_exchange: str, candles_kept: int) -> None:
        """`name_of(exchange, symbol)` returns the symbol's name in keys and channels."""
        self._name_of = name_of
        self._primary_exchange = primary_exchange
        self._candles_kept = candles_kept
        self._streams: dict[tuple[str, str], Stream] = {}
        self._dirty: dict[Stream, None] = {}
        self._orders = Orders()
        self.forget_orders = self._orders.forget_written
        self._indicators = RecentIndicators()

    @property
    def is_clean(self) -> bool:
        """Whether every change was sent to the server."""
        return not self._dirty and self._orders.is_clean and self._indicators.is_clean

    def take(self, record: MarketRecord, now_s: float) -> Command | None:
        """Remember the record, and return the command that publishes it; None if its kind has no channel.

        Raises ValueError, and remembers nothing, when the record has a value that cannot be written.
        """
        kind = type(record)
        if kind is Trade:
            return self._take_trade(record, now_s)  # type: ignore[arg-type] # mypy does not narrow by type() is
        if kind is Tick:
            return self._take_tick(record, now_s)  # type: ignore[arg-type] # as above
        if isinstance(record, BookSnapshot):
            stream = self._stream(record.exchange, record.symbol)
            payloads.levels(record.bids), payloads.levels(record.asks)
            iso_text(record.time)
            stream.book = record
            self._mark(stream, _BOOK, now_s)
        elif isinstance(record, Candle):
            stream = self._stream(record.exchange, record.symbol)
            payloads.candle_message(stream.head, record)
            stream.candles_of(record.timeframe, self._candles_kept).report(record)
            stream.dirty_candles.add(record.timeframe)
            self._dirty[stream] = None
        elif (channel := _PUBLISHED.get(kind)) is not None:
            stream = self._stream(record.exchange, record.symbol)
            key = channel.format(exchange=stream.exchange, symbol=stream.name).encode()
            return Command(key, publish(publish_head(key), payloads.record_message(stream.head, record)), 1)
        return None

    def cache_commands(self, now_s: float, room: int) -> list[Command]:
        """Commands for changes, orders first, then the oldest, until `room` is used up; the last may exceed it."""
        commands: list[Command] = []
        while room > 0 and (changed := self._orders.pop(now_s)) is not None:
            commands.append(_order_command(*changed, now_s))
            room -= 2
        while self._dirty and room > 0:
            stream = next(iter(self._dirty))
            del self._dirty[stream]
            for command in stream.commands(now_s):
                commands.append(command)
                room -= command.count
        while room > 0 and (shown := self._indicators.pop(now_s)) is not None:
            commands.append(hash_command(*shown))
            room -= 2
        while room > 0 and (known := self._orders.pop(now_s, again=True)) is not None:
            commands.append(_order_command(*known, now_s))
            room -= 2
        return commands

    def refill(self, now_s: float) -> None:
        """Mark every value that has not expired to be written again, because the server may have lost it."""
        self._orders.refill(now_s)
        self._indicators.refill()
        for stream in self._streams.values():
            if stream.refill(now_s):
                self._dirty[stream] = None

    def take_order(
        self, order_id: str, fields: Mapping[str, str], now_s: float, market: tuple[str, str] | None = None
    ) -> bool:
        """Remember the changed fields of an order. False: too many orders wait for the server."""
        if market is not None:
            with contextlib.suppress(MarketUnknown):  # then the symbol stays as events have it
                fields = {**fields, "symbol": self._name_of(*market)}
        return self._orders.take(order_id, fields, now_s)

    def take_indicator(self, exchange: str, symbol: str, name: str, value: str, time_us: int, now_s: float) -> None:
        """Remember the newest value of an indicator. Raises MarketUnknown."""
        key = f"indicator:{exchange}:{self._name_of(exchange, symbol)}:{name}"
        self._indicators.take(key, (b"value", value.encode(), b"timestamp", iso_text(time_us).encode()), now_s)

    def _take_trade(self, trade: Trade, now_s: float) -> Command:
        stream = self._streams.get((trade.exchange, trade.symbol)) or self._stream(trade.exchange, trade.symbol)
        message = payloads.trade_message(stream.head, trade)
        if not trade.in_candles:  # not a market price: published with its kind, but kept out of caches
            return Command(stream.trades_channel, publish(stream.trades_head, message), 1)
        stream.trade = trade
        stream.seen_s[_TRADE] = now_s
        if not stream.dirty & _TRADE:
            self._mark(stream, _TRADE, now_s)
        if stream.built.add(trade):
            stream.dirty_candles.add(BUILT_INTERVAL)
        return Command(stream.trades_channel, publish(stream.trades_head, message), 1)

    def _take_tick(self, tick: Tick, now_s: float) -> Command | None:
        stream = self._streams.get((tick.exchange, tick.symbol)) or self._stream(tick.exchange, tick.symbol)
        message = payloads.tick_message(stream.head, tick)
        stream.tick = tick
        stream.seen_s[_TICK] = now_s
        if not stream.dirty & _TICK:
            self._mark(stream, _TICK, now_s)
        if stream.ticks_channel is None:
            return None
        return Command(stream.ticks_channel, publish(stream.ticks_head, message), 1)

    def _mark(self, stream: Stream, part: int, now_s: float) -> None:
        stream.seen_s[part] = now_s
        stream.dirty |= part
        self._dirty[stream] = None

    def _stream(self, exchange: str, symbol: str) -> Stream:
        key = (exchange, symbol)
        stream = self._streams.get(key)
        if stream is None:
            name, primary = self._name_of(exchange, symbol), exchange == self._primary_exchange
            stream = self._streams[key] = Stream(exchange, name, primary, self._candles_kept)
        return stream
