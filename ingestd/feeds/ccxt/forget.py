"""Makes a ccxt exchange object forget one book or stream, so that the next call for it subscribes again.

The socket and its other streams are not interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ingestd.feeds.ccxt.channels import names_stream
from ingestd.feeds.ccxt.market_names import book_named_in
from ingestd.venues.all import facts_of

UNSUBSCRIBED_WITHIN_S = 10.0
_MOST_GATHERED_CHANGES = 100  # ccxt fetches the snapshot after at most 25 changes: with 100, it is overdue


async def forget_book(exchange: Any, symbol: str) -> None:
    """Unsubscribe from one book and invalidate it, so that the next `watch_*` for it subscribes again.

    Raises whatever ccxt raises, and TimeoutError; the book is invalid even then. It is dropped, except where the
    exchange's file makes the request to unsubscribe (`_end_book`).
    """
    books = facts_of(exchange.id).books
    if books.ended_by_channel_id:
        await _end_channel(exchange, symbol)
        return
    if books.unsubscription is not None:
        await _end_book(exchange, symbol, books.unsubscription)
        return
    by_client = [
        (client, [name for name in client.subscriptions if "book" in name and book_named_in(name, [symbol])])
        for client in (exchange.clients or {}).values()
    ]
    try:
        if not books.over_rest:  # over the socket, only a new subscription brings a snapshot
            async with asyncio.timeout(UNSUBSCRIBED_WITHIN_S):
                await exchange.un_watch_order_book(symbol)
    finally:
        exchange.orderbooks.pop(symbol, None)
        for client, names in by_client:
            for name in names:
                client.subscriptions.pop(name, None)


async def _end_book(exchange: Any, symbol: str, unsubscription: Callable[[Any, Any, str], Any]) -> None:
    """Unsubscribe from a book with the request that the exchange's file makes.

    The book stays in ccxt's store, marked as not whole, until the next snapshot arrives: for some exchanges, ccxt fails
    on a change of a book that it does not have.
    """
    book, market = exchange.orderbooks.get(symbol), exchange.market(symbol)
    if book is not None:
        book.is_whole = False
    for client in list((exchange.clients or {}).values()):
        for name in list(client.subscriptions):
            request = unsubscription(exchange, market, str(name))
            if request is not None:
                del client.subscriptions[name]
                await client.send(request)


async def _end_channel(exchange: Any, symbol: str) -> None:
    """Unsubscribe from a book by the id of its channel, and wait until the exchange confirms the end."""
    exchange.orderbooks.pop(symbol, None)
    for client in list((exchange.clients or {}).values()):
        channel = client.subscriptions.pop(f"unsubscribe:orderbook:{symbol}", None)
        if channel is None:
            continue
        client.subscriptions.pop(channel, None)  # late changes from the channel must not reach a book
        client.subscriptions.pop(f"book:{exchange.market_id(symbol)}", None)
        client.subscriptions[f"unsubscribe:orderbook:{symbol}"] = channel  # ccxt looks for the id here
        async with asyncio.timeout(UNSUBSCRIBED_WITHIN_S):
            await exchange.un_subscribe("book", "orderbook", symbol, {"chanId": int(channel)})
        client.subscriptions.pop(f"unsubscribe:orderbook:{symbol}", None)


def gathers_changes(exchange: Any, symbol: str) -> bool:
    """Whether the symbol's book waits for its REST snapshot.

    ccxt still collects the changes that it wants to have before it fetches the snapshot, or it retries a failed fetch.
    """
    book = exchange.orderbooks.get(symbol)
    if symbol in exchange.loading:
        return True
    return book is not None and not book.is_whole and 0 < len(book.cache) < _MOST_GATHERED_CHANGES


def client_of_book(exchange: Any, symbol: str) -> Any:
    """The open socket that carries the symbol's book; None if unknown."""
    carrier = exchange.orderbooks.carrier_of(symbol)
    return carrier if carrier in (exchange.clients or {}).values() else None


def forget_stream(exchange: Any, channel: str, symbol: str) -> bool:
    """Remove one stream from ccxt's list of subscriptions; False if ccxt has no subscription for this stream alone.

    Sends nothing: the exchange has stopped delivering the stream already.
    """
    market_id = str(exchange.markets[symbol]["id"]) if symbol in exchange.markets else symbol
    found = False
    for client in (exchange.clients or {}).values():
        names = [name for name in client.subscriptions if names_stream(str(name), channel, symbol, market_id)]
        for name in names:
            del client.subscriptions[name]
            found = True
    if found and channel == "order_book":
        exchange.orderbooks.pop(symbol, None)  # the book restarts with the next snapshot
    return found
