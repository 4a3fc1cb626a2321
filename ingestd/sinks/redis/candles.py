"""The recent candles of one market and interval, newest first, and the commands that update their Redis list.

One-minute candles are built from trades as they arrive. They are a live view: a trade received twice counts twice, and
the first minute after a start is incomplete. Exact candles are in the database. Where the exchange reports candles of
the same interval, they replace the built ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from operator import mul

from ingestd.records import Candle, Trade
from ingestd.sinks.redis import payloads
from ingestd.sinks.redis.resp import pack

MINUTE_US = 60_000_000
BUILT_INTERVAL = "1m"
CANDLE_TTL_S = 3600

_EXACT = Context(prec=120)
_WAIT_AT_MOST = 32  # trades not computed yet, half a kilobyte each: without a server nothing calls `message`


class BuiltCandle:
    """A candle of one minute of trades. Waiting trades are computed together, which takes half the time."""

    __slots__ = ("_newest", "_oldest", "_waiting", "close", "count", "high", "low", "open", "value", "volume")

    def __init__(self) -> None:
        self._waiting: list[Trade] = []
        self._oldest: tuple[int, int] | None = None  # (time, seq) of the trade that set `open`
        self._newest: tuple[int, int] | None = None
        self.open = self.high = self.low = self.close = self.volume = Decimal(0)
        self.value: Decimal | None = Decimal(0)  # in the quote currency; None: unknown for at least one trade
        self.count = 0

    def add(self, trade: Trade) -> None:
        """Count one more trade. The first and last trade are those by (time, seq), whatever the order of arrival."""
        self._waiting.append(trade)
        if len(self._waiting) >= _WAIT_AT_MOST:
            self._work_out()

    def message(self, head: str, opens_us: int) -> bytes:
        """The candle, with all trades so far, as an element of the Redis list."""
        self._work_out()
        values = (self.open, self.high, self.low, self.close, self.volume)
        o, h, low, c, volume = [f"{value:f}" for value in values]
        quote = "null" if self.value is None else f"{self.value:f}"
        return payloads.candle_text(
            head, BUILT_INTERVAL, opens_us, (o, h, low, c, volume, quote), str(self.count), "trades"
        )

    def _work_out(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        prices = [Decimal(trade.price) for trade in waiting]
        quantities = [Decimal(trade.quantity) for trade in waiting]
        with localcontext(_EXACT):
            self.volume = sum(quantities, self.volume)
            if self.value is not None:
                self.value = _value(self.value, waiting, prices, quantities)
        self.high = max(self.high, *prices) if self.count else max(prices)
        self.low = min(self.low, *prices) if self.count else min(prices)
        self.count += len(waiting)
        order = [(trade.time, trade.seq) for trade in waiting]
        oldest, newest = min(order), max(order)
        if self._oldest is None or oldest < self._oldest:
            self._oldest, self.open = oldest, prices[order.index(oldest)]
        if self._newest is None or newest >= self._newest:
            self._newest, self.close = newest, prices[-1 - order[::-1].index(newest)]


def _value(
    before: Decimal, trades: Sequence[Trade], prices: Sequence[Decimal], quantities: Sequence[Decimal]
) -> Decimal | None:
    """`before` plus the value of these trades in the quote currency; None if the value of one is unknown."""
    if not any(trade.unit for trade in trades):
        return sum(map(mul, prices, quantities), before)
    total = before
    for trade, price, quantity in zip(trades, prices, quantities, strict=True):
        size, _, currency = (trade.unit or "base").rpartition(" ")
        if currency == "unknown":
            return None
        amount = quantity * Decimal(size or 1)
        total += amount if currency == "quote" else price * amount
    return total


class RecentCandles:
    """The newest `kept` candles of one Redis list, and the commands that update the list."""

    def __init__(self, key: bytes, head: str, kept: int) -> None:
        self.key = key
        self._head = head
        self._kept = kept
        self._candles: dict[int, Candle | BuiltCandle] = {}
        self._on_server: list[int] = []  # opening times in the list as last written; empty: unknown
        self._changed: set[int] = set()
        self.reported = False  # whether the exchange reports these candles

    def report(self, candle: Candle) -> None:
        """Take a candle that the exchange reports. From the first one on, no candle is built from trades."""
        if not self.reported:
            self.reported = True
            self._candles.clear()
            self.distrust()
        self._place(candle.time, candle)

    def add(self, trade: Trade) -> bool:
        """Add a trade to its minute. False: nothing changed (the exchange reports candles, or the trade is too old)."""
        if self.reported:
            return False
        opens_us = trade.time - trade.time % MINUTE_US
        candle = self._candles.get(opens_us)
        if isinstance(candle, BuiltCandle):
            candle.add(trade)
            self._changed.add(opens_us)
            return True
        if len(self._candles) >= self._kept and opens_us < min(self._candles):
            return False
        candle = BuiltCandle()
        candle.add(trade)
        self._place(opens_us, candle)
        return True

    def distrust(self) -> None:
        """Forget what the server's list holds, so that the next call of `commands` writes the whole list."""
        self._on_server = []

    @property
    def is_empty(self) -> bool:
        """Whether there is no candle yet."""
        return not self._candles

    def commands(self) -> list[bytes]:
        """Return the commands that update the server's list, and assume from now on that they have been run.

        While they run, the head of the list is never wrong or missing.
        """
        on_server, key = self._on_server, self.key
        times = sorted(self._candles, reverse=True)
        new = sum(1 for at in times if on_server and at > on_server[0])
        pushed, kept = times[:new], times[new:]
        if not kept or kept != on_server[: len(kept)]:  # write the whole list
            pushed, kept = times, []
        changed = sorted(self._changed & set(kept))
        commands = [pack(b"LSET", key, b"%d" % on_server.index(at), self._message(at)) for at in changed]
        if pushed:
            commands.append(pack(b"LPUSH", key, *[self._message(at) for at in reversed(pushed)]))
            commands.append(pack(b"LTRIM", key, b"0", b"%d" % (len(times) - 1)))
        commands.append(pack(b"EXPIRE", key, b"%d" % CANDLE_TTL_S))
        self._on_server = times
        self._changed.clear()
        return commands

    def _place(self, opens_us: int, candle: Candle | BuiltCandle) -> None:
        self._candles[opens_us] = candle
        self._changed.add(opens_us)
        if len(self._candles) > self._kept:
            oldest = min(self._candles)
            del self._candles[oldest]
            self._changed.discard(oldest)

    def _message(self, opens_us: int) -> bytes:
        candle = self._candles[opens_us]
        if isinstance(candle, BuiltCandle):
            return candle.message(self._head, opens_us)
        return payloads.candle_message(self._head, candle)
