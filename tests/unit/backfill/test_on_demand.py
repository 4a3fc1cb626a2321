"""Under which name the progress of a command is kept, and when its report says that all is stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from ingestd.backfill.on_demand import Report, Wanted
from ingestd.config.models import FeedConfig
from ingestd.feeds.past.id_runs import Window

START, END = datetime(2026, 9, 21, 10, tzinfo=UTC), datetime(2026, 9, 21, 11, 0, 0, 250_000, tzinfo=UTC)


def source(channel: str = "trades", *, end: datetime = END, **feed: Any) -> str:
    config = FeedConfig.model_validate({"exchange": "binance", "symbols": ["BTC/USDT"], **feed})
    return Wanted("binance", "BTC/USDT", channel, START, end).source(config)


def test_it_names_what_was_asked_for() -> None:
    assert source() == "backfill:binance:BTC/USDT:trades:20260921T100000.000000-20260921T110000.250000"
    assert source("candles", candle_timeframe="5m").split(":")[3:5] == ["candles", "5m"]
    assert Wanted("binance", "BTC/USDT", "trades", START, END).span_us == 3_600_250_000


def test_what_is_not_the_same_has_not_the_same_name() -> None:
    aggregates = {"watchTradesForSymbols": {"name": "aggTrade"}}
    names = [
        source(),
        source(end=END.replace(microsecond=251_000)),
        source(options=aggregates),
        source("funding"),
        source("candles", candle_timeframe="1m"),
        source("candles", candle_timeframe="5m"),
    ]
    assert len(set(names)) == len(names)
    assert source(options=aggregates) == source(options=dict(aggregates)), "and it is the same on any machine"
    assert source("funding", options=aggregates) == source("funding"), "options choose among series of trades alone"


@pytest.mark.parametrize(
    ("report", "proved"),
    [
        (Report(fetched=7, stored=5, duplicate=2), True),
        (Report(missing=[Window(0, 1)]), False),
        (Report(fetched=1, rejected=1), False),
    ],
)
def test_all_of_it_is_proved_only_where_nothing_is_missing_or_put_aside(report: Report, proved: bool) -> None:
    assert report.is_proved is proved
