"""The database frozen, killed, cut off, full, locked, read-only or changed: the journal holds, and the judge agrees.

INGESTD_FAULT_OUTAGE_S: how long the outages are for which the matrix asks minutes (`make fault`: 60).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.config.models import DatabaseConfig, JournalConfig
from ingestd.journal.journal import Journal
from ingestd.lab.sim.child import free_port
from ingestd.ops.metrics import Metrics
from ingestd.records import Record
from ingestd.sinks.timescale.sink import TimescaleSink
from ingestd.storage.database import Database
from tests.fault.processes import DATABASE, rss_bytes
from tests.fault.rig import Rig, fault_rig
from tests.support.postgres import DatabaseForTest
from tests.support.records import trade
from tests.support.time_limits import within

OUTAGE_S = float(os.environ.get("INGESTD_FAULT_OUTAGE_S", "5"))
MIB = 2**20

Measured = Callable[[str, object], None]


@asynccontextmanager
async def running(tmp_path: Path, **options: float) -> AsyncIterator[Rig]:
    """A daemon that captures and stores."""
    async with fault_rig(tmp_path, **options) as rig:  # type: ignore[arg-type] # the rate
        await rig.start()
        await rig.journaled(100)
        await rig.committed()
        yield rig


async def assert_kept(rig: Rig) -> str:
    """Nothing is lost, doubled, changed or unaccounted for."""
    verdict = await rig.settle()
    assert verdict.complaints == ()
    return f"{verdict.journaled} journaled, 0 lost, 0 doubled"


def errors_in(rig: Rig, kind: str) -> int:
    """How many failed attempts of this kind the log tells of."""
    return sum(f'"kind":"{kind}"' in line.replace(" ", "") for line in rig.tail(1000).splitlines())


async def failed(rig: Rig, kind: str, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while not errors_in(rig, kind):
            await asyncio.sleep(0.05)


async def back_s(rig: Rig) -> float:
    """Seconds to the next commit."""
    started_s = time.monotonic()
    await rig.committed()
    return time.monotonic() - started_s


async def execute(rig: Rig, *statements: str) -> None:
    db = await rig.connect()
    for statement in statements:
        await db.script(statement)
    await db.close()


@pytest.mark.campaign
async def test_frozen_for_a_second_nobody_notices(tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        with rig.server.frozen():
            await asyncio.sleep(1)
        seconds = await back_s(rig)
        assert '"level":"error"' not in rig.tail(1000)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, next commit after {seconds:.2f} s, no error logged")
    assert within(seconds, 1)


@pytest.mark.campaign
@pytest.mark.timeout(300 + 3 * OUTAGE_S)
async def test_down_for_long_memory_stays_flat_and_the_backlog_is_gone_soon(
    tmp_path: Path, record_property: Measured
) -> None:
    rate = 5000
    async with fault_rig(tmp_path, rate=rate) as rig:
        rig.configure(journal={"file_bytes": "64MiB", "memory_bytes": "16MiB"}, database={"flush_ms": 250})
        daemon = await rig.start()
        await rig.journaled(3 * rate)
        rig.server.kill(signal.SIGQUIT)
        await asyncio.sleep(1)
        before = rss_bytes(daemon.pid)
        bytes_before = await daemon.metric("ingestd_journal_bytes")
        await asyncio.sleep(OUTAGE_S)
        status, body = await daemon.get("/readyz")
        assert status == 200, body
        assert "timescale" in body
        assert (await daemon.get("/livez"))[0] == 200
        assert await daemon.metric("ingestd_journal_bytes") > bytes_before
        await asyncio.to_thread(rig.server.restart)
        rig.proxy.target = rig.server.port
        first_s = await back_s(rig)
        drain_s, stored = await drained(rig, rate)
        grown = max(peak_rss_bytes(daemon.pid), rss_bytes(daemon.pid)) - before
        kept = await assert_kept(rig)
    ratio = stored / drain_s / rate
    record_property(
        "measured",
        f"{OUTAGE_S:.0f} s at {rate}/s: {kept}, memory +{grown / MIB:.0f} MiB, first commit {first_s:.2f} s after the "
        f"server is ready, {stored / drain_s:.0f} rows/s while draining = {ratio:.1f} × live",
    )
    assert grown <= 64 * MIB
    assert within(first_s, 2)
    assert ratio >= 3


async def drained(rig: Rig, rate: int) -> tuple[float, int]:
    """Until less than a second of events waits: how long it took, and how many rows were stored in it."""
    db = await rig.connect()
    count = "SELECT (SELECT count(*) FROM trades) + (SELECT count(*) FROM market_ticks)"
    started_s, before = time.monotonic(), await db.fetchval(count)
    while True:
        stored = await db.fetchval(count)
        if rig.emitter.state["answered"] - stored < rate:
            await db.close()
            return time.monotonic() - started_s, stored - before
        await asyncio.sleep(0.1)


def peak_rss_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) * 1024 if found else 0


async def test_the_backend_is_killed_in_the_middle_of_a_copy(tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        rig.proxy.slice_bytes, rig.proxy.delay_s = 200, 0.02  # a COPY takes its time
        db = await rig.connect()
        async with asyncio.timeout(60):
            while not await db.fetchval("SELECT count(*) FROM pg_stat_progress_copy"):
                await asyncio.sleep(0.005)
        for pid in rig.server.backends(DATABASE):
            with contextlib.suppress(ProcessLookupError):  # the server ended it with the first one
                os.kill(pid, signal.SIGKILL)
        rig.proxy.slice_bytes, rig.proxy.delay_s = None, 0.0
        seconds = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, next commit after {seconds:.2f} s")
    assert within(seconds, 3)


@pytest.mark.campaign
async def test_the_backend_is_frozen_longer_than_a_flush_may_take(tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        pids = rig.server.backends(DATABASE)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await failed(rig, "ConnectionLost")
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        seconds = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, given up after flush_timeout_s, next commit {seconds:.2f} s after it goes on")
    assert within(seconds, 3)


async def test_the_reply_to_the_commit_is_lost(tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        for _ in range(6):  # one or the other is the upkeep's
            rig.proxy.drop_reply_to(b"COMMIT\0")
            await asyncio.wait_for(rig.proxy.cut_happened.wait(), 60)
            seconds = await back_s(rig)
        resolved = await rig.shown("ingestd_sink_commits_resolved_total", 3)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, {resolved:.0f} of 6 resolved by their position, back in {seconds:.2f} s")


@pytest.mark.parametrize(
    "how", ["blackhole", *(pytest.param(how, marks=pytest.mark.campaign) for how in ("reset", "slice", "delay"))]
)
async def test_the_network_between_misbehaves(how: str, tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        match how:
            case "blackhole":
                rig.proxy.blackhole()
                await failed(rig, "ConnectionLost")
                rig.proxy.clear()
            case "reset":
                for _ in range(5):
                    rig.proxy.reset()
                    await rig.committed()
            case "slice":
                rig.proxy.slice_bytes = 7
                await rig.journaled(500)
                rig.proxy.slice_bytes = None
            case "delay":
                rig.proxy.delay_s = 0.05
                await rig.journaled(2000)
                rig.proxy.delay_s = 0.0
        seconds = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{how}: {kept}, back in {seconds:.2f} s")
    assert within(seconds, 3)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 2 MiB that the server may write to; grows by `remount`."""
    folder = Path("/tmp") / f"ingestd-small-{os.getpid()}"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    shutil.chown(folder, "nobody")
    yield folder
    subprocess.run(["umount", "-l", folder], check=False)
    folder.rmdir()


