"""A market's other two names, beside the unified symbol: `BTCUSDT` (compact) and `BTC-USDT` (dash).

A name depends only on the unified symbol and on whether the venue trades spot. It does not depend on other markets, so
a new listing renames nothing. Two markets of a venue never share a name.

| market | unified | compact | dash |
|---|---|---|---|
| spot | `BTC/USDT` | `BTCUSDT` | `BTC-USDT` |
| perpetual, settled in its quote | `BTC/USDT:USDT` | `BTCUSDT.P` | `BTC-USDT.P` |
| the same, on a venue without spot | `BTC/USD:USD` | `BTCUSD` | `BTC-USD` |
| perpetual, settled in another coin | `BTC/USD:BTC` | `BTCUSD.BTC.P`, without spot `BTCUSD.BTC` | `BTC-USD.BTC.P` |
| dated | `BTC/USD:BTC-261225` | `BTCUSD.BTC-261225` | `BTC-USD.BTC-261225` |
| option | `BTC/USDT:USDT-261225-50000-C` | `BTCUSDT-261225-50000-C` | `BTC-USDT-261225-50000-C` |
"""

from __future__ import annotations

import difflib
from collections.abc import Collection

from ingestd.venues.all import FACTS

CONTRACTS_ONLY = frozenset(exchange for exchange, facts in FACTS.items() if facts.contracts_only)
_QUOTES_IN_COINS = frozenset(exchange for exchange, facts in FACTS.items() if facts.quotes_in_coins)

_QUOTES = frozenset({
    "AED", "ARS", "AUD", "BRL", "CAD", "CHF", "CNY", "COP", "CZK", "EUR", "GBP", "GHS", "HKD", "HUF", "IDR", "ILS",
    "INR", "JPY", "KES", "KRW", "KZT", "MXN", "MYR", "NGN", "NZD", "PHP", "PKR", "PLN", "RON", "RUB", "SEK", "SGD",
    "THB", "TRY", "TWD", "UAH", "USD", "VND", "ZAR",
    "BIDR", "BKRW", "BUSD", "BVND", "CUSD", "DAI", "EURC", "EURI", "EURQ", "EURR", "EURS", "EURT", "FDUSD",
    "GUSD", "GYEN", "HUSD", "IDRT", "LUSD", "PAX", "PAXG", "PYUSD", "RLUSD", "SUSD", "TUSD", "USD1", "USDC", "USDD",
    "USDE", "USDG", "USDH", "USDK", "USDP", "USDQ", "USDR", "USDS", "USDT", "USDT0", "USDX", "UST", "USTC", "VAI",
    "XAUT", "XUSD", "ZUSD",
    "ADA", "BCH", "BGB", "BNB", "BNT", "BTC", "CRO", "DOGE", "DOT", "ETH", "FTT", "GT", "HT", "KCS", "LINK",
    "LTC", "MATIC", "MX", "NEO", "OKB", "SOL", "TRX", "XBT", "XLM", "XMR", "XRP",
})  # fmt: skip

_MAJORS = frozenset({
    "ADA", "AVAX", "BCH", "BNB", "BTC", "DOGE", "DOT", "ETC", "ETH", "LINK", "LTC", "MATIC", "SOL", "TRX", "USDC",
    "USDT", "XBT", "XLM", "XMR", "XRP",
})  # fmt: skip


def compact_symbol(exchange: str, symbol: str) -> str:
    """The compact name. A pair that would read as another one (`BTCB/USD` as `BTC/BUSD`) is written `BTCB_USD`."""
    terms = _terms(exchange, symbol)
    if terms is None:
        return _unreadable(symbol)
    base, quote, rest = terms
    together = base + quote
    return (together if _read(exchange, together) == (base, quote) else f"{base}_{quote}") + rest


def dash_symbol(exchange: str, symbol: str) -> str:
    """The name with a dash between base and quote."""
    terms = _terms(exchange, symbol)
    if terms is None:
        return _unreadable(symbol)
    base, quote, rest = terms
    return f"{base}-{quote}{rest}"


def unified_guess(name: str) -> str:
    """A guess at the unified symbol that a name means: the name itself if it has that form; empty if there is none."""
    if _terms("", name) is not None and not name.islower():
        return name
    pair = name.upper().replace("-", "/").replace("_", "/")
    if "/" not in pair:
        base, quote = _read("", pair)
        pair = f"{base}/{quote}" if base and quote in _QUOTES else ""
    return pair if pair.count("/") == 1 and _terms("", pair) is not None else ""


def _terms(exchange: str, symbol: str) -> tuple[str, str, str] | None:
    """Base, quote, and the common suffix of both names; None if the symbol does not have the unified form."""
    pair, has_settlement, settlement = symbol.partition(":")
    base, _, quote = pair.partition("/")
    settle, is_dated, dates = settlement.partition("-")
    if not base or not quote or (has_settlement and not settle) or (is_dated and not dates):
        return None
    trades_spot = exchange not in CONTRACTS_ONLY
    if not has_settlement:
        return _code(base), _code(quote), "" if trades_spot else "@spot"
    rest = "" if settle == quote else f".{_code(settle)}"
    if is_dated:
        return _code(base), _code(quote), f"{rest}-{_escaped(dates, '-.')}"
    return _code(base), _code(quote), f"{rest}.P" if trades_spot else rest


def _read(exchange: str, name: str) -> tuple[str, str]:
    """Split a compact name into base and quote."""
    quotes = [quote for start in range(1, len(name)) if (quote := name[start:]) in _QUOTES]  # the longest first
    if not quotes:
        return name[:-3], name[-3:]
    # `BTCBUSD` may end with BUSD or with USD, `BNBUSD` too.
    known = next((quote for quote in quotes if name.removesuffix(quote) in _MAJORS), None)
    quote = known or quotes[0 if exchange in _QUOTES_IN_COINS else -1]
    return name.removesuffix(quote), quote


def _code(currency: str) -> str:
    """A currency's code, with characters escaped that separate parts of a name or key, or belong to patterns."""
    return "".join("~" if character == "-" else _escaped(character) for character in currency)


def _escaped(text: str, kept: str = "") -> str:
    return "".join(c if c.isalnum() or c in kept else "".join(f"%{byte:02X}" for byte in c.encode()) for c in text)


def _unreadable(symbol: str) -> str:
    return "." + _escaped(symbol, "-.")


def nearest_markets(name: str, markets: Collection[str]) -> str:
    """A hint `nearest: …` with up to three similar symbols, regardless of case and separators; empty if none."""
    bare = _bare(name)
    alike = [symbol for symbol in markets if _bare(symbol) == bare]
    near = alike or difflib.get_close_matches(name.upper(), list(markets), n=3, cutoff=0.6)
    return f"nearest: {', '.join(near[:3])}" if near else ""


def _bare(name: str) -> str:
    """The name in capitals without separators: equal for `BTC/USDT`, `btc-usdt` and `BTCUSDT`."""
    return "".join(character for character in name if character.isalnum()).upper()
