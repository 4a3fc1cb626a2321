"""Measures what an event costs with few and with many symbols, and with several processes that share the symbols."""

from __future__ import annotations

import asyncio
import contextlib

from ingestd.clock import monotonic_s
from ingestd.lab.bench import rig
from ingestd.lab.bench.figures import Figures, us_each
from ingestd.lab.bench.rig import Plan, Server
from ingestd.lab.demo.processes import Daemon

SYMBOLS = (10, 100, 500, 2000)
PROCESSES = (1, 2, 4)
QUICK_SYMBOLS = (10, 500)
RATE = 10_000
_SETTLED_S = 3.0
_SUBSCRIBED_WITHIN_S = 180.0


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure trades and ticks at a constant total rate, with each number of symbols and of processes."""
    for processes in (1,) if plan.quick else PROCESSES:
        for symbols in QUICK_SYMBOLS if plan.quick else SYMBOLS:
            await _one(plan, server, figures, symbols, processes)


async def _one(plan: Plan, server: Server, figures: Figures, symbols: int, processes: int) -> None:
    plan.say(f"{symbols:,} symbols in {processes} processes at {RATE:,} events a second")
    async with contextlib.AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(server.database())
        venue = await stack.enter_async_context(rig.volley(symbols, RATE, "--hold"))
        # Each daemon is configured with all symbols of the simulated exchange; `--shard` gives it its share of them.
        feed = venue.feed("native", ("trades", "ticks"))
        started_s = monotonic_s()
        daemons = []
        for number in range(processes):
            shard = ("--shard", f"{number}/{processes}") if processes > 1 else ()
            daemon = rig.daemon([feed], {"database": {"dsn": dsn}}, *shard)
            daemons.append(await stack.enter_async_context(daemon))
        streams = 2 * symbols
        await venue.until(lambda ledger: ledger["subscriptions"] >= streams, _SUBSCRIBED_WITHIN_S)
        subscribed_s = monotonic_s() - started_s
        await venue.start()
        await asyncio.sleep(_SETTLED_S)
        before_s, before = _processor_s(daemons), await _received(daemons)
        await asyncio.sleep(plan.seconds)
        used_s, events = _processor_s(daemons) - before_s, await _received(daemons) - before
        memory = sum(rig.resident_mib(daemon.pid) for daemon in daemons)
    what = f"{symbols:,} symbols, {processes} process{'es' if processes > 1 else ''}"
    note = f"{events / plan.seconds:,.0f} events/s; {streams:,} streams in {subscribed_s:.1f} s; {memory:,.0f} MiB"
    key = f"growth.us_{symbols}_symbols_{processes}"
    figures.add(key, f"cost of an event: {what}", us_each(used_s, events), "µs per event", note=note)


def _processor_s(daemons: list[Daemon]) -> float:
    return sum(rig.processor_s(daemon.pid) for daemon in daemons)


async def _received(daemons: list[Daemon]) -> int:
    return sum([await daemon.received() for daemon in daemons])
