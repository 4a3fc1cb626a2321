"""Two daemons of one name on two hosts (two state directories): one captures, the other stands by, and nothing is
stored twice whoever freezes, dies or comes back. Real processes, a real server, a venue that keeps its own account.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.sim.embedded import EmbeddedPostgres
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.storage.database import Database
from tests.support.daemon import Daemon, ingestd, running, write_config
from tests.support.postgres import DatabaseForTest, Server, temporary_database
from tests.support.time_limits import within

pytestmark = pytest.mark.one_server

TAKEOVER_LIMIT_S = 15.0
Row = tuple[Any, ...]


class Pair:
    """A venue, and two hosts that may run the daemon."""

    def __init__(self, venue: SyntheticVenue, dsn: str, folder: Path) -> None:
        self.venue = venue
        self.dsn = dsn
        self.configs: dict[str, Path] = {}
        for host in ("a", "b"):
            (folder / host).mkdir()
            document = {
                "instance": {"name": "desk"},
                "database": {"dsn": dsn, "flush_ms": 50},
                "backfill": {"enabled": False},
                "feeds": [
                    {
                        "exchange": "binance",
                        "symbols": [symbol for symbol in venue.symbols if ":" not in symbol],
                        "channels": ["ticks", "trades"],
                        "url_map": venue.url_map,
                    }
                ],
            }
            self.configs[host] = write_config(folder / host, document)

    async def rows(self, sql: str) -> Counter[Row]:
        db = await Database.connect(self.dsn)
        try:
            return Counter(tuple(row.values()) for row in await db.fetch(sql))
        finally:
            await db.close()

    async def assert_nothing_doubled_and_what_is_missing_is_in_the_ledger(self) -> None:
        trades = await self.rows("SELECT symbol, trade_id, price::text, quantity::text, side FROM trades")
        ticks = await self.rows(
            "SELECT symbol, bid_price::text, bid_volume::text, ask_price::text, ask_volume::text FROM market_ticks"
        )
        sent, sent_ticks = self._sent("trade_lines"), self._sent("tick_lines")
        assert trades
        assert not {row: n for row, n in trades.items() if n > 1}
        assert not trades - sent
        assert ticks
        assert not ticks - sent_ticks, "a tick is stored more often than it was sent"
        gaps = await self.rows(
            "SELECT symbol, (extract(epoch FROM started_at) * 1000)::bigint,"
            " (extract(epoch FROM ended_at) * 1000)::bigint FROM feed_gaps WHERE channel = 'trades'"
        )
        first = await self.rows("SELECT symbol, (extract(epoch FROM min(time)) * 1000)::bigint FROM trades GROUP BY 1")
        begun = {str(symbol): int(at) for symbol, at in first}
        for line in map(json.loads, self.venue.ledger.trade_lines()):
            key = (line["symbol"], line["trade_id"], line["price"], line["quantity"], line["side"])
            if key in trades or line["time_ms"] < begun[line["symbol"]]:
                continue
            covering = [gap for gap in gaps if gap[0] == line["symbol"] and gap[1] <= line["time_ms"] <= gap[2]]
            assert covering, f"{line} is neither stored nor in a gap of {gaps}"

    def sent_trades(self) -> Counter[Row]:
        return self._sent("trade_lines")

    def _sent(self, lines: str) -> Counter[Row]:
        found: Counter[Row] = Counter()
        for line in map(json.loads, getattr(self.venue.ledger, lines)()):
            if lines == "trade_lines":
                found[line["symbol"], line["trade_id"], line["price"], line["quantity"], line["side"]] += 1
            else:
                prices = (line["bid_price"], line["bid_volume"], line["ask_price"], line["ask_volume"])
                found[(line["symbol"], *prices)] += 1
        return found


@pytest.fixture
async def pair(database: DatabaseForTest, tmp_path: Path) -> AsyncIterator[Pair]:
    async with synthetic_venue(symbols=3, rate=600.0) as venue:
        yield Pair(venue, database.dsn, tmp_path)


async def captures(daemon: Daemon) -> None:
    await daemon.until(lambda received: received.get("trades", 0) > 100)


async def stands_by(daemon: Daemon) -> str:
    async with asyncio.timeout(60):
        while True:
            status, body = await daemon.get("/readyz")
            if status == 503 and "holds the lease desk" in body:
                return body
            assert daemon.process.returncode is None, daemon.log()
            await asyncio.sleep(0.1)


async def held(daemon: Daemon) -> tuple[str, ...]:
    _, text = await daemon.get("/metrics")
    return tuple(line for line in text.splitlines() if line.startswith(("ingestd_lease_held", "ingestd_lease_epoch")))


async def finished(pair: Pair, *daemons: Daemon) -> None:
    """Everything sent has arrived; the standbys go first, or they would take over."""
    await pair.venue.stop()
    for daemon in daemons:
        await daemon.quiet()
        assert await daemon.stop() == 0, daemon.log()


@asynccontextmanager
async def leader_and_standby(pair: Pair) -> AsyncIterator[tuple[Daemon, Daemon]]:
    async with AsyncExitStack() as stack:
        leader = await stack.enter_async_context(running(pair.configs["a"]))
        await captures(leader)
        standby = await stack.enter_async_context(running(pair.configs["b"]))
        assert "desk" in await stands_by(standby)
        assert await held(leader) == ("ingestd_lease_held 1.0", "ingestd_lease_epoch 1.0")
        assert await held(standby) == ("ingestd_lease_held 0.0", "ingestd_lease_epoch 0.0")
        assert (await standby.get("/livez"))[0] == 200
        assert await standby.received() == {}
        yield leader, standby


@pytest.mark.campaign
async def test_a_frozen_leader_is_replaced_and_stores_nothing_twice_when_it_comes_back(pair: Pair) -> None:
    async with leader_and_standby(pair) as (leader, standby):
        leader.signal(signal.SIGSTOP)
        frozen_s = time.monotonic()
        await standby.until(lambda received: received.get("trades", 0) > 0)
        took_s = time.monotonic() - frozen_s
        assert within(took_s, TAKEOVER_LIMIT_S)
        print(f"the standby delivers {took_s:.1f} s after the leader froze")
        await captures(standby)
        assert await held(standby) == ("ingestd_lease_held 1.0", "ingestd_lease_epoch 2.0")
        leader.signal(signal.SIGCONT)
        assert await leader.ended() == 1
        assert "has captured desk since" in leader.log()
        async with running(pair.configs["a"]) as back:
            await stands_by(back)
            await captures(standby)
            await finished(pair, back, standby)
    await pair.assert_nothing_doubled_and_what_is_missing_is_in_the_ledger()
    gaps = await pair.rows("SELECT cause, status, channel, count(*) FROM feed_gaps GROUP BY 1, 2, 3")
    assert gaps == {("takeover", "closed", "ticks", 3): 1, ("takeover", "closed", "trades", 3): 1}


@pytest.mark.campaign
async def test_a_killed_leader_is_replaced_and_its_journal_is_stored_when_it_returns(pair: Pair) -> None:
    """The database is locked before the kill, so that the journal holds what nobody else has."""
    async with leader_and_standby(pair) as (leader, standby):
        db = await Database.connect(pair.dsn, lock_timeout_s=None)
        async with db.transaction():
            await db.execute("LOCK TABLE market_ticks, trades IN ACCESS EXCLUSIVE MODE")
            (in_database,) = [row["n"] for row in await db.fetch("SELECT count(*) AS n FROM trades")]
            async with asyncio.timeout(60):
                while (await leader.total("ingestd_records_journaled_total"))["trades"] < in_database + 200:
                    await asyncio.sleep(0.05)
            leader.process.kill()
            killed_s = time.monotonic()
            await leader.ended()
        await db.close()
        await standby.until(lambda received: received.get("trades", 0) > 0)
        took_s = time.monotonic() - killed_s
        assert within(took_s, TAKEOVER_LIMIT_S)
        print(f"the standby delivers {took_s:.1f} s after the leader was killed")
        async with running(pair.configs["a"]) as back:
            await stands_by(back)
            async with asyncio.timeout(60):
                while not (await back.total("ingestd_records_stored_total")).get("trades", 0):
                    await asyncio.sleep(0.1)
            await captures(standby)
            await finished(pair, back, standby)
        recovered, stored = back.counts()["recovered"], back.counts()["stored"]
        assert recovered["trades"] >= 200
        assert stored["trades"] + back.counts()["duplicate"].get("trades", 0) == recovered["trades"]
        assert stored["ticks"] == recovered["ticks"]  # received in its own term: nobody else has them
    await pair.assert_nothing_doubled_and_what_is_missing_is_in_the_ledger()


async def test_a_leader_that_is_stopped_hands_over_at_once(pair: Pair) -> None:
    async with leader_and_standby(pair) as (leader, standby):
        started_s = time.monotonic()
        stopping = asyncio.create_task(leader.stop())
        await standby.until(lambda received: received.get("trades", 0) > 0)
        print(f"the standby delivers {time.monotonic() - started_s:.1f} s after SIGTERM")
        assert await stopping == 0
        await captures(standby)
        await finished(pair, standby)
    await pair.assert_nothing_doubled_and_what_is_missing_is_in_the_ledger()


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server this test may freeze."""
    with EmbeddedPostgres() as postgres:
        yield postgres


