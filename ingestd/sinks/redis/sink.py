"""The live sink: publishes current market data to channels and caches of Redis, Valkey or DragonflyDB.

Nothing waits for this sink, and messages missed during an outage are not sent later. When the server is back, all
caches are rewritten. Only this file imports the Redis library, which opens connections (TLS, users, Sentinel, Cluster).
Packing commands and limiting unanswered ones are our own code (`resp.py`, `link.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from redis import exceptions as driver
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot

from ingestd.clock import iso_text, monotonic_s, now_us, wait_at_most
from ingestd.errors import ConfigError, LiveServerError
from ingestd.ops.metrics import Metrics
from ingestd.retry import Backoff
from ingestd.sinks.redis.address import Address, parse_address, unusable
from ingestd.sinks.redis.link import Link
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.publisher import NAME, Links, Publisher
from ingestd.sinks.redis.resp import pack
from ingestd.sinks.redis.view import METRIC_TTL_S, Command, View, hash_command
from ingestd.sinks.redis.words import explained
from ingestd.status import SinkStatus
from ingestd.venues.symbol_names import compact_symbol

log = structlog.get_logger()

HEARTBEAT_CHANNEL = "ingestd:heartbeat"
_HEARTBEAT_S = 1.0
_METRICS_EVERY = 5  # heartbeats
_SETTLED_S = 3.0
_RETRY_BASE_S = 0.1
_RETRY_CAP_S = 2.0  # with the time a connection takes, the caches are right within 5 s
_REFUSED_PAUSE_S = 1.0  # after a wrong password: do not hammer the server
_ERRORS_SHOWN_S = 5.0
_REFILL_AT_MOST_EVERY_S = 2.0
_NO_METRICS: dict[str, float] = {}

# RedisClusterException is not a RedisError.
_DRIVER_ERRORS = (driver.RedisError, driver.RedisClusterException)
_NO_RETRY = Retry(NoBackoff(), 0)


@dataclass(slots=True)
class Server:
    """An open connection, or one for each master of a cluster."""

    connections: list[AbstractConnection]
    index_of: Callable[[bytes], int] | None = None

    async def close(self) -> None:
        for connection in self.connections:
            with contextlib.suppress(driver.RedisError, OSError):
                await connection.disconnect(nowait=True)


class RedisLive:
    """Publishes every tick and trade as it arrives and keeps the last values in caches; see docs/redis.md.

    MUST NOT delay its callers: a flush writes without waiting; memory is bounded by the number of symbols and the
    configured window. Messages that cannot be sent are dropped and counted.
    """

    name = NAME

    def __init__(
        self,
        config: RedisConfig,
        metrics: Metrics,
        *,
        instance: str,
        own_metrics: Callable[[], Mapping[str, float]] = lambda: _NO_METRICS,
    ) -> None:
        """`own_metrics` returns the values written to the keys `metrics:{instance}:{metric}`."""
        self._config = config
        self._metrics = metrics
        self._instance = instance
        self._own_metrics = own_metrics
        name_of = compact_symbol if config.symbol_style == "compact" else _unified
        self._view = View(name_of, primary_exchange=config.primary_exchange, candles_kept=config.candles_kept)
        self._publisher = Publisher(self._view, config, metrics)
        self.put_all = self._publisher.put_all
        self.order_update = self._publisher.order_update
        self.forget_orders = self._view.forget_orders
        self._finish_asked = asyncio.Event()
        self._status = SinkStatus(self.name, problem="it has not reached Redis yet")
        self._retry = Backoff(base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
        metrics.sink_up.labels(self.name).set(0)

    def status(self) -> SinkStatus:
        """Whether the server is up, up with errors (out of memory, no permission), or down, and why."""
        error = self._publisher.last_error
        if self._status.up:
            recent = error is not None and monotonic_s() - error[0] < _ERRORS_SHOWN_S
            self._status.problem = explained(error[1]) if error is not None and recent else None
        return self._status

    def finish(self) -> None:
        """Announce that no more records will come: `run` sends the pending ones and returns."""
        self._finish_asked.set()

    async def run(self) -> None:
        """Connect, publish and reconnect until `finish` is called."""
        try:
            while not self._finish_asked.is_set():
                try:
                    address = address_of(self._config)
                    server = await reach(address, self._config)
                except (LiveServerError, ConfigError) as error:
                    await self._fail(error)
                    continue
                try:
                    await self._serve(server)
                except LiveServerError as error:
                    await self._fail(LiveServerError(f"{address}: {error}"))
        finally:
            self._metrics.sink_up.labels(self.name).set(0)

    async def _serve(self, server: Server) -> None:
        """Publish until finished. Raises LiveServerError when a connection fails."""
        try:
            links = [self._link(connection) for connection in server.connections]
        except LiveServerError:
            await server.close()
            raise
        self._publisher.attach(Links(links, server.index_of))
        self._recovered()
        # The first task that ends stops the others: a broken link, or the housekeeping after `finish`.
        tasks = [asyncio.create_task(link.run(), name=f"live-link-{number}") for number, link in enumerate(links)]
        tasks.append(asyncio.create_task(self._keep_house(), name="live-housekeeping"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._publisher.detach()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.close()

    def _link(self, connection: AbstractConnection) -> Link:
        # The library waits for the reply to each command. To send without waiting, take its streams.
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None:
            raise LiveServerError("the connection was closed at once")
        return Link(
            reader,
            writer,
            window_bytes=self._config.window_bytes,
            window_commands=self._config.window_commands,
            reply_timeout_s=self._config.reply_timeout_s,
            on_answer=self._publisher.on_answer,
        )

    async def _keep_house(self) -> None:
        """Send heartbeats, our own metrics and cache refills. Once finishing, send the pending messages and return."""
        started_s = refilled_s = monotonic_s()
        settled = False
        beats = 0
        while not self._finish_asked.is_set():
            await wait_at_most(_HEARTBEAT_S, self._finish_asked)
            beats += 1
            now_s = monotonic_s()
            error = self._publisher.last_error
            # Refill twice: the server may execute commands left over from a broken connection after the first refill.
            # And a key whose write it refused (out of memory) still has its old value.
            if beats == 1 or (
                error is not None and error[0] >= refilled_s and now_s - refilled_s >= _REFILL_AT_MOST_EVERY_S
            ):
                self._publisher.refill()
                refilled_s = now_s
            if beats % _METRICS_EVERY == 1:
                self._publisher.send(self._metric_commands())
            self._publisher.send([self._heartbeat()])
            if not settled and now_s - started_s >= _SETTLED_S:
                self._retry.settled()
                settled = True
        await self._drained()

    async def _drained(self) -> None:
        """Wait until all records taken before `finish` are sent and answered, or given up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._config.reply_timeout_s):
                await self._publisher.drained()

    def _heartbeat(self) -> Command:
        beat = {
            "instance": self._instance,
            "timestamp": iso_text(now_us()),
            "published": self._publisher.published,
            "dropped": self._publisher.dropped,
        }
        channel = HEARTBEAT_CHANNEL.encode()
        return Command(channel, pack(b"PUBLISH", channel, orjson.dumps(beat)), 1)

    def _metric_commands(self) -> list[Command]:
        at = iso_text(now_us()).encode()
        return [
            hash_command(
                f"metrics:{self._instance}:{metric}".encode(),
                (b"value", f"{value:.12g}".encode(), b"timestamp", at),
                METRIC_TTL_S,
            )
            for metric, value in self._own_metrics().items()
        ]

    async def _fail(self, error: Exception) -> None:
        """Count and log the failure, and wait until the next attempt is due."""
        status, is_refusal = self._status, _is_refusal(error)
        status.up, status.problem = False, str(error)
        status.attempts_failed += 1
        self._metrics.sink_up.labels(self.name).set(0)
        self._metrics.sink_errors.labels(self.name, "refused" if is_refusal else "connection").inc()
        delay_s = self._retry.next_s(_REFUSED_PAUSE_S if is_refusal else 0.0)
        if self._retry.is_logged(error):
            log.warning(
                "live_sink_down",
                sink=self.name,
                error=status.problem,
                attempts=status.attempts_failed,
                retry_in_s=round(delay_s, 1),
            )
        await wait_at_most(delay_s, self._finish_asked)

    def _recovered(self) -> None:
        if self._status.attempts_failed:
            log.info("live_sink_up_again", sink=self.name, after_attempts=self._status.attempts_failed)
        self._status.up, self._status.problem, self._status.attempts_failed = True, None, 0
        self._metrics.sink_up.labels(self.name).set(1)


