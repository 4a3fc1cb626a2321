"""URLs that name several servers."""

from __future__ import annotations

import urllib.parse
from urllib.parse import SplitResult

import pytest

from ingestd.config import urls
from ingestd.config.urls import split_url


def strict(url: str) -> SplitResult:
    """What Python does since https://github.com/python/cpython/issues/105704: nothing may stand before a bracket."""
    parts = urllib.parse.urlsplit(url)
    before, bracket, _ = parts.netloc.rpartition("@")[2].partition("[")
    if bracket and before:
        raise ValueError("Invalid IPv6 URL")
    return parts


@pytest.mark.parametrize(
    ("url", "netloc", "path", "servers"),
    [
        ("redis+sentinel://u:p@a:26380,[::1]/m/2?x=1", "u:p@a:26380,[::1]", "/m/2", [("a", 26380), ("::1", None)]),
        ("redis+cluster://[::1]:1,[::2]:2", "[::1]:1,[::2]:2", "", [("::1", 1), ("::2", 2)]),
        ("redis://localhost:6379/0", "localhost:6379", "/0", [("localhost", 6379)]),
        ("unix:///run/redis.sock?db=0", "", "/run/redis.sock", [(None, None)]),
        ("https://h/a://b", "h", "/a://b", [("h", None)]),
        ("no-url", "", "no-url", [(None, None)]),
    ],
)
def test_each_server_is_read_by_itself(
    url: str, netloc: str, path: str, servers: list[tuple[str | None, int | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urls, "urlsplit", strict)
    parts, found = split_url(url)

    assert (parts.netloc, parts.path, found) == (netloc, path, servers)


@pytest.mark.parametrize("url", ["redis://h:port", "redis://[::1", "redis://a:1,b:99999999", "redis://u@h:1x/0"])
def test_a_malformed_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        split_url(url)
