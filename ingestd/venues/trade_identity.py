"""Gives ids and an order to trades that have no numeric id from the exchange. Pure."""

from __future__ import annotations

import hashlib
from collections import defaultdict

from ingestd.records import Side

_SEQ_LIMIT = 2**63


class TradeIds:
    """Assigns ids and sequence numbers to the trades of one exchange.

    `seq` is the venue's trade id if that is an integer, else a counter of arrivals. The counter starts at the current
    time in microseconds, so that it also increases over restarts. A trade without an id gets a hash of its fields, with
    the number of equal trades before it on this connection (`_EqualTrades`).
    """

    def __init__(self, start: int) -> None:
        self._arrivals = start
        self._equal: defaultdict[str, _EqualTrades] = defaultdict(_EqualTrades)

    def seq(self, trade_id: str) -> int:
        """Return the number that orders this trade among trades with the same time."""
        if trade_id.isascii() and trade_id.isdecimal():
            number = int(trade_id)
            if number < _SEQ_LIMIT:
                return number
        self._arrivals += 1
        return self._arrivals

    def synthetic(
        self, symbol: str, time_ms: int, price: str, quantity: str, side: Side | None, received_at: int
    ) -> str:
        """Make an id for a trade: `s-` and 20 hexadecimal digits, then `.n` if n equal trades came before."""
        fields = f"{symbol}|{time_ms}|{price}|{quantity}|{side}"
        name = "s-" + hashlib.blake2b(fields.encode(), digest_size=10).hexdigest()
        earlier = self._equal[symbol].count(name, time_ms, received_at)
        return f"{name}.{earlier}" if earlier else name

    def forget_equal_trades(self, symbol: str) -> None:
        """Forget the equal trades of a symbol. Call it for each new connection or page of past trades.

        Trades that are delivered again then get the same ids as before.
        """
        self._equal.pop(symbol, None)


class _EqualTrades:
    """Counts equal trades without an id on one connection. Trades with one receive time are one frame.

    Equal trades within a frame are different trades, and so are those of several frames while their millisecond is the
    newest. A frame that goes back in time repeats old trades: their count starts again at 0, so that each gets the id
    it had. The same holds for the snapshot of a new connection, whose count starts at 0 too.
    """

    __slots__ = ("_at_newest", "_before", "_before_ms", "_frame", "_in_frame", "_last_ms", "_newest_ms", "_sent_again")

    def __init__(self) -> None:
        self._frame: int | None = None
        self._in_frame: dict[str, int] = {}
        self._last_ms = self._before_ms = self._newest_ms = -(2**63)
        self._before: dict[str, int] = {}  # counts in the newest millisecond before this frame
        self._at_newest: dict[str, int] = {}
        self._sent_again = False

    def count(self, name: str, time_ms: int, received_at: int) -> int:
        """Count this trade. Return the number of equal trades before it."""
        if received_at != self._frame:
            self._frame, self._in_frame, self._sent_again = received_at, {}, False
            self._before_ms, self._before = self._newest_ms, dict(self._at_newest)
            self._last_ms = time_ms
        if time_ms < self._before_ms or time_ms < self._last_ms:  # the latter in a frame with the newest trade first
            self._sent_again = True
        self._last_ms = time_ms
        earlier = here = self._in_frame.get(name, 0)
        if time_ms == self._before_ms and not self._sent_again:
            earlier += self._before.get(name, 0)
        self._in_frame[name] = here + 1
        if time_ms > self._newest_ms:
            self._newest_ms, self._at_newest = time_ms, {}
        if time_ms == self._newest_ms:
            self._at_newest[name] = max(earlier + 1, self._at_newest.get(name, 0))
        return earlier
