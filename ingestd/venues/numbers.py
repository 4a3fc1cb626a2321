"""Reads prices and sizes in frames; the venue's own text is kept."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

Number = Any
"""A JSON number, decoded with `float_hook=str`: a text if it has a fraction. `number_text` checks it."""


class PricedLevel(msgspec.Struct, gc=False):
    """A row of a book, as both of Kraken's venues send it."""

    price: Number
    qty: Number


def number_text(number: object) -> str:
    """The text of a JSON number that a decoder with `float_hook=str` returned. Raises ValueError if it is not one."""
    kind = type(number)
    if kind is str and number:
        return number  # type: ignore[return-value]  # the type is checked above
    if kind is int:
        return str(number)
    raise ValueError(f"no number: {str(number)[:40]!r}")


def level_texts(levels: list[PricedLevel]) -> list[tuple[str, str]]:
    """The rows of a book as texts. Raises ValueError if one has no number."""
    return [(number_text(level.price), number_text(level.qty)) for level in levels]


def optional_number(number: object) -> str | None:
    """The text of a JSON number; None if it is missing. Raises ValueError if it is no number."""
    return None if number is None else number_text(number)


def best_price(text: str | None) -> str | None:
    """The price of a best bid or ask; None if that side is empty: a missing price, an empty text, or zero.

    Raises ValueError if the text is not a number.
    """
    return text if text and float(text) else None


def as_int(value: Any) -> int | None:
    """The value as an integer; None if it is not one."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def annualised_rate(rate: str, interval_hours: str) -> str | None:
    """A funding rate times the number of intervals in 365 days; None if either is not a number."""
    try:
        return f"{Decimal(rate) * (365 * 24) / Decimal(interval_hours):f}"
    except (InvalidOperation, ZeroDivisionError):
        return None
