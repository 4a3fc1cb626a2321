"""The sink into InfluxDB."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.journal.journal import Cursor, Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord
from ingestd.sinks.base import DurableSink
from ingestd.sinks.influx.server import InfluxServer
from ingestd.sinks.influx.sink import InfluxSink
from ingestd.venues.market_names import Names
from tests.contract.sinks import Ids
from tests.support.influx_servers import Bucket, QuestDb, questdb_tables
from tests.support.records import NOW_US, trade

SERVERS = ("influx1", "questdb")
_OTHER_WEEK_US = NOW_US - 21 * 86_400 * 10**6


def harness(request: pytest.FixtureRequest, server: str) -> InfluxHarness:
    if server == "questdb":
        questdb: QuestDb = request.getfixturevalue(server)
        for statement in questdb_tables():
            questdb.query(statement)
        # Our own text refuses a time that no server can hold.
        return InfluxHarness(questdb, trade(9_999, time=2**63 // 1000), lambda: questdb.query("SELECT * FROM trade"))
    bucket: Bucket = request.getfixturevalue(server).database()
    # InfluxDB fixes the type of a field for each week: it will take no number there.
    bucket.write(f'trade,symbol=other price="a text" {_OTHER_WEEK_US}000')
    refused = trade(9_999, time=_OTHER_WEEK_US)
    return InfluxHarness(bucket, refused, lambda: bucket.query('SELECT "trade_id" FROM "trade"'))


class InfluxHarness:
    name = "influx"

    def __init__(self, server: Bucket | QuestDb, bad: MarketRecord, rows: Callable[[], list[dict[str, Any]]]) -> None:
        self.config = server.config(trades=True, max_flush_records=50)
        self.trouble: Exception | None = None
        self._bad = bad
        self._rows = rows

    async def connect(self) -> InfluxServer:
        if self.trouble is not None:
            raise self.trouble
        return await InfluxServer.connect(self.config)

    def make(self, cursor: Cursor, journal: Journal, state_dir: Path, metrics: Metrics) -> DurableSink:
        names = Names(self.config.symbol_style)
        return InfluxSink(cursor, lambda: journal.journal_ids, self.connect, self.config, state_dir, metrics, names)

    def bad_record(self) -> MarketRecord:
        return self._bad

    async def stored_ids(self) -> Ids:
        return [row["trade_id"] for row in await asyncio.to_thread(self._rows)]
