"""URLs of a venue: the option `url_map`, which redirects are followed, and what messages show of a URL."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

from ingestd.errors import RedirectRefused
from ingestd.printable import printable

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_SHOWN_CHARS = 200


def mapped_url(url: str, url_map: Mapping[str, str]) -> str:
    """Replace the longest prefix of the URL that `url_map` lists."""
    for prefix in sorted(url_map, key=len, reverse=True):
        if url.startswith(prefix):
            return url_map[prefix] + url[len(prefix) :]
    return url


def url_fields(url: str, url_map: Mapping[str, str]) -> dict[str, str]:
    """Log fields: the venue's URL, and the mapped URL if it differs."""
    mapped = mapped_url(url, url_map)
    return {"url": url} if mapped == url else {"url": url, "mapped_to": mapped}


def redirected(url: str, location: str) -> str:
    """The URL that the redirect leads to, in the scheme of `url`. Raises RedirectRefused if it is on another server or
    port, or differs from `url` in whether it is encrypted."""
    target = location
    try:
        target = urljoin(url, location)
        parts, asked = urlsplit(target), urlsplit(url)
        if _server(parts) == _server(asked) and parts.geturl().isprintable():
            return parts._replace(scheme=asked.scheme).geturl()
    except ValueError:
        pass  # refused like any other URL that is not the venue's
    raise RedirectRefused(
        f"{shown(url)} redirects to {shown(target)}: refused, since only redirects within one server are followed; "
        "if the venue has moved, name the new address in `url_map`"
    )


def shown(url: str) -> str:
    """The URL as messages show it: without user, query and fragment, which may hold secrets."""
    try:
        parts = urlsplit(url)
        text = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
    except ValueError:
        return "a URL that cannot be read"
    return printable(text[:_SHOWN_CHARS])


def _server(parts: SplitResult) -> tuple[bool, str | None, int | None]:
    """Whether the connection is encrypted, the host, and the port. Raises ValueError if the URL is invalid."""
    scheme = parts.scheme.lower()
    if scheme not in _PORTS or parts.hostname is None:
        raise ValueError(f"{scheme!r} is no scheme of a venue")
    return scheme in ("https", "wss"), parts.hostname.rstrip("."), parts.port or _PORTS[scheme]
