"""Nado."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues.book_frames import NumberedFrame
from ingestd.venues.counting import Counting
from ingestd.venues.facts import CcxtBooks, Corrections, Facts
from ingestd.venues.numbering import Numbering


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The numbered frames. The snapshot comes over REST. https://docs.nado.xyz/developer-resources/api/subscriptions/events"""
    if isinstance(frame, dict) and frame.get("type") == "book_depth":
        yield NumberedFrame(frame, str(frame.get("product_id")), frame, is_whole=False)


FACTS = (
    Facts(
        exchange="nado",
        # The exchange states both count and value, and value = count × price: https://docs.gemini.com/rest/derivatives#get-risk-stats
        # https://docs.nado.xyz/developer-resources/api/v2/contracts, and for XT
        # https://doc.xt.com/docs/futures/MarketData/get-the-open-position-of-a-trading-pair
        open_interest=Counting("base", other="base"),
        books=CcxtBooks(
            numbering=Numbering((), ("max_timestamp",), before=("last_max_timestamp",), by_time=True),
            numbered_frames=_numbered_frames,
            gathered_here=True,
        ),
        corrections=Corrections(
            # nanoseconds
            book_times=(("max_timestamp",),),
        ),
    ),
)
