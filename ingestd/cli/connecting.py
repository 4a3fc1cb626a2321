"""`ingestd check --connect`: each server and venue of the configuration is asked once, and nothing is changed there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from ingestd.config.models import Config, FeedConfig, KafkaConfig
from ingestd.errors import FeedError, IngestdError, SchemaError
from ingestd.feeds.ccxt.history import CcxtHistory
from ingestd.kafka import envelope
from ingestd.kafka.check import try_kafka
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.sink import address_of, reach
from ingestd.sources.trading_events import KINDS
from ingestd.storage.access import DatabaseAccess
from ingestd.storage.migrate import check_schema
from ingestd.storage.rights import missing_grants

_VENUE_TIMEOUT_S = 60.0  # the exchange library may load several lists, each with its own limit


@dataclass(frozen=True, slots=True)
class Answer:
    """What one server or venue answered.

    `who`: its key path in the configuration. `said`: empty if it did not answer. `problems`: what a daemon would lack.
    """

    who: str
    said: str
    problems: tuple[str, ...] = ()


async def ask_all(config: Config) -> list[Answer]:
    """Ask all of them at once; the answers have a fixed order: database, Redis, Kafka, then each feed.

    Each has time limits of its own: those of its section, and a minute for a venue.
    """
    asked: list[tuple[str, Callable[[], Awaitable[Answer]]]] = []
    role = config.instance.role
    if config.database is not None and role != "feed":
        asked.append(("database", lambda: _ask_database(config)))
    if (redis := config.redis) is not None:
        asked.append(("redis", lambda: _ask_redis(redis)))
    if (kafka := config.kafka) is not None:
        asked.append(("kafka", lambda: _ask_kafka(kafka, config.instance.name, role)))
    if role != "sink":
        for index, feed in enumerate(config.feeds):
            who = f"feeds[{index}]"
            asked.append((who, partial(_ask_venue, who, feed)))
    return list(await asyncio.gather(*(_answered(who, ask) for who, ask in asked)))


async def _answered(who: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
    try:
        return await ask()
    except IngestdError as error:
        return Answer(who, "", (str(error),))


async def _ask_database(config: Config) -> Answer:
    database = await DatabaseAccess(config).connect_bounded()
    try:
        version = await database.fetchval("SELECT current_setting('server_version')")
        said = f"{database.target}: answered, version {version}"
        try:
            engine = await check_schema(database)
        except SchemaError as error:
            lack = (
                str(error).removeprefix(f"{database.target}: ").replace("ingestd migrate`", "ingestd migrate -c FILE`")
            )
            return Answer("database", said, (lack,))
        grants = await missing_grants(database, engine)
    finally:
        await database.close()
    said += f", engine {engine.value}, schema up to date"
    return Answer("database", said, tuple(f"a right is missing: {grant}" for grant in grants))


async def _ask_redis(config: RedisConfig) -> Answer:
    address = address_of(config)
    server = await reach(address, config)
    await server.close()
    return Answer("redis", f"{address}: answered")


async def _ask_kafka(config: KafkaConfig, instance: str, role: str) -> Answer:
    topics = set(envelope.topics(config.topic_prefix))
    if role == "sink":
        topics |= {f"{config.topic_prefix}.{name}" for name in KINDS}
    answer = await try_kafka(config, f"ingestd {instance}", topics)
    said, problems = [f"{', '.join(answer.brokers)}: answered"], []
    if answer.idempotence is None:
        said.append("idempotence is supported")
    elif config.idempotent:
        problems.append(answer.idempotence)
    if answer.missing_topics:
        missing = (
            f"{len(answer.missing_topics)} of {len(topics)} topics do not exist: {', '.join(answer.missing_topics)}"
        )
        if config.create_topics:
            said.append(f"{missing}; the start makes them")
        else:
            problems.append(f"{missing}; make them, or set kafka.create_topics = true")
    return Answer("kafka", "; ".join(said), tuple(problems))


async def _ask_venue(who: str, feed: FeedConfig) -> Answer:
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
    return Answer(who, said, tuple(f"{symbol}: {reason}" for symbol, reason in wrong.items()))
