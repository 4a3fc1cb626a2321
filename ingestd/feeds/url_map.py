"""`url_map` of the configuration: prefixes of URLs replaced where a feed connects."""

from __future__ import annotations

from collections.abc import Mapping


def mapped_url(url: str, url_map: Mapping[str, str]) -> str:
    """The URL with its longest listed prefix replaced."""
    for prefix in sorted(url_map, key=len, reverse=True):
        if url.startswith(prefix):
            return url_map[prefix] + url[len(prefix) :]
    return url
