"""What `ingestd check` can say about the feeds without opening a socket."""

from __future__ import annotations

from collections.abc import Sequence

from ingestd.config import FeedConfig, nearest
from ingestd.errors import Problem
from ingestd.feeds.ccxt_channels import offered_channels
from ingestd.feeds.ccxt_tap import exchange_ids, features


def check(feeds: Sequence[FeedConfig]) -> list[Problem]:
    """Every exchange ccxt does not know, and every channel an exchange does not offer."""
    problems: list[Problem] = []
    for index, feed in enumerate(feeds):
        problems.extend(_check_feed(f"feeds[{index}]", feed))
    return problems


def _check_feed(path: str, feed: FeedConfig) -> list[Problem]:
    known = exchange_ids()
    if feed.exchange not in known:
        message = "is not an exchange that can be streamed"
        return [Problem(f"{path}.exchange", message, repr(feed.exchange), nearest(feed.exchange, known))]
    offered = offered_channels(features(feed.exchange))
    hint = f"it offers {', '.join(offered)}"
    return [
        Problem(f"{path}.channels[{number}]", f"{feed.exchange} has no such channel", repr(channel), hint)
        for number, channel in enumerate(feed.channels)
        if channel not in offered
    ]