async def reach(address: Address, config: RedisConfig) -> Server:
    """Connect to a server and check that it answers. Raises LiveServerError within a few timeouts."""
    try:
        async with asyncio.timeout(3 * (config.connect_timeout_s + config.reply_timeout_s)):
            return await _connect(address, config)
    except _DRIVER_ERRORS as error:
        raise LiveServerError(f"{address}: {explained(str(error))}") from error
    except TimeoutError as error:
        raise LiveServerError(f"{address}: no answer in time") from error
    except (OSError, ValueError, TypeError) as error:
        # The library passes options of the URL to its constructors, which raise TypeError for unknown ones.
        raise LiveServerError(f"{address}: {error}") from error


def address_of(config: RedisConfig) -> Address:
    """The server's address. Raises ConfigError if the client cannot use the URL."""
    address = parse_address(config.url)
    try:
        options: dict[str, Any] = {**parse_url(address.plain_url)}
        kind: type[AbstractConnection] = options.pop("connection_class", Connection)
        theirs = {key: value for key, value in options.items() if not key.startswith("sentinel_")}
        kind(**theirs)  # only checks the options; opens no connection
    except ValueError as error:
        raise unusable(f"cannot be used: {error}") from error
    except TypeError as error:  # "__init__() got an unexpected keyword argument 'foo'"
        option = str(error).rpartition(" ")[2]
        raise unusable(f"has the option {option}, which no connection knows") from error
    return address


