"""Parses URLs that may name several hosts, as those of Redis Sentinel and Cluster do."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_NETLOC = re.compile(r"(?<=://)[^/?#]*")


def split_url(url: str) -> tuple[SplitResult, list[tuple[str | None, int | None]]]:
    """Return a URL's parts, and the host and port of each server it names, None where not given.

    Raises ValueError if a host or port is malformed. Each host is parsed by itself: newer versions of Python refuse a
    list of hosts in which one is in brackets (https://github.com/python/cpython/issues/105704).
    """
    found = _NETLOC.search(url)
    netloc = found[0] if found is not None else ""
    parts = urlsplit(_NETLOC.sub("", url, count=1))._replace(netloc=netloc)
    servers = [urlsplit(f"//{server}") for server in netloc.rpartition("@")[2].split(",")]
    return parts, [(server.hostname, server.port) for server in servers]
