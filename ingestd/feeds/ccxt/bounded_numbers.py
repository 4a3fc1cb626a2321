"""Bounds what ccxt makes of an exponent: it writes numbers digit by digit, `1e-2000000000` too, in one turn of a loop.

Numbers that are stored have at most some tens of digits. Nothing here imports ccxt.
"""

from __future__ import annotations

from typing import Any

_MOST_DIGITS = 1000


def require_short(digits: int) -> None:
    """Raises ValueError for a power of ten that would have too many digits."""
    if abs(digits) > _MOST_DIGITS:
        raise ValueError(f"a number with {abs(digits)} digits is not read; {_MOST_DIGITS} are the most")


def bound_exponents(precise: Any) -> None:
    """Let decimal numbers of ccxt's module `precise` raise ValueError where they would be too long."""
    power, text = precise.pow10, precise.Precise.__str__

    def bounded_power(exponent: int) -> Any:
        require_short(exponent)
        return power(exponent)

    def bounded_text(number: Any) -> str:
        require_short(number.decimals)
        return str(text(number))

    precise.pow10, precise.Precise.__str__ = bounded_power, bounded_text
