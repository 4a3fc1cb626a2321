"""Reads prices and sizes in frames; the venue's own text is kept."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_HOURS_PER_YEAR = 365 * 24


def number_text(number: object) -> str:
    """The text of a JSON number that a decoder with `float_hook=str` returned. Raises ValueError if it is not one."""
    kind = type(number)
    if kind is str and number:
        return number  # type: ignore[return-value]  # the type is checked above
    if kind is int:
        return str(number)
    raise ValueError(f"no number: {str(number)[:40]!r}")


def optional_number(number: object) -> str | None:
    """The text of a JSON number that may be missing."""
    return None if number is None else number_text(number)


def best_price(text: str | None) -> str | None:
    """The price of a best bid or ask; None if that side is empty: a missing price, an empty text, or zero.

    Raises ValueError if the text is not a number.
    """
    return text if text and float(text) else None


def annualised_rate(rate: str, interval_hours: str) -> str | None:
    """A funding rate times the number of intervals in 365 days; None if either is not a number."""
    try:
        return f"{Decimal(rate) * _HOURS_PER_YEAR / Decimal(interval_hours):f}"
    except (InvalidOperation, ZeroDivisionError):
        return None
