"""Translates symbols at the door of a sink: records carry unified symbols, and each sink stores or sends one style."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ingestd.config.values import SymbolStyle
from ingestd.errors import MarketUnknown
from ingestd.status import MarketInfo
from ingestd.venues.symbol_names import compact_symbol, dash_symbol, unified_guess, unified_symbol, venue_symbol

UNKNOWN_MARKET = "unknown_market"
"""The reason for which a record is put aside whose market has no name in the configured style."""

_NAMES_KEPT = 200_000  # more can only be invented


class KnownMarkets:
    """The venues' own names of the markets that this process knows of, each unique within its venue.

    It learns them from the feeds' lists of markets, from Kafka messages and from the table `symbols`. The table is
    right, whatever was learned before: rows are stored under its names. Else what was learned first stays.
    """

    def __init__(
        self,
        listed: Callable[[], Sequence[MarketInfo]] = tuple,
        *,
        awaited: Collection[str] = (),
        from_table: bool = False,
    ) -> None:
        """`listed` returns the markets of all feeds; it is asked again when a market is not known. `awaited`: the
        exchanges of which feeds will bring lists; until then a market that is not known may still be one. `from_table`:
        learn those of the table `symbols`, whatever the style of the tables is."""
        self.from_table = from_table
        self._listed = listed
        self._awaited = awaited
        self._read: Sequence[MarketInfo] = ()
        self._names: dict[tuple[str, str], str] = {}
        self._symbols: dict[tuple[str, str], str] = {}
        self._exchanges: set[str] = set()  # whose lists feeds have brought
        self.heard: dict[tuple[str, str], str] = {}
        """Names from messages, until the table `symbols` has them: those of the next process must be the same."""

    def learn(self, exchange: str, symbol: str, name: str) -> None:
        """Remember a market's name, unless the market or the name is known already, or there are too many."""
        is_new = (exchange, symbol) not in self._names and (exchange, name) not in self._symbols
        if is_new and len(self._names) < _NAMES_KEPT:
            self._names[exchange, symbol] = name
            self._symbols[exchange, name] = symbol

    def hear(self, exchange: str, symbol: str, name: str) -> None:
        """Learn a market's name from a message."""
        count = len(self._names)
        self.learn(exchange, symbol, name)
        if len(self._names) > count:
            self.heard[exchange, symbol] = name

    def learn_stored(self, exchange: str, symbol: str, name: str) -> None:
        """Remember the name that the table `symbols` has for a market, instead of any other one."""
        if self._names.get((exchange, symbol)) != name:
            if (known := self._names.pop((exchange, symbol), None)) is not None:
                del self._symbols[exchange, known]
            if (other := self._symbols.pop((exchange, name), None)) is not None:
                del self._names[exchange, other]
            self.learn(exchange, symbol, name)

    def name(self, exchange: str, symbol: str) -> str | None:
        """The venue's own name of a market; None if the market is not known."""
        found = self._names.get((exchange, symbol))
        return self._names.get((exchange, symbol)) if found is None and self._read_lists() else found

    def symbol(self, exchange: str, name: str) -> str | None:
        """The unified symbol of the market with this name; None if no known market has it."""
        found = self._symbols.get((exchange, name))
        return self._symbols.get((exchange, name)) if found is None and self._read_lists() else found

    def awaits(self, exchange: str) -> bool:
        """Whether a feed is still to bring this venue's list."""
        return exchange in self._awaited and exchange not in self._exchanges

    def _read_lists(self) -> bool:
        """Learn from the feeds' lists. False: they are the same as before."""
        listed = self._listed()
        if listed == self._read:
            return False
        self._read = listed
        for market in listed:
            self._exchanges.add(market.exchange)
            self.learn(market.exchange, market.symbol, venue_symbol(market.exchange, market.symbol, market.market_id))
        return True


class Names:
    """The names of one style: of a market's unified symbol, and back."""

    def __init__(self, style: SymbolStyle = "unified", known: KnownMarkets | None = None) -> None:
        """`known` is needed by the style `venue` alone; every other name follows from the symbol."""
        self.style = style
        self.known = KnownMarkets() if known is None else known
        self._kept: dict[tuple[str, str], str] = {}

    def name(self, exchange: str, symbol: str) -> str:
        """The market's name in this style. Raises MarketUnknown."""
        if self.style == "unified":
            return symbol
        if self.style == "venue":
            return self._of_venue(exchange, symbol)
        name = self._kept.get((exchange, symbol))
        if name is None:
            name = self._made(exchange, symbol)
            if len(self._kept) >= _NAMES_KEPT:
                self._kept.clear()
            self._kept[exchange, symbol] = name
        return name

    def symbol(self, exchange: str, name: str) -> str:
        """The unified symbol of the market that has this name; the name itself if none has."""
        if self.style == "unified":
            return name
        found = (
            self.known.symbol(exchange, name) if self.style == "venue" else unified_symbol(exchange, name, self.style)
        )
        return name if found is None else found

    def meant(self, exchange: str, name: str) -> str | None:
        """The unified symbol that a text of another program means: a name of this style, or a symbol; None if it is
        neither."""
        symbol = self.symbol(exchange, name)
        if symbol != name or self.style == "unified" or unified_guess(name) == name:
            return symbol
        return symbol if self.has(exchange, symbol) and self.name(exchange, symbol) == name else None

    def has(self, exchange: str, symbol: str) -> bool:
        """Whether the market has a name. Raises MarketUnknown while a feed is still to bring its venue's list."""
        try:
            self.name(exchange, symbol)
        except MarketUnknown:
            if self.known.awaits(exchange):
                raise
            return False
        return True

    def _made(self, exchange: str, symbol: str) -> str:
        return (compact_symbol if self.style == "compact" else dash_symbol)(exchange, symbol)

    def _of_venue(self, exchange: str, symbol: str) -> str:
        name = self.known.name(exchange, symbol)
        if name is None:
            raise MarketUnknown(
                f"the venue's own name of {symbol} on {exchange} is not known, and symbol_style is 'venue'; it comes "
                "with the list of markets, which a feed loads, or from the table symbols"
            )
        return name
