"""What Redis and Kafka cost the database: the same load with the database alone and with all three, in turn.

Two loads: as much as the ccxt feed takes from the wire, and records put as fast as the journal takes them, which leaves
the ccxt library out. Everything shares the machine, the servers and the subscriber too.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp

from ingestd.cli import demo_run
from ingestd.cli.bench_redis import PacedFeed, subscriber
from ingestd.cli.demo_fanout import Say
from ingestd.cli.demo_run import DemoError, Plan
from ingestd.clock import monotonic_s
from ingestd.config import parse
from ingestd.service import Service
from ingestd.sim.embedded_kafka import EmbeddedKafka
from ingestd.sim.embedded_valkey import EmbeddedValkey
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate

# About what the ccxt feed takes alone: a simulator that sends twice of it takes the other core as well.
_WIRE_RATE = 20_000.0
_PUT_RATE = 200_000  # more than the journal takes
_SETTLED_S = 3.0


async def measure(plan: Plan, rounds: int, say: Say) -> dict[str, object]:
    """Rows committed a second, medians over the rounds; `…_ratio` is all three against the database alone."""
    plan = replace(plan, rate=_WIRE_RATE)
    wire: dict[str, list[float]] = {"database": [], "all": []}
    put: dict[str, list[float]] = {"database": [], "all": []}
    async with demo_run.database(plan, say) as dsn:
        for number in range(rounds):
            for name in ("database", "all"):
                say(f"round {number + 1} of {rounds}: {name}, from the wire, then put")
                async with _servers(needed=name == "all") as sections:
                    wire[name].append(await _from_the_wire(plan, dsn, sections, say))
                async with _servers(needed=name == "all") as sections:
                    put[name].append(await _put(plan, dsn, sections))
    return {**_summary("fanout_wire", wire), **_summary("fanout_put", put)}


def _summary(prefix: str, rates: Mapping[str, list[float]]) -> dict[str, object]:
    alone, everything = statistics.median(rates["database"]), statistics.median(rates["all"])
    return {
        f"{prefix}_database_rows_per_s": round(alone),
        f"{prefix}_all_sinks_rows_per_s": round(everything),
        f"{prefix}_ratio": round(everything / alone, 3),
        f"{prefix}_rounds": {name: [round(rate) for rate in rounds] for name, rounds in rates.items()},
    }


@asynccontextmanager
async def _servers(*, needed: bool) -> AsyncIterator[dict[str, Any]]:
    """The configuration sections of a Valkey with a subscriber and of a broker, or none."""
    if not needed:
        yield {}
        return
    with EmbeddedValkey() as valkey, EmbeddedKafka() as broker:
        async with subscriber(valkey.port):
            yield {"redis": {"url": valkey.url}, "kafka": broker.settings()}


async def _from_the_wire(plan: Plan, dsn: str, sections: dict[str, Any], say: Say) -> float:
    """The daemon in its own process on the ccxt feed."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        async with (
            demo_run.venue(plan, say) as venue,
            demo_run.daemon(plan, say, Path(folder), venue, dsn, sections) as running,
            aiohttp.ClientSession() as http,
        ):
            await demo_run.until_first_record(http, running)
            await asyncio.sleep(_SETTLED_S)
            names = ["timescale", *(["kafka"] if sections else [])]
            before, started_s = await _stored(http, running.metrics_url, names), monotonic_s()
            await asyncio.sleep(plan.seconds)
            after, took_s = await _stored(http, running.metrics_url, names), monotonic_s() - started_s
    return min(after[name] - before[name] for name in names) / took_s


async def _stored(http: aiohttp.ClientSession, url: str, names: list[str]) -> dict[str, int]:
    found = await demo_run.totals(http, url, "ingestd_records_stored_total", "sink")
    return {name: found.get(name, 0) for name in names}


async def _put(plan: Plan, dsn: str, sections: dict[str, Any]) -> float:
    """The daemon's parts in this process, behind a feed that never waits for a venue."""
    with tempfile.TemporaryDirectory(prefix="ingestd-bench-") as folder:
        document: dict[str, Any] = {
            "instance": {"name": "bench", "state_dir": folder},
            "database": {"dsn": dsn},
            "http": {"listen": "127.0.0.1:0"},
            "feeds": [{"exchange": "bench", "symbols": ["BTC/USDT"]}],
            **sections,
        }
        config = parse(document, {})
        database = await Database.connect(dsn, application_name="ingestd bench", call_timeout_s=60)
        try:
            await migrate(database, config)
        finally:
            await database.close()
        service = Service(config, make_feed=lambda _feed: PacedFeed(_PUT_RATE))
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
    """By the sink that is behind."""
    sinks = service.counts()["sinks"].values()
    return min(int(sum(sink["stored"].values())) for sink in sinks)
