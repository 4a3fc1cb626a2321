"""`ingestd check --connect`: queries each server and venue of the configuration once, without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from ingestd.config.models import Config, FeedConfig
from ingestd.errors import FeedError, IngestdError
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.sinks.base import Answer, setup_of
from ingestd.sinks.table import configured

_VENUE_TIMEOUT_S = 60.0  # the exchange library may load several lists, each with its own limit


@dataclass(frozen=True, slots=True)
class NamedAnswer:
    """The answer of one server or venue (see `sinks.base.Answer`). `who` is its key path in the configuration."""

    who: str
    said: str
    problems: tuple[str, ...]


async def ask_all(config: Config) -> list[NamedAnswer]:
    """Query all servers and venues concurrently. The answers are in a fixed order: the sinks' servers, then the feeds.

    A server has the time limits of its section, a venue one minute.
    """
    role = config.instance.role
    # In the role sink, the daemon also uses the servers of sinks that do not run in this role.
    kinds = [kind for kind in configured(config).values() if role == "sink" or role in kind.roles]
    asked: list[tuple[str, Awaitable[Answer]]] = [(kind.section, setup_of(kind).ask(config)) for kind in kinds]
    if role != "sink":
        asked += [(f"feeds[{index}]", _ask_venue(feed)) for index, feed in enumerate(config.feeds)]
    return list(await asyncio.gather(*(_answered(who, answer) for who, answer in asked)))


async def _answered(who: str, answer: Awaitable[Answer]) -> NamedAnswer:
    try:
        found = await answer
    except IngestdError as error:
        return NamedAnswer(who, "", (str(error),))
    return NamedAnswer(who, found.said, found.problems)


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
    markets = "1 market" if len(followed) == 1 else f"{len(followed)} markets"
    said = f"{feed.exchange}: its REST answered; {markets} would be followed"
    return Answer(said, tuple(f"{symbol}: {reason}" for symbol, reason in wrong.items()))
