"""Candles of every timeframe equal those that polars makes of the same trades, digit for digit, in each style of
symbols: stored, compressed, with late trades, after the trades are gone, and after the symbols were renamed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pytest

from ingestd.clock import now_us
from ingestd.config.models import Config
from ingestd.config.values import SymbolStyle
from ingestd.records import Trade
from ingestd.storage import engine as engines
from ingestd.storage import retention, rollups, symbols
from ingestd.storage.candles import AGGREGATES
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate
from ingestd.storage.writer.writer import prepare, write
from ingestd.venues.market_names import KnownMarkets, Names
from tests.support import rollups as oracle
from tests.support.postgres import DatabaseForTest, default_config
from tests.support.rollups import TIMEFRAMES

NEXT: dict[SymbolStyle, SymbolStyle] = {"unified": "compact", "compact": "dash", "dash": "venue", "venue": "unified"}
DAY_US = 86_400_000_000
FLUSH = 20_000


@dataclass(frozen=True)
class Size:
    """How many markets, for how many days, with how many trades a day; the trades are kept for `kept_days`."""

    markets: int
    days: int
    trades_a_day: int
    kept_days: int


@pytest.mark.one_server
async def test_candles_are_those_of_polars(database: DatabaseForTest) -> None:
    await Life(await database.connect(application_name="test"), "dash", Size(9, 8, 40, 5)).run()


@pytest.mark.campaign
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("style", NEXT)
async def test_candles_of_a_month_are_those_of_polars(database: DatabaseForTest, style: SymbolStyle) -> None:
    await Life(await database.connect(application_name="test"), style, Size(50, 30, 400, 10)).run()


class Life:
    """The life of one database, compared with polars at each turn."""

    def __init__(self, db: Database, style: SymbolStyle, size: Size, seed: int = 13) -> None:
        self.db, self.style, self.size, self.seed = db, style, size, seed
        self.markets = oracle.markets(size.markets)
        self.known = KnownMarkets(lambda: [market.info for market in self.markets])
        self.stored: list[Trade] = []

    async def run(self) -> None:
        print(f"seed {self.seed}")
        db, size = self.db, self.size
        await db.execute("DELETE FROM ingestd_settings")
        await self._migrate(self.style)
        await symbols.store_lists(db, [market.info for market in self.markets])
        in_time, late, later, last = self._generated()
        third = len(in_time) // 3
        for portion in (in_time[:third], in_time[third : 2 * third], in_time[2 * third :]):
            await self._store(portion)
        await self._compare("stored")
        await self._compress()
        await self._compare("compressed")
        await self._store([*late, *in_time[:: len(in_time) // 50]])  # some for the second time
        await self._compare("late trades")
        await self._migrate(self.style, kept_days=size.kept_days)
        await self._expire()
        await self._compare("trades are gone")
        await self._store(later)
        await self._compare("late trades beside those that are gone")
        self.style = NEXT[self.style]
        await self._migrate(self.style, kept_days=size.kept_days)
        await self._compare("renamed")
        await self._store(last)
        await self._compare("late trades after the renaming")
        await db.close()

    def _generated(self) -> tuple[list[Trade], ...]:
        """Trades in time, and three lots of those that come late, the last two of them into what is kept."""
        chance, end = random.Random(self.seed), now_us() - 5_000_000
        start, kept = end - self.size.days * DAY_US, end - (self.size.kept_days - 1) * DAY_US + DAY_US // 24
        lots: tuple[list[Trade], ...] = ([], [], [], [])
        for market in self.markets:
            for trade in oracle.generated(market, chance, start, end, self.size.trades_a_day):
                lot = chance.choice((1, 1, 2, 3)) if chance.random() < 0.1 else 0
                lots[lot if lot < 2 or trade.time > kept else 0].append(trade)
        return tuple(sorted(lot, key=lambda trade: trade.time) for lot in lots)

    async def _migrate(self, style: SymbolStyle, kept_days: int = 365) -> None:
        of_database = {"dsn": "postgresql://x/y", "symbol_style": style}
        self.config: Config = default_config(database=of_database, retention={"trades_days": kept_days})
        self.db.names = Names(style, self.known)
        await migrate(self.db, self.config, rename_symbols=True)

    async def _store(self, trades: Sequence[Trade]) -> None:
        engine = await engines.detect(self.db)
        for start in range(0, len(trades), FLUSH):
            flush = prepare([], trades[start : start + FLUSH], self.db.names)
            await write(self.db, flush)
            assert not flush.outcome.bad
            await rollups.refresh(self.db, engine)
        if engine.has_continuous_aggregates:
            await self._refresh()
        known = set(self.stored)
        self.stored += [trade for trade in trades if trade not in known]

    async def _refresh(self) -> None:
        """What the policies refresh, at once: they do it in portions of ten buckets."""
        for level in AGGREGATES:
            start, end = level.lookback(self.config.retention), level.settled_after
            window = await self.db.fetchrow("SELECT now() - $1::text::interval, now() - $2::text::interval", start, end)
            assert window is not None
            await self.db.execute(rollups.refresh_call(self.db, level.identifier), *window.values())

    async def _compress(self) -> None:
        if not (await engines.detect(self.db)).has_continuous_aggregates:
            return
        for relation in ("candles_1m", "candles_1d"):
            await self.db.script(
                f"ALTER MATERIALIZED VIEW {relation} SET (timescaledb.enable_columnstore,"
                " timescaledb.segmentby = 'exchange, symbol')"
            )
        for relation in ("trades", "candles_1m", "candles_1d"):  # as the policy does, which runs in no transaction
            await self.db.fetch(
                f"SELECT compress_chunk(chunk) FROM show_chunks('{relation}', older_than => INTERVAL '3 days') AS chunk"
            )
        compressed = "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed AND hypertable_name = "
        assert await self.db.fetchval(f"{compressed}'trades'") >= self.size.days - 5

    async def _expire(self) -> None:
        before = await self.db.fetchval("SELECT count(*) FROM trades")
        await self._run_jobs("policy_retention", "trades")
        await retention.purge(self.db, await engines.detect(self.db), self.config)
        assert await self.db.fetchval("SELECT count(*) FROM trades") < before * 0.9
        await self._store([])

    async def _run_jobs(self, policy: str, relation: str) -> None:
        if (await engines.detect(self.db)).has_continuous_aggregates:
            job = await self.db.fetchval(
                "SELECT job_id FROM timescaledb_information.jobs WHERE proc_name = $1 AND hypertable_name = $2",
                policy,
                relation,
            )
            await self.db.script(f"CALL run_job({job})")

    async def _compare(self, turn: str) -> None:
        trades = oracle.frame(self.stored, self.markets)
        for relation, timeframe in TIMEFRAMES.items():
            found = oracle.read(await self.db.copy_csv(oracle.query(relation)))
            right: pl.DataFrame = oracle.renamed(oracle.expected(trades, timeframe), self.markets, self.style)
            print(f"{turn}: {relation}: {found.height} candles of {len(self.stored)} trades")
            assert not (said := oracle.difference(found, right)), f"{turn}: {relation}: {said}"
