"""The table of channels: each row is whole, and what is read from it follows the rows."""

from __future__ import annotations

import pytest

from ingestd.channels import CHANNEL_OF, NOT_SERVED, ROWS, TABLE_OF, ChannelRow, channel_of
from ingestd.config.models import RetentionConfig
from ingestd.journal.rewriting import DROP_ORDER
from ingestd.kafka import envelope
from ingestd.records import CHANNELS, FeedGap, Rejected, field_rules
from ingestd.storage.policies import HYPERTABLES, kept_days

KINDS = ("gaps", "rejected")


def test_every_channel_has_one_row() -> None:
    assert tuple(row.name for row in ROWS) == CHANNELS
    for facts in (CHANNEL_OF, TABLE_OF):
        assert len(facts) == len(set(facts.values())) == len(ROWS)


def test_the_journal_gives_up_books_first_and_trades_last() -> None:
    assert DROP_ORDER == (
        "order_book",
        "ticks",
        "mark_prices",
        "open_interest",
        "funding",
        "candles",
        "liquidations",
        "trades",
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_names_columns_and_fields_that_there_are(row: ChannelRow) -> None:
    assert set(row.key) <= set(row.table_columns)
    assert set(row.seldom) <= set(row.table_columns)
    assert row.record.__struct_fields__[:4] == ("exchange", "symbol", "time", "received_at")
    assert set(field_rules(row.record)) <= set(row.record.__struct_fields__)


def test_what_is_past_and_served_by_nobody() -> None:
    assert set(NOT_SERVED) == {"ticks", "order_book", "liquidations", "mark_prices"}


def test_each_channel_has_a_topic_an_option_and_a_hypertable() -> None:
    assert set(envelope.topics("w").values()) == {*CHANNELS, *KINDS}
    assert set(HYPERTABLES) == {*TABLE_OF.values(), "indicators_cache"}
    assert channel_of(FeedGap("x", "y", 0, 0, "trades", None, "c")) == "gaps"
    assert channel_of(Rejected("x", "y", 0, 0, "trades", "price", "{}")) == "rejections"


def test_how_long_each_table_is_kept_unless_the_configuration_says_otherwise() -> None:
    retention = RetentionConfig()
    assert {table: kept_days(table, retention) for table in HYPERTABLES} == {
        "market_ticks": 30,
        "trades": 365,
        "order_book": 30,
        "oi_snapshots": 120,
        "funding": 365,
        "ohlcv_data": 3650,
        "liquidations": 365,
        "mark_prices": 30,
        "indicators_cache": 3650,
    }
