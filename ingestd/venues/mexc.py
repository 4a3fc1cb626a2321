"""MEXC."""

from __future__ import annotations

from typing import Any

from ingestd.venues import families
from ingestd.venues.ccxt_books import CcxtBooks, Numbering
from ingestd.venues.corrections import Changes, Corrections, Trade
from ingestd.venues.facts import Ccxt, Facts, Quantities


def _corrected(trade: Trade, _info: Any) -> Changes:
    """For a trade without an id ccxt makes one of its fields: two equal trades of a millisecond would share it."""
    made_up = f"{trade.get('timestamp')}-{trade.get('side')}-"
    return {"id": None} if str(trade.get("id")).startswith(made_up) else {}


FACTS = Facts(
    exchange="mexc",
    # "volume of contracts", of contractSize: https://mexcdevelop.github.io/apidocs/contract_v1_en/
    quantities=Quantities(in_contracts=True),
    families_by_request=(("contract", families.CONTRACTS), ("spot", families.SPOT)),
    quotes_in_coins=True,
    # ccxt has a stream of best prices for spot only; the tickers of contracts have the day's limits instead
    ccxt=Ccxt(ticks_from_books_of=frozenset({"swap"})),
    corrections=Corrections(trade=_corrected),
    books=CcxtBooks(
        numbering=Numbering(("fromVersion", "begin", "version", "r"), ("toVersion", "end", "version", "r"))
    ),
)
