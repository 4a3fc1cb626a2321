"""`url_map` of the configuration: prefixes of URLs replaced where a feed connects."""

from __future__ import annotations

from collections.abc import Mapping


def shown_url(url: str, url_map: Mapping[str, str]) -> dict[str, str]:
    """For a log line: the venue's URL, and where it is redirected to."""
    mapped = mapped_url(url, url_map)
    return {"url": url} if mapped == url else {"url": url, "mapped_to": mapped}


def mapped_url(url: str, url_map: Mapping[str, str]) -> str:
    """The URL with its longest listed prefix replaced."""
    for prefix in sorted(url_map, key=len, reverse=True):
        if url.startswith(prefix):
            return url_map[prefix] + url[len(prefix) :]
    return url
