"""Calls to Redis that never keep a caller waiting for long: a server that is away is left alone for a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from ingestd.clock import monotonic_s
from ingestd.errors import LiveServerError
from ingestd.log_limit import LogLimit
from ingestd.sinks.redis.connecting import Server, address_of, ask, reach
from ingestd.sinks.redis.options import RedisConfig

log = structlog.get_logger()

_LEFT_ALONE_S = 1.0


class Calls(Protocol):
    """What a cache needs of a server."""

    async def call(self, key: str, *commands: Sequence[bytes]) -> list[Any]:
        """The replies to commands about one key; for a refused one, a LiveServerError. Raises LiveServerError."""

    async def close(self) -> None:
        """Hang up."""


class RedisCalls:
    """One connection, opened by the first call and again after it was lost. Tasks may share it: they take turns.

    A call takes at most four times as long as connecting and a reply may. After a failure every call of the next second
    fails at once.
    """

    def __init__(self, config: RedisConfig) -> None:
        """Raises ConfigError if the client cannot use the URL."""
        self._config = config
        self._address = address_of(config)
        self._turn = asyncio.Lock()
        self._server: Server | None = None
        self._away_until_s = float("-inf")
        self._log_limit = LogLimit()

    async def call(self, key: str, *commands: Sequence[bytes]) -> list[Any]:
        """As `Calls.call`; after a refused command the connection is opened anew, since the server's role may have
        changed."""
        self._require_present()
        try:
            async with asyncio.timeout(4 * (self._config.connect_timeout_s + self._config.reply_timeout_s)), self._turn:
                self._require_present()
                return await self._ask(key.encode(), commands)
        except TimeoutError as error:
            raise LiveServerError(f"{self._address}: no answer in time") from error

    async def close(self) -> None:
        """Hang up; a later call connects again."""
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()

    def _require_present(self) -> None:
        if monotonic_s() < self._away_until_s:
            raise LiveServerError(f"{self._address}: was away a moment ago")

    async def _ask(self, key: bytes, commands: Sequence[Sequence[bytes]]) -> list[Any]:
        kept = False
        try:
            if self._server is None:
                self._server = await reach(self._address, self._config)
            async with asyncio.timeout(self._config.reply_timeout_s):
                replies = await ask(self._server, key, commands)
            kept = not any(isinstance(reply, LiveServerError) for reply in replies)
            return replies
        except (LiveServerError, TimeoutError) as error:
            self._away_until_s = monotonic_s() + _LEFT_ALONE_S
            why = str(error) or f"no reply for {self._config.reply_timeout_s:g} s"
            if self._log_limit.allows(why):
                log.warning("cache_server_away", server=str(self._address), error=why, until_then="the tables are read")
            raise LiveServerError(f"{self._address}: {why}") from error
        finally:
            if not kept:  # also when cancelled: the replies would be taken for those of the next call
                await self.close()
