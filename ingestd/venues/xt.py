"""XT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ingestd.venues import families
from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.decoding import at, part
from ingestd.venues.exact import decimal_text
from ingestd.venues.facts import QUANTITIES_AS_IN_CCXT, Ccxt, Facts, OpenInterestUnits


def _corrected(_trade: Trade, info: Any) -> Changes:
    """Take the amount of a contract trade as XT sends it (`a`): a number of contracts, as in books.

    ccxt multiplies it by the contract size. A spot trade has its amount in `q`, which ccxt reads correctly.

    https://doc.xt.com/docs/futures/WebSocket/Public/Trade%20Record
    """
    amount = decimal_text(at(info, "a")) if at(info, "q") is None else None
    return {} if amount is None else {"amount": amount}


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read the book changes in a frame. The snapshot comes over REST.

    https://doc.xt.com/docs/spot/WebSocket%20Public/IncrementalDepth and
    https://doc.xt.com/docs/futures/WebsocKetV2/IncrementalDepth
    """
    data = part(frame, "data")
    if str(at(frame, "event")).startswith("depth_update@") and data:
        yield NumberedFrame(frame, str(data.get("s")), data, False, "contract" if "fu" in data else "spot")


FACTS = Facts(
    exchange="xt",
    quantities=QUANTITIES_AS_IN_CCXT,
    # XT states a count and a value, and value = count × price; so the count is in base currency:
    # https://doc.xt.com/docs/futures/MarketData/get-the-open-position-of-a-trading-pair
    open_interest=OpenInterestUnits("base", other="base"),
    families_by_request=(("spot", families.SPOT), ("linear", families.LINEAR), ("inverse", families.INVERSE)),
    ccxt=Ccxt(ticks_from_books=True, unserved={"future": frozenset({"open_interest"})}),
    corrections=Corrections(trade=_corrected),
    books=CcxtBooks(numbering=Numbering(("fi", "fu"), ("i", "u"), before=("pu",)), numbered_frames=_numbered_frames),
)
