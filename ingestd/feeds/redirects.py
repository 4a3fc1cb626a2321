"""Redirects: a venue may redirect a request only to another path of the same server."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit

from ingestd.errors import RedirectRefused
from ingestd.printable import printable

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_SHOWN_CHARS = 200


def redirected(url: str, location: str) -> str:
    """The URL that the redirect leads to, in the scheme of `url`. Raises RedirectRefused if it is on another server or
    port, or differs from `url` in whether it is encrypted."""
    try:
        target = urlsplit(urljoin(url, location))
        same = _server(target) == _server(urlsplit(url)) and target.geturl().isprintable()
    except ValueError:
        same = False
    if not same:
        raise RedirectRefused(
            f"{shown(url)} redirects to {shown(urljoin_or(location, url))}: refused, since only redirects within one "
            "server are followed; if the venue has moved, name the new address in `url_map`"
        )
    return target._replace(scheme=urlsplit(url).scheme).geturl()


def shown(url: str) -> str:
    """The URL as messages show it: without user, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        text = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        return "a URL that cannot be read"
    return printable(text[:_SHOWN_CHARS])


def urljoin_or(location: str, url: str) -> str:
    """`location` resolved against `url`; unchanged if that is impossible."""
    try:
        return urljoin(url, location)
    except ValueError:
        return location


def _server(parts: SplitResult) -> tuple[bool, str | None, int | None]:
    """Whether the connection is encrypted, the host, and the port. Raises ValueError if the URL is invalid."""
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or parts.hostname is None:
        raise ValueError(f"{scheme!r} is no scheme of a venue")
    return scheme in ("https", "wss"), parts.hostname.rstrip("."), parts.port or _PORTS[scheme]
