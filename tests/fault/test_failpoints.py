"""Dying, stopping and failing at each named place: what random kills reach hardly ever.

INGESTD_FAULT_HITS: how often each place is hit with each action (`make fault`: 10).
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingestd import failpoints
from ingestd.failpoints import NEVER_FAIL, PLACES
from ingestd.records import Rejected, Tick, Trade
from ingestd.storage import migrations
from ingestd.storage.database import Database
from ingestd.storage.engine import Engine
from ingestd.storage.migrate import check_schema
from ingestd.venues.market_names import Names
from tests.fault import events
from tests.fault.oracle import Row, Stored
from tests.fault.rig import Rig, fault_rig
from tests.support.brokers import Broker
from tests.support.daemon import ingestd, write_config
from tests.support.postgres import DatabaseForTest
from tests.support.topics import read_everything, without_replays

HITS = int(os.environ.get("INGESTD_FAULT_HITS", "1"))
ACTIONS = ("kill", "raise", "stop") if HITS > 1 else ("kill", "raise")
OF_THE_DATABASE = [place for place in PLACES if place.startswith(("intake.", "journal.", "database.", "sink."))]
OF_ROWS = (
    "migrate.backfilled",
    "migrate.indexed",
)  # passed where rows are stored: test_schema_change, test_time_indexes
OF_KAFKA = [place for place in PLACES if place.startswith("kafka.")]


async def hit(rig: Rig, place: str, action: str, nth: int) -> None:
    """One life of the daemon that meets the failpoint; afterwards a daemon is dead, or has gone on."""
    daemon = await rig.start(f"{place}:{nth}:{action}")
    if action == "kill":
        assert await daemon.end(20) == -signal.SIGKILL, rig.tail()
        return
    async with asyncio.timeout(60):
        while f"failpoint {place}: {action}" not in rig.tail(200):
            await asyncio.sleep(0.02)
    if action == "stop":
        while not is_stopped(daemon.pid):
            await asyncio.sleep(0.01)
        daemon.signal(signal.SIGCONT)
    await rig.journaled(50)
    if place.startswith("database."):
        await rig.committed()
    daemon.signal(signal.SIGKILL)
    await daemon.end()


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def plan(places: list[str]) -> list[tuple[str, str, int]]:
    return [
        (place, action, 1 + repetition % 3)
        for repetition in range(HITS)
        for place in places
        for action in ACTIONS
        if not (action == "raise" and place in NEVER_FAIL)
    ]


@pytest.mark.timeout(300 + 60 * HITS)
async def test_every_place_on_the_way_to_the_database(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    hits = plan(OF_THE_DATABASE)
    async with fault_rig(tmp_path) as rig:
        for place, action, nth in hits:
            await hit(rig, place, action, 1 if place == "database.merge" else nth)
        verdict = await rig.settle()
    record_property("measured", f"{len(OF_THE_DATABASE)} places, {len(hits)} hits, {verdict.journaled} journaled")
    assert verdict.complaints == ()
    assert verdict.journaled > 50 * len(hits)


@pytest.mark.campaign
@pytest.mark.timeout(300 + 60 * HITS)
async def test_every_place_on_the_way_to_kafka(
    embedded_kafka: Broker, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    prefix = f"f{time.monotonic_ns()}"
    kafka = {"topic_prefix": prefix, "partitions": 3, "flush_ms": 5, **embedded_kafka.settings()}
    hits = plan(OF_KAFKA)
    async with fault_rig(tmp_path) as rig:
        rig.emitter.order(replay=0)  # a topic keeps what a venue says twice
        rig.configure(instance={"role": "feed"}, kafka=kafka)
        for place, action, nth in hits:
            await hit(rig, place, action, nth)
        verdict = await rig.settle(stored=partial(read_topics, embedded_kafka.bootstrap, prefix))
    record_property("measured", f"{len(OF_KAFKA)} places, {len(hits)} hits, {verdict.journaled} journaled")
    assert verdict.complaints == ()
    assert verdict.journaled > 50 * len(hits)


def read_topics(bootstrap: str, prefix: str) -> Stored:
    """What a consumer that follows docs/kafka.md is left with."""
    found = Stored()
    for messages in read_everything(bootstrap, prefix).values():
        for message in without_replays(messages):
            record = message.record(prefix)
            place = message.offset + 1
            if isinstance(record, Trade):
                found.trades.append(Row(record.seq, place, record.symbol, record.time, record.price, record.quantity))
            elif isinstance(record, Tick):
                number = int(record.bid_volume or 0)
                found.ticks.append(Row(number, place, record.symbol, record.time, record.bid_price or "", None))
            elif isinstance(record, Rejected):
                found.rejected.append(events.number_in(record.record))
    return found


@pytest.mark.one_server
@pytest.mark.parametrize("place", [place for place in PLACES if place.startswith("migrate.") and place not in OF_ROWS])
@pytest.mark.parametrize("nth", [1, pytest.param(2, marks=pytest.mark.campaign)])
async def test_a_migration_that_is_killed_begins_again(
    place: str, nth: int, empty_database: DatabaseForTest, tmp_path: Path
) -> None:
    document: dict[str, Any] = {
        "database": {"dsn": empty_database.dsn},
        "feeds": [{"exchange": "binance", "symbols": ["BTC/USDT"]}],
    }
    arguments = ["migrate", "-c", str(write_config(tmp_path, document)), "--engine", empty_database.choice]
    if place == "migrate.renamed":
        code, _, err = await ingestd(*arguments)
        assert code == 0, err
        document["database"]["symbol_style"] = "dash"
        write_config(tmp_path, document)
        arguments.append("--rename-symbols")
    environ = {failpoints.VARIABLE: f"{place}:{nth}:kill", failpoints.TEST_FLAG: "1"}
    code, _, _ = await ingestd(*arguments, env=environ)
    if code != -signal.SIGKILL:  # this engine has fewer migrations, or none that is done in steps
        in_steps = empty_database.engine == "timescaledb"
        assert nth > len(migrations.load(Engine(empty_database.engine))) or (place == "migrate.step" and not in_steps)
    code, _, err = await ingestd(*arguments)
    assert code == 0, err
    db = await Database.connect(empty_database.dsn, names=Names("dash" if place == "migrate.renamed" else "unified"))
    assert (await check_schema(db)).value == empty_database.engine
    await db.close()


@pytest.mark.one_server
async def test_redis_dying_with_the_daemon_costs_the_database_nothing(
    make_server: Callable[..., object], tmp_path: Path
) -> None:
    server = make_server()
    async with fault_rig(tmp_path) as rig:
        rig.configure(redis={"url": server.url})  # type: ignore[attr-defined] # either kind of server has it
        for nth in (1, 3, 10):
            await hit(rig, "redis.write", "kill", nth)
        verdict = await rig.settle()
    assert verdict.complaints == ()


def test_off_it_costs_next_to_nothing() -> None:
    """A batch passes about ten places; each costs less than a hundredth of the write it stands before."""
    code = "from ingestd.failpoints import passing\nimport timeit\nprint(min(timeit.repeat("
    code += "lambda: passing('intake.seal'), number=100_000, repeat=5)) / 100_000)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"[\d.e-]+\n", out)
    assert float(out) < 2e-6
