"""The gap ledger of the real process: what the venue sent while nobody listened lies inside a row."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.synthetic.venue import SyntheticVenue
from ingestd.storage.database import Database
from tests.acceptance.test_process import feed, market, stop_venue, until_shown
from tests.support.daemon import Daemon, ingestd, running, write_config
from tests.support.postgres import DatabaseForTest
from tests.support.time_limits import examples

Stream = tuple[str, str]  # channel, symbol


def happened(venue: SyntheticVenue) -> dict[str, dict[int, int]]:
    """By symbol: the time in microseconds of every trade there was, sent or withheld, by its id."""
    trades: dict[str, dict[int, int]] = defaultdict(dict)
    for withheld in (False, True):
        for line in map(json.loads, venue.ledger.trade_lines(withheld=withheld)):
            trades[line["symbol"]][int(line["trade_id"])] = line["time_ms"] * 1000
    return trades


async def stored_ids(dsn: str) -> dict[str, set[int]]:
    db = await Database.connect(dsn)
    try:
        ids: dict[str, set[int]] = defaultdict(set)
        for row in await db.fetch("SELECT symbol, trade_id FROM trades"):
            ids[row["symbol"]].add(int(row["trade_id"]))
        return ids
    finally:
        await db.close()


async def gap_rows(dsn: str) -> dict[Stream, list[dict[str, Any]]]:
    """Times in microseconds; oldest first."""
    db = await Database.connect(dsn)
    try:
        rows: dict[Stream, list[dict[str, Any]]] = defaultdict(list)
        found = await db.fetch(
            "SELECT channel, symbol, cause, status, detail, "
            "(extract(epoch FROM started_at) * 1000000)::bigint AS start, "
            "(extract(epoch FROM ended_at) * 1000000)::bigint AS end FROM feed_gaps ORDER BY started_at"
        )
        for row in found:
            rows[row["channel"], row["symbol"]].append(dict(row))
        return rows
    finally:
        await db.close()


async def until(holds: Callable[[], bool], timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def until_readyz(
    daemon: Daemon, holds: Callable[[dict[str, Any]], bool], timeout_s: float = 60
) -> dict[str, Any]:
    async with asyncio.timeout(timeout_s):
        while True:
            _, text = await daemon.get("/readyz")
            body: dict[str, Any] = json.loads(text) if text else {}
            if body and holds(body):
                return body
            await asyncio.sleep(0.05)


def streams_of(venue: SyntheticVenue) -> set[Stream]:
    return {(channel, symbol) for symbol in feed(venue)["symbols"] for channel in ("ticks", "trades")}


async def assert_ledger_covers(venue: SyntheticVenue, dsn: str) -> dict[str, dict[int, int]]:
    """Every trade that happened is stored or lies inside a gap of its stream. Returns those that are missing."""
    stored, gaps = await stored_ids(dsn), await gap_rows(dsn)
    missing = {
        symbol: {number: at for number, at in trades.items() if number not in stored[symbol]}
        for symbol, trades in happened(venue).items()
    }
    for symbol, trades in missing.items():
        rows = gaps["trades", symbol]
        for number, at in trades.items():
            # One without an end is open: the venue was gone at the stop, within the minute of the gap before.
            assert any(row["start"] <= at and (row["end"] is None or at <= row["end"]) for row in rows), (
                f"{symbol} {number}: the gaps from here: "
                f"{[(row['start'] - at, row['end'] and row['end'] - at, row['cause']) for row in rows]}"
            )
    return missing


@pytest.mark.parametrize("rate", [600.0, pytest.param(3000.0, marks=pytest.mark.campaign)])
async def test_a_kill_leaves_a_gap_that_contains_all_that_was_missed(
    postgres_database: DatabaseForTest, tmp_path: Path, rate: float
) -> None:
    async with market(rate=rate) as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 2 * rate)
            daemon.process.kill()
            await daemon.ended()
        await until(lambda: venue.ledger.withheld_trades > 200)
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 300)
            await stop_venue(venue, daemon)
            assert await daemon.total("ingestd_gaps_total", "cause") == {"restart": len(streams_of(venue))}
            assert await daemon.stop() == 0
        missing = await assert_ledger_covers(venue, postgres_database.dsn)
        stored, gaps = await stored_ids(postgres_database.dsn), await gap_rows(postgres_database.dsn)
        assert sum(map(len, missing.values())) >= 200
        assert set(gaps) == streams_of(venue)
        times = happened(venue)
        for (channel, symbol), rows in gaps.items():
            (row,) = rows
            assert (row["cause"], row["status"]) == ("restart", "closed")
            assert "without a stop" in row["detail"]
            if channel == "trades":
                before = max(number for number in stored[symbol] if number < min(missing[symbol]))
                # A second by the design; the rest is for a machine that is busy with other things.
                assert row["start"] >= times[symbol][before] - 4_000_000


async def test_a_gap_that_is_open_at_the_stop_is_ended_by_the_next_start(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market() as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            await stop_venue(venue, daemon)
            assert (await until_readyz(daemon, bool))["open_gaps"] == {"count": 0, "oldest": []}
            await venue.apply(Fault("drop"))
            body = await until_readyz(daemon, lambda body: body["open_gaps"]["count"] == len(streams_of(venue)))
            assert {gap["cause"] for gap in body["open_gaps"]["oldest"]} == {"disconnect"}
            assert (await daemon.get("/readyz"))[0] == 200  # the socket is dialled again, and nothing has been late yet
            assert await daemon.stop() == 0
        code, out, err = await ingestd("gaps", "-c", str(config_file), "--open", "--json")
        assert code == 0, err
        shown = json.loads(out.splitlines()[-1])
        assert {(gap["channel"], gap["symbol"]) for gap in shown["gaps"]} == streams_of(venue)
        assert shown["counts"] == {"open": len(streams_of(venue))}
        opened = await gap_rows(postgres_database.dsn)

        async with running(config_file) as daemon:
            await until_readyz(daemon, lambda body: body["open_gaps"]["count"] == len(streams_of(venue)))
            venue.source.switch.start()
            await until_readyz(daemon, lambda body: body["open_gaps"]["count"] == 0)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        ended = await gap_rows(postgres_database.dsn)
        await assert_ledger_covers(venue, postgres_database.dsn)
    for stream, rows in ended.items():
        (row,) = rows
        assert row["start"] == opened[stream][0]["start"]
        assert (row["cause"], row["status"]) == ("disconnect", "closed")


async def test_a_cut_connection_and_a_planned_restart(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with market() as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 300)
            before = await daemon.received()
            await venue.apply(Fault("drop"))
            await daemon.until(lambda received: received["trades"] > before["trades"] + 300)
            assert (await daemon.total("ingestd_gaps_total", "cause")) == {"disconnect": len(streams_of(venue))}
            assert set((await daemon.total("ingestd_gaps_open")).values()) == {0}
            assert await daemon.stop() == 0
        await until(lambda: venue.ledger.withheld_trades > 100)
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 300)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        await assert_ledger_covers(venue, postgres_database.dsn)
        gaps = await gap_rows(postgres_database.dsn)
    assert set(gaps) == streams_of(venue)
    for rows in gaps.values():
        assert [row["cause"] for row in rows] == ["disconnect", "restart"]
        assert "had stopped" in rows[1]["detail"]
        assert rows[0]["end"] <= rows[1]["start"]


async def test_ids_that_were_left_out_are_a_gap_of_their_own(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market() as venue:
        config_file = write_config(tmp_path, {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]})
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            jumped = next(symbol for symbol in feed(venue)["symbols"])
            await venue.apply(Fault("id_jump", symbol=jumped, n=30))
            before = await daemon.received()
            await daemon.until(lambda received: received["trades"] > before["trades"] + 200)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        missing = await assert_ledger_covers(venue, postgres_database.dsn)
        gaps = await gap_rows(postgres_database.dsn)
    assert {symbol: len(trades) for symbol, trades in missing.items() if trades} == {jumped: 30}
    assert set(gaps) == {("trades", jumped)}
    (row,) = gaps["trades", jumped]
    first, last = min(missing[jumped]), max(missing[jumped])
    assert (row["cause"], row["status"]) == ("id_jump", "closed")
    assert row["detail"] == f"30 trades are missing: ids {first} to {last}"


async def test_a_symbol_that_is_no_longer_followed_leaves_nothing_open(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market() as venue:
        document = {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]}
        config_file = write_config(tmp_path, document)
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            await stop_venue(venue, daemon)
            await venue.apply(Fault("drop"))
            await until_readyz(daemon, lambda body: body["open_gaps"]["count"] == len(streams_of(venue)))
            assert await daemon.stop() == 0
        gone, *kept = feed(venue)["symbols"]
        config_file = write_config(tmp_path, {**document, "feeds": [feed(venue, symbols=kept)]})
        async with running(config_file) as daemon:
            await until_readyz(daemon, lambda body: body["open_gaps"]["count"] == 2 * len(kept))
            daemon.signal(signal.SIGTERM)
            assert await daemon.ended() == 0
        gaps = await gap_rows(postgres_database.dsn)
    assert {stream[1] for stream, rows in gaps.items() if rows[0]["status"] == "open"} == set(kept)
    for channel in ("ticks", "trades"):
        (row,) = gaps[channel, gone]
        assert row["status"] == "closed"
        assert row["detail"].endswith("no longer followed")


async def test_a_process_that_was_stopped_does_not_take_it_for_the_venues_silence(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """What came meanwhile is in the kernel's buffers; a new connection would lose it."""
    async with market(rate=100.0) as venue:
        document = {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue, stale_after_s=2)]}
        async with running(write_config(tmp_path, document)) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 50)
            daemon.signal(signal.SIGSTOP)
            await asyncio.sleep(6)
            daemon.signal(signal.SIGCONT)
            before = venue.ledger.distinct_trades
            await daemon.until(lambda received: received["trades"] >= before)
            assert await daemon.total("ingestd_feed_stale_reconnects_total", "feed") == {"binance": 0}
            await venue.stop()
            assert await daemon.stop() == 0
        assert await gap_rows(postgres_database.dsn) == {}


