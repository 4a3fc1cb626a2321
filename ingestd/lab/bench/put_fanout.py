"""Measures how Redis and Kafka slow down the database; records are put as fast as the journal takes them.

The database alone and all three sinks in turn; servers and subscriber share the machine.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any

from ingestd.clock import monotonic_s
from ingestd.config.loading import parse
from ingestd.lab.bench.figures import Figures
from ingestd.lab.bench.live_sink import PacedFeed
from ingestd.lab.bench.rig import Plan, Server
from ingestd.lab.bench.wire import all_sinks
from ingestd.lab.demo.run import DemoError
from ingestd.service import Service

_PUT_RATE = 200_000  # records per second, more than the journal takes
_SETTLED_S = 3.0


async def measure(plan: Plan, server: Server, figures: Figures) -> None:
    """Measure records stored per second by the slowest sink."""
    alone: list[float] = []
    everything: list[float] = []
    async with server.database() as dsn:
        for number in range(plan.rounds):
            plan.say(f"round {number + 1} of {plan.rounds}: put, the database alone, then all sinks")
            alone.append(await _put(plan, dsn, {}))
            async with all_sinks(plan) as sections:
                everything.append(await _put(plan, dsn, sections))
    figures.rate("put.database", "put → committed, the database alone", alone)
    figures.rate("put.all_sinks", "put → committed everywhere, with Redis and Kafka", everything, limit="put.database")


async def _put(plan: Plan, dsn: str, sections: dict[str, Any]) -> float:
    """Run the daemon's parts in this process, behind a feed without a venue."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        document: dict[str, Any] = {
            "instance": {"name": "bench", "state_dir": folder},
            "database": {"dsn": dsn},
            "http": {"listen": "127.0.0.1:0"},
            "feeds": [{"exchange": "bench", "symbols": ["BTC/USDT"]}],
            **sections,
        }
        service = Service(parse(document, {}), make_feed=lambda _feed: PacedFeed(_PUT_RATE))
        running = asyncio.create_task(service.run())
        try:
            await asyncio.sleep(_SETTLED_S)
            before, started_s = _least_stored(service), monotonic_s()
            await asyncio.sleep(plan.seconds)
            rate = (_least_stored(service) - before) / (monotonic_s() - started_s)
        finally:
            service.request_stop("measured")
            await running
    if not rate:
        raise DemoError("nothing was stored while it was measured")
    return rate


def _least_stored(service: Service) -> int:
    """The records stored by the slowest sink."""
    sinks = service.counts()["sinks"].values()
    return min(int(sum(sink["stored"].values())) for sink in sinks)
