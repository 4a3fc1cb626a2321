"""HTX, once Huobi."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ingestd.records import OpenInterestUnit
from ingestd.venues import families
from ingestd.venues.ccxt_books import CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.decoding import at, part
from ingestd.venues.facts import IN_CONTRACTS, Ccxt, Facts, Quantities


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read books of contracts: after a missing change ccxt ignores every later one, but still returns the book.

    https://huobiapi.github.io/docs/usdt_swap/v1/en/#general-subscribe-incremental-market-depth-data
    """
    tick, channel = part(frame, "tick"), str(at(frame, "ch"))
    if "version" in tick and ".depth.size_" in channel:
        yield NumberedFrame(frame, channel.split(".")[1], tick, tick.get("event") == "snapshot")


def _unit_of_sample(info: Any) -> OpenInterestUnit | None:
    """The unit of a row of the history: base if `amount_type` is 2; None if it is 1, for contracts, as usual."""
    return "base" if str(at(info, "amount_type")) == "2" else None


FACTS = Facts(
    exchange="htx",
    former_names=("huobi", "huobipro", "huobidm", "huobiswap"),
    # amount: "Quantity(Cont.)", of contract_size: https://huobiapi.github.io/docs/usdt_swap/v1/en/
    quantities=Quantities(in_contracts=True),
    # volume: "Position quantity(volume)", beside the currency's; "Sum of both buy and sell sides" where
    # settled in USDT
    # https://huobiapi.github.io/docs/coin_margined_swap/v1/en/#query-information-on-open-interest
    open_interest=replace(IN_CONTRACTS, unit_of_sample=_unit_of_sample),
    families_by_request=(
        ("linear-swap-api", families.LINEAR),
        ("swap-api", families.INVERSE),
        ("contract_contract_info", families.DATED),
        ("common/symbols", families.SPOT),
    ),
    quotes_in_coins=True,
    # "Best Bid/Offer": the default, `detail`, has neither: https://www.htx.com/en-us/opend/newApiPages/
    ccxt=Ccxt(options={"watchTicker": {"name": "market.{marketId}.bbo"}}),
    books=CcxtBooks(
        # for contracts; for spot ccxt compares the sequence numbers
        numbering=Numbering(("version",), ("version",)),
        numbered_frames=_numbered_frames,
        kept_when_broken=True,
    ),
)
