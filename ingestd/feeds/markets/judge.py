"""Rejects markets in a venue's list that cannot be followed or stored. Pure.

A venue may list a market with a name that the database refuses, or a number that no column holds.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from ingestd.printable import printable
from ingestd.validation import LONGEST_NAME
from ingestd.venues.exact import decimal_text

_MAX_NAME_BYTES = 384
_MAX_DIGITS = 60
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # stands for bytes that were not UTF-8
_TEXTS = ("symbol", "id", "base", "quote", "settle", "baseId", "quoteId", "settleId", "type")
_NEEDED = ("symbol", "id")
_FLAGS = ("active", "spot", "contract", "swap", "future", "option", "linear", "inverse")
_NUMBERS = ("limits.amount.min", "limits.amount.max", "precision.price", "precision.amount", "contractSize")
_LATEST_MS = 253_402_300_800_000  # the year 10000


def why_malformed(market: Any) -> str | None:
    """Why a market in the exchange library's form is malformed; None if it is valid."""
    if not isinstance(market, Mapping):
        return "is no market"
    for key in _TEXTS:
        value = market.get(key)
        if value is None and key not in _NEEDED:
            continue
        if (why := _why_no_name(value)) is not None:
            return f"its {key} {why}"
    for key in _FLAGS:
        if not (market.get(key) is None or isinstance(market[key], bool)):
            return f"its {key} is neither true nor false"
    if market.get("base") is not None and market.get("settle") is None and market["base"] == market.get("quote"):
        return "its base is its quote"
    if _has_its_id_for_base(market):
        return "its base is missing"
    return _why_numbers(market)


def _has_its_id_for_base(market: Mapping[str, Any]) -> bool:
    """Whether the base is in truth the id: if Binance's list names no base for `BTCUSDT`, ccxt takes the id."""
    base, quote = market.get("base"), market.get("quote")
    return bool(market.get("spot") and base and quote and base == market["id"] != quote and base.endswith(quote))


def _why_no_name(value: Any) -> str | None:
    if not isinstance(value, str):
        return "is missing" if value is None else "is no text"
    if not value.strip():
        return "is empty"
    if value.isascii() and value.isprintable() and len(value) <= LONGEST_NAME:
        return None
    if _REPLACEMENT in value or not value.isprintable():
        return "has characters that cannot be printed"
    if len(value) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} characters"
    return f"is longer than {_MAX_NAME_BYTES} bytes" if len(value.encode()) > _MAX_NAME_BYTES else None


def _why_numbers(market: Mapping[str, Any]) -> str | None:
    for path in _NUMBERS:
        value: Any = market
        for key in path.split("."):
            if value is not None and not isinstance(value, Mapping):
                return f"its {path.partition('.')[0]} are no table"
            value = None if value is None else value.get(key)
        if value is not None and not _is_number(value):
            return f"its {path} is no number that can be stored"
    expiry = market.get("expiry")
    if expiry is None:
        return None
    is_time = isinstance(expiry, (int, float)) and not isinstance(expiry, bool) and 0 <= expiry < _LATEST_MS
    return None if is_time else "its expiry is no time"


def _is_number(value: Any) -> bool:
    try:
        number = Decimal(decimal_text(value) or "")
    except InvalidOperation:
        return False
    digits = number.as_tuple().digits
    return number.is_finite() and len(digits) <= _MAX_DIGITS and abs(number.adjusted()) <= _MAX_DIGITS


def with_ids_of_others(markets: Iterable[Mapping[str, Any]], followed: Container[str]) -> dict[str, str]:
    """The markets to leave out because another market of their type has the same id, each with the reason.

    A message with that id could mean either market. A market that is already followed keeps the id, else the one whose
    base the id names, else the first.
    """
    holders: dict[tuple[Any, ...], str] = {}
    left_out: dict[str, str] = {}
    for market in sorted(markets, key=lambda market: (market["symbol"] not in followed, not _names_its_base(market))):
        key = market["id"], market.get("type"), market.get("settle")
        holder = holders.setdefault(key, market["symbol"])
        if holder != market["symbol"]:
            left_out[market["symbol"]] = f"has the id of {holder}, {market['id']}"
    return left_out


def _names_its_base(market: Mapping[str, Any]) -> bool:
    base = market.get("baseId") or market.get("base")
    return base is not None and base.lower() in market["id"].lower()


def shown_name(entry: Any) -> str:
    """An entry's name for messages: its id, else the start of its text. Printable, at most 80 characters."""
    named = ""
    if isinstance(entry, Mapping):
        values = (entry.get(key) for key in _ID_KEYS)
        named = next((value for value in values if isinstance(value, str) and value), "")
    elif isinstance(entry, list) and entry and isinstance(entry[0], str):
        named = entry[0]
    text = named or repr(entry)[:200]
    return printable(text[:80])


_ID_KEYS = (
    "symbol", "instId", "instrument_name", "id", "market", "name", "ticker", "pair", "product_id", "contract_code",
    "altname", "market_id", "marketId", "symbol_id", "ticker_id", "code", "base_currency", "baseAsset", "baseCoin",
)  # fmt: skip
