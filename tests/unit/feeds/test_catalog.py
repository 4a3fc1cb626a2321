"""What `check` says about feeds without a connection."""

from __future__ import annotations

from ingestd.feeds.catalog import check
from tests.unit.feeds.doubles import feed_config


def test_a_misspelt_exchange_is_named_with_the_nearest() -> None:
    (problem,) = check([feed_config("okx", ["*"], channels=["trades"]), feed_config("binanse", ["*"])])

    assert problem.path == "feeds[1].exchange"
    assert problem.hint == 'did you mean "binance"?'


def test_a_channel_the_exchange_lacks() -> None:
    (problem,) = check([feed_config("coinbase", ["*"], channels=["trades", "candles"])])

    assert problem.path == "feeds[0].channels[1]"
    assert problem.hint == "it offers ticks, trades, order_book"


def test_an_unknown_url_prefix_is_no_mistake() -> None:
    assert check([feed_config("okx", ["*"], channels=["trades"], url_map={"wss://other.example": "ws://here"})]) == []
