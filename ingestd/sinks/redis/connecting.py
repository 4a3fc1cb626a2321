"""Connects to one Redis server, to the master that Sentinels know, or to the masters of a cluster, and explains errors.

This is the only file that imports the Redis library. The library opens the connections (TLS, users, Sentinel, Cluster).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from redis import exceptions as driver
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot

from ingestd.config.urls import split_url
from ingestd.errors import ConfigError, LiveServerError, Problem
from ingestd.sinks.redis.options import RedisConfig
from ingestd.sinks.redis.resp import pack

_SENTINEL_PORT = 26379
_PORT = 6379

# RedisClusterException is not a RedisError.
_DRIVER_ERRORS = (driver.RedisError, driver.RedisClusterException)
_NO_RETRY = Retry(NoBackoff(), 0)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed Redis URL.

    `plain_url` is an ordinary `redis://`, `rediss://` or `unix://` URL with the user, password, database and options;
    for Sentinel and Cluster its host is the first of `hosts`.
    """

    kind: Literal["single", "sentinel", "cluster"]
    plain_url: str
    hosts: tuple[tuple[str, int], ...] = ()
    master: str | None = None

    def __str__(self) -> str:
        """The address for messages and logs, without user and password."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        if self.kind == "sentinel":
            return f"{self.master} of the sentinels {hosts}"
        if self.kind == "cluster":
            return f"the cluster {hosts}"
        parts = urlsplit(self.plain_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(slots=True)
class Server:
    """An open connection to a server, or one to each master of a cluster.

    `index_of`: the index of the connection that a key needs; None if there is no cluster, so only one connection.
    """

    connections: list[AbstractConnection]
    index_of: Callable[[bytes], int] | None = None

    @property
    def streams(self) -> list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """The streams of the connections: we write to them, because the library waits for the reply to each command.

        Raises LiveServerError if a connection was closed at once.
        """
        streams = []
        for connection in self.connections:
            reader, writer = connection._reader, connection._writer
            if reader is None or writer is None:
                raise LiveServerError("the connection was closed at once")
            streams.append((reader, writer))
        return streams

    async def aclose(self) -> None:
        for connection in self.connections:
            await _hang_up(connection)


def address_of(config: RedisConfig) -> Address:
    """The server's address. Raises ConfigError if the client cannot use the URL."""
    address = parse_address(config.url)
    try:
        options: dict[str, Any] = {**parse_url(address.plain_url)}
        kind: type[AbstractConnection] = options.pop("connection_class", Connection)
        theirs = {key: value for key, value in options.items() if not key.startswith("sentinel_")}
        kind(**theirs)  # only checks the options; opens no connection
    except ValueError as error:
        raise _unusable(f"cannot be used: {error}") from error
    except TypeError as error:  # "__init__() got an unexpected keyword argument 'foo'"
        option = str(error).rpartition(" ")[2]
        raise _unusable(f"has the unknown option {option}") from error
    return address


def parse_address(url: str) -> Address:
    """Parse a URL that `require_redis_url` has accepted; `rediss` instead of `redis` means TLS.

    redis://[user:password@]host:port/db        unix:///path?db=0
    redis+sentinel://[…@]host:port,host:port/master[/db]
    redis+cluster://[…@]host:port,host:port
    """
    parts, servers = split_url(url)
    scheme, _, kind = parts.scheme.partition("+")
    user = parts.netloc.rpartition("@")[0]
    if not kind:
        return Address("single", url)
    default_port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    hosts = tuple((host or "", default_port if port is None else port) for host, port in servers)
    master, _, database = parts.path.strip("/").partition("/")
    host, port = hosts[0]
    first = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = f"/{database}" if kind == "sentinel" and database else ""
    plain = urlunsplit((scheme, f"{user}@{first}" if user else first, path, parts.query, ""))
    if kind == "sentinel":
        return Address("sentinel", plain, hosts, master)
    return Address("cluster", plain, hosts)


