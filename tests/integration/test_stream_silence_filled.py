"""The real process and a venue that stops sending one stream: what is in the database afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.synthetic.venue import synthetic_venue
from tests.integration.test_backfill import connected, document, stored_trades, trades_of, until_settled
from tests.support.daemon import running, write_config
from tests.support.postgres import DatabaseForTest

pytestmark = pytest.mark.one_server


@pytest.mark.parametrize(("decoder", "deaf"), [("ccxt", 0), ("native", -1)])
async def test_what_a_dropped_stream_missed_is_filled_trade_by_trade(
    database: DatabaseForTest, tmp_path: Path, decoder: str, deaf: int
) -> None:
    """One of three streams stops; the socket and the others go on; the venue serves the rest over REST."""
    async with synthetic_venue(symbols=3, rate=300.0) as venue, connected(database) as db:
        feed = {"decoder": decoder, "stale_after_s": 2.0}
        async with running(write_config(tmp_path, document(venue, database, feed=feed))) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 600)
            fault = Fault("unsubscribe", symbol="BTC/USDT", channel="trades", deaf=deaf)
            await venue.apply(fault)
            if deaf:  # it never comes again, and after a while nothing is traded any more
                seen = (await daemon.received())["trades"]
                await daemon.until(lambda received: received.get("trades", 0) > seen + 300)
                venue.source.halt("BTC/USDT")
            settled = await until_settled(db, 1, daemon)
            await venue.stop()
            await daemon.quiet()
            assert await daemon.stop() == 0, daemon.log()
        assert venue.ledger.withheld_trades > 0
        assert await stored_trades(db) == trades_of(venue)
        assert {(row["symbol"], row["cause"], row["status"]) for row in settled} == {
            ("BTC/USDT", "stream_silent", "filled")
        }
