"""Which measurements a daemon sends that come from no journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingestd.config.loading import parse
from ingestd.ops.metrics import Metrics
from ingestd.sinks.base import ReportParts, build_reports, sends_indicators
from ingestd.storage.access import DatabaseAccess
from ingestd.venues.market_names import KnownMarkets

DATABASE = {"dsn": "postgresql://localhost/none"}
RULES = {"rules": [{"names": ["rsi_14"], "timeframes": ["1h"], "symbols": ["*"]}]}
ALL = ["influx_trade_event", "influx_indicator", "influx_metric"]


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        ({}, []),
        ({"influx": {}}, ["influx_metric"]),
        ({"influx": {}, "database": DATABASE}, ["influx_trade_event", "influx_metric"]),
        ({"influx": {}, "database": DATABASE, "indicators": RULES}, ALL),
        ({"influx": {"trade_events": False, "metrics": False}, "database": DATABASE, "indicators": RULES}, ALL[1:2]),
        ({"influx": {"indicators": False}, "database": DATABASE, "indicators": RULES}, [ALL[0], ALL[2]]),
        ({"database": DATABASE, "indicators": RULES}, []),
    ],
)
@pytest.mark.parametrize("role", ["all", "sink"])
def test_they_follow_from_the_configuration(sections: dict[str, Any], names: list[str], role: str) -> None:
    config = parse({**sections, "instance": {"role": role}}, {}, base=Path("/nowhere"))
    access = DatabaseAccess(config) if config.database is not None else None
    parts = ReportParts(config, "one", Metrics(), KnownMarkets(), access, lambda *_: True, dict)
    reports = build_reports(parts)
    assert [report.name for report in reports] == names
    assert all(not report.status().up for report in reports)
    assert sends_indicators(config) == ("influx_indicator" in names)
