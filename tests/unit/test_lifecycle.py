"""Every symbol belongs to exactly one shard, and shards are of a like size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.errors import ConfigError
from ingestd.lifecycle import Shard


@given(st.text(max_size=20), st.text(max_size=20), st.integers(1, 50))
def test_exactly_one_shard_holds_a_symbol(exchange: str, symbol: str, count: int) -> None:
    assert sum(Shard(index, count).holds(exchange, symbol) for index in range(count)) == 1


def test_the_split_never_changes() -> None:
    """A new hash would move symbols between running shards at an upgrade: these were computed once, by zlib's crc32."""
    assert Shard(2, 4).holds("binance", "BTC/USDT")
    assert Shard(2, 4).holds("kraken", "ETH/USD")
    assert Shard(1, 4).holds("okx", "BTC/USDT:USDT")
    assert Shard.parse("2/3") == Shard(2, 3)


def test_two_thousand_symbols_split_evenly() -> None:
    sizes = [sum(Shard(index, 4).holds("binance", f"S{n}/USDT") for n in range(2000)) for index in range(4)]
    assert sum(sizes) == 2000
    assert min(sizes) > 400


@pytest.mark.parametrize("text", ["3/3", "-1/2", "1", "a/b", "1/0", ""])
def test_nonsense_is_explained(text: str) -> None:
    with pytest.raises(ConfigError, match="i/n"):
        Shard.parse(text)


@pytest.mark.parametrize(
    ("shard", "hint"),
    [("3/3", "the last of 3 is 2/3"), ("7/3", "the last of 3 is 2/3"), ("0/0", None), ("1", None), ("a/3", None)],
)
def test_a_shard_beyond_the_last_is_told_the_last(shard: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        Shard.parse(shard)
    assert [problem.hint for problem in caught.value.problems] == [hint]