def signal_all(postmaster: int, number: signal.Signals) -> None:
    """The postmaster and every process of its server."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, parent = int(stat.parent.name), int(stat.read_text().rpartition(")")[2].split()[1])
            if postmaster in (pid, parent):
                os.kill(pid, number)


@pytest.mark.campaign
async def test_an_outage_of_the_database_ends_nobodys_term(own_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Longer than the lease lives: the leader captures on, and comes first when the server answers again."""
    assert own_server.pid is not None
    with temporary_database(Server("postgres", own_server.dsn())) as database:
        async with synthetic_venue(symbols=3, rate=600.0) as venue:
            pair = Pair(venue, database.dsn, tmp_path)
            async with leader_and_standby(pair) as (leader, standby):
                signal_all(own_server.pid, signal.SIGSTOP)
                try:
                    async with asyncio.timeout(60):
                        while "ingestd_lease_held 0.0" not in await held(leader):
                            await asyncio.sleep(0.1)
                    await asyncio.sleep(8)  # the lease lives for six seconds
                    before = await leader.received()
                    await leader.until(lambda received: received["trades"] > before["trades"] + 200)
                finally:
                    signal_all(own_server.pid, signal.SIGCONT)
                async with asyncio.timeout(60):
                    while "ingestd_lease_held 1.0" not in await held(leader):
                        await asyncio.sleep(0.1)
                assert await held(leader) == ("ingestd_lease_held 1.0", "ingestd_lease_epoch 1.0")
                await stands_by(standby)
                await finished(pair, standby, leader)
            assert await pair.rows("SELECT * FROM feed_gaps") == Counter()
            await pair.assert_nothing_doubled_and_what_is_missing_is_in_the_ledger()
            trades = await pair.rows("SELECT symbol, trade_id, price::text, quantity::text, side FROM trades")
            assert trades == pair.sent_trades()


async def test_a_second_daemon_on_the_same_directory_names_the_first(pair: Pair) -> None:
    async with running(pair.configs["a"]) as daemon:
        await captures(daemon)
        code, _, err = await ingestd("run", "-c", str(pair.configs["a"]))
        assert code == 1
        assert "another ingestd owns" in err
        assert f"(process {daemon.process.pid} on " in err
        await finished(pair, daemon)
