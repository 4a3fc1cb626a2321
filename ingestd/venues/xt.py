"""XT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ingestd.venues import families
from ingestd.venues.book_frames import NumberedFrame, part
from ingestd.venues.counting import Counting, Quantities
from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import Ccxt, CcxtBooks, Changes, Corrections, Facts, Trade
from ingestd.venues.numbering import Numbering


def _corrected(_trade: Trade, info: Any) -> Changes:
    """For contracts `a` is a number of contracts, as in books; ccxt multiplies it by the contract size.

    https://doc.xt.com/docs/futures/WebSocket/Public/Trade%20Record
    """
    is_contract = isinstance(info, Mapping) and "a" in info and "q" not in info
    amount = decimal_text(info["a"]) if is_contract else None
    return {} if amount is None else {"amount": amount}


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """The numbered frames. The snapshot comes over REST.

    https://doc.xt.com/docs/spot/WebSocket%20Public/IncrementalDepth and
    https://doc.xt.com/docs/futures/WebsocKetV2/IncrementalDepth
    """
    data = part(frame, "data")
    if data and str(frame.get("event")).startswith("depth_update@"):
        yield NumberedFrame(frame, str(data.get("s")), data, False, "contract" if "fu" in data else "spot")


FACTS = (
    Facts(
        exchange="xt",
        quantities=Quantities(
            # by ccxt's convention; no page that contradicts was found
            in_contracts=True,
        ),
        # The exchange states both count and value, and value = count × price: https://docs.gemini.com/rest/derivatives#get-risk-stats
        # https://docs.nado.xyz/developer-resources/api/v2/contracts, and for XT
        # https://doc.xt.com/docs/futures/MarketData/get-the-open-position-of-a-trading-pair
        open_interest=Counting("base", other="base"),
        lists=(("spot", families.SPOT), ("linear", families.LINEAR), ("inverse", families.INVERSE)),
        ccxt=Ccxt(
            ticks_from_books=True,
            unserved={"future": frozenset({"open_interest"})},
        ),
        corrections=Corrections(
            trade=_corrected,
        ),
        books=CcxtBooks(
            numbering=Numbering(("fi", "fu"), ("i", "u"), before=("pu",)),
            numbered_frames=_numbered_frames,
        ),
    ),
)
