"""5,000 trades in one loop turn, through real exchange classes, validation, journal and COPY: 5,000 rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingestd.config.models import IntakeConfig
from ingestd.intake.intake import Intake
from ingestd.lab.sim.venue_frames import BURST, VENUES, Venue, numbered
from ingestd.storage.database import Database
from ingestd.validation import TimeWindow
from tests.integration.sinks.test_timescale import rig
from tests.support.postgres import DatabaseForTest
from tests.support.venue_frames import KEYS, text_of
from tests.unit.feeds.doubles import Wire


@pytest.mark.one_server
@pytest.mark.parametrize("venue", VENUES, ids=lambda venue: venue.exchange)
async def test_a_burst_is_stored_whole(venue: Venue, db: Database, database: DatabaseForTest, tmp_path: Path) -> None:
    async with rig(tmp_path, database) as made:
        intake = Intake(made.journal, IntakeConfig(), lambda now: TimeWindow({}, now), made.metrics)
        sealing = asyncio.create_task(intake.run())
        wire = Wire(venue.exchange, {venue.symbol: venue.market_id}, venue.url, into=intake)

        wire.frames(*numbered(venue.trade))

        await wire.close()
        intake.close()
        await asyncio.wait_for(sealing, 60)
    keys = KEYS[venue.exchange]
    stored = await db.fetch("SELECT trade_id, price::text, quantity::text FROM trades ORDER BY seq")
    assert [int(row["trade_id"].rpartition("-")[2]) for row in stored] == list(range(1, BURST + 1))
    assert {(row["price"], row["quantity"]) for row in stored} == {
        (text_of(venue.trade, keys.price), text_of(venue.trade, keys.size))
    }
    assert made.total("stored") == {"trades": BURST}
    assert made.total("rejected") == {}
