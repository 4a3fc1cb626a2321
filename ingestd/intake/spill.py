"""What an overloaded intake may give up, kept apart until there is room again: bounded, in order per stream. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ingestd.channels import channel_of
from ingestd.records import MarketRecord


class Spill:
    """`drop_oldest`: the newest `most` records of the channel are kept. `conflate`: the newest of each stream."""

    def __init__(self, policies: Mapping[str, str], most: int) -> None:
        self._policies = {channel: policy for channel, policy in policies.items() if policy != "block"}
        self._most = most
        self._newest: dict[tuple[str, str, str], MarketRecord] = {}
        self._recent: dict[str, deque[MarketRecord]] = {}

    def __len__(self) -> int:
        return len(self._newest) + sum(map(len, self._recent.values()))

    def takes(self, record: MarketRecord) -> bool:
        """Whether its channel may be given up."""
        return channel_of(record) in self._policies

    def put(self, record: MarketRecord) -> MarketRecord | None:
        """Keep it. Returns what had to go for it."""
        channel = channel_of(record)
        if self._policies[channel] == "conflate":
            key = (channel, record.exchange, record.symbol)
            replaced = self._newest.pop(key, None)
            self._newest[key] = record
            return replaced
        recent = self._recent.setdefault(channel, deque())
        recent.append(record)
        return recent.popleft() if len(recent) > self._most else None

    def records(self) -> list[MarketRecord]:
        """All of it, each stream in order."""
        return [*self._newest.values(), *(record for recent in self._recent.values() for record in recent)]

    def take_back(self) -> list[MarketRecord]:
        """The same; nothing is left."""
        kept = self.records()
        self._newest.clear()
        self._recent.clear()
        return kept
