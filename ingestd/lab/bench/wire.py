"""Measures the whole daemon, from the venue's socket to committed rows: its highest speed, and the time to start."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ingestd.clock import monotonic_s, now_us
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures, us_each
from ingestd.lab.bench.rig import Plan, Sections, Server
from ingestd.lab.bench.targets import FLUSH_MS
from ingestd.lab.demo.processes import Venue, connected

_FIRST_ROW_S = 60.0
_CCXT_DIVISOR = 5  # divides the number of rows: the ccxt feed is at least this much slower


@dataclass(frozen=True, slots=True)
class VolleyResult:
    """The result of one volley: rows per second from its first frame to its last commit, and the daemon's cost."""

    rows_per_s: float
    us_per_row: float
    peak_mib: float


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure native, all sinks, ccxt and psql in turn, so that other load on the machine affects all alike."""
    native, everything, psql, ccxt = [], [], [], []
    async with server.database() as dsn:
        for number in range(plan.rounds):
            plan.say(f"round {number + 1} of {plan.rounds}: {plan.rows:,} trades from the wire, then by psql")
            native.append(await volley(plan, server, dsn, plan.rows, "native"))
            psql.append(await _psql_rows_per_s(dsn, plan.rows))
            plan.say("the same with Redis and Kafka on")
            async with rig.all_sinks(plan) as sections:
                everything.append(await volley(plan, server, dsn, plan.rows, "native", sections))
        plan.say("the same through the exchange library")
        ccxt.append(await volley(plan, server, dsn, plan.rows // _CCXT_DIVISOR, "ccxt"))
    figures.rate("wire.psql", "psql \\copy of the same rows", psql)
    _add(figures, "wire.native", "wire → committed, native", native, "wire.psql")
    _add(figures, "wire.all_sinks", "wire → committed everywhere, with Redis and Kafka", everything, "wire.native")
    _add(figures, "wire.ccxt", "wire → committed, ccxt feed", ccxt, "wire.psql")


def _add(figures: Figures, key: str, what: str, runs: Sequence[VolleyResult], limit: str) -> None:
    figures.rate(key, what, [run.rows_per_s for run in runs], limit=limit)
    cost = statistics.median_high(run.us_per_row for run in runs)
    figures.add(f"{key}_us", f"{what}: the daemon's processor time", cost, "µs per event")
    figures.add(f"{key}_mib", f"{what}: the daemon's memory at most", max(run.peak_mib for run in runs), "MiB")


async def volley(
    plan: Plan, server: Server, dsn: str, rows: int, decoder: str, sections: Sections | None = None
) -> VolleyResult:
    """Send `rows` trades into the emptied table and wait until all are stored. The rows stay in the table."""
    sections = {"database": {"dsn": dsn, "flush_ms": FLUSH_MS}, **(sections or {})}
    sinks = ["timescale", *(["kafka"] if "kafka" in sections else [])]
    async with connected(dsn) as database:
        await rig.emptied(database)
        source = rig.volley(plan.symbols, "max", "--count", rows, "--hold")
        async with source as venue, rig.daemon([venue.feed(decoder)], sections) as daemon:
            await venue.until(lambda ledger: ledger["lanes"] >= plan.symbols)
            before_s = rig.processor_s(daemon.pid)
            await venue.start()
            await daemon.until_stored(rows, *sinks)
            ended_at = now_us()
            us_per_row = us_each(rig.processor_s(daemon.pid) - before_s, rows)
            peak = rig.peak_mib(daemon.pid)
            started_at = (await venue.ledger())["started_at"]
        await rig.check_stored(database, rows)
        if sinks == ["timescale"] and server.stamps_commits:
            ended_at = await rig.last_commit_us(database)
    return VolleyResult(rows / ((ended_at - started_at) / 1e6), us_per_row, peak)


async def _psql_rows_per_s(dsn: str, rows: int) -> float:
    """Copy the rows that the daemon has just stored, in the same order, into the emptied table with psql."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        file = Path(folder) / "trades.copy"
        await rig.psql(dsn, f"\\copy (SELECT {rig.COLUMNS} FROM trades) TO '{file}'")  # noqa: S608 - names of ours
        return rows / await rig.psql_copy(dsn, file, rows)


async def measure_start(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure the time from process start to the first committed row, twice with the same state directory.

    The second time, the venue's markets are already known.
    """
    plan.say("start to first committed row, twice")
    async with server.database() as dsn, rig.volley(plan.symbols, 1000) as venue:
        with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
            first = await _first_row_s(dsn, venue, Path(folder))
            again = await _first_row_s(dsn, venue, Path(folder))
    figures.add("start.first_row", "start to first committed row", first, "s")
    figures.add("start.first_row_again", "the same at the second start, with known markets", again, "s")


async def _first_row_s(dsn: str, venue: Venue, folder: Path) -> float:
    async with connected(dsn) as database:
        await rig.emptied(database)
        started_s = monotonic_s()
        async with rig.daemon([venue.feed("native")], {"database": {"dsn": dsn}}, folder=folder):
            async with asyncio.timeout(_FIRST_ROW_S):
                while not await database.fetchval("SELECT EXISTS (SELECT FROM trades)"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
            return monotonic_s() - started_s
