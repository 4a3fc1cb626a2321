"""Runs the demo: a database, a simulated venue and the real daemon as processes, then collects their counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingestd.clock import monotonic_s
from ingestd.config.models import RetentionConfig
from ingestd.lab.demo import fanout as demo_fanout
from ingestd.lab.demo import processes
from ingestd.lab.demo.fanout import Fanout
from ingestd.lab.demo.processes import Daemon, LabError, Say, Venue, migrated, new_database, settled
from ingestd.lab.sim import embedded, embedded_kafka, embedded_valkey
from ingestd.lab.sim.embedded import EmbeddedPostgres
from ingestd.ops.account import with_zeros

_CHANNELS = ["ticks", "trades", "order_book"]
_LIVE_SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "DOGE/USDT")
_FIRST_RECORD_S = 60.0
_QUIET_S = 3.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The demo's settings from the command line. `rate` is trades and ticks per second."""

    seconds: float
    rate: float
    symbols: int
    capture: Path | None
    dsn: str | None
    keep: bool
    live: bool


@dataclass(slots=True)
class Account:
    """The counts of venue, daemon, Redis and Kafka, for the verdict."""

    fanout: Fanout
    dsn: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    sent: dict[str, int] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    ledger_trades: list[dict[str, Any]] | None = None
    ledger_ticks: list[dict[str, Any]] | None = None
    live: dict[str, int] = field(default_factory=dict)  # messages accepted by Redis, as the daemon counts, by channel


@contextlib.asynccontextmanager
async def run(plan: Plan, say: Say) -> AsyncIterator[Account]:
    """Run the whole demo; the database exists until the end of the block."""
    if plan.dsn is None:
        embedded.wheel_binaries()  # fails before anything is started if a server is not installed
    embedded_valkey.wheel_binary()
    embedded_kafka.wheel_binary()
    with tempfile.TemporaryDirectory(prefix="ingestd-demo-") as folder:
        async with _database(plan, say) as dsn:
            async with demo_fanout.fanout(say) as fanout, _venue(plan, say) as venue:
                account = Account(fanout, dsn)
                await _capture(plan, say, Path(folder), venue, account)
                await fanout.collect()
            yield account


@contextlib.asynccontextmanager
async def _database(plan: Plan, say: Say) -> AsyncIterator[str]:
    """Create a database for this run, dropped at the end unless it is to be kept."""
    if plan.dsn is not None:
        say("creating a database on the given server")
        async with new_database(plan.dsn, "demo", keep=plan.keep) as dsn:
            yield dsn
        return
    say("starting an embedded PostgreSQL")
    directory = Path(tempfile.mkdtemp(prefix="ingestd-demo-keep-")) if plan.keep else None
    async with EmbeddedPostgres(directory) as server:
        async with new_database(server.dsn(), "demo", keep=plan.keep) as dsn:
            yield dsn
        if plan.keep:
            say(f"the server keeps running, its data in {directory}; `kill -INT {server.pid}` ends it")
            server.leave_running()


@contextlib.asynccontextmanager
async def _venue(plan: Plan, say: Say) -> AsyncIterator[Venue | None]:
    """Run the simulator in a separate process; None if the real venue is used."""
    if plan.live:
        yield None
        return
    arguments: list[object]
    if plan.capture is not None:
        arguments = ["replay", plan.capture]
        say(f"replaying {plan.capture.name} as recorded")
    else:
        futures = max(1, plan.symbols // 3)
        arguments = ["synthetic", "--symbols", plan.symbols - futures, "--futures-symbols", futures]
        arguments += ["--rate", plan.rate]
        say(f"simulating {plan.symbols} markets at {plan.rate:g} trades and ticks a second")
    async with processes.venue(*arguments) as venue:
        yield venue


async def _capture(plan: Plan, say: Say, folder: Path, venue: Venue | None, account: Account) -> None:
    """Run the daemon while the venue sends, stop both in order, and record their counts."""
    document = _configuration(plan, venue, account)
    await migrated(account.dsn, document)
    say("starting the daemon")
    async with processes.daemon(folder, document) as daemon:
        started_s = monotonic_s()
        await _watch(plan, say, daemon, venue, account)
        account.seconds = round(monotonic_s() - started_s, 3)
        # While the sockets are open: the ledger marks what a closing socket may have lost as uncertain.
        if venue is not None:
            account.ledger_trades, account.ledger_ticks = await venue.sent("trades"), await venue.sent("ticks")
        account.live = await daemon.counted("ingestd_live_published_total", "channel")
        say("stopping the daemon (SIGTERM)")
        account.exit_code = await daemon.stop()
        account.counts = _final_counts(daemon.log_file)


async def _watch(plan: Plan, say: Say, daemon: Daemon, venue: Venue | None, account: Account) -> None:
    """Wait from the first record until the venue has stopped and all it sent has arrived, or no more arrives."""
    await daemon.until_started()
    if not await settled(daemon.received, _FIRST_RECORD_S, enough=1):
        raise LabError(f"the daemon has started, and received nothing in {_FIRST_RECORD_S:g} s")
    say("capturing")
    deadline_s = monotonic_s() + plan.seconds
    while monotonic_s() < deadline_s:
        await asyncio.sleep(0.25)
        await daemon.received()  # raises if the daemon has ended
        if venue is not None and plan.capture is not None:
            if (await venue.ledger())["finished"]:
                break
            deadline_s = max(deadline_s, monotonic_s() + 1)
    if venue is not None:
        await venue.stop()
        account.sent = (await venue.ledger())["sent"]
        await settled(daemon.received, _QUIET_S)


def _configuration(plan: Plan, venue: Venue | None, account: Account) -> dict[str, Any]:
    document: dict[str, Any] = {
        "instance": {"name": "demo"},
        "database": {"dsn": account.dsn},
        "feeds": _feeds(plan, venue),
        **account.fanout.sections(venue.exchange if venue is not None else "binance"),
    }
    if plan.capture is not None:
        # A capture is old: none of its records may be refused for age.
        document["retention"] = dict.fromkeys(RetentionConfig.model_fields, 0)
    return document


def _feeds(plan: Plan, venue: Venue | None) -> list[dict[str, Any]]:
    if venue is None:
        return [{"exchange": "binance", "channels": _CHANNELS, "symbols": list(_LIVE_SYMBOLS[: plan.symbols])}]
    whole = venue.feed("auto", _CHANNELS)
    if plan.capture is not None:
        return [whole]
    spot = [symbol for symbol in venue.symbols if ":" not in symbol]
    perpetual = [symbol for symbol in venue.symbols if ":" in symbol]
    polled = {"channels": [*_CHANNELS, "open_interest", "funding"], "poll_interval_s": 5.0}
    feeds: list[dict[str, Any]] = [
        {**whole, "exchange": "binance", "symbols": spot},
        {**whole, "exchange": "binanceusdm", "symbols": perpetual, **polled},
    ]
    return [feed for feed in feeds if feed["symbols"]]


def _final_counts(log_file: Path) -> dict[str, Any]:
    for line in reversed(log_file.read_text(encoding="utf-8", errors="replace").splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "stopped":
                return with_zeros(event["counts"])
    raise LabError("the daemon did not say what it counted")
