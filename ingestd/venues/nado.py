"""Nado."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at
from ingestd.venues.facts import Facts, OpenInterestUnits


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read an update of a book; no frame is a snapshot, since that comes over REST.

    https://docs.nado.xyz/developer-resources/api/subscriptions/events
    """
    if at(frame, "type") == "book_depth":
        yield NumberedFrame(frame, str(frame.get("product_id")), frame, is_whole=False)


FACTS = Facts(
    exchange="nado",
    # Nado states the open interest as count and as value, and value = count × price:
    # https://docs.nado.xyz/developer-resources/api/v2/contracts
    open_interest=OpenInterestUnits("base", other="base"),
    books=CcxtBooks(
        numbering=Numbering((), ("max_timestamp",), before=("last_max_timestamp",), by_time=True),
        numbered_frames=_numbered_frames,
        buffered_here=True,
    ),
    corrections=Corrections(book_times=(("max_timestamp",),)),  # nanoseconds
)
