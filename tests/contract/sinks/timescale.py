"""The sink into the database."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.config.models import DatabaseConfig
from ingestd.journal.journal import Cursor, Journal
from ingestd.ops.metrics import Metrics
from ingestd.records import MarketRecord
from ingestd.sinks.base import DurableSink
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage.database import Database
from tests.contract.sinks import Ids
from tests.support.postgres import DatabaseForTest
from tests.support.records import trade

SERVERS = ("postgres", "timescaledb")


def harness(request: pytest.FixtureRequest, server: str) -> TimescaleHarness:
    database: DatabaseForTest = request.getfixturevalue(f"{server}_database")
    return TimescaleHarness(database.dsn)


class TimescaleHarness:
    name = "timescale"

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.trouble: Exception | None = None

    async def connect(self) -> Database:
        if self.trouble is not None:
            raise self.trouble
        return await Database.connect(self.dsn, call_timeout_s=5)

    def make(self, cursor: Cursor, journal: Journal, state_dir: Path, metrics: Metrics) -> DurableSink:
        config = DatabaseConfig(dsn=self.dsn, flush_ms=1, max_flush_records=50)
        return TimescaleSink(cursor, lambda: journal.journal_ids, self.connect, config, metrics)

    def bad_record(self) -> MarketRecord:
        return trade(9_999, price="1e200000")

    async def stored_ids(self) -> Ids:
        db = await Database.connect(self.dsn)
        try:
            return [row["trade_id"] for row in await db.fetch("SELECT trade_id FROM trades")]
        finally:
            await db.close()
