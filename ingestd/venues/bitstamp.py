"""Bitstamp."""

from __future__ import annotations

from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, Numbering
from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.decoding import at
from ingestd.venues.facts import Facts
from ingestd.venues.trades import Trades


def _corrected(_trade: Trade, info: Any) -> Changes:
    """Take price and amount from the message's texts, which are exact: `price` 3800.8 is `price_str` "3800.80".

    https://www.bitstamp.net/websocket/v2/
    """
    texts = {"price": at(info, "price_str"), "amount": at(info, "amount_str")}
    return {field: text for field, text in texts.items() if isinstance(text, str) and text}


FACTS = Facts(
    exchange="bitstamp",
    example_market="BTC/USD",
    # the socket gives a trade's time in microseconds (`microtimestamp`, https://www.bitstamp.net/websocket/v2/),
    # REST in seconds (`date`, https://www.bitstamp.net/api/#tag/Transactions-public)
    trades=Trades(two_times=True),
    corrections=Corrections(
        trade=_corrected,
        # the sequence number of a book is its time in microseconds
        book_times=(("data", "microtimestamp"), ("nonce",)),
    ),
    # https://www.bitstamp.net/websocket/v2/
    books=CcxtBooks(numbering=Numbering((), ("microtimestamp",), consecutive=False)),
)
