"""The units in which exchanges state open interest, and corrections of what ccxt misreads. Pure.

If an exchange's file states no unit, the unit is unknown; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.feeds.markets.symbols import kind_by_name
from ingestd.records import OpenInterestUnit
from ingestd.venues.all import facts_of
from ingestd.venues.counting import Counting, Kind
from ingestd.venues.exact import decimal_text

_KINDS: Mapping[str, Kind] = {"linear": "linear", "inverse": "inverse", "option": "option"}


def unit_of(exchange: str, symbol: str) -> OpenInterestUnit | None:
    """The unit of this market's open interest on this exchange; None if unknown."""
    return facts_of(exchange).open_interest.unit(kind_of(symbol))


def kind_of(symbol: str) -> Kind:
    """The kind of contract, derived from its unified symbol."""
    return _KINDS.get(kind_by_name(symbol), "other")


def counted(
    exchange: str, symbol: str, interest: Mapping[str, Any]
) -> tuple[str | None, str | None, OpenInterestUnit | None]:
    """The open interest in the exchange's unit, its value in the quote currency, and the unit.

    `interest` is ccxt's dict. An exchange that counts in the quote currency gives only the value.
    """
    amount = decimal_text(interest.get("openInterestAmount"))
    value = decimal_text(interest.get("openInterestValue"))
    venue, kind = facts_of(exchange).open_interest, kind_of(symbol)
    info = interest.get("info")
    if amount is None and venue.unread is not None and isinstance(info, Mapping):
        amount = decimal_text(info.get(venue.unread))
    if kind in venue.no_value:
        value = None
    if kind in venue.misplaced and amount is None:
        amount, value = value, None
    if kind in venue.valued:
        amount, value = None, amount
    if amount is None:
        return None, value, "quote" if venue != Counting() else None
    return amount, value, (venue.unit_of_sample and venue.unit_of_sample(info)) or venue.unit(kind)
