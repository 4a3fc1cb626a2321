"""Dictionaries that replace ccxt's stores and hand over each update as ccxt writes it.

`await watch_trades()` returns what is left when the waiting task next runs: bursts overflow ccxt's cache of 1,000
trades, and of five tickers in one loop turn only one is delivered. What ccxt *writes* is complete, so the writes are
recorded. Nothing here imports ccxt: a cache is recognised by its `_deque`.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Any

Handover = Callable[[str, Any], None]

KEPT_TRADES = 16  # in a tapped ccxt cache, per symbol: only `watch_trades` returns them, and its result is unused
MOST_STRANGERS = 1_000  # entries whose key is no market's symbol, as a message may contain; then the oldest is evicted


class TappedStore(dict[str, Any]):
    """A dict in which every write goes through `__setitem__`. `is_market`: whether a key is a market's symbol."""

    def __init__(self, handover: Handover, is_market: Callable[[str], bool] = lambda _: True) -> None:
        super().__init__()
        self._handover = handover
        self._is_market = is_market
        self._strangers: deque[str] = deque()

    def __setitem__(self, symbol: str, value: Any) -> None:
        if symbol not in self and not self._is_market(symbol):
            self._strangers.append(symbol)
            if len(self._strangers) > MOST_STRANGERS:
                self._forget(self._strangers.popleft())
        super().__setitem__(symbol, value)

    def _forget(self, symbol: str) -> None:
        super().pop(symbol, None)

    def update(self, *others: Any, **named: Any) -> None:
        for key, value in dict(*others, **named).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]


class UpdateStore(TappedStore):
    """`tickers`, `bidsasks`, `fundingRates`: each assignment is one update."""

    def __setitem__(self, symbol: str, update: Any) -> None:
        super().__setitem__(symbol, update)
        self._handover(symbol, update)


class TradeStore(TappedStore):
    """`trades`: a cache per symbol. A newly stored cache hands over its content once, and from then on each append.

    ccxt's exchanges append before or after they store the cache, store the same cache again, or delete and recreate
    it. In all cases each trade is handed over exactly once.
    """

    def __setitem__(self, symbol: str, cache: Any) -> None:
        if hasattr(cache, "_deque"):
            if not hasattr(cache, "handover"):
                _tap_cache(cache, symbol, self._handover)
        elif isinstance(cache, list):
            for trade in cache:  # a plain list: later appends cannot be tapped, so no exchange may do this
                self._handover(symbol, trade)
        super().__setitem__(symbol, cache)


class BookStore(TappedStore):
    """`orderbooks`: hands over (symbol, None) when a book is replaced or removed, so that the old one is dropped.

    Remembers which socket last accessed each book: `carrier` returns the socket of the frame being handled, or None.
    """

    def __init__(
        self,
        handover: Handover,
        carrier: Callable[[], object | None] = lambda: None,
        is_market: Callable[[str], bool] = lambda _: True,
    ) -> None:
        super().__init__(handover, is_market)
        self._carrier = carrier
        self._carriers: dict[str, object] = {}

    def carried_by(self, carrier: object) -> list[str]:
        """The symbols whose books this socket carries."""
        return [symbol for symbol, known in self._carriers.items() if known is carrier and symbol in self]

    def carrier_of(self, symbol: str) -> object | None:
        """The socket that carries the symbol's book."""
        return self._carriers.get(symbol)

    def __getitem__(self, symbol: str) -> Any:
        self._note(symbol)
        return super().__getitem__(symbol)

    def get(self, symbol: str, default: Any = None) -> Any:
        self._note(symbol)
        return super().get(symbol, default)

    def __setitem__(self, symbol: str, book: Any) -> None:
        if self.get(symbol) is not book:
            self._handover(symbol, None)
        super().__setitem__(symbol, book)
        self._note(symbol)

    def _forget(self, symbol: str) -> None:
        self.pop(symbol, None)
        self._carriers.pop(symbol, None)

    def _note(self, symbol: str) -> None:
        if symbol in self and (carrier := self._carrier()) is not None:
            self._carriers[symbol] = carrier

    def __delitem__(self, symbol: str) -> None:
        self._handover(symbol, None)
        super().__delitem__(symbol)

    def pop(self, symbol: str, *default: Any) -> Any:
        self._handover(symbol, None)
        return super().pop(symbol, *default)


def tap_book(book: Any, *, is_whole: bool) -> Any:
    """Add `is_whole`, `number` and `was_changed` to a book. `is_whole` becomes True when a snapshot is applied.

    `number`: sequence number of the last applied change, where it is checked. `was_changed`: since the snapshot.
    """
    original: Any = type(book)
    book.__class__ = _tapped_book_class(original)
    book.is_whole = is_whole
    book.number = book.get("nonce")
    book.was_changed = False
    return book


@functools.cache
def _tapped_book_class(original: Any) -> Any:
    def reset(self: Any, *snapshot: Any) -> None:
        original.reset(self, *snapshot)
        self.is_whole = True
        self.number = self.get("nonce")
        self.was_changed = False

    known = {"reset": reset, "is_whole": False, "number": None, "was_changed": False}
    return type(f"Tapped{original.__name__}", (original,), known)


def _tap_cache(cache: Any, symbol: str, handover: Handover) -> None:
    original: Any = type(cache)
    held = list(cache._deque)
    for trade in held:
        handover(trade.get("symbol") or symbol, trade)
    cache.clear()
    cache.max_size = KEPT_TRADES
    cache._deque = deque(maxlen=KEPT_TRADES)
    if hasattr(cache, "_index"):
        cache._index = deque(maxlen=KEPT_TRADES)
    for trade in held[-KEPT_TRADES:]:
        original.append(cache, trade)  # ccxt's `getLimit` reads the cache
    cache.handover = handover
    cache.stored_symbol = symbol
    cache.__class__ = _tapped_class(original)


@functools.cache
def _tapped_class(original: Any) -> Any:
    def append(self: Any, trade: dict[str, Any]) -> None:
        self.handover(trade.get("symbol") or self.stored_symbol, trade)
        original.append(self, trade)

    return type(f"Tapped{original.__name__}", (original,), {"append": append})