@pytest.mark.campaign
async def test_what_could_not_be_journaled_at_the_stop_lies_inside_a_gap(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """The database is locked until the journal is full; then the daemon is told to stop."""
    async with market(rate=2000.0) as venue:
        document = {
            "instance": {"shutdown_deadline_s": 4},
            "intake": {"max_open_records": 2000},
            "journal": {"max_bytes": "1MiB"},
            "database": {"dsn": postgres_database.dsn, "flush_timeout_s": 1.0},
            "feeds": [feed(venue)],
        }
        config_file = write_config(tmp_path, document)
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 100)
            db = await postgres_database.connect(lock_timeout_s=None)
            async with db.transaction():
                await db.execute("LOCK TABLE trades, market_ticks IN ACCESS EXCLUSIVE MODE")
                await until_shown(daemon, "\ningestd_journal_full 1.0\n")
                assert await daemon.stop() == 0
            await db.close()
            dropped = daemon.counts()["dropped"]
        assert dropped["trades"] > 0
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 500)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        missing = await assert_ledger_covers(venue, postgres_database.dsn)
        gaps = await gap_rows(postgres_database.dsn)
        assert sum(map(len, missing.values())) >= dropped["trades"]
        told = 0
        for symbol in feed(venue)["symbols"]:
            (row,) = gaps["trades", symbol]
            assert (row["cause"], row["status"]) == ("shutdown", "closed")
            told += int(row["detail"].split()[0])
        assert told == dropped["trades"]
        code, out, err = await ingestd("gaps", "-c", str(config_file))
        assert code == 0, err
        assert "could not be journaled" in out


