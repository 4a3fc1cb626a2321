"""Runs the demo: a database, a simulated venue and the real daemon as processes, then collects their counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from ingestd.clock import monotonic_s
from ingestd.config import dsn as config_dsn
from ingestd.config import loading as configuration
from ingestd.config.models import RetentionConfig
from ingestd.errors import IngestdError
from ingestd.lab.demo import fanout as demo_fanout
from ingestd.lab.demo.fanout import Fanout, Say
from ingestd.lab.sim import embedded, embedded_kafka, embedded_valkey
from ingestd.lab.sim.child import free_port
from ingestd.lab.sim.embedded import EmbeddedPostgres
from ingestd.ops.account import with_zeros
from ingestd.storage.database import Database
from ingestd.storage.migrate import migrate

_LIVE_SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "DOGE/USDT")
_FIRST_RECORD_S = 60.0
_QUIET_S = 3.0
_STOP_S = 30.0


class DemoError(IngestdError):
    """A step of the demo failed, and the next one depends on it."""


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

    seconds: float = 0.0
    exit_code: int | None = None
    sent: dict[str, int] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    ledger_trades: list[dict[str, Any]] | None = None
    ledger_ticks: list[dict[str, Any]] | None = None
    dsn: str = ""
    live: dict[str, int] = field(default_factory=dict)  # messages accepted by Redis, as the daemon counts, by channel
    fanout: Fanout | None = None


@dataclass(frozen=True, slots=True)
class Venue:
    """A running simulator, as its ready line describes it."""

    url_map: dict[str, str]
    control: str
    exchange: str
    symbols: list[str]


@contextlib.asynccontextmanager
async def run(plan: Plan, say: Say) -> AsyncIterator[Account]:
    """Run the whole demo; the database exists until the end of the block."""
    if plan.dsn is None:
        embedded.wheel_binaries()  # fails before anything is started if a server is not installed
    embedded_valkey.wheel_binary()
    embedded_kafka.wheel_binary()
    with tempfile.TemporaryDirectory(prefix="ingestd-demo-") as folder:
        async with database(plan, say) as dsn:
            account = Account(dsn=dsn)
            async with demo_fanout.fanout(say) as account.fanout, venue(plan, say) as running_venue:
                await _capture(plan, say, Path(folder), running_venue, account)
                await account.fanout.collect()
            yield account


@contextlib.asynccontextmanager
async def database(plan: Plan, say: Say) -> AsyncIterator[str]:
    """Create a database for this run, dropped at the end unless it is to be kept."""
    name = f"ingestd_demo_{secrets.token_hex(4)}"
    if plan.dsn is not None:
        say("creating a database on the given server")
        await _administer(plan.dsn, f'CREATE DATABASE "{name}"')
        try:
            yield _with_database(plan.dsn, name)
        finally:
            if not plan.keep:
                await _administer(plan.dsn, f'DROP DATABASE "{name}" WITH (FORCE)')
        return
    say("starting an embedded PostgreSQL")
    directory = Path(tempfile.mkdtemp(prefix="ingestd-demo-keep-")) if plan.keep else None
    server = EmbeddedPostgres(directory)
    await asyncio.to_thread(server.start)
    try:
        await _administer(server.dsn(), f'CREATE DATABASE "{name}"')
        yield server.dsn(name)
        if plan.keep:
            say(f"the server keeps running, its data in {directory}; `kill -INT {server.pid}` ends it")
            server.leave_running()
    finally:
        await asyncio.to_thread(server.stop)


async def _administer(dsn: str, sql: str) -> None:
    database = await Database.connect(dsn, application_name="ingestd demo", call_timeout_s=30)
    try:
        await database.execute(sql)
    finally:
        await database.close()


def _with_database(dsn: str, name: str) -> str:
    return config_dsn.changed(dsn, dbname=name)


@contextlib.asynccontextmanager
async def venue(plan: Plan, say: Say) -> AsyncIterator[Venue | None]:
    """Run the simulator in a separate process; None if the real venue is used."""
    if plan.live:
        yield None
        return
    if plan.capture is not None:
        arguments = ["replay", str(plan.capture)]
        say(f"replaying {plan.capture.name} as recorded")
    else:
        futures = max(1, plan.symbols // 3)
        arguments = ["synthetic", "--symbols", str(plan.symbols - futures), "--futures-symbols", str(futures)]
        arguments += ["--rate", str(plan.rate)]
        say(f"simulating {plan.symbols} markets at {plan.rate:g} trades and ticks a second")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ingestd.lab.sim", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None, "it was asked for"
    try:
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        if not line:
            raise DemoError("the simulator ended before it served; its own message is above")
        ready = json.loads(line)
        yield Venue(ready["url_map"], ready["control"], ready["exchange"], ready["symbols"])
    finally:
        await end(process, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Daemon:
    """The real daemon in a separate process."""

    process: asyncio.subprocess.Process
    metrics_url: str
    log_file: Path


@contextlib.asynccontextmanager
async def daemon(
    plan: Plan, say: Say, folder: Path, venue: Venue | None, dsn: str, sections: dict[str, Any] | None = None
) -> AsyncIterator[Daemon]:
    """Migrate the database and start the daemon on it; kill the daemon at the end if it still runs.

    `sections` are added to the demo's configuration.
    """
    http_port = free_port()
    document = _configuration(plan, folder, venue, dsn, http_port) | (sections or {})
    config_file = folder / "demo.toml"
    config_file.write_text(_toml(document), encoding="utf-8")
    database = await Database.connect(dsn, application_name="ingestd demo", call_timeout_s=60)
    try:
        await migrate(database, configuration.parse(document, {}))
    finally:
        await database.close()
    log_file = folder / "daemon.log"
    say("starting the daemon")
    with log_file.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingestd", "run", "-c", str(config_file), stdout=log, stderr=log, env=environment()
        )
    try:
        yield Daemon(process, f"http://127.0.0.1:{http_port}/metrics", log_file)
    except DemoError as error:
        raise DemoError(f"{error}\n{_tail(log_file)}") from error
    finally:
        await end(process, signal.SIGKILL)


async def _capture(plan: Plan, say: Say, folder: Path, venue: Venue | None, account: Account) -> None:
    """Run the daemon while the venue sends, stop both in order, and record their counts."""
    assert account.fanout is not None, "its servers are started"
    sections = account.fanout.sections(venue.exchange if venue is not None else "binance")
    async with daemon(plan, say, folder, venue, account.dsn, sections) as running, aiohttp.ClientSession() as http:
        started_s = monotonic_s()
        await _watch(plan, say, http, running, venue, account)
        account.seconds = round(monotonic_s() - started_s, 3)
        # While the sockets are open: the ledger marks what a closing socket may have lost as uncertain.
        await _read_ledger(http, venue, account)
        account.live = await totals(http, running.metrics_url, "ingestd_live_published_total", "channel")
        say("stopping the daemon (SIGTERM)")
        account.exit_code = await end(running.process, signal.SIGTERM)
        account.counts = _final_counts(running.log_file)


async def _watch(
    plan: Plan,
    say: Say,
    http: aiohttp.ClientSession,
    running: Daemon,
    venue: Venue | None,
    account: Account,
) -> None:
    """Wait from the first record until the venue has stopped and all it sent has arrived, or no more arrives."""
    await until_first_record(http, running)
    say("capturing")
    deadline_s = monotonic_s() + plan.seconds
    while monotonic_s() < deadline_s:
        await asyncio.sleep(0.25)
        if running.process.returncode is not None:
            raise DemoError(f"the daemon ended with {running.process.returncode} while it should have run")
        if venue is not None and plan.capture is not None:
            if (await _json(http, f"{venue.control}/_sim/ledger"))["finished"]:
                break
            deadline_s = max(deadline_s, monotonic_s() + 1)
    if venue is not None:
        async with http.post(f"{venue.control}/_sim/stop") as reply:
            reply.raise_for_status()
        account.sent = (await _json(http, f"{venue.control}/_sim/ledger"))["sent"]
        await _until_quiet(http, running.metrics_url)


async def until_first_record(http: aiohttp.ClientSession, running: Daemon) -> None:
    """Wait until the daemon has received a record. Raises DemoError if it ends or receives nothing."""
    deadline_s = monotonic_s() + _FIRST_RECORD_S
    while monotonic_s() < deadline_s:
        if running.process.returncode is not None:
            raise DemoError(f"the daemon ended with {running.process.returncode} before it received anything")
        if await total(http, running.metrics_url, "ingestd_records_received_total"):
            return
        await asyncio.sleep(0.1)
    raise DemoError(f"the daemon received nothing in {_FIRST_RECORD_S:g} s")


async def _until_quiet(http: aiohttp.ClientSession, url: str) -> None:
    last, since_s = -1, monotonic_s()
    while monotonic_s() - since_s < _QUIET_S:
        received = await total(http, url, "ingestd_records_received_total")
        if received != last:
            last, since_s = received, monotonic_s()
        await asyncio.sleep(0.3)


async def total(http: aiohttp.ClientSession, url: str, counter: str) -> int:
    """One of the daemon's counters, summed over its labels; 0 while its endpoint is not up."""
    return sum((await totals(http, url, counter)).values())