async def test_the_disk_of_the_database_is_full(tmp_path: Path, small_disk: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path, rate=12_000) as rig:
        await execute(rig, f"CREATE TABLESPACE small LOCATION '{small_disk}'")
        await execute(rig, "ALTER TABLE market_ticks SET TABLESPACE small")
        await rig.start()
        await failed(rig, "53100", 60)
        await rig.journaled(1000)
        await asyncio.to_thread(subprocess.check_call, ["mount", "-o", "remount,size=200m", str(small_disk)])
        seconds = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, next commit {seconds:.2f} s after there is room")
    assert within(seconds, 5)


async def test_a_server_that_became_read_only(tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        await execute(rig, f"ALTER DATABASE {DATABASE} SET default_transaction_read_only = on")
        for pid in rig.server.backends(DATABASE):
            os.kill(pid, signal.SIGTERM)
        await failed(rig, "25006")
        await rig.journaled(500)
        writable = f"ALTER DATABASE {DATABASE} RESET default_transaction_read_only"
        await execute(rig, "SET default_transaction_read_only = off", writable)
        seconds = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, next commit {seconds:.2f} s after it may be written again")
    assert within(seconds, 5)


@pytest.mark.campaign
async def test_a_lock_that_another_holds(tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        db = await rig.connect()
        async with db.transaction():
            await db.execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
            await failed(rig, "55P03")
            await rig.journaled(500)
        await db.close()
        seconds = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, next commit {seconds:.2f} s after the lock")
    assert within(seconds, 2.5)


@pytest.mark.campaign
async def test_a_column_that_was_renamed(tmp_path: Path, record_property: Measured) -> None:
    async with running(tmp_path) as rig:
        await execute(rig, "ALTER TABLE market_ticks RENAME COLUMN bid_volume TO bid_size")
        await failed(rig, "42703")
        await rig.journaled(500)
        await execute(rig, "ALTER TABLE market_ticks RENAME COLUMN bid_size TO bid_volume")
        seconds = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, nothing taken for poison, next commit {seconds:.2f} s after the mending")
    assert within(seconds, 15)


@pytest.mark.campaign
async def test_no_connection_left_and_a_rotated_password(tmp_path: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path) as rig:
        secret = tmp_path / "password"
        secret.write_text("first")
        role = "CREATE ROLE writer LOGIN PASSWORD 'first'; GRANT pg_read_all_data, pg_write_all_data TO writer"
        await execute(rig, role)
        dsn = f"postgresql://writer@127.0.0.1:{rig.proxy.port}/{DATABASE}"
        rig.configure(database={"dsn": dsn, "password_file": str(secret)})
        await rig.start()
        await rig.committed()
        await execute(rig, "ALTER ROLE writer CONNECTION LIMIT 0")
        for pid in rig.server.backends(DATABASE):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        await failed(rig, "53300")
        await execute(rig, "ALTER ROLE writer CONNECTION LIMIT -1")
        full_s = await back_s(rig)
        await execute(rig, "ALTER ROLE writer PASSWORD 'second'")
        for pid in rig.server.backends(DATABASE):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        await failed(rig, "28P01")
        secret.write_text("second")
        rotated_s = await back_s(rig)
        kept = await assert_kept(rig)
    record_property("measured", f"{kept}, back {full_s:.2f} s after the limit, {rotated_s:.2f} s after the new file")
    assert within(full_s, 5)
    assert within(rotated_s, 15)


@pytest.mark.campaign
async def test_two_writers_of_the_same_trades_in_opposite_order(
    database: DatabaseForTest, tmp_path: Path, record_property: Measured
) -> None:
    """Their direct COPYs may well deadlock; what is retried goes through staging, in the order of the key."""
    metrics, trades = [Metrics(), Metrics()], 3000
    tasks, journals = [], []
    for number, order in enumerate((range(trades), range(trades - 1, -1, -1))):
        journal = Journal(tmp_path / str(number), JournalConfig(), metrics[number])
        journal.open()
        journals.append(journal)
        sink = TimescaleSink(
            journal.cursor("timescale"),
            lambda journal=journal: journal.journal_ids,  # type: ignore[misc] # a default keeps each its own
            lambda: Database.connect(database.dsn, call_timeout_s=10),
            DatabaseConfig(dsn=database.dsn, flush_ms=1, max_flush_records=300),
            metrics[number],
        )
        numbers = list(order)
        for first in range(0, trades, 100):
            records: list[Record] = [trade(n) for n in numbers[first : first + 100]]
            await journal.append(records)
        tasks.append(asyncio.create_task(sink.run()))
        sink.finish()
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    for journal in journals:
        journal.close()
    totals = [metric.totals(getattr(metric, name)) for metric in metrics for name in ("stored", "duplicate")]
    deadlocks = sum(metric.totals(metric.sink_errors, "class").get("40P01", 0) for metric in metrics)
    db = await database.connect()
    assert await db.fetchval("SELECT count(*) FROM trades") == trades
    await db.close()
    assert sum(total.get("trades", 0) for total in totals) == 2 * trades
    record_property("measured", f"{2 * trades} records of {trades} trades: each once, {deadlocks} deadlocks retried")


@pytest.fixture
def pgbouncer() -> Path:
    found = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        pytest.skip("no PgBouncer on this machine")
    return Path(found)


@pytest.mark.campaign
async def test_behind_pgbouncer_in_transaction_mode(pgbouncer: Path, tmp_path: Path, record_property: Measured) -> None:
    async with fault_rig(tmp_path) as rig:
        port, folder = free_port(), Path("/tmp") / f"ingestd-pgbouncer-{os.getpid()}"
        folder.mkdir()
        password = rig.server.dsn().partition("postgres:")[2].partition("@")[0]
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n{DATABASE} = host=127.0.0.1 port={rig.proxy.port} user=postgres password={password}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n"
            "unix_socket_dir =\nserver_login_retry = 0.2\nlogfile =\npidfile =\n"
        )
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        pooler = await asyncio.create_subprocess_exec(
            pgbouncer, "-q", *user, folder / "pgbouncer.ini", stderr=subprocess.DEVNULL
        )
        try:
            rig.configure(database={"dsn": rig.server.dsn(DATABASE, port)})
            await rig.start()
            await rig.committed()
            for number in range(4):
                await rig.journaled(200)
                for pid in rig.server.backends(DATABASE) if number % 2 else [rig.daemon.pid if rig.daemon else 0]:
                    os.kill(pid, signal.SIGTERM if number % 2 else signal.SIGKILL)
                if not number % 2:
                    assert rig.daemon is not None
                    await rig.daemon.end()  # until it is gone it owns the state directory
                    await rig.start()
                await rig.committed()
            kept = await assert_kept(rig)
        finally:
            pooler.terminate()
            await pooler.wait()
            shutil.rmtree(folder)
    record_property("measured", f"{kept} over 2 process and 2 backend kills")
