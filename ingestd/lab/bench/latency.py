"""Measures the age of events at given rates: at the commit, and at a subscriber of Redis.

Ages count from the millisecond at which the venue was due to send the event. The commit time is the server's, taken
just before it waits for its log to reach the disk.
"""

from __future__ import annotations

import asyncio

from ingestd.clock import monotonic_s
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures, us_each
from ingestd.lab.bench.rig import Plan, Server
from ingestd.lab.bench.targets import FLUSH_MS
from ingestd.lab.demo.processes import connected
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey

COMMIT_RATES = (1_000, 10_000, 20_000, 50_000)
SUBSCRIBER_RATES = (1_000, 10_000, 30_000)
_SETTLED_S = 2.0


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure at each rate; in a quick run only at the target's rate."""
    for rate in (20_000,) if plan.quick else COMMIT_RATES:
        await _committed(plan, server, figures, rate)
    for rate in (10_000,) if plan.quick else SUBSCRIBER_RATES:
        await _subscriber(plan, server, figures, rate)


async def _committed(plan: Plan, server: Server, figures: Figures, rate: int) -> None:
    plan.say(f"wire → committed at {rate:,} trades a second for {plan.seconds:g} s")
    if not server.stamps_commits:
        plan.say("not measured: the server does not stamp its commits (track_commit_timestamp)")
        return
    count = int(rate * (plan.seconds + _SETTLED_S))
    async with server.database() as dsn:
        sections = {"database": {"dsn": dsn, "flush_ms": FLUSH_MS}}
        volley = rig.volley(plan.symbols, rate, "--count", count, "--hold")
        async with volley as venue, rig.daemon([venue.feed("native")], sections) as daemon:
            await venue.until(lambda ledger: ledger["lanes"] >= plan.symbols)
            before_s = rig.processor_s(daemon.pid)
            await venue.start()
            await venue.until(lambda ledger: ledger["finished"], within_s=plan.seconds * 4 + 60)
            await daemon.until_stored(count, "timescale")
            cost = us_each(rig.processor_s(daemon.pid) - before_s, count)
            started_at = (await venue.ledger())["started_at"]
        async with connected(dsn) as database:
            since = started_at + int(_SETTLED_S * 1e6)
            p50, p99, worst = await rig.commit_ages_ms(database, since)
    what = f"wire → committed at {rate:,}/s"
    figures.add(f"latency.committed_p50_at_{rate}", f"{what}, p50", p50, "ms")
    figures.add(f"latency.committed_p99_at_{rate}", f"{what}, p99", p99, "ms", note=f"worst {worst:,.0f} ms")
    figures.add(f"latency.us_at_{rate}", f"{what}: the daemon's processor time", cost, "µs per event")


async def _subscriber(plan: Plan, server: Server, figures: Figures, rate: int) -> None:
    plan.say(f"wire → subscriber at {rate:,} trades a second for {plan.seconds:g} s")
    with EmbeddedValkey() as valkey:
        async with server.database() as dsn:
            sections = {"database": {"dsn": dsn, "flush_ms": FLUSH_MS}, "redis": {"url": valkey.url}}
            volley = rig.volley(plan.symbols, rate, "--hold")
            async with volley as venue, rig.daemon([venue.feed("native")], sections):
                await venue.until(lambda ledger: ledger["lanes"] >= plan.symbols)
                await venue.start()
                await asyncio.sleep(_SETTLED_S)
                started_s = monotonic_s()
                async with rig.subscriber(valkey.port) as summary:
                    await asyncio.sleep(plan.seconds)
                took_s = monotonic_s() - started_s
    what = f"wire → Redis subscriber at {rate:,}/s"
    note = f"worst {summary['max_ms']:,.0f} ms; {summary['messages'] / took_s:,.0f} messages a second arrived"
    figures.add(f"latency.subscriber_p50_at_{rate}", f"{what}, p50", summary["p50_ms"], "ms")
    figures.add(f"latency.subscriber_p99_at_{rate}", f"{what}, p99", summary["p99_ms"], "ms", note=note)
