"""What `sinks/base.py` promises, asked of every sink in `SINKS`; `tests/contract/sinks` has a harness for each."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.clock import monotonic_s
from ingestd.config.models import JournalConfig
from ingestd.errors import ConnectionLost, DatabaseError
from ingestd.journal.journal import Journal
from ingestd.ops.account import account
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from tests.contract.sinks import Harness, Ids, LiveHarness, cases, module_of
from tests.support.records import trade
from tests.support.time_limits import examples, limit_s

NOTHING = dict.fromkeys(("recovered", "stored", "duplicate", "left_out", "rejected", "in_journal"), 0)


@pytest.fixture(params=cases(live=False))
def harness(request: pytest.FixtureRequest) -> Harness:
    name, _, server = request.param.partition("-")
    made: Harness = module_of(name).harness(request, server)
    return made


@pytest.fixture(params=cases(live=True))
def live_harness(request: pytest.FixtureRequest) -> LiveHarness:
    name, _, server = request.param.partition("-")
    made: LiveHarness = module_of(name).harness(request, server)
    return made


class Process:
    """One life of the daemon's durable part with one sink."""

    def __init__(self, harness: Harness, state_dir: Path, journal: JournalConfig | None = None) -> None:
        self.metrics = Metrics()
        self.journal = Journal(state_dir, journal or JournalConfig(), self.metrics)
        self.journal.open()
        self.cursor = self.journal.cursor(harness.name)
        self.sink = harness.make(self.cursor, self.journal, state_dir, self.metrics)
        self.task = asyncio.create_task(self.sink.run())

    async def drain(self) -> None:
        self.sink.finish()
        await asyncio.wait_for(self.task, 60)
        self.journal.close()

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})
        self.journal.close()

    def terms(self) -> dict[str, int]:
        """The conservation law's terms of this sink, over all channels."""
        sink = account(self.metrics, {self.sink.name: self.cursor})["sinks"][self.sink.name]
        return {term: sum(counts.values()) for term, counts in sink.items()}


def ids(numbers: range) -> Ids:
    return [str(number) for number in numbers]


def trades(numbers: range) -> list[Record]:
    return [trade(number, symbol=f"S{number % 5}/USDT") for number in numbers]


async def test_stores_everything_once_and_ends_when_drained(harness: Harness, tmp_path: Path) -> None:
    process = Process(harness, tmp_path)
    for start in range(0, 300, 30):
        await process.journal.append(trades(range(start, start + 30)))
    await process.drain()
    assert sorted(await harness.stored_ids(), key=int) == ids(range(300))
    assert process.terms() == {**NOTHING, "stored": 300}
    assert process.sink.status().up


async def test_acknowledges_nothing_that_is_not_stored(harness: Harness, tmp_path: Path) -> None:
    """And it goes on trying an error it does not know, with an alarm."""
    harness.trouble = DatabaseError("nobody knows this one", sqlstate="ZZ999")
    process = Process(harness, tmp_path)
    await process.journal.append(trades(range(50)))
    await until(lambda: process.sink.status().attempts_failed >= 3)
    assert process.cursor.pending_records == 50
    assert "nobody knows this one" in (process.sink.status().problem or "")
    assert process.metrics.totals(process.metrics.sink_alarms, "sink")[process.sink.name] >= 3
    harness.trouble = None
    await until(lambda: process.terms()["stored"] == 50)
    assert process.sink.status().problem is None
    await process.drain()


async def test_a_bad_record_costs_no_good_one(harness: Harness, tmp_path: Path) -> None:
    process = Process(harness, tmp_path)
    await process.journal.append([*trades(range(20)), harness.bad_record(), *trades(range(20, 40))])
    await process.drain()
    assert sorted(await harness.stored_ids(), key=int) == ids(range(40))
    assert process.terms() == {**NOTHING, "stored": 40, "rejected": 1}


async def test_a_stop_without_a_server_is_soon_over_and_leaves_all(harness: Harness, tmp_path: Path) -> None:
    harness.trouble = ConnectionLost("away")
    process = Process(harness, tmp_path)
    await process.journal.append(trades(range(10)))
    await until(lambda: process.sink.status().attempts_failed > 0)
    process.sink.finish()
    await asyncio.wait_for(process.task, limit_s(5))
    assert process.cursor.pending_records == 10
    process.journal.close()
    harness.trouble = None
    again = Process(harness, tmp_path)
    await again.drain()
    assert sorted(await harness.stored_ids(), key=int) == ids(range(10))
    assert again.terms() == {**NOTHING, "recovered": 10, "stored": 10}


steps = st.lists(st.integers(1, 40) | st.floats(0, 0.03) | st.none(), min_size=2, max_size=10)
options = st.sampled_from([{}, {"file_bytes": 2000}, {"memory_bytes": 1, "file_bytes": 4000}])


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=steps, journal=options)
def test_any_crashes_lose_and_double_nothing(
    harness: Harness, script: list[int | float | None], journal: dict[str, int]
) -> None:
    """A number journals so many records, a fraction crashes after so many seconds, None drains and starts again."""
    asyncio.run(play(harness, script, JournalConfig.model_validate(journal)))


_next_number = 100_000


async def play(harness: Harness, script: list[int | float | None], journal: JournalConfig) -> None:
    global _next_number  # the examples share a table and a topic: each has ids of its own
    first = _next_number
    with tempfile.TemporaryDirectory() as folder:
        process = Process(harness, Path(folder), journal)
        for step in script:
            if isinstance(step, int):
                await process.journal.append(trades(range(_next_number, _next_number + step)))
                _next_number += step
                continue
            if isinstance(step, float):
                await asyncio.sleep(step)
                await process.crash()
            else:
                await process.drain()
            process = Process(harness, Path(folder), journal)
        await process.drain()
        terms = process.terms()
        journaled = sum(process.metrics.totals(process.metrics.journaled).values())
        assert journaled + terms["recovered"] == terms["stored"] + terms["duplicate"], terms
    mine = [number for number in await harness.stored_ids() if int(number) >= first]
    assert sorted(mine, key=int) == ids(range(first, _next_number))


async def test_a_live_sink_shows_what_it_is_given(live_harness: LiveHarness) -> None:
    sink = live_harness.make(Metrics())
    task = asyncio.create_task(sink.run())
    await until(lambda: sink.status().up)
    sink.put_all([trade(1, price="101.5")])
    await until(lambda: live_harness.last_price() == "101.5")
    sink.put_all([trade(2, price="102.5")])
    sink.finish()
    await asyncio.wait_for(task, limit_s(5))
    assert live_harness.last_price() == "102.5"


async def test_a_live_sink_without_a_server_delays_nobody(live_harness: LiveHarness) -> None:
    metrics = Metrics()
    sink = live_harness.make_without_server(metrics)
    task = asyncio.create_task(sink.run())
    await until(lambda: sink.status().attempts_failed > 0)
    started_s = monotonic_s()
    for start in range(0, 10_000, 100):
        sink.put_all([trade(number) for number in range(start, start + 100)])
    assert monotonic_s() - started_s < limit_s(5)
    assert not sink.status().up
    assert sink.status().problem
    sink.finish()
    await asyncio.wait_for(task, limit_s(5))


async def until(true: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait for something that comes to be true by itself."""
    async with asyncio.timeout(timeout_s):
        while not true():
            await asyncio.sleep(0.02)