async def totals(http: aiohttp.ClientSession, url: str, counter: str, by: str = "") -> dict[str, int]:
    """One of the daemon's counters by one of its labels, without gap records, which a restarted daemon makes too."""
    try:
        async with http.get(url) as reply:
            text = await reply.text()
    except aiohttp.ClientError:
        return {}
    found: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith(counter + "{") and 'channel="gaps"' not in line:
            label = re.search(rf'[{{,]{by}="([^"]*)"', line)
            key = label.group(1) if label is not None else ""
            found[key] = found.get(key, 0) + int(float(line.rpartition(" ")[2]))
    return found


async def _read_ledger(http: aiohttp.ClientSession, venue: Venue | None, account: Account) -> None:
    if venue is not None:
        account.ledger_trades = await _json_lines(http, f"{venue.control}/_sim/ledger/trades")
        account.ledger_ticks = await _json_lines(http, f"{venue.control}/_sim/ledger/ticks")


async def _json(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with http.get(url) as reply:
        reply.raise_for_status()
        document: dict[str, Any] = await reply.json()
        return document


async def _json_lines(http: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    async with http.get(url, timeout=aiohttp.ClientTimeout(total=600)) as reply:
        reply.raise_for_status()
        return [json.loads(line) async for line in reply.content]


async def end(process: asyncio.subprocess.Process, number: signal.Signals) -> int:
    """Terminate a process, kill it if it does not end in time, and return its exit code."""
    if process.returncode is None:
        process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
    assert process.returncode is not None, "it has ended"
    return process.returncode


def _configuration(plan: Plan, folder: Path, venue: Venue | None, dsn: str, http_port: int) -> dict[str, Any]:
    document: dict[str, Any] = {
        "instance": {"name": "demo", "state_dir": str(folder / "state")},
        "log": {"format": "json"},
        "database": {"dsn": dsn},
        "http": {"listen": f"127.0.0.1:{http_port}"},
        "feeds": _feeds(plan, venue),
    }
    if plan.capture is not None:
        # A capture is old: none of its records may be refused for age.
        document["retention"] = dict.fromkeys(RetentionConfig.model_fields, 0)
    return document


def _feeds(plan: Plan, venue: Venue | None) -> list[dict[str, Any]]:
    channels = ["ticks", "trades", "order_book"]
    if venue is None:
        return [{"exchange": "binance", "channels": channels, "symbols": list(_LIVE_SYMBOLS[: plan.symbols])}]
    if plan.capture is not None:
        return [{"exchange": venue.exchange, "channels": channels, "symbols": venue.symbols, "url_map": venue.url_map}]
    spot = [symbol for symbol in venue.symbols if ":" not in symbol]
    perpetual = [symbol for symbol in venue.symbols if ":" in symbol]
    feeds: list[dict[str, Any]] = [
        {"exchange": "binance", "channels": channels, "symbols": spot, "url_map": venue.url_map}
    ]
    if perpetual:
        feeds.append(
            {
                "exchange": "binanceusdm",
                "channels": [*channels, "open_interest", "funding"],
                "symbols": perpetual,
                "poll_interval_s": 5.0,
                "url_map": venue.url_map,
            }
        )
    return [feed for feed in feeds if feed["symbols"]]


def _toml(document: dict[str, Any]) -> str:
    """Format tables, arrays of tables and values as TOML, which shares JSON's strings, numbers and lists."""
    parts: list[str] = []
    for section, value in document.items():
        for table in value if isinstance(value, list) else [value]:
            parts.append(f"[[{section}]]" if isinstance(value, list) else f"[{section}]")
            parts += [f"{json.dumps(key)} = {_toml_value(item)}" for key, item in table.items()]
    return "\n".join(parts) + "\n"


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml_value(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def environment() -> dict[str, str]:
    """This process's environment without variables that override the demo's configuration or reach systemd."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith("INGESTD_") and name != "NOTIFY_SOCKET"
    }


def _final_counts(log_file: Path) -> dict[str, Any]:
    for line in reversed(log_file.read_text(encoding="utf-8", errors="replace").splitlines()):
        with contextlib.suppress(json.JSONDecodeError):
            event = json.loads(line)
            if isinstance(event, dict) and event.get("event") == "stopped":
                return with_zeros(event["counts"])
    raise DemoError(f"the daemon did not say what it counted\n{_tail(log_file)}")


def _tail(log_file: Path, lines: int = 15) -> str:
    text = log_file.read_text(encoding="utf-8", errors="replace") if log_file.exists() else ""
    return "\n".join(["the daemon's last words:", *text.splitlines()[-lines:]])