@pytest.mark.campaign
async def test_kills_around_lost_connections_leave_nothing_uncovered_and_nothing_open(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    """Between an interruption, its row, and what is left to the next process there are windows of milliseconds."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with market(rate=1000.0) as venue:
        document: dict[str, Any] = {
            "database": {"dsn": postgres_database.dsn, "flush_ms": 20},
            "backfill": {"enabled": False},
            "feeds": [feed(venue)],
        }
        config_file = write_config(tmp_path, document)
        for _ in range(examples(8)):
            async with running(config_file) as daemon:
                await daemon.until(lambda received: received.get("trades", 0) > 50)
                await asyncio.sleep(chance.uniform(0, 1.5))
                await venue.apply(Fault("drop"))
                await asyncio.sleep(chance.choice((0, 0.005, 0.02, 0.05, 0.2, 0.5)))
                daemon.process.kill()
                await daemon.ended()
        async with running(config_file) as daemon:
            await until_readyz(daemon, lambda body: "open_gaps" in body)
            await daemon.until(lambda received: received.get("trades", 0) > 300)
            await until_readyz(daemon, lambda body: body["open_gaps"]["count"] == 0)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        missing = await assert_ledger_covers(venue, postgres_database.dsn)
        assert sum(map(len, missing.values())) > 100
        gaps = await gap_rows(postgres_database.dsn)
    assert {row["status"] for rows in gaps.values() for row in rows} == {"closed"}


async def test_what_a_lost_connection_still_brings_does_not_end_its_gap(
    postgres_database: DatabaseForTest, tmp_path: Path
) -> None:
    async with market(rate=3000.0) as venue:
        document = {"database": {"dsn": postgres_database.dsn}, "feeds": [feed(venue)]}
        async with running(write_config(tmp_path, document)) as daemon:
            for _ in range(6):
                before = (await daemon.received()).get("trades", 0)
                await daemon.until(lambda received, before=before: received.get("trades", 0) > before + 100)  # type: ignore[misc]
                await venue.apply(Fault("drop"))
            before = (await daemon.received())["trades"]
            await daemon.until(lambda received: received["trades"] > before + 300)
            await stop_venue(venue, daemon)
            assert await daemon.stop() == 0
        await assert_ledger_covers(venue, postgres_database.dsn)
