"""One generated market: a random walk of the price on a tick grid, a book around it, trades and candles.

All values are small integers: prices count ticks, sizes are indices into a pool of pre-rendered texts.
"""

from __future__ import annotations

import functools
import random
from collections import deque
from typing import ClassVar, NamedTuple

from ingestd.clock import now_us

POOL = 256  # sizes in the pool; a power of two, so that bits of a random number select one
DEPTH = 50  # levels per side
TICK_DECIMALS = 2
QUANTITY_DECIMALS = 3
MINUTE_MS = 60_000
_CANDLES_KEPT = 1500
_TEXTS_KEPT = 20_000
_BASES = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "AVAX", "LINK", "DOT", "LTC")
_UNITS = tuple(1 + random.Random(number).getrandbits(12) for number in range(POOL))  # the sizes, shared by all markets


class Listing(NamedTuple):
    """A market against USDT: its names, and the decimals with which prices and sizes are written."""

    base: str
    linear: bool
    first_tick: int

    @property
    def symbol(self) -> str:
        return f"{self.base}/USDT:USDT" if self.linear else f"{self.base}/USDT"

    @property
    def market_id(self) -> str:
        """Binance's market id, the same for the spot pair and its perpetual."""
        return f"{self.base}USDT"

    @property
    def key(self) -> str:
        """Our key, which differs between spot pair and perpetual."""
        return self.market_id + (".P" if self.linear else "")

    @property
    def price_decimals(self) -> int:
        """Decimals of prices: eight on spot, the tick's on futures."""
        return TICK_DECIMALS if self.linear else 8

    @property
    def quantity_decimals(self) -> int:
        return QUANTITY_DECIMALS if self.linear else 8


class Trade(NamedTuple):
    """`size` is an index into the pool; `seller_takes`: the buyer was the maker (`m` on the wire)."""

    trade_id: int
    tick: int
    size: int
    time_ms: int
    seller_takes: bool


class Candle:
    """One minute's candle; volumes in units of the last decimal, quote volumes in units times ticks."""

    __slots__ = ("close", "count", "high", "low", "open", "open_ms", "quote", "taker_base", "taker_quote", "volume")

    def __init__(self, open_ms: int, tick: int) -> None:
        self.open_ms = open_ms
        self.open = self.high = self.low = self.close = tick
        self.count = self.volume = self.quote = self.taker_base = self.taker_quote = 0

    def add(self, tick: int, units: int, *, buyer_takes: bool) -> None:
        self.close = tick
        if tick > self.high:
            self.high = tick
        elif tick < self.low:
            self.low = tick
        self.count += 1
        self.volume += units
        self.quote += units * tick
        if buyer_takes:
            self.taker_base += units
            self.taker_quote += units * tick


