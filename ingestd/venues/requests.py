"""Groups streams into as few subscription messages as possible, and finds the market that a refusal names."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from ingestd.records import Channel
from ingestd.venues.venue import Asked


def by_channel(streams: Sequence[Asked], most: int) -> Iterator[tuple[Channel, list[str]]]:
    """Group the streams by channel, at most `most` market ids in each group, in their order."""
    market_ids: dict[Channel, list[str]] = {}
    for channel, market_id in streams:
        market_ids.setdefault(channel, []).append(market_id)
    for channel, ids in market_ids.items():
        for start in range(0, len(ids), most):
            yield channel, ids[start : start + most]


def named_market(text: str, market_ids: Container[str]) -> str | None:
    """The first of these market ids that the text of a refusal names, if any."""
    words = (word.strip(",.;:'\"[]()") for word in text.split())
    return next((word for word in words if word in market_ids), None)