async def _connect(address: Address, config: RedisConfig) -> Server:
    """Connect to the server, to the master that the Sentinels name, or to every master of the cluster, and ping
    each."""
    options: dict[str, Any] = {**parse_url(address.plain_url)}
    kind: type[AbstractConnection] = options.pop("connection_class", Connection)
    options |= {
        "socket_connect_timeout": config.connect_timeout_s,
        "socket_timeout": config.reply_timeout_s,
        "protocol": 2,  # with RESP2 every reply is one line
    }
    password = config.password()
    if password is not None:
        options["password"] = password
    if address.kind == "sentinel":
        options["host"], options["port"] = await _master(address, kind, options)
    if address.kind == "cluster":
        return await _cluster(address, kind, options)
    return Server([await _opened(kind, options)])


async def _opened(kind: type[AbstractConnection], options: dict[str, Any]) -> AbstractConnection:
    connection = kind(retry=_NO_RETRY, **options)
    try:
        await connection.connect()  # type: ignore[no-untyped-call] # the library does not annotate it
        # Without a password or database number the library has sent nothing yet, and a frozen server accepts too.
        await connection.send_command("PING")
        await connection.read_response()
    except BaseException:
        with contextlib.suppress(driver.RedisError, OSError):
            await connection.disconnect(nowait=True)
        raise
    return connection


async def _master(address: Address, kind: type[AbstractConnection], options: dict[str, Any]) -> tuple[str, int]:
    """The master's address, from the first Sentinel that knows it."""
    theirs = {key: value for key, value in options.items() if key.startswith(("socket_", "ssl_")) or key == "protocol"}
    theirs["retry"] = _NO_RETRY
    for key in ("username", "password"):
        secret = options.pop(f"sentinel_{key}", None)
        if secret is not None:
            theirs[key] = secret
    if issubclass(kind, SSLConnection):
        theirs["ssl"] = True
    sentinel = Sentinel(address.hosts, sentinel_kwargs=theirs)  # type: ignore[no-untyped-call] # as above
    try:
        host, port = await sentinel.discover_master(address.master or "")
    finally:
        for one in sentinel.sentinels:
            await one.aclose()
    return host, port


async def _cluster(address: Address, kind: type[AbstractConnection], options: dict[str, Any]) -> Server:
    """Connect to each master, and map each slot to its connection."""
    options.pop("db", None)
    failure: Exception = LiveServerError("no node is named")
    for host, port in address.hosts:
        asked = {**options, "host": host, "port": port, "ssl": issubclass(kind, SSLConnection)}
        cluster = RedisCluster(**asked, retry=_NO_RETRY)
        try:
            await cluster.initialize()
            places = {
                slot: (nodes[0].host, int(nodes[0].port)) for slot, nodes in cluster.nodes_manager.slots_cache.items()
            }
            break
        except (*_DRIVER_ERRORS, OSError) as error:
            failure = error
        finally:
            await cluster.aclose()
    else:
        raise failure
    masters = sorted(set(places.values()))
    server = Server([])
    try:
        for place in masters:
            server.connections.append(await _opened(kind, {**options, "host": place[0], "port": place[1]}))
    except BaseException:
        await server.close()
        raise
    index_by_slot = [masters.index(places[slot]) if slot in places else 0 for slot in range(16384)]
    server.index_of = lambda key: index_by_slot[key_slot(key)]
    return server


def _unified(_exchange: str, symbol: str) -> str:
    return symbol


def _is_refusal(error: Exception) -> bool:
    return isinstance(error.__cause__, (driver.AuthenticationError, driver.NoPermissionError))
