"""Measures an outage of the database for minutes under live load: the daemon's memory, and how fast it catches up."""

from __future__ import annotations

import asyncio

from ingestd.clock import monotonic_s
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures
from ingestd.lab.bench.rig import Plan, Server
from ingestd.lab.demo.processes import Daemon

RATE = 5_000
_BEFORE_S = 10.0
_QUICK_BEFORE_S = 4.0
_LOOK_S = 0.25
_CAUGHT_UP = RATE  # at most one second of live records is pending
_LONGEST_S = 900.0


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure memory as the peak resident size during the outage less the size just before it."""
    plan.say(f"the database away for {plan.outage_s:g} s at {RATE:,} trades a second")
    async with (
        server.database() as dsn,
        rig.volley(plan.symbols, RATE) as venue,
        rig.daemon([venue.feed("native")], {"database": {"dsn": dsn}}) as daemon,
    ):
        await venue.until(lambda ledger: ledger["sent"].get("trades", 0) > RATE)
        await asyncio.sleep(_QUICK_BEFORE_S if plan.quick else _BEFORE_S)
        before = rig.resident_mib(daemon.pid)
        await server.admit(dsn, admitted=False)
        most = await _most_mib(daemon, plan.outage_s)
        held, came = await daemon.stored("timescale"), await daemon.received()
        await server.admit(dsn, admitted=True)
        rate = await _catching_up(daemon, held)
        after = rig.resident_mib(daemon.pid)
    note = f"{before:,.0f} MiB before, {after:,.0f} MiB once caught up; {came - held:,} records were waiting"
    figures.add("outage.growth", f"memory growth, database away {plan.outage_s:g} s", most - before, "MiB", note=note)
    figures.add("outage.live", "live meanwhile", RATE, "/s")
    figures.add("outage.catch_up", "catching up afterwards, live going on", rate, "/s", "outage.live")


async def _most_mib(daemon: Daemon, seconds: float) -> float:
    most, until_s = 0.0, monotonic_s() + seconds
    while monotonic_s() < until_s:
        most = max(most, rig.resident_mib(daemon.pid))
        await asyncio.sleep(_LOOK_S)
    return most


async def _catching_up(daemon: Daemon, held: int) -> float:
    """Rows stored per second, from the first row after the outage until almost nothing is pending."""
    async with asyncio.timeout(_LONGEST_S):
        started_s = monotonic_s()
        while await daemon.stored("timescale") == held:
            started_s = monotonic_s()
            await asyncio.sleep(0.02)
        while await daemon.received() - (stored := await daemon.stored("timescale")) > _CAUGHT_UP:  # noqa: ASYNC110 - elsewhere
            await asyncio.sleep(0.02)
    return (stored - held) / (monotonic_s() - started_s)
