"""Deribit, and Coinbase International, which runs on it."""

from __future__ import annotations

from ingestd.venues.facts import Ccxt, CcxtBooks, Facts, Trades
from ingestd.venues.trade_kinds import Marks

FACTS = (
    Facts(
        exchange="deribit",
        trades=Trades(
            # https://docs.deribit.com/subscriptions/trades/tradesinstrument_nameinterval (each only for such
            # trades)
            marks=Marks(flags={"liquidation": "liquidation", "block_trade_id": "block", "block_rfq_id": "block"}),
        ),
        books=CcxtBooks(
            unsubscribed_here=True,
            listed_in=("params", "channels"),
        ),
    ),
    Facts(
        exchange="coinbaseinternational",
        trades=Trades(
            # https://docs.deribit.com/subscriptions/trades/tradesinstrument_nameinterval (each only for such
            # trades)
            marks=Marks(flags={"liquidation": "liquidation", "block_trade_id": "block", "block_rfq_id": "block"}),
        ),
        ccxt=Ccxt(
            # of contracts that Coinbase leaves to Deribit
            servers=("wss://www.deribit.com",),
        ),
        books=CcxtBooks(
            unsubscribed_here=True,
            listed_in=("params", "channels"),
        ),
    ),
)
