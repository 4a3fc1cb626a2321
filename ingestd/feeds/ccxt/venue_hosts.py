"""Decides to which servers a feed may open sockets of an exchange.

ccxt knows most addresses. A few exchanges name the server in a reply: KuCoin's `bullet-public` returns
`instanceServers` on changing hosts (https://www.kucoin.com/docs-new/websocket-api/base-info/introduction). Such a
server must use TLS and a domain that ccxt lists for the exchange, or be named in `url_map`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ingestd.feeds.urls import shown

_LONGEST_SECOND_LEVEL = 3  # `co` of co.jp, `com` of com.br: domains below these have different owners
_COUNTRY_CHARS = 2


def why_not_the_venues(url: str, dialled: str, known: Iterable[str], url_map: Mapping[str, str]) -> str | None:
    """The reason not to open a socket to `url`; None if it is allowed. `dialled`: the URL after `url_map`.

    `known`: the addresses that ccxt has for the exchange.
    """
    if dialled != url:
        return None  # the configuration names this server
    ours = [*known]
    host = _host(url)
    if _server(url) in {_server(target) for target in url_map.values()}:
        return None
    of_domain = host is not None and _domain(host) in {_domain(name) for name in map(_host, ours) if name is not None}
    if of_domain and (url.startswith("wss:") or any(url.startswith(address) for address in ours)):
        return None
    return (
        f"{shown(url)} was named as the server of its streams: refused, since it is "
        f"{'not encrypted' if of_domain else 'on none of its domains'}; if it is right, name it in `url_map`"
    )


def addresses(urls: Any) -> Iterator[str]:
    """All URLs in ccxt's nested dicts and lists of an exchange's addresses."""
    if isinstance(urls, str):
        yield urls
    elif isinstance(urls, Mapping):
        for inner in urls.values():
            yield from addresses(inner)
    elif isinstance(urls, (list, tuple)):
        for inner in urls:
            yield from addresses(inner)


def _server(url: str) -> str:
    return url.partition("://")[2].partition("/")[0].partition("?")[0]


def _host(url: str) -> str | None:
    try:
        return urlsplit(url if "://" in url else f"//{url}").hostname
    except ValueError:
        return None


def _domain(host: str) -> str:
    """The registered domain of a host name; an IP address unchanged."""
    labels = host.rstrip(".").split(".")
    if labels[-1].isdigit() or ":" in host:
        return host
    is_shared = len(labels) > 2 and len(labels[-1]) == _COUNTRY_CHARS and len(labels[-2]) <= _LONGEST_SECOND_LEVEL
    return ".".join(labels[-3 if is_shared else -2 :])
