"""A market's other names, beside the unified symbol: `BTCUSDT` (compact), `BTC-USDT` (dash), and the venue's own.

A name depends only on the market itself and on whether the venue trades spot. It does not depend on other markets, so
a new listing renames nothing. Two markets of a venue never share a compact or a dash name, and each can be read back.

Databases hold these names. So a change of the rules or of the tables here would rename what is stored.

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
import re
from collections.abc import Collection
from typing import Literal
from urllib.parse import unquote

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

# What follows base and quote in a compact or dash name: `.P`, `.BTC`, `.BTC.P` or `@spot`, then the dates.
_REST = r"(@spot|(?:\.[^.@-]+){0,2})(?:-(.+))?"
_COMPACT = re.compile(r"([^.@-]+)" + _REST, re.DOTALL).fullmatch
_DASH = re.compile(r"([^.@-]+-[^.@-]+)" + _REST, re.DOTALL).fullmatch

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


def venue_symbol(exchange: str, symbol: str, market_id: str) -> str:
    """The venue's own name of a market: its id, with the ending of the compact name if a spot market may have that id.

    Binance and others call both the spot market and the perpetual `BTCUSDT`; the perpetual is `BTCUSDT.P` here.
    """
    terms = _terms(exchange, symbol)
    if terms is None or ":" not in symbol:
        return market_id
    base, quote, rest = terms
    return market_id + rest if _bare(market_id) == _bare(base + quote) else market_id


def unified_symbol(exchange: str, name: str, style: Literal["compact", "dash"]) -> str | None:
    """The unified symbol of the market that has this compact or dash name; None if no market can have it."""
    symbol = _unified(exchange, name, style)
    written = dash_symbol if style == "dash" else compact_symbol
    return symbol if symbol is not None and written(exchange, symbol) == name else None


def _unified(exchange: str, name: str, style: Literal["compact", "dash"]) -> str | None:
    if name.startswith("."):
        return unquote(name[1:])
    if (parts := (_DASH if style == "dash" else _COMPACT)(name)) is None:
        return None
    pair, rest, dates = parts.groups()
    base, separator, quote = pair.partition("-" if style == "dash" else "_")
    if not separator:
        base, quote = _read(exchange, pair)
    spot = f"{_decoded(base)}/{_decoded(quote)}"
    is_perpetual = dates is None
    if exchange not in CONTRACTS_ONLY:
        if is_perpetual and not rest:
            return spot
        rest = rest.removesuffix(".P") if is_perpetual else rest
    elif rest == "@spot":
        return spot
    return f"{spot}:{_decoded(rest.removeprefix('.') or quote)}" + ("" if is_perpetual else f"-{unquote(dates)}")


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


def _decoded(code: str) -> str:
    """The currency that `_code` has written."""
    return unquote(code.replace("~", "-"))


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
