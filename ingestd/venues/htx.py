"""HTX, once Huobi."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from ingestd.records import OpenInterestUnit
from ingestd.venues import families
from ingestd.venues.book_frames import NumberedFrame, part
from ingestd.venues.counting import IN_CONTRACTS, Quantities
from ingestd.venues.facts import Ccxt, CcxtBooks, Facts
from ingestd.venues.numbering import Numbering


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """For contracts: after a missing change ccxt ignores every later one, but still returns the book.

    https://huobiapi.github.io/docs/usdt_swap/v1/en/#general-subscribe-incremental-market-depth-data
    """
    tick, channel = part(frame, "tick"), str(frame.get("ch") if isinstance(frame, dict) else None)
    if "version" in tick and ".depth.size_" in channel:
        yield NumberedFrame(frame, channel.split(".")[1], tick, tick.get("event") == "snapshot")


def _unit_of_sample(info: Any) -> OpenInterestUnit | None:
    """The unit in a row of the history (`amount_type`): 1 contracts, 2 coins."""
    return "base" if isinstance(info, Mapping) and str(info.get("amount_type")) == "2" else None


FACTS = (
    Facts(
        exchange="htx",
        former_names=("huobi", "huobipro", "huobidm", "huobiswap"),
        quantities=Quantities(
            # amount: "Quantity(Cont.)", of contract_size: https://huobiapi.github.io/docs/usdt_swap/v1/en/
            in_contracts=True,
        ),
        # volume: "Position quantity(volume)", beside the currency's; "Sum of both buy and sell sides" where
        # settled in USDT
        # https://huobiapi.github.io/docs/coin_margined_swap/v1/en/#query-information-on-open-interest
        open_interest=replace(IN_CONTRACTS, unit_of_sample=_unit_of_sample),
        lists=(
            ("linear-swap-api", families.LINEAR),
            ("swap-api", families.INVERSE),
            ("contract_contract_info", families.DATED),
            ("common/symbols", families.SPOT),
        ),
        quotes_in_coins=True,
        ccxt=Ccxt(
            # "Best Bid/Offer": the default, `detail`, has neither: https://www.htx.com/en-us/opend/newApiPages/
            options={"watchTicker": {"name": "market.{marketId}.bbo"}},
        ),
        books=CcxtBooks(
            # for contracts; for spot ccxt compares the sequence numbers
            numbering=Numbering(("version",), ("version",)),
            numbered_frames=_numbered_frames,
            left_standing=True,
        ),
    ),
)
