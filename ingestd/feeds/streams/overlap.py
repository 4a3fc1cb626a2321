"""Drops the repeats of a stream that two sockets deliver for a while: it was asked for again on another one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from ingestd.records import Funding, MarketRecord, Tick, Trade

_KEPT = 1024


class Overlap:
    """Takes each record from the socket that brings it first. Equal records count: the second one of a socket is a
    repeat only if another socket has brought two."""

    def __init__(self) -> None:
        self.heard: set[str] = set()  # the sockets that have delivered since
        self.is_over = False  # one socket is left: what the closed one brought first may still be under way on it
        self._counts: dict[Hashable, Counter[str]] = {}

    def is_repeat(self, url: str, record: MarketRecord) -> bool:
        """Whether another socket has brought this one already."""
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
    """What is the same of it on both sockets: not when it was received, nor a trade id that was made here."""
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
