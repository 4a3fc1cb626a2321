"""The option `url_map`: replaces prefixes of the URLs that a feed connects to."""

from __future__ import annotations

from collections.abc import Mapping


def shown_url(url: str, url_map: Mapping[str, str]) -> dict[str, str]:
    """Log fields: the venue's URL, and the mapped URL if it differs."""
    mapped = mapped_url(url, url_map)
    return {"url": url} if mapped == url else {"url": url, "mapped_to": mapped}


def mapped_url(url: str, url_map: Mapping[str, str]) -> str:
    """The URL with the longest prefix that `url_map` lists replaced."""
    for prefix in sorted(url_map, key=len, reverse=True):
        if url.startswith(prefix):
            return url_map[prefix] + url[len(prefix) :]
    return url
