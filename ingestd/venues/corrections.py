"""Corrections of what ccxt makes of an exchange's messages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestd.venues.decoding import at
from ingestd.venues.names import VenueNames
from ingestd.venues.venue import Markets

Trade = Mapping[str, Any]
"""ccxt's dict of a trade."""

Changes = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrections:
    """Corrections where ccxt contradicts the exchange's documents or leaves data out.

    `market`: corrects ccxt's dict of a market. Its second argument returns ccxt's code of a currency.
    `trade`: the changes to ccxt's dict of a trade, from that dict and the raw message.
    `frame`: the frames that ccxt reads in place of a received one.
    `ticker_time`: the field with a ticker's time.
    `book_times`: paths to the time of a book's change (the first one present counts), if ccxt leaves the time of the
    snapshot in the book, or drops digits.
    `ahead_of_utc_ms`: how far the socket's local times are ahead of UTC; ccxt reads them as UTC.
    `names`: makes the translator of market names for a new socket, if ccxt uses other names than the exchange.
    """

    market: Callable[[Mapping[str, Any], Callable[[str], str]], Mapping[str, Any]] | None = None
    trade: Callable[[Trade, Any], Changes] | None = None
    frame: Callable[[Any], Sequence[Any]] | None = None
    ticker_time: str | None = None
    book_times: Sequence[Sequence[str | int]] = ()
    ahead_of_utc_ms: int = 0
    names: Callable[[Callable[[], Markets]], VenueNames] | None = None


_OTHER_SIDE = {"buy": "sell", "sell": "buy"}


def time_of(field: str) -> Callable[[Trade, Any], Changes]:
    """Take a trade's time from this field of the message, in milliseconds or microseconds since the epoch."""

    def correction(_trade: Trade, info: Any) -> Changes:
        value = at(info, field)
        number = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
        return {"timestamp": number} if isinstance(number, int) and number > 0 else {}

    return correction


def other_side(makers: Any) -> Changes:
    """Set the taker side to the opposite of the maker's."""
    takers = _OTHER_SIDE.get(str(makers).lower())
    return {} if takers is None else {"side": takers}


def makers_side(_trade: Trade, info: Any) -> Changes:
    """Correct the side of Coinbase's trades: on both of its venues, `side` is the maker's.

    https://docs.cdp.coinbase.com/exchange/websocket-feed/channels#match ("the maker order side");
    https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/advanced-trade-asyncapi.json ("the maker's side of
    the trade").
    """
    return other_side(at(info, "side"))
