"""Measures the whole daemon at full speed, from the venue's socket to committed rows, and psql with the same rows."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingestd.clock import monotonic_s, now_us
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figure, Figures, us_each
from ingestd.lab.bench.live_sink import subscriber
from ingestd.lab.bench.rig import Plan, Sections, Server
from ingestd.lab.bench.targets import FLUSH_MS
from ingestd.lab.demo.run import DemoError
from ingestd.lab.sim.embedded_kafka import EmbeddedKafka
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.storage.writer.tables import TABLES

_CCXT_SHARE = 5  # divides the number of rows: the ccxt feed is at least this much slower


@dataclass(frozen=True, slots=True)
class Run:
    """The result of one volley: rows per second from its first frame to its last commit, and the daemon's cost."""

    rows_per_s: float
    us_per_row: float
    peak_mib: float


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure the variants in turn, so that other load on the machine affects all alike."""
    native, everything, psql, ccxt = [], [], [], []
    async with server.database() as dsn:
        for number in range(plan.rounds):
            plan.say(f"round {number + 1} of {plan.rounds}: {plan.rows:,} trades from the wire, then by psql")
            native.append(await volley(plan, server, dsn, plan.rows, "native"))
            psql.append(await _psql_of_the_same_rows(dsn, plan.rows))
            plan.say("the same with Redis and Kafka on")
            async with all_sinks(plan) as sections:
                everything.append(await volley(plan, server, dsn, plan.rows, "native", sections))
        plan.say("the same through the exchange library")
        ccxt.append(await volley(plan, server, dsn, plan.rows // _CCXT_SHARE, "ccxt"))
    figures.rate("wire.psql", "psql \\copy of the same rows", psql)
    _add(figures, "wire.native", "wire → committed, native", native, "wire.psql")
    _add(figures, "wire.all_sinks", "wire → committed everywhere, with Redis and Kafka", everything, "wire.native")
    _add(figures, "wire.ccxt", "wire → committed, ccxt feed", ccxt, "wire.psql")


def _add(figures: Figures, key: str, what: str, runs: Sequence[Run], limit: str) -> None:
    figures.rate(key, what, [run.rows_per_s for run in runs], limit=limit)
    cost = sorted(run.us_per_row for run in runs)[len(runs) // 2]
    figures.add(Figure(f"{key}_us", f"{what}: the daemon's processor time", cost, "µs per event"))
    figures.add(Figure(f"{key}_mib", f"{what}: the daemon's memory at most", max(run.peak_mib for run in runs), "MiB"))


@contextlib.asynccontextmanager
async def all_sinks(plan: Plan) -> AsyncIterator[dict[str, Any]]:
    """Start a Valkey with a subscriber and a broker; yield their configuration sections."""
    with EmbeddedValkey() as valkey, contextlib.ExitStack() as stack:
        kafka = (
            stack.enter_context(EmbeddedKafka()).settings()
            if plan.kafka is None
            else {"bootstrap_servers": [plan.kafka]}
        )
        async with subscriber(valkey.port):
            yield {"redis": {"url": valkey.url}, "kafka": kafka}


async def volley(
    plan: Plan, server: Server, dsn: str, rows: int, decoder: str, sections: Sections | None = None
) -> Run:
    """Send that many trades into the emptied table and wait until all are stored; the rows stay there."""
    sections = {"database": {"dsn": dsn, "flush_ms": FLUSH_MS}, **(sections or {})}
    sinks = ["timescale", *(["kafka"] if "kafka" in sections else [])]
    async with rig.connected(dsn) as database:
        await rig.emptied(database)
        frames = ("volley", "--symbols", plan.symbols, "--rate", "max", "--count", rows, "--hold")
        async with rig.venue(*frames) as venue, rig.daemon([venue.feed(decoder)], sections) as daemon:
            await venue.until(lambda ledger: ledger["lanes"] >= plan.symbols)
            before_s = rig.processor_s(daemon.pid)
            await venue.start()
            stored_s, now = await daemon.until_stored(rows, sinks), (monotonic_s(), now_us())
            us_per_row = us_each(rig.processor_s(daemon.pid) - before_s, rows)
            peak = rig.peak_mib(daemon.pid)
            started_at = (await venue.ledger())["started_at"]
        stored = await database.fetchval("SELECT count(*) FROM trades")
        if stored != rows:
            raise DemoError(f"{stored} of {rows} rows were stored: the measurement means nothing")
        ended_at = now[1] - int((now[0] - stored_s) * 1e6)
        if sinks == ["timescale"] and server.stamps_commits:
            ended_at = await rig.last_commit_us(database, "trades")
    return Run(rows / ((ended_at - started_at) / 1e6), us_per_row, peak)


async def _psql_of_the_same_rows(dsn: str, rows: int) -> float:
    """Copy the rows that the daemon has just stored, in the same order, into the emptied table with psql."""
    columns = ", ".join(TABLES["trades"].columns)
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        file = Path(folder) / "trades.copy"
        await rig.psql(dsn, f"\\copy (SELECT {columns} FROM trades) TO '{file}'")  # noqa: S608 - names of ours
        async with rig.connected(dsn) as database:
            await rig.emptied(database)
            took_s = await rig.psql(dsn, f"\\copy trades ({columns}) FROM '{file}'")
            stored = await database.fetchval("SELECT count(*) FROM trades")
        if stored != rows:
            raise DemoError(f"psql stored {stored} of {rows} rows")
    return rows / took_s