class Market:
    """The changing state of one listing. `first_id`: the first trade and update id; ids increase by one."""

    units: ClassVar[tuple[int, ...]] = _UNITS

    def __init__(self, listing: Listing, seed: int, first_id: int, history: int) -> None:
        self.listing = listing
        self._bits = random.Random(seed).getrandbits
        self.sizes = size_texts(listing.quantity_decimals)
        self._prices: dict[int, bytes] = {}
        self.bid = listing.first_tick
        self.bids = {self.bid - level: self._bits(8) for level in range(DEPTH)}
        self.asks = {self.ask + level: self._bits(8) for level in range(DEPTH)}
        self.update_id = first_id
        self._flushed_id: int | None = None  # of the last depth frame; None: there are none
        self._changed_bids: set[int] = set()
        self._changed_asks: set[int] = set()
        self.trade_id = first_id
        self.trades: deque[Trade] = deque(maxlen=history)
        self.candles: deque[Candle] = deque(maxlen=_CANDLES_KEPT)

    @property
    def ask(self) -> int:
        """The best ask, one tick above the best bid."""
        return self.bid + 1

    def price(self, tick: int) -> bytes:
        text = self._prices.get(tick)
        if text is None:
            if len(self._prices) > _TEXTS_KEPT:
                self._prices.clear()
            text = decimal_text(tick, TICK_DECIMALS, self.listing.price_decimals)
            self._prices[tick] = text
        return text

    def trade(self, now_ms: int) -> Trade:
        """Make one trade at the best bid or ask; every fourth trade moves the quote."""
        bits = self._bits(24)
        if not bits & 6:
            self.quote(bits >> 8)
        self.trade_id += 1
        seller_takes = bool(bits & 1)
        tick = self.bid if seller_takes else self.ask
        size = (bits >> 3) % POOL
        trade = Trade(self.trade_id, tick, size, now_ms, seller_takes)
        self.trades.append(trade)
        candles = self.candles
        if not candles or now_ms - candles[-1].open_ms >= MINUTE_MS:
            candles.append(Candle(now_ms - now_ms % MINUTE_MS, tick))
        candles[-1].add(tick, self.units[size], buyer_takes=not seller_takes)
        return trade

    def quote(self, bits: int | None = None) -> None:
        """Change the best bid or ask: its size, or, one time in four, its price by one step."""
        if bits is None:
            bits = self._bits(16)
        choice, size = bits & 7, (bits >> 3) % POOL
        if choice == 0 or self.bid <= 2 * DEPTH:
            self._step_up(size)
        elif choice == 1:
            self._step_down(size)
        elif choice & 1:
            self._set_bid(self.bid, size)
        else:
            self._set_ask(self.ask, size)

    def open_book(self) -> None:
        """Start collecting the changes between depth frames."""
        if self._flushed_id is None:
            self._flushed_id = self.update_id

    def take_changes(self) -> tuple[int, int, list[tuple[int, int | None]], list[tuple[int, int | None]]]:
        """The changes since the last call: the update id before them, the last one, bids, asks (None: removed)."""
        assert self._flushed_id is not None, "the book was opened"
        previous, self._flushed_id = self._flushed_id, self.update_id
        bids = [(tick, self.bids.get(tick)) for tick in sorted(self._changed_bids, reverse=True)]
        asks = [(tick, self.asks.get(tick)) for tick in sorted(self._changed_asks)]
        self._changed_bids.clear()
        self._changed_asks.clear()
        return previous, self.update_id, bids, asks

    def _step_up(self, size: int) -> None:
        self._set_ask(self.ask, None)
        self._set_bid(self.ask, size)
        self._set_bid(self.bid - DEPTH + 1, None)
        self.bid += 1
        self._set_ask(self.ask + DEPTH - 1, size ^ 1)

    def _step_down(self, size: int) -> None:
        self._set_bid(self.bid, None)
        self._set_ask(self.bid, size)
        self._set_ask(self.ask + DEPTH - 1, None)
        self.bid -= 1
        self._set_bid(self.bid - DEPTH + 1, size ^ 1)

    def _set_bid(self, tick: int, size: int | None) -> None:
        self._set(self.bids, self._changed_bids, tick, size)

    def _set_ask(self, tick: int, size: int | None) -> None:
        self._set(self.asks, self._changed_asks, tick, size)

    def _set(self, levels: dict[int, int], changed: set[int], tick: int, size: int | None) -> None:
        if size is None:
            levels.pop(tick, None)
        else:
            levels[tick] = size
        self.update_id += 1
        if self._flushed_id is not None:
            changed.add(tick)


@functools.cache
def size_texts(written: int) -> tuple[bytes, ...]:
    """The pool's texts, shared by all markets: 2,000 markets would otherwise hold half a million strings."""
    return tuple(decimal_text(units, QUANTITY_DECIMALS, written) for units in _UNITS)


def decimal_text(units: int, decimals: int, written: int) -> bytes:
    """Format `units` of the last of `decimals` with `written` decimals (trailing zeros, as Binance sends them)."""
    whole, part = divmod(units, 10**decimals)
    return f"{whole}.{str(part).zfill(decimals).ljust(written, '0')}".encode()


def listings(count: int, *, linear: bool = False) -> list[Listing]:
    """`BTC/USDT`, `ETH/USDT`, …, then `SIM0010/USDT` on, or their perpetuals; prices from about 100 to 100,000."""
    bases = [*_BASES, *(f"SIM{number:04d}" for number in range(len(_BASES), count))][:count]
    return [Listing(base, linear, 100_000 + 37_003 * (number * 7 % 97)) for number, base in enumerate(bases)]


def new_first_id() -> int:
    """Below 2^53, and above all ids of earlier runs: a database may outlive the simulator and must not see an id
    twice."""
    return now_us() // 1000
