"""Reads a feed's options, groups streams into subscription messages, and finds the market that a refusal names."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ingestd.records import Channel
from ingestd.venues.venue import Asked

Item = TypeVar("Item")


def option(options: Mapping[str, Any], method: str, name: str, default: Any) -> Any:
    """The option `name` of ccxt's `method` in a feed's options; the default if it is not set."""
    of_method = options.get(method)
    chosen = of_method.get(name) if isinstance(of_method, Mapping) else None
    return default if chosen is None else chosen


def chunks(items: Sequence[Item], most: int) -> Iterator[Sequence[Item]]:
    """The items in their order, at most `most` of them at once."""
    for start in range(0, len(items), most):
        yield items[start : start + most]


def by_channel(streams: Sequence[Asked], most: int) -> Iterator[tuple[Channel, Sequence[str]]]:
    """Group the streams by channel, at most `most` market ids in each group, in their order."""
    market_ids: dict[Channel, list[str]] = {}
    for channel, market_id in streams:
        market_ids.setdefault(channel, []).append(market_id)
    for channel, ids in market_ids.items():
        for group in chunks(ids, most):
            yield channel, group


def named_market(text: str, market_ids: Container[str]) -> str | None:
    """The first of these market ids that the text of a refusal names, if any."""
    words = (word.strip(",.;:'\"[]()") for word in text.split())
    return next((word for word in words if word in market_ids), None)
