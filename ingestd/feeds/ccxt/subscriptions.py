"""The subscriptions of one ccxt exchange object: forwards events to them and closes connections that none needs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from ingestd.errors import FeedError
from ingestd.feeds.ccxt.subscription import Subscription
from ingestd.feeds.stopping import Stop
from ingestd.feeds.streams.ledger import Stream


class Subscriptions:
    """Keeps each subscription alive, and replaces a split subscription by its parts."""

    def __init__(self) -> None:
        self.all: set[Subscription] = set()

    def keep(self, tasks: asyncio.TaskGroup, subscription: Subscription, stop: Stop, label: str) -> None:
        """Run this subscription, then its replacements."""
        self.all.add(subscription)

        async def keep() -> None:
            replacements = await subscription.run(stop)
            self.all.discard(subscription)
            for replacement in replacements:
                self.keep(tasks, replacement, stop, label)

        tasks.create_task(keep(), name=f"{label} {subscription.name}")

    def wake(self, url: str) -> None:
        """Tell the subscriptions that a connection is lost, or that ccxt gave up one of its streams."""
        for subscription in list(self.all):
            subscription.wake(url)

    def refused(self, url: str, error: FeedError) -> None:
        """Tell the subscriptions that the exchange sent an error over this connection."""
        for subscription in list(self.all):
            subscription.refused(url, error)

    def ask_for_book(self, symbol: str) -> None:
        """Request this order book again."""
        for subscription in list(self.all):
            subscription.wake_for(symbol)

    def streams_on(self, url: str) -> list[Stream]:
        """The streams of all subscriptions on this connection."""
        return self.streams_on_any({url})

    def streams_on_any(self, urls: Collection[str]) -> list[Stream]:
        """The streams of all subscriptions on any of these connections."""
        asked = [subscription for subscription in self.all if any(url in urls for url in subscription.urls)]
        return [stream for subscription in asked for stream in subscription.streams]

    def problem(self) -> str | None:
        """A sentence about subscriptions refused with an error that names no symbol; None if there are none."""
        refused = [(s, error) for s in self.all if (error := s.refused_without_a_name) is not None]
        if not refused:
            return None
        named = ", ".join(sorted(subscription.name for subscription, _ in refused)[:3])
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        return (
            f"the venue answers with an error that names no symbol, and no data arrives for {named}{more}: "
            f"{refused[0][1][:200]}"
        )

    def close_unneeded(self, clients: Mapping[str, Any]) -> None:
        """Close connections that no subscription needs, because their streams have moved to others."""
        needed = {url for subscription in self.all for url in subscription.urls}
        given_up: set[str] = set()
        for subscription in self.all:
            if not subscription.has_moved():
                continue
            for url in subscription.left_urls - needed:
                if not any(url in other.left_urls and not other.has_moved() for other in self.all):
                    given_up.add(url)
            if not (subscription.left_urls - needed - given_up):
                subscription.settle_move()
        for url in given_up:
            client = clients.get(url)
            if client is not None:
                client.leave("its streams have moved to another socket")
