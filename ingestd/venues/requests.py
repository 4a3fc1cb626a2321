"""Streams to ask for, put together into as few messages as the venue takes; and which of them it refuses."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from ingestd.records import Channel
from ingestd.venues.venue import Asked


def by_channel(streams: Sequence[Asked], most: int) -> Iterator[tuple[Channel, list[str]]]:
    """A channel and up to `most` of its market ids at a time, in the order they were asked for."""
    market_ids: dict[Channel, list[str]] = {}
    for channel, market_id in streams:
        market_ids.setdefault(channel, []).append(market_id)
    for channel, ids in market_ids.items():
        for start in range(0, len(ids), most):
            yield channel, ids[start : start + most]


def named_market(text: str, market_ids: Container[str]) -> str | None:
    """The first of these markets that a venue's refusal names, if it names one."""
    words = (word.strip(",.;:'\"[]()") for word in text.split())
    return next((word for word in words if word in market_ids), None)
