"""Finds the markets that a text of an exchange names, such as an error message. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_WORD = re.compile(r"[A-Za-z0-9]+")
_MOST_WORDS = 6  # words of one name, such as BTC-USD-260327-40000-C
_SHORT = 4  # names up to this length may be English words: they count only as a complete JSON string


class MarketNames:
    """Finds markets by their names: the symbol, the exchange's id, and the usual spellings of a pair. Ignores case.

    `markets`: ccxt's dicts by symbol.
    """

    def __init__(self, markets: Mapping[str, Mapping[str, Any]]) -> None:
        self.markets = markets
        self._symbols: dict[str, set[str]] = {}
        for symbol, market in markets.items():
            for name in _names(symbol, market):
                self._symbols.setdefault(name.lower(), set()).add(symbol)

    def named_in(self, text: str) -> frozenset[str]:
        """The symbols of all names in the text. Longer names win: `BTC-USDT-SWAP` does not name `BTC-USDT`."""
        words = [match.span() for match in _WORD.finditer(text)]
        found: set[str] = set()
        first = 0
        while first < len(words):
            for last in range(min(first + _MOST_WORDS, len(words)) - 1, first - 1, -1):
                start, end = words[first][0], words[last][1]
                symbols = self._symbols.get(text[start:end].lower())
                if symbols and (end - start > _SHORT or _is_whole(text, start, end)):
                    found |= symbols
                    first = last
                    break
            first += 1
        return frozenset(found)


def _names(symbol: str, market: Mapping[str, Any]) -> Iterator[str]:
    yield symbol
    yield str(market.get("id") or symbol)
    if market.get("spot"):
        base, quote = str(market.get("base")), str(market.get("quote"))
        yield from (f"{base}{between}{quote}" for between in ("", "-", "_", "/"))


def _is_whole(text: str, start: int, end: int) -> bool:
    return text[start - 1 : start] == '"' and text[end : end + 1] in ('"', "\\")


def book_named_in(message_hash: str, symbols: Iterable[str]) -> str | None:
    """The symbol in `orderbook:BTC/USDT`, `books:BTC/USDT:USDT` or `orderbook@BTC/USDT`, if it is one of `symbols`."""
    ending = [symbol for symbol in symbols if message_hash.endswith((f":{symbol}", f"@{symbol}"))]
    return max(ending, key=len, default=None)
