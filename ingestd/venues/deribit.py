"""Deribit, and Coinbase International, which runs on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ingestd.venues.ccxt_books import BookFrame, CcxtBooks, NumberedFrame, Numbering
from ingestd.venues.decoding import at, part
from ingestd.venues.facts import QUANTITIES_AS_IN_CCXT, Ccxt, Facts, OpenInterestUnits, Quantities
from ingestd.venues.trades import Marks, Trades


def _numbered_frames(frame: Any, _url: str) -> Iterable[NumberedFrame]:
    """Read books whose frames have a `type`. With the channel of group and depth they have none: all are snapshots.

    https://docs.deribit.com/subscriptions/orderbook/bookinstrument_nameinterval
    """
    data = part(frame, "params", "data")
    if str(at(frame, "params", "channel")).startswith("book.") and data.get("type") in ("snapshot", "change"):
        yield NumberedFrame(frame, str(data.get("instrument_name")), data, data["type"] == "snapshot")


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    return next((BookFrame(book.market_id) for book in _numbered_frames(frame, "") if book.is_whole), None)


def _unsubscription(exchange: Any, market: Any, name: str) -> dict[str, Any] | None:
    """Make the request: https://docs.deribit.com/api-reference/subscription-management/public-unsubscribe"""
    if not name.startswith(f"book.{market['id']}."):
        return None
    params = {"channels": [name]}
    return {"jsonrpc": "2.0", "method": "public/unsubscribe", "params": params, "id": exchange.request_id()}


_TRADES = Trades(
    # Only such trades have the field: https://docs.deribit.com/subscriptions/trades/tradesinstrument_nameinterval
    marks=Marks(flags={"liquidation": "liquidation", "block_trade_id": "block", "block_rfq_id": "block"})
)
_BOOKS = CcxtBooks(
    numbering=Numbering((), ("change_id",), before=("prev_change_id",)),
    numbered_frames=_numbered_frames,
    whole_book=_whole_book,
    unsubscription=_unsubscription,
    streams_path=("params", "channels"),
)

FACTS = (
    Facts(
        exchange="deribit",
        example_market="BTC/USD:BTC",
        quantities=Quantities(
            # "For perpetual and inverse futures the amount is in USD units. For options and linear futures it is
            # the underlying base currency coin.": https://docs.deribit.com/#trades-instrument_name-interval
            currency={"linear": "base", "inverse": "quote"},
            of_options=True,
        ),
        # in the same units; a linear perpetual is a linear future of Deribit's, which ccxt takes for an inverse one.
        # https://docs.deribit.com/api-reference/market-data/public-get_book_summary_by_instrument
        open_interest=OpenInterestUnits("base", "quote", "base", count_read_as_value=frozenset({"linear"})),
        trades=_TRADES,
        books=_BOOKS,
    ),
    Facts(
        exchange="coinbaseinternational",
        quantities=QUANTITIES_AS_IN_CCXT,
        trades=_TRADES,
        # for contracts that Coinbase leaves to Deribit
        ccxt=Ccxt(servers=("wss://www.deribit.com",)),
        books=_BOOKS,
    ),
)
