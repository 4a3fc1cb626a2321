"""The live server's address: one server, Sentinels that know the master, or nodes of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ingestd.errors import ConfigError, Problem

_SENTINEL_PORT = 26379
_PORT = 6379


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


def parse_address(url: str) -> Address:
    """Parse a URL; `rediss` instead of `redis` means TLS.

        redis://[user:password@]host:port/db        unix:///path?db=0
        redis+sentinel://[…@]host:port,host:port/master[/db]
        redis+cluster://[…@]host:port,host:port

    Raises ConfigError when the client cannot use the URL.
    """
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    user, _, location = parts.netloc.rpartition("@")
    if not kind:
        return Address("single", url)
    hosts = tuple(_host(text, _SENTINEL_PORT if kind == "sentinel" else _PORT) for text in location.split(","))
    master, _, database = parts.path.strip("/").partition("/")
    if kind == "sentinel" and not master:
        raise unusable("names no master: write redis+sentinel://host:26379,host:26379/mymaster")
    first = f"[{hosts[0][0]}]" if ":" in hosts[0][0] else hosts[0][0]
    plain = SplitResult(
        scheme,
        f"{user}@{first}:{hosts[0][1]}" if user else f"{first}:{hosts[0][1]}",
        f"/{database}" if kind == "sentinel" and database else "",
        parts.query,
        "",
    )
    if kind == "sentinel":
        return Address("sentinel", urlunsplit(plain), hosts, master)
    return Address("cluster", urlunsplit(plain), hosts)


def unusable(why: str) -> ConfigError:
    """The error for a URL that the client cannot use."""
    return ConfigError([Problem("redis.url", why)])


def _host(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise unusable(f"{text!r} is no host and port: {error}") from error
    if host is None:
        raise unusable(f"{text!r} names no host; write host:port,host:port")
    return host, default_port if port is None else port
