"""`ingestd backfill` as a person runs it: into an empty database, interrupted, again, beside the daemon."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.storage.database import Database
from tests.integration.test_backfill import (
    Trades,
    assert_candles,
    connected,
    document,
    stored_trades,
    trades_of,
)
from tests.support.daemon import Daemon, ingestd, running, write_config
from tests.support.forked import forked_ingestd
from tests.support.postgres import DatabaseForTest, Server, temporary_database

pytestmark = pytest.mark.one_server


@asynccontextmanager
async def captured(
    venue: SyntheticVenue, database: DatabaseForTest, folder: Path, *, trades: int, **sections: Any
) -> AsyncIterator[Daemon]:
    """A daemon that has received so many trades."""
    config_file = write_config(folder, document(venue, database, backfill={"enabled": False}, **sections))
    async with running(config_file) as daemon:
        await daemon.until(lambda received: received.get("trades", 0) > trades)
        yield daemon


def range_of(trades: Trades, symbol: str) -> list[str]:
    """From the whole second of its first trade to the one after its last."""
    times = [row[5] for row in trades if row[0] == symbol]
    first = datetime.fromtimestamp(min(times) // 1000, UTC)
    last = datetime.fromtimestamp(max(times) // 1000 + 1, UTC)
    return ["--from", first.isoformat(), "--to", last.isoformat()]


async def until_past(venue: SyntheticVenue, last_ms: int) -> None:
    """A range must not end in the future."""
    await asyncio.sleep(max(0.0, last_ms / 1000 + 1.1 - datetime.now(UTC).timestamp()))


@pytest.mark.parametrize("stream", ["trade", pytest.param("aggTrade", marks=pytest.mark.campaign)])
async def test_a_range_is_fetched_once_and_is_the_venues_own(
    database_server: Server, tmp_path: Path, stream: str
) -> None:
    feed: dict[str, Any] = {}
    if stream == "aggTrade":
        feed["options"] = {"watchTradesForSymbols": {"name": "aggTrade"}}
    with temporary_database(database_server) as live, temporary_database(database_server) as other:
        async with synthetic_venue(symbols=1, rate=800.0) as venue:
            (tmp_path / "live").mkdir()
            async with captured(venue, live, tmp_path / "live", trades=2500, feed=feed) as daemon:
                await venue.stop()
                assert await daemon.stop() == 0
            happened = trades_of(venue, stream=stream)
            await until_past(venue, max(row[5] for row in happened))
            # No daemon has listed the market in this database, whose tables have the venue's own names.
            sections = document(venue, other, feed=feed)
            sections["database"]["symbol_style"] = "venue"
            async with connected(other) as db:
                await db.execute("UPDATE ingestd_settings SET value = 'venue' WHERE name = 'symbol_style'")
            config_file = write_config(tmp_path, sections)
            arguments = ["-c", str(config_file), "--exchange", "binance", "--symbol", "BTC/USDT", "--json"]
            command = ["backfill", *arguments, "--channel", "trades", *range_of(happened, "BTC/USDT")]
            code, out, err = await ingestd(*command)
            assert code == 0, err
            report = json.loads(out.splitlines()[-1])
            assert (report["stored"], report["duplicate"]) == (happened.total(), 0)
            assert report["verdict"].startswith("complete: the venue's ids are consecutive")
            code, out, err = await ingestd(*command)
            assert (code, json.loads(out.splitlines()[-1])["already_done"]) == (0, True), err
            code, out, err = await ingestd(*command, "--again")
            assert (code, json.loads(out.splitlines()[-1])["stored"]) == (0, 0), err
            renamed = Counter({("BTCUSDT", *row[1:]): count for row, count in happened.items()})
            async with connected(other) as db:
                assert await stored_trades(db) == renamed
                await assert_candles(db, renamed)
                marked = await db.fetchrow(
                    "SELECT min(started_at) = (SELECT min(time) FROM trades) AS first,"
                    " max(ended_at) > (SELECT max(time) FROM trades) AS last FROM indicator_marks"
                )
                assert marked is not None
                assert (marked["first"], marked["last"]) == (True, True), "indicators would not be computed again"


async def test_killed_in_the_middle_it_goes_on_where_it_was(postgres_server: Server, tmp_path: Path) -> None:
    with temporary_database(postgres_server) as live, temporary_database(postgres_server) as other:
        async with synthetic_venue(symbols=1, rate=600.0) as venue, connected(other) as db:
            (tmp_path / "live").mkdir()
            async with captured(venue, live, tmp_path / "live", trades=200) as daemon:
                for _ in range(4):
                    await venue.apply(Fault("burst", n=1000))
                await venue.stop()
                await daemon.quiet()
                assert await daemon.stop() == 0
            happened = trades_of(venue)
            await until_past(venue, max(row[5] for row in happened))
            # About a page a second, so that the kill comes between two of them.
            slow = document(venue, other, backfill={"rate_share": 0.1})
            config_file = write_config(tmp_path, slow)
            command = [
                *("backfill", "-c", str(config_file), "--exchange", "binance", "--symbol", "BTC/USDT"),
                *("--channel", "trades", "--json", *range_of(happened, "BTC/USDT")),
            ]
            process = forked_ingestd(command, os.environ, tmp_path / "killed.out", tmp_path / "killed.err")
            async with asyncio.timeout(60):
                while (stored := await db.fetchval("SELECT count(*) FROM trades")) < 1500:  # another process
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            process.kill()
            await process.wait()
            assert stored < happened.total()
            code, out, err = await ingestd(*command, env={"INGESTD_BACKFILL__RATE_SHARE": "1.0"})
            assert code == 0, err
            report = json.loads(out.splitlines()[-1])
            assert report["resumed"]
            assert await stored_trades(db) == happened
            await assert_candles(db, happened)
            code, out, err = await ingestd(*command, "--again", env={"INGESTD_BACKFILL__RATE_SHARE": "1.0"})
            assert code == 0, err
            assert report["fetched"] < json.loads(out.splitlines()[-1])["fetched"]


async def test_beside_the_daemon_it_changes_nothing_that_is_there(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """The daemon holds its state directory, and trades on."""
    async with (
        synthetic_venue(symbols=1, rate=300.0) as venue,
        connected(postgres_database) as db,
        captured(venue, postgres_database, tmp_path, trades=100) as daemon,
    ):
        await venue.apply(Fault("drop"))
        seen = (await daemon.received())["trades"]
        await daemon.until(lambda received: received["trades"] > seen + 100)
        so_far = trades_of(venue)
        await until_past(venue, max(row[5] for row in so_far))
        code, _, err = await ingestd(
            *("backfill", "-c", str(tmp_path / "ingestd.toml"), "--exchange", "binance", "--symbol", "BTC/USDT"),
            *("--channel", "trades", *range_of(so_far, "BTC/USDT")),
        )
        assert code == 0, err
        await venue.stop()
        await daemon.quiet()
        assert await daemon.stop() == 0, daemon.log()
        happened = trades_of(venue)
        assert venue.ledger.withheld_trades > 0
        assert await stored_trades(db) == happened
        await assert_candles(db, happened)


async def test_funding_and_open_interest_have_a_past_too(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with synthetic_venue(symbols=0, futures_symbols=1) as venue, connected(postgres_database) as db:
        feed = {"symbols": ["BTC/USDT:USDT"], "channels": ["funding", "open_interest"]}
        config_file = write_config(tmp_path, document(venue, postgres_database, feed=feed))
        end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        for channel, start in (("funding", end - timedelta(hours=48)), ("open_interest", end - timedelta(hours=50))):
            command = [
                *("backfill", "-c", str(config_file), "--exchange", "binance", "--symbol", "BTC/USDT:USDT"),
                *("--channel", channel, "--from", start.isoformat(), "--to", end.isoformat()),
            ]
            for arguments in (command, [*command, "--again"]):
                code, _, err = await ingestd(*arguments)
                assert code == 0, err
        funding = await times(db, "SELECT time, funding_rate FROM funding ORDER BY time")
        eight_hours = [end - timedelta(hours=48) + timedelta(hours=hour) for hour in range(48)]
        assert funding == [(at, Decimal("0.0001")) for at in eight_hours if at.hour % 8 == 0]
        samples = await times(db, "SELECT time, open_interest FROM oi_snapshots ORDER BY time")
        fives = [end - timedelta(hours=50) + timedelta(minutes=5 * index) for index in range(600)]
        assert samples == [(at, Decimal(10_000_000 + int(at.timestamp()) // 300 % 1000) / 1000) for at in fives]


async def times(db: Database, query: str) -> list[tuple[datetime, Decimal]]:
    return [tuple(row.values()) for row in await db.fetch(query)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exchange", "kraken", "--from", "2026-01-01"], "no feed of this exchange"),
        (["--exchange", "binance", "--from", "yesterday"], "--from: is no time"),
        (["--exchange", "binance", "--from", "2026-01-02", "--to", "2026-01-01"], "--to: is not after --from"),
        (["--exchange", "binance", "--from", "2026-01-02", "--to", "2999-01-01"], "--to: is in the future"),
    ],
)
async def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    feed = {"exchange": "binance", "symbols": ["A/B"]}
    config_file = write_config(tmp_path, {"database": {"dsn": "postgresql://x@localhost/x"}, "feeds": [feed]})
    code, _, err = await ingestd(
        "backfill", "-c", str(config_file), "--symbol", "BTC/USDT", "--channel", "trades", *arguments
    )
    assert code == 2
    assert message in err
