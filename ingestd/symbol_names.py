"""The short name of a market, `BTCUSDT`: how the views, caches and channels of the source documents write symbols."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable


def compact_symbol(symbol: str, *, beside_spot: bool) -> str:
    """The short name: `BTC/USDT` and `BTC/USDT:USDT` are `BTCUSDT`, a dated future `BTCUSDT-261225`.

    With `beside_spot` (the venue lists the spot pair too) a perpetual is told apart: `BTCUSDT.P`.
    """
    pair, _, settlement = symbol.partition(":")
    name = pair.replace("/", "")
    if not settlement:
        return name
    _, dated, terms = settlement.partition("-")
    if dated:
        return f"{name}-{terms}"
    return f"{name}.P" if beside_spot else name


def compact_name(exchange: str, symbol: str, known: Collection[tuple[str, str]]) -> str:
    """The short name of a market among the `known` (exchange, symbol) of its venue."""
    pair = symbol.partition(":")[0]
    return compact_symbol(symbol, beside_spot=pair != symbol and (exchange, pair) in known)


class CompactNames:
    """Short names by what the venues list now.

    While a venue's markets are not loaded a perpetual is taken to stand beside its spot pair: a name that is too
    long is corrected later, two markets under one name would be a wrong price.
    """

    def __init__(self, markets: Callable[[], Iterable[tuple[str, str]]]) -> None:
        """`markets` gives the (exchange, symbol) of every market that is loaded."""
        self._markets = markets
        self._known: frozenset[tuple[str, str]] = frozenset()
        self._exchanges: frozenset[str] = frozenset()

    def loaded(self, exchange: str) -> bool:
        """Whether this venue's markets are known, so that a name is final."""
        if exchange not in self._exchanges:
            self._known = frozenset(self._markets())
            self._exchanges = frozenset(name for name, _ in self._known)
        return exchange in self._exchanges

    def __call__(self, exchange: str, symbol: str) -> str:
        """The short name of this market."""
        if not self.loaded(exchange):
            return compact_symbol(symbol, beside_spot=True)
        return compact_name(exchange, symbol, self._known)
