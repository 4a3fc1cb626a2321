"""However its servers fail, the daemon is gone by `shutdown_deadline_s`, and says nothing that it does not mean."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd.lab.sim.embedded import EmbeddedPostgres
from tests.acceptance.test_process import feed, market
from tests.support.brokers import Broker, config_for, running_broker
from tests.support.daemon import Daemon, running, write_config
from tests.support.group import market_messages, publish
from tests.support.postgres import Server, temporary_database
from tests.support.records import trade
from tests.support.time_limits import within

DEADLINE_S = 8.0
_LATE_S = 1.0  # what a busy machine may take besides


def family(pid: int) -> list[int]:
    """The process and those it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]


@contextmanager
def all_frozen(*pids: int | None) -> Iterator[None]:
    stopped = [found for pid in pids if pid is not None for found in family(pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server this test may stop."""
    with EmbeddedPostgres() as postgres:
        yield postgres


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[Broker]:
    """A broker this test may stop."""
    with running_broker("apache-kafka") as broker:
        yield broker


async def ready(daemon: Daemon) -> None:
    async with asyncio.timeout(60):
        while (await daemon.get("/readyz"))[0] != 200:
            await asyncio.sleep(0.05)


async def stops_in_time(daemon: Daemon) -> None:
    started_s = time.monotonic()
    assert await daemon.stop(60) == 0
    assert within(time.monotonic() - started_s, DEADLINE_S + _LATE_S), daemon.log()
    assert "never retrieved" not in daemon.log()
    assert "Traceback" not in daemon.log()


@pytest.mark.parametrize("role", ["sink", "all"])
@pytest.mark.parametrize("database_too", [False, True], ids=["Kafka frozen", "Kafka and the database frozen"])
async def test_it_stops_in_time_while_nobody_answers(
    role: str, database_too: bool, own_kafka: Broker, own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    kafka = config_for(own_kafka)
    async with market() as venue:
        with temporary_database(Server("postgres", own_postgres.dsn())) as database:
            document: dict[str, Any] = {
                "instance": {"role": role, "shutdown_deadline_s": DEADLINE_S},
                "database": {"dsn": database.dsn},
                "kafka": {**kafka.model_dump(mode="json", exclude_none=True), "group_id": kafka.topic_prefix},
                "retention": {"trades_days": 0},
                **({"feeds": [feed(venue)]} if role == "all" else {}),
            }
            async with running(write_config(tmp_path, document)) as daemon:
                await ready(daemon)
                with all_frozen(own_postgres.pid) if database_too else contextlib.nullcontext():
                    await publish(kafka, market_messages(kafka, "j", 1, [trade(number) for number in range(1000)]))
                    await asyncio.sleep(1.0)  # some of them are taken
                    with all_frozen(own_kafka.pid):
                        await stops_in_time(daemon)
