"""Drops duplicates while two sockets deliver the same stream, after it was subscribed to on a second one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from ingestd.records import Funding, MarketRecord, Tick, Trade

_KEPT = 1024


class Overlap:
    """Keeps each record from the socket that delivers it first.

    Equal records are counted: a socket's second one is a duplicate only if another socket has delivered two.
    """

    def __init__(self) -> None:
        self.heard: set[str] = set()  # URLs of the sockets that have delivered since the overlap began
        self.is_over = False  # one socket is left; it may still deliver duplicates of the closed one's records
        self._counts: dict[Hashable, Counter[str]] = {}

    def is_repeat(self, url: str, record: MarketRecord) -> bool:
        """Count the record. Return whether another socket has already delivered it."""
        self.heard.add(url)
        content = _content(record)
        if content is None:
            return False
        counts = self._counts.pop(content, None) or Counter()
        most = max(counts.values(), default=0)
        counts[url] += 1
        self._counts[content] = counts
        if len(self._counts) > _KEPT:
            del self._counts[next(iter(self._counts))]
        return counts[url] <= most


def _content(record: MarketRecord) -> Hashable:
    """The fields that are equal on both sockets: not the time of receipt, nor a trade id that we generated."""
    time = None if record.time == record.received_at else record.time
    match record:
        case Tick():
            return time, record.bid_price, record.bid_volume, record.ask_price, record.ask_volume
        case Trade():
            return time, record.price, record.quantity, record.side
        case Funding():
            return time, record.funding_rate, record.next_funding_time, record.mark_price
        case _:
            return None
