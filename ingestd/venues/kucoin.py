"""KuCoin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingestd.venues import families
from ingestd.venues.book_frames import BookFrame
from ingestd.venues.counting import IN_CONTRACTS, Quantities
from ingestd.venues.facts import CcxtBooks, Corrections, Facts
from ingestd.venues.numbering import Numbering


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """In the channels of 5 and 50 levels every message is a snapshot."""
    topic = str(frame.get("topic")) if isinstance(frame, dict) else ""
    return BookFrame(topic.rpartition(":")[2]) if "Depth" in topic and frame.get("data") else None


FACTS = (
    Facts(
        exchange="kucoin",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        # in lots, which are contracts;
        # https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-symbol
        open_interest=IN_CONTRACTS,
        lists=(
            ("futuresPublic", families.CONTRACTS),
            ("=FUTURES", families.CONTRACTS),
            ("=SPOT", families.SPOT),
            ("private", families.BESIDE),
            ("market/allTickers", families.BESIDE),
            ("public symbols", families.SPOT),
        ),
        quotes_in_coins=True,
        corrections=Corrections(
            # nanoseconds
            book_times=(("data", "M"), ("data", "ts")),
        ),
        books=CcxtBooks(
            numbering=Numbering(("sequenceStart", "sequence", "O"), ("sequenceEnd", "sequence", "C")),
            whole_book=_whole_book,
        ),
    ),
)
