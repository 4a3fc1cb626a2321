"""Few messages, none too long; and a refusal's market is found in its text."""

from __future__ import annotations

import pytest

from ingestd.venues.requests import by_channel, named_market
from ingestd.venues.venue import Asked


def test_the_channels_come_apart_in_parts_of_the_most_that_is_allowed() -> None:
    streams = [Asked("trades", "A"), Asked("ticks", "A"), Asked("trades", "B"), Asked("trades", "C")]

    assert list(by_channel(streams, 2)) == [("trades", ["A", "B"]), ("trades", ["C"]), ("ticks", ["A"])]
    assert list(by_channel([], 2)) == []


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("NO-USD is not a valid product", None),
        ("BTC-USD is not a valid product", "BTC-USD"),
        ("Currency pair not supported: 'BTC/USD'.", "BTC/USD"),
        ("ETH-USD, BTC-USD", "BTC-USD"),
        ("", None),
    ],
)
def test_the_market_a_refusal_names(text: str, named: str | None) -> None:
    assert named_market(text, {"BTC-USD", "BTC/USD"}) == named
