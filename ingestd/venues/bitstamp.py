"""Bitstamp."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues.facts import CcxtBooks, Changes, Corrections, Facts, Trade, Trades
from ingestd.venues.numbering import Numbering


def _corrected(_trade: Trade, info: Any) -> Changes:
    """The socket sends each number twice; the text is exact: `price` 3800.8 is `price_str` "3800.80".

    https://www.bitstamp.net/websocket/v2/
    """
    if not isinstance(info, Mapping):
        return {}
    texts = {"price": info.get("price_str"), "amount": info.get("amount_str")}
    return {field: text for field, text in texts.items() if isinstance(text, str) and text}


FACTS = (
    Facts(
        exchange="bitstamp",
        first_market="BTC/USD",
        trades=Trades(
            # socket, `microtimestamp`: microseconds, https://www.bitstamp.net/websocket/v2/; REST, `date`:
            # seconds, https://www.bitstamp.net/api/#tag/Transactions-public
            two_times=True,
        ),
        corrections=Corrections(
            trade=_corrected,
            # the sequence number of a book is its time in microseconds
            book_times=(("data", "microtimestamp"), ("nonce",)),
        ),
        books=CcxtBooks(
            # https://www.bitstamp.net/websocket/v2/
            numbering=Numbering((), ("microtimestamp",), consecutive=False),
        ),
    ),
)
