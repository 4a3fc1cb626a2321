"""KuCoin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues import families
from ingestd.venues.ccxt_books import BookFrame, CcxtBooks, Numbering
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at
from ingestd.venues.facts import IN_CONTRACTS, QUANTITIES_AS_IN_CCXT, Facts


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """In the channels of 5 and 50 levels every message is a snapshot."""
    topic = str(at(frame, "topic"))
    return BookFrame(topic.rpartition(":")[2]) if "Depth" in topic and at(frame, "data") else None


FACTS = Facts(
    exchange="kucoin",
    quantities=QUANTITIES_AS_IN_CCXT,
    # in lots, which are contracts;
    # https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-symbol
    open_interest=IN_CONTRACTS,
    families_by_request=(
        ("futuresPublic", families.CONTRACTS),
        ("=FUTURES", families.CONTRACTS),
        ("=SPOT", families.SPOT),
        ("private", families.BESIDE),
        ("market/allTickers", families.BESIDE),
        ("public symbols", families.SPOT),
    ),
    quotes_in_coins=True,
    corrections=Corrections(book_times=(("data", "M"), ("data", "ts"))),  # nanoseconds
    books=CcxtBooks(
        numbering=Numbering(("sequenceStart", "sequence", "O"), ("sequenceEnd", "sequence", "C")),
        whole_book=_whole_book,
    ),
)
