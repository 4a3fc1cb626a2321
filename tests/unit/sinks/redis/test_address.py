"""Redis URLs taken apart."""

from __future__ import annotations

import pytest

from ingestd.sinks.redis.connecting import Address, parse_address
from ingestd.sinks.redis.options import RedisConfig


def test_an_ordinary_url_is_the_librarys() -> None:
    url = "rediss://user:p%40ss@h:6380/3?ssl_ca_certs=/ca.pem"
    assert parse_address(url) == Address("single", url)
    assert str(parse_address(url)) == "rediss://h:6380/3"
    assert str(parse_address("unix:///run/redis.sock")) == "unix:///run/redis.sock"


def test_sentinels_and_their_master() -> None:
    address = parse_address("redis+sentinel://user:pw@a:26380,[::1]/mymaster/2?sentinel_password=x")
    assert address == Address(
        "sentinel", "redis://user:pw@a:26380/2?sentinel_password=x", (("a", 26380), ("::1", 26379)), "mymaster"
    )
    assert str(address) == "mymaster of the sentinels a:26380,::1:26379"


def test_the_nodes_of_a_cluster() -> None:
    address = parse_address("rediss+cluster://a,b:7000")
    assert address == Address("cluster", "rediss://a:6379", (("a", 6379), ("b", 7000)))
    assert str(address) == "the cluster a:6379,b:7000"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis+sentinel://a:1,b:2", "names no master"),
        ("redis+cluster://a:x", "malformed host or port"),
        ("redis+cluster://a,,b", "empty host"),
    ],
)
def test_what_cannot_be_used_says_why(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedisConfig(url=url)
