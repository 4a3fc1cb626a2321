"""Records of channels that may be dropped, kept apart while the intake is overloaded. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from ingestd.channels import channel_of, stream_of
from ingestd.records import MarketRecord, StreamId


class SetAside:
    """Keeps few records of each channel by its policy, in order per stream.

    `drop_oldest` keeps the newest `most` records of the channel; `conflate` keeps the newest record of each stream.
    """

    def __init__(self, policies: Mapping[str, str], most: int) -> None:
        self._policies = {channel: policy for channel, policy in policies.items() if policy != "block"}
        self._most = most
        self._newest: dict[StreamId, MarketRecord] = {}
        self._recent: dict[str, deque[MarketRecord]] = {}

    def may_take(self, record: MarketRecord) -> bool:
        """Whether records of this channel may be dropped."""
        return channel_of(record) in self._policies

    def put(self, record: MarketRecord) -> MarketRecord | None:
        """Keep the record; returns the record dropped for it."""
        channel = channel_of(record)
        if self._policies[channel] == "conflate":
            stream = stream_of(record)
            replaced = self._newest.pop(stream, None)
            self._newest[stream] = record
            return replaced
        recent = self._recent.setdefault(channel, deque())
        recent.append(record)
        return recent.popleft() if len(recent) > self._most else None

    def records(self) -> list[MarketRecord]:
        """All records kept, each stream in order."""
        return [*self._newest.values(), *(record for recent in self._recent.values() for record in recent)]

    def take_back(self) -> list[MarketRecord]:
        """Return all records kept, and forget them."""
        kept = self.records()
        self._newest.clear()
        self._recent.clear()
        return kept
