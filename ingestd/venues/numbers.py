"""Prices and sizes of frames, in the venue's own text."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_HOURS_PER_YEAR = 365 * 24


def number_text(number: object) -> str:
    """The text of a JSON number, as a decoder with `float_hook=str` gives it. Raises ValueError on what is none."""
    kind = type(number)
    if kind is str and number:
        return number  # type: ignore[return-value]  # its type is asked for above
    if kind is int:
        return str(number)
    raise ValueError(f"no number: {str(number)[:40]!r}")


def optional_number(number: object) -> str | None:
    """The same of a field that may be missing."""
    return None if number is None else number_text(number)


def best_price(text: str | None) -> str | None:
    """A best bid or ask; None where the venue says that there is none: nothing, an empty text, or zero.

    Raises ValueError on what is no number.
    """
    return text if text and float(text) else None


def annualised_rate(rate: str, interval_hours: str) -> str | None:
    """A funding rate times the intervals in 365 days; None where either is no number."""
    try:
        return f"{Decimal(rate) * _HOURS_PER_YEAR / Decimal(interval_hours):f}"
    except (InvalidOperation, ZeroDivisionError):
        return None
