"""`ingestd check --connect`: queries each server and venue of the configuration once, without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from ingestd.cli.say import counted
from ingestd.config.models import Config, FeedConfig
from ingestd.errors import FeedError, IngestdError
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.sinks.base import Answer, setup_of
from ingestd.sinks.table import configured

_VENUE_TIMEOUT_S = 60.0  # the exchange library may load several lists, each with its own limit


async def ask_all(config: Config) -> dict[str, Answer]:
    """Query all servers and venues concurrently: the answers by key path, the sinks' servers before the feeds.

    A server has the time limits of its section, a venue one minute.
    """
    role = config.instance.role
    # In the role sink, the daemon also uses the servers of sinks that do not run in this role.
    kinds = [kind for kind in configured(config).values() if role == "sink" or role in kind.roles]
    asked: dict[str, Awaitable[Answer]] = {kind.section: setup_of(kind).ask(config) for kind in kinds}
    if role != "sink":
        asked |= {f"feeds[{index}]": _ask_venue(feed) for index, feed in enumerate(config.feeds)}
    return dict(zip(asked, await asyncio.gather(*map(_answered, asked.values())), strict=True))


async def _answered(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except IngestdError as error:
        return Answer("", (str(error),))


async def _ask_venue(feed: FeedConfig) -> Answer:
    history = CcxtHistory(feed, rate_share=1.0)
    try:
        async with asyncio.timeout(_VENUE_TIMEOUT_S):
            await history.open()
        followed = history.symbols()
        wrong = history.unknown()
    except TimeoutError as error:
        raise FeedError(f"{feed.exchange}: its REST gave no complete answer within {_VENUE_TIMEOUT_S:g} s") from error
    finally:
        await history.close()
    said = f"{feed.exchange}: its REST answered; {counted(len(followed), 'market')} would be followed"
    return Answer(said, tuple(f"{symbol}: {reason}" for symbol, reason in wrong.items()))
