"""How a trade is named and ordered where its exchange gives it no number. Pure."""

from __future__ import annotations

import hashlib

from ingestd.records import Side

_SEQ_LIMIT = 2**63


class TradeIds:
    """Identity and order of trades for one exchange.

    `seq` is the venue's trade id where that is an integer, else a counter of arrivals which starts at the clock's
    microseconds, so that it also increases over restarts. A trade without an id is named after what it is: a hash of
    its fields, and how many equal ones this connection brought before it (`_EqualTrades`).
    """

    def __init__(self, start: int) -> None:
        self._arrivals = start
        self._equal: dict[str, _EqualTrades] = {}

    def seq(self, trade_id: str) -> int:
        """What orders this trade among those of the same instant."""
        if trade_id.isascii() and trade_id.isdecimal():
            number = int(trade_id)
            if number < _SEQ_LIMIT:
                return number
        self._arrivals += 1
        return self._arrivals

    def synthetic(
        self, symbol: str, time_ms: int, price: str, quantity: str, side: Side | None, received_at: int
    ) -> str:
        """The name of a trade that has none: `s-` and 20 hexadecimal digits, `.n` for the n-th equal one."""
        fields = f"{symbol}|{time_ms}|{price}|{quantity}|{side}"
        name = "s-" + hashlib.blake2b(fields.encode(), digest_size=10).hexdigest()
        equal = self._equal.get(symbol)
        if equal is None:
            equal = self._equal[symbol] = _EqualTrades()
        earlier = equal.count(name, time_ms, received_at)
        return f"{name}.{earlier}" if earlier else name

    def begin_anew(self, symbol: str) -> None:
        """Another connection, or another page of the past: what it brings of the trades before is the same again."""
        self._equal.pop(symbol, None)


class _EqualTrades:
    """How many equal trades without an id came before one, on one connection. A frame is what was received at once.

    Equal trades within a frame are as many trades, and so are those of several frames as long as their millisecond is
    the newest. A frame that goes back in time sends old trades again: those count from the first on, which gives each
    the name it had. So does the snapshot of another connection, since it begins with nothing.
    """

    __slots__ = ("_at_newest", "_before", "_before_ms", "_frame", "_in_frame", "_last_ms", "_newest_ms", "_sent_again")

    def __init__(self) -> None:
        self._frame: int | None = None
        self._in_frame: dict[str, int] = {}
        self._last_ms = self._before_ms = self._newest_ms = -(2**63)
        self._before: dict[str, int] = {}  # of the newest millisecond before this frame
        self._at_newest: dict[str, int] = {}
        self._sent_again = False

    def count(self, name: str, time_ms: int, received_at: int) -> int:
        """How many came before this one; it is counted."""
        if received_at != self._frame:
            self._frame, self._in_frame, self._sent_again = received_at, {}, False
            self._before_ms, self._before = self._newest_ms, dict(self._at_newest)
            self._last_ms = time_ms
        if time_ms < self._before_ms or time_ms < self._last_ms:  # also a frame with the newest trade first
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
