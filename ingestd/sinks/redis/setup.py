"""Builds the live sink into Redis, and checks its section."""

from __future__ import annotations

from collections.abc import Iterator

from ingestd.config.models import Config
from ingestd.errors import ConfigError, Problem
from ingestd.sinks.base import Answer, LiveParts
from ingestd.sinks.redis.connecting import address_of, reach
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.sink import RedisLive


def build(parts: LiveParts) -> RedisLive:
    """Build the sink. It also publishes the daemon's own metrics."""
    return RedisLive(
        parts.config.section(RedisConfig),
        parts.metrics,
        instance=parts.instance,
        known=parts.known,
        own_metrics=parts.own_metrics,
    )


def problems(config: Config) -> Iterator[Problem]:
    """Report an unreadable password file, and a URL that has a valid scheme but cannot be used."""
    options = config.section(RedisConfig)
    for read in (options.password, lambda: address_of(options)):
        try:
            read()
        except ConfigError as error:
            yield from error.problems


async def ask(config: Config) -> Answer:
    """Connect to the server, and report that it answered."""
    options = config.section(RedisConfig)
    address = address_of(options)
    server = await reach(address, options)
    await server.aclose()
    return Answer(f"{address}: answered")
