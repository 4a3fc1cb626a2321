"""Gemini."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.venues import families
from ingestd.venues.ccxt_books import BookFrame, CcxtBooks
from ingestd.venues.corrections import Corrections
from ingestd.venues.decoding import at, part
from ingestd.venues.facts import Ccxt, Facts, OpenInterestUnits
from ingestd.venues.trades import Marks, Trades


def _with_block_trades(frame: Any) -> Sequence[Any]:
    """Turn block trades, whose event type ccxt ignores, into ordinary trades marked with `block_trade`.

    https://docs.gemini.com/websocket/market-data/v1/market-data-v1
    """
    events = at(frame, "events")
    if not isinstance(events, list) or not any(_is_block_trade(event) for event in events):
        return (frame,)
    told = [{**event, "type": "trade", "block_trade": True} if _is_block_trade(event) else event for event in events]
    return ({**frame, "events": told},)


def _is_block_trade(event: Any) -> bool:
    return bool(at(event, "type") == "block_trade")


def _whole_book(frame: Any, _: Mapping[str, Any]) -> BookFrame | None:
    """Find the market of a snapshot: a message with the last trades or auctions (version 2), or with events that have
    the reason `initial`.

    https://docs.gemini.com/websocket/market-data/v2/level-2-data and
    https://docs.gemini.com/websocket-api/#multi-market-data
    """
    if at(frame, "type") == "l2_updates" and ("trades" in frame or "auction_events" in frame):
        return BookFrame(str(frame.get("symbol")).lower())
    first = part(frame, "events", 0)
    if at(frame, "type") != "update" or first.get("reason") != "initial":
        return None
    if len(frame["events"]) == 2:
        frame["events"].append(first)  # ccxt reads two events as a best bid and ask
    return BookFrame(str(first.get("symbol")).lower())


FACTS = Facts(
    exchange="gemini",
    example_market="BTC/USD",
    # Gemini states the open interest as count and as value, and value = count × price:
    # https://docs.gemini.com/rest/derivatives#get-risk-stats
    open_interest=OpenInterestUnits("base", other="base"),
    families_by_request=(("symbols/details", families.SINGLE),),
    trades=Trades(
        # https://docs.gemini.com/rest/market-data#list-trades (there `buy` and `sell` are ordinary).
        # The flag is our own field, for the socket's type `block_trade`: see `_with_block_trades`.
        marks=Marks({"type": {"trade": None, "buy": None, "sell": None, "block": "block"}}, {"block_trade": "block"})
    ),
    # the symbols are part of the URL
    ccxt=Ccxt(symbols_per_call=20),
    corrections=Corrections(frame=_with_block_trades),
    books=CcxtBooks(whole_book=_whole_book, best_prices=lambda url, _frame: "top_of_book=true" in url),
)