def _unusable(why: str) -> ConfigError:
    return ConfigError([Problem("redis.url", why)])


async def reach(address: Address, config: RedisConfig) -> Server:
    """Connect to a server and check that it answers. Raises LiveServerError, after a few timeouts at the latest."""
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


async def _connect(address: Address, config: RedisConfig) -> Server:
    """Connect to the server, the master that Sentinels name, or every master of a cluster, and ping each."""
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
        # Ping, because a frozen server accepts connections too, and the library sends nothing on its own if there is no
        # password and no database number.
        await connection.send_command("PING")
        await connection.read_response()
    except BaseException:
        await _hang_up(connection)
        raise
    return connection


async def _hang_up(connection: AbstractConnection) -> None:
    with contextlib.suppress(driver.RedisError, OSError):
        await connection.disconnect(nowait=True)


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
    failure: Exception = LiveServerError("the URL names no cluster node")
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
        await server.aclose()
        raise
    index_by_slot = [masters.index(places[slot]) if slot in places else 0 for slot in range(16384)]
    server.index_of = lambda key: index_by_slot[key_slot(key)]
    return server


async def ask(server: Server, key: bytes, commands: Sequence[Sequence[bytes]]) -> list[Any]:
    """Send commands that concern one key, and return their replies; for a refused command, a LiveServerError.

    Raises LiveServerError if the connection is lost or a reply does not come within `reply_timeout_s`.
    """
    connection = server.connections[0 if server.index_of is None else server.index_of(key)]
    try:
        await connection.send_packed_command([pack(*command) for command in commands])
        return [await _reply(connection) for _ in commands]
    except (*_DRIVER_ERRORS, OSError) as error:
        raise LiveServerError(explained(str(error))) from error


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except driver.ResponseError as error:
        return LiveServerError(explained(str(error)))


def is_refusal(error: Exception) -> bool:
    """Whether the server refused the user or the password."""
    return isinstance(error.__cause__, (driver.AuthenticationError, driver.NoPermissionError))


def explained(text: str) -> str:
    """The server's error, or the reason why there is no connection, and what to do about it."""
    if text.startswith("No master found for"):  # the library appends its objects with all their options
        return "no sentinel answers, or none knows this master; correct redis.url, or start them"
    if " connecting to " in text:  # "Error 111 connecting to db:6379. Connection refused."
        return _found(_NO_CONNECTION, text) or f"no connection ({text.rstrip('.').rpartition('. ')[2]})"
    advice = _found(_ADVICE, text)
    return text if advice is None else f"{text.rstrip('.')}; {advice}"


def _found(rows: Iterable[tuple[tuple[str, ...], str]], text: str) -> str | None:
    return next((said for marks, said in rows if any(mark in text for mark in marks)), None)


_NO_CONNECTION = (
    (("Error 111 ", "Errno 111", "refused"), "nothing listens there; is the server running, and on this port?"),
    (("Error -2 ", "Error -3 ", "Error -5 ", "not known", "name resolution"),
     "the host name is not known; correct redis.url or the resolver"),
    (("Error 2 ",), "there is no such socket; is the server running?"),
    (("Error 13 ",), "this user may not connect to that socket"),
)  # fmt: skip
_ADVICE = (
    (("OOM",),
     "messages are still published, caches are not written: raise maxmemory or set maxmemory-policy to volatile-ttl"),
    (("WRONGPASS", "invalid username-password"), "check the user in redis.url and redis.password_file"),
    (("Authentication required", "NOAUTH"), "set redis.password_file, and the user in redis.url"),
    (("NOPERM", "no permissions"), "the user needs the commands, keys and channels that docs/redis.md lists"),
    (("READONLY",), "this is a replica: name the master, or the sentinels that know it"),
    (("WRONGTYPE",), "another program uses the same key: give ingestd a database of its own"),
)  # fmt: skip
