"""The same feed of either kind, for tests of what both promise."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from pathlib import Path

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Feed
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.native.feed import NativeFeed
from ingestd.records import StreamId
from ingestd.status import Earlier
from ingestd.venues.all import native_venue

DECODERS = ("ccxt", "native")


def make_feed(
    config: FeedConfig,
    decoder: str,
    *,
    keep: Callable[[str], bool] | None = None,
    earlier: MutableMapping[StreamId, Earlier] | None = None,
    state_dir: Path | None = None,
) -> Feed:
    """The feed of that configuration through `decoder`; a native one of none of these channels is a ccxt one."""
    venue = native_venue(config) if decoder == "native" else None
    if venue is None:
        return CcxtFeed(config, keep=keep, earlier=earlier)
    return NativeFeed(config, venue, keep=keep, earlier=earlier, state_dir=state_dir)
