"""Which servers a feed may open a venue's sockets to.

The exchange library knows most addresses. A few venues name the server in a reply: KuCoin's `bullet-public` gives out
`instanceServers`, on hosts that change (https://www.kucoin.com/docs-new/websocket-api/base-info/introduction). Such a
server must be encrypted and on a domain that the library has for the venue, or be named in `url_map`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ingestd.feeds.redirects import shown

_LONGEST_SECOND_LEVEL = 3  # the `co` of co.jp, the `com` of com.br: names beneath these belong to different people
_COUNTRY_CHARS = 2


def why_not_the_venues(url: str, dialled: str, known: Iterable[str], url_map: Mapping[str, str]) -> str | None:
    """Why no socket is opened to `url`; None: it is the venue's. `dialled`: where `url_map` leads it.

    `known`: the addresses that the library has for the venue.
    """
    if dialled != url:
        return None  # the configuration says so
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
    """Every URL in what ccxt keeps of a venue: texts in dicts and lists, in one another."""
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
    """The part that one owner has registered; of an address in numbers, all of it."""
    labels = host.rstrip(".").split(".")
    if labels[-1].isdigit() or ":" in host:
        return host
    is_shared = len(labels) > 2 and len(labels[-1]) == _COUNTRY_CHARS and len(labels[-2]) <= _LONGEST_SECOND_LEVEL
    return ".".join(labels[-3 if is_shared else -2 :])
